"""Tests of the functions that hide secrets in texts, tracebacks and pickles."""

from __future__ import annotations

import base64
import html
import json
import pickle
import re
import string
import sys
import traceback
import unicodedata
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_anon_session._secrets import (
    Secrets,
    Unpicklable,
    UnpicklableValue,
    async_without_locals,
    basic_credentials,
    client_secrets,
    fingerprint,
    without_locals,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Most encodings do not change this middle part, so tests find it without decoding.
CORE = "Kx7canaryQ9"
ODD = ("", "p@ss w/ord ", "100%41 sure", "a+b=c&d", "quo'te\"d'", "back\\slash\\", "größe-密码")
odd = st.sampled_from(ODD) | st.text(max_size=12)
secrets = st.builds("{}{}{}".format, odd, st.just(CORE), odd).filter(
    lambda text: text.encode(errors="ignore").decode() == text
)


def _lowered(encoded: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)


def _between(mark: str) -> Callable[[str], str]:
    return lambda text: mark.join(text)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "upper": str.upper,
    "percent": lambda text: quote(text, safe=""),
    "percent, slashes kept": quote,
    "percent, lower case": lambda text: _lowered(quote(text, safe="")),
    "percent, all of it": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "plus": quote_plus,
    "json": lambda text: json.dumps(text)[1:-1],
    "json, letters kept": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json, all of it": lambda text: "".join(f"\\u{ord(c) % 65536:04x}" for c in text),
    "repr": lambda text: repr(text)[1:-1],
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "html": html.escape,
    "html, all of it": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "html, hexadecimal": lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    "base64": lambda text: base64.b64encode(text.encode(errors="replace")).decode(),
    "base64, in lines": lambda text: base64.encodebytes(text.encode(errors="replace")).decode(),
    "read as Latin-1": lambda text: text.encode(errors="replace").decode("latin-1"),
    "a stray percent sign": "%{}".format,
    # These characters are invisible between letters.
    **{
        f"U+{ord(mark):04X} between letters": _between(mark)
        for mark in " \n\x00\u061c\u200b\u202e\u2060\u1160\u3164\ufe0f\ufeff\U000e0061"
    },
}
encodings = st.sampled_from(sorted(ENCODINGS))


def _found(text: str) -> bool:
    """Return whether the core of a secret can be read, with any characters between its letters."""
    letters = "".join(c for c in text if c.isascii() and c.isalnum())
    return CORE.lower() in letters.lower()


@given(secrets, encodings, encodings, odd)
@example(f"p@ss wo-{CORE}", "percent", "raw", "%")
@example(f"de{CORE}", "a stray percent sign", "raw", "")
@example(CORE, "U+3164 between letters", "U+0000 between letters", "")
@example("c0" + CORE, "percent, all of it", "a stray percent sign", "")
def test_quote_shows_no_secret_in_any_encoding(
    secret: str, first: str, second: str, around: str
) -> None:
    """A quoted text does not show a secret that is encoded once or twice."""
    said = ENCODINGS[second](ENCODINGS[first](secret))

    shown = Secrets(secret).quote(f"{around}{said}{around} rest")

    assert not _found(shown)


@given(st.text(max_size=50), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_quote_shows_nothing_encoded(before: str, secret: str) -> None:
    """A quoted text is printable ASCII without the characters that encodings use."""
    shown = Secrets(secret).quote(f"{before} {quote(secret)} {html.escape(secret)}")
    assert shown.isascii()
    assert shown.isprintable()
    assert not set(shown) & set("%&\\=+#@`^~|<>{}")


@pytest.mark.parametrize("length", [17, 32, 64, 1100])
def test_quote_shows_no_token_that_is_not_known(length: int) -> None:
    """A long word with digits, such as an unknown token, is not quoted."""
    token = ("a1B2-c3D4_" * 200)[:length]
    assert Secrets().quote(f"use {token} instead") == "use *** instead"


@given(secrets, st.sampled_from(["", "client_secret=", 'a "', "it is "]))
def test_hide_removes_the_word_with_a_secret(secret: str, before: str) -> None:
    """In a sentence of ours, a secret is hidden with the whole word that contains it."""
    shown = Secrets(secret).hide(f"We sent {before}{secret} to the server.")
    assert shown.startswith("We sent")
    assert shown.endswith(" to the server.")
    assert not _found(shown)


@pytest.mark.parametrize(
    "hidden", ["Kx7canar", "7canaryQ", "canaryQ9", "kx7-canar", "Kx7 ca nar", "Kx7cana r"]
)
def test_eight_characters_of_a_secret_are_hidden(hidden: str) -> None:
    """Eight characters of a secret are hidden, seven are not."""
    for scrub in (Secrets(CORE).hide, Secrets(CORE).quote):
        assert scrub(f"said {hidden}") == "said ***"
        kept = f"said {hidden[:-1]}".strip()
        assert scrub(kept) == kept


@given(st.integers(0, 392), st.integers(0, 40))
def test_eight_characters_from_anywhere_are_hidden(start: int, before: int) -> None:
    """Any eight characters of a long secret are hidden, anywhere in a text."""
    secret = "".join(f"{letter}{digit}" for letter in "abcdefghijklmnopqrst" for digit in range(10))
    text = "z" * before + secret[start : start + 8]
    assert Secrets(secret).hide(text) == "***"
    assert Secrets(secret).hide(f"{text} zzz") == "*** zzz"


@given(
    st.text(string.ascii_letters, min_size=14, max_size=20),
    st.sampled_from(["", "client:", "my app:é:", "i:", "\xff"]),
    st.integers(1, 2),
    st.sampled_from(["", "-", "x", "it", "req"]),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
)
@example("abcde?ghijk?mn", "", 1, "", base64.urlsafe_b64encode)
@example("abcde>ghijk>mn", "", 1, "", base64.urlsafe_b64encode)
def test_base64_of_a_secret_is_no_name(
    secret: str, before: str, times: int, label: str, encode: Callable[[bytes], bytes]
) -> None:
    """An error code or id that contains the secret in base64 is hidden."""
    said = (before + secret).encode()
    for _ in range(times):
        said = encode(said).rstrip(b"=")
    assert Secrets(secret).name(f"{label}{said.decode()}"[:80]) == "***"


def test_base64_with_other_characters_is_no_name() -> None:
    """The secret in base64 is hidden, even with other characters in it or after it."""
    secret = "abcdefghijklmno"
    encoded = base64.b64encode(secret.encode()).decode()
    said = [f"{encoded[:at]}{mark}{encoded[at:]}" for at in range(len(encoded)) for mark in ".:"]
    said += [encoded + "x" * more for more in range(4)]
    assert {Secrets(secret).name(name) for name in said} == {"***"}


@given(st.text(string.ascii_lowercase, min_size=1, max_size=3))
@example("b")
def test_short_secrets_hide_only_names_that_contain_them(secret: str) -> None:
    """An error code that does not contain a short secret as text is shown."""
    for name in ("invalid_client", "temporarily_unavailable"):
        shown = Secrets(secret).name(name)
        assert shown == ("***" if secret in name.replace("_", "") else name)


@pytest.mark.parametrize(
    "name", ["invalid_request", "application/json", "0f8fad5b-d9cb-469f-a165-70867728950e", "A=="]
)
def test_real_names_are_shown(name: str) -> None:
    """Error codes, media types and request ids are shown, except with a base64 padding."""
    known = Secrets(*client_secrets("id", "s3cr3t-of-a-client"))
    assert known.name(name) == ("***" if "=" in name else name)


@pytest.mark.parametrize("secret", ["cd", "é", "!!", "id", "q"])
def test_short_secrets_are_hidden_whole(secret: str) -> None:
    """A short secret is hidden wherever it occurs, with the word that contains it."""
    text = f"{secret} say x{secret}y {secret} {secret} now"
    assert Secrets(secret).hide(text) == "*** say *** now"


@pytest.mark.parametrize(
    "said",
    [
        "Kx7cánàrÿQ9",
        unicodedata.normalize("NFD", "Kx7cánàrÿQ9"),
        "Kx7ca\ufe0fna\u20ddryQ9",
        *(f"Kx7ca{filler}naryQ9" for filler in "\u115f\u1160\u3164\uffa0"),
    ],
)
def test_accents_and_marks_do_not_show_a_secret(said: str) -> None:
    """A secret is hidden even if its letters have accents or invisible marks."""
    assert Secrets(CORE).hide(f"said {said}") == "said ***"


@pytest.mark.parametrize("secret", ["ab\x7fcde\x7ffgh", "ab cde fgh", "a-b+c/d_e=f\\g\"h'i"])
def test_a_secret_with_special_characters(secret: str) -> None:
    """A secret with characters that encodings change is hidden."""
    assert Secrets(secret).hide(f"said {secret}") == "said ***"


def _fail(secret: str) -> None:
    """Fail as a parser does."""
    try:
        raise KeyError(secret)
    except KeyError:
        raise ValueError("the parser's words")  # noqa: B904  # parsers do not chain


async def _fail_async(secret: str) -> None:
    """Fail as a parser does."""
    _fail(secret)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_that_gets_secrets(*, is_async: bool) -> None:
    """An error of a decorated function has none of its frames, and no context."""
    decorated = async_without_locals(_fail_async) if is_async else without_locals(_fail)
    with pytest.raises(ValueError, match="the parser's words") as caught:
        await cast("Any", decorated(CORE))
    assert {frame.name for frame in traceback.extract_tb(caught.tb)} == {
        "call",
        caught.traceback[0].name,
    }
    assert caught.value.__context__ is None
    assert (decorated.__name__, decorated.__doc__) == (
        "_fail_async" if is_async else "_fail",
        "Fail as a parser does.",
    )


def test_several_secrets() -> None:
    """Each of several secrets is hidden, and several in a row become one ``***``."""
    known = Secrets("one-secret-word").and_also(Secrets("other-secret-word"))
    assert known.hide("a one-secret-word b other-secret-word one-secret-word") == "a *** b ***"
    assert repr(known) == "<2 secrets>"


@given(st.sampled_from([f"{CORE}é", f"a b{CORE}"]), st.sampled_from(["my app", "a:b", "é", "id"]))
def test_basic_credentials_are_hidden(secret: str, client_id: str) -> None:
    """Basic credentials are hidden, in both alphabets of base64 and without the padding."""
    known = Secrets(*client_secrets(client_id, secret))
    for said in client_secrets(client_id, secret)[1:]:
        for form in (said, said.rstrip("="), said.translate({43: "-", 47: "_"}), quote(said)):
            assert known.hide(f"Authorization: Basic {form}") == "Authorization: Basic ***"
            assert known.quote(f"Authorization: Basic {form}") == "Authorization: Basic ***"


@pytest.mark.parametrize(
    "said",
    [
        "The client credentials are invalid",
        "AADSTS7000215: Invalid client secret provided.",
        "[Errno 111] Connection refused",
        "Check client_id and client_secret (BOX_CLIENT_ID, BOX_CLIENT_SECRET).",
        "https://login.microsoftonline.com did not answer within 30 s",
        "grant type 'client_credentials' is unsupported; use error_access_from_ip_not_allowed",
    ],
)
def test_quote_keeps_what_servers_really_say(said: str) -> None:
    """The texts of real servers are quoted unchanged."""
    assert Secrets(CORE).quote(said) == said


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\r\nb", "a b"),
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("a\u2028b\u2029c", "a b c"),
        ("a\u202egnp.b", "a gnp.b"),
        ("a  b", "a b"),
        ("ünï", "***"),
        ("", ""),
    ],
)
def test_controls_and_letters_of_other_languages(said: str, shown: str) -> None:
    """Control characters become spaces, and only ASCII is quoted (RFC 6749 §5.2)."""
    assert Secrets().quote(said) == shown
    assert Secrets().hide(said) == (said if said == "ünï" else shown)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("invalid_client", "invalid_client"),
        ("application/problem+json", "application/problem+json"),
        ("0f2c1d2e-33aa-4bbb-8ccc-123456789abc", "0f2c1d2e-33aa-4bbb-8ccc-123456789abc"),
        (" padded ", "padded"),
        ("two words", "***"),
        ("a%41", "***"),
        ("&#" + "9" * 5000, "***"),
        ("x" * 81, "***"),
        (f"r-{CORE}", "***"),
        ("", "***"),
    ],
)
def test_name(said: str, shown: str) -> None:
    """A code or id is shown only if it is one word of harmless characters without a secret."""
    assert Secrets(CORE).name(said) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("http://user:pw@proxy:8080/x", "http://***@proxy:8080/x"),
        ("see https://user@host and ftp://a:b@c.", "see https://***@host and ftp://***@c."),
        ("http://u:p@ss@proxy", "http://***@proxy"),
        ("https://host/path@x?y@z", "https://host/path@x?y@z"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_hide_removes_user_and_password_of_a_url(said: str, shown: str) -> None:
    """User name and password of a URL, such as that of a proxy, are hidden."""
    assert Secrets().hide(said) == shown


class Hostile(str):
    """A text of another class, whose methods raise."""

    def __getitem__(self, key: object) -> str:
        raise SystemExit

    isascii = strip = split = casefold = __iter__ = __len__ = __getitem__  # type: ignore[assignment]  # as above


any_text = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Mn", "Cf", "Cs", "Co", "Zs", "Cc"])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["&#", "&#x", "%", "\\u", "\\U", "\\", "<!--", "=?", "://", "\ufdfa"]),
        st.sampled_from(["9", "f", "0", "\u0301", "://", " "]).map(lambda each: each * 6000),
        st.sampled_from([";", "", "@"]),
    ),
).flatmap(lambda text: st.sampled_from([text, Hostile(text)]))


@given(any_text, st.lists(st.text(max_size=20), max_size=3))
@example("&#" + "9" * 5000 + ";", [])
@example("a" + "\u0301\u0323" * 23_000, ["a"])
def test_scrubbing_accepts_any_text(text: str, known: list[str]) -> None:
    """For any text, scrubbing does not raise, and returns a short, printable text."""
    secrets_known = Secrets(*known, text)
    for shown in (secrets_known.quote(text), secrets_known.name(text), secrets_known.hide(text)):
        assert type(shown) is str
        assert len(shown) <= 1200
        assert shown.isprintable()
        assert shown.encode().decode() == shown


def _operations(call: Callable[[], object]) -> int:
    """Return how many lines of Python run, and how many functions are called, including C."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += 1
        return trace

    def profile(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += 1

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)  # type: ignore[arg-type]  # types of frames say nothing here
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


@given(any_text.map(str), st.integers(2, 50))
def test_a_longer_text_is_no_more_work(text: str, times: int) -> None:
    """The work for a text has an upper limit, whatever its length."""
    known = Secrets(*client_secrets("id", "secret" * 200), *(f"{n}" * 9000 for n in range(10)))
    for scrub in (known.quote, known.hide, known.name):
        assert _operations(lambda scrub=scrub: scrub(text * times)) < 200_000  # type: ignore[misc]  # the default


def test_length() -> None:
    """A text is shown whole up to a limit; the end of a longer one is replaced with ``…``."""
    said = "ab " * 99 + "abc"
    assert Secrets().quote(said) == said
    assert Secrets().quote(said + "d") == said[:299] + "…"
    assert Secrets().hide("ab " * 10_000, limit=10) == "ab ab ab …"
    said = "ab " * 399 + "abc"
    assert Secrets().hide(said) == said
    # The last word may be cut, so it is left out.
    assert Secrets().hide(said + "d") == "ab " * 399 + "…"


def test_basic_credentials_example() -> None:
    """Id and secret are each form-encoded before they are joined (RFC 6749 §2.3.1)."""
    assert base64.b64decode(basic_credentials("my app", "p:ä+/")) == b"my%20app:p%3A%C3%A4%2B%2F"
    assert base64.b64decode(basic_credentials("apps/1", "p")) == b"apps%2F1:p"


def test_fingerprint() -> None:
    """A fingerprint has eight hexadecimal digits, and differs between tokens."""
    tokens = ["", "é", "\ud800", "deadbeef", *(f"token-{number}" for number in range(1000))]
    marks = {token: fingerprint(token) for token in tokens}
    assert all(re.fullmatch(r"[0-9a-f]{8}", mark) for mark in marks.values())
    assert len(set(marks.values())) == len(tokens)
    assert marks == {token: fingerprint(token) for token in tokens}
    assert marks["deadbeef"] != "deadbeef"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle(protocol: int) -> None:
    """Objects that may have a secret raise an error on pickling, which says what to do."""
    for thing in (Unpicklable(), UnpicklableValue()):
        expected = f"^cannot pickle a {type(thing).__name__}: .* new one"
        with pytest.raises(TypeError, match=expected):
            pickle.dumps(thing, protocol)
