"""What keeps secrets out of sight."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_anon_session._secrets import (
    Unpicklable,
    UnpicklableValue,
    basic_credentials,
    client_secrets,
    fingerprint,
    scrub,
)

ODD = (
    "plain-secret",
    "p@ss w/ord",
    "100%41 sure",
    "a+b=c&d",
    "quo'te\"d'",
    "back\\slash\\",
    "größe-шифр-密码",
    "<tag> & 'co'",
    "line\nbreak\tand\x7f",
    "x" * 2000,
    "😀" * 5,
)
# Drawn from what needs escaping somewhere. No asterisk: the mark is made of them.
odd_secrets = st.sampled_from(ODD) | st.text(
    st.sampled_from("ab9 +%/&=?#:;@'\"\\<>~!()éß密😀\n\t\x00"), min_size=6, max_size=40
).filter(lambda text: len(set(text)) > 3 and text.strip() == text)


def lowered(encoded: str) -> str:
    """Return a percent-encoded text with its hex digits in lower case."""
    return re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)


def spellings(secret: str) -> dict[str, str]:
    """Return the forms in which a secret may come back, by name."""
    return {
        "raw": secret,
        "percent": quote(secret, safe=""),
        "percent, slashes kept": quote(secret),
        "percent, lower case": lowered(quote(secret, safe="")),
        "plus": quote_plus(secret),
        "plus, lower case": lowered(quote_plus(secret)),
        "json": json.dumps(secret)[1:-1],
        "repr": repr(secret)[1:-1],
        "html": html.escape(secret),
    }


SPELLINGS = sorted(spellings(""))


@given(odd_secrets, st.sampled_from(SPELLINGS), st.sampled_from(["", "client_secret=", 'a "']))
@example("größe-шифр-密码", "percent, lower case", "")
@example("a/b/c/d", "percent, slashes kept", "")
def test_scrub_hides_every_spelling(secret: str, form: str, before: str) -> None:
    """A secret is hidden in each form in which servers and libraries echo it."""
    said = spellings(secret)[form]

    shown = scrub(f"{before}{said}|rest", [secret])

    assert shown == f"{before}***|rest"


@given(odd_secrets, st.sampled_from(SPELLINGS))
def test_scrub_hides_twice(secret: str, form: str) -> None:
    """A secret is hidden wherever it stands, and in several forms at once."""
    said = spellings(secret)[form]
    shown = scrub(f"{said}|{secret}|{said}", [secret])
    assert shown == "***|***|***"


@given(st.sampled_from(ODD), st.sampled_from(ODD))
def test_scrub_hides_several(one: str, other: str) -> None:
    """Each of several secrets is hidden."""
    assert scrub(f"{one} {other}", [one, other]) == "*** ***"
    assert scrub(f"{one} {other}", iter([other, one])) == "*** ***"


@pytest.mark.parametrize("order", [1, -1])
def test_scrub_hides_the_longest_first(order: int) -> None:
    """A secret that contains another one, at its start or inside, leaves no rest behind."""
    assert scrub("say abcdef and abc", ["abc", "abcdef"][::order]) == "say *** and ***"
    assert scrub("say abcdef and cd", ["cd", "abcdef"][::order]) == "say *** and ***"


@pytest.mark.parametrize("secret", ["wow!(secret)*'s", "~tilde!secret"])
def test_scrub_hides_browser_encoding(secret: str) -> None:
    """A secret percent-encoded as browsers and Node do it, with ``!'()*`` kept, is hidden."""
    said = quote(secret, safe="!'()*")
    assert scrub(f"<{said}>", [secret]) == "<***>"


@pytest.mark.parametrize("secret", ["größe", 'grö"ße', "grö\\ße"])
def test_scrub_hides_json_that_keeps_letters(secret: str) -> None:
    """A secret in JSON that escapes no letters is hidden."""
    assert scrub(json.dumps(secret, ensure_ascii=False), [secret]) == '"***"'


@given(st.sampled_from(ODD), st.sampled_from(["my app", "a:b", "é", "id"]))
def test_scrub_hides_basic_credentials(secret: str, client_id: str) -> None:
    """Basic credentials are hidden when they are named, percent-encoded too."""
    credentials = basic_credentials(client_id, secret)
    assert scrub(f"Authorization: Basic {credentials}", [secret, credentials]).endswith("Basic ***")
    assert scrub(quote(credentials, safe=""), [credentials]) == "***"


@given(st.text(st.sampled_from("~?>é"), min_size=6, max_size=20))
def test_scrub_hides_the_other_base64(secret: str) -> None:
    """Basic credentials in the alphabet for URLs are hidden, with and without the padding."""
    said = base64.urlsafe_b64encode(f"id:{secret}".encode()).decode()
    for text in (said, said.rstrip("=")):
        shown = scrub(f"before {text}", client_secrets("id", secret))
        assert text.rstrip("=") not in shown


def test_scrub_without_secrets() -> None:
    """Text without secrets stays as it is; an empty secret hides nothing."""
    assert scrub("The client credentials are invalid", ["secret"]) == (
        "The client credentials are invalid"
    )
    assert scrub("text", []) == "text"
    assert scrub("text", [""]) == "text"
    assert scrub("", ["secret"]) == ""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\r\nb", "a b"),
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("a\x7f\x85\x9fb", "a b"),
        ("a\u2028b\u2029c", "a b c"),
        ("\n\ta\n", "a"),
        ("a\u202egnp.b", "a gnp.b"),
        ("\ufeffa\u200b\u2066b", "a b"),
        ("a  b", "a  b"),
        ("ünï", "ünï"),
    ],
)
def test_scrub_controls(said: str, shown: str) -> None:
    """Controls and line breaks, which could forge log lines, become single spaces."""
    assert scrub(said, []) == shown


@given(st.text(max_size=700), st.lists(st.text(max_size=20), max_size=3))
def test_scrub_any_text(text: str, secrets: list[str]) -> None:
    """Any text comes out short and without controls."""
    shown = scrub(text, secrets)
    assert len(shown) <= 300
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", shown)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_scrub_lone_surrogates(text: str) -> None:
    """Half a character, which JSON can say, comes out as something that can be printed."""
    shown = scrub(text, ["secret"])
    assert shown.encode().decode() == shown


@pytest.mark.parametrize(
    "said",
    [
        "s/ec'r\\u0065t\\x2dword",
        "s\\/ec&#39;ret-word",
        "s%252Fec%2527ret-word",
        "s/\nec'\tret-\u200bword",
        "s&amp;#47;ec&amp;#39;ret-word",
        "s/ec\\'r\\145t-word",
        "s/ec\\u{27}ret\\U0000002dword",
    ],
)
def test_scrub_hides_what_is_read_in_another_encoding(said: str) -> None:
    """A text in which a secret can be read, encoded in an unusual way, is hidden as a whole."""
    assert scrub(f"before {said} after", ["s/ec'ret-word"]) == "***"
    assert scrub(f"before {said} after", ["s/ec'ret-sword"]).startswith("before s")


def test_scrub_of_much() -> None:
    """What is too long to be looked through is cut, and hidden where a secret is in it."""
    assert scrub("ab " * 10_000, ["secret"]) == "ab " * 99 + "ab…"
    assert scrub("ab " * 10_000, ["secret"], limit=None) == "***"
    assert scrub("secret" + "ab " * 10_000, ["secret"]) == "***"


def test_scrub_length() -> None:
    """Up to 300 characters stay; of more, the end is cut and marked."""
    assert scrub("x" * 300, []) == "x" * 300
    assert scrub("x" * 301, []) == "x" * 299 + "…"


def test_scrub_before_cutting() -> None:
    """A secret across the cut is hidden before the text is shortened."""
    shown = scrub("x" * 295 + "plain-secret" + "y" * 100, ["plain-secret"])
    assert shown == "x" * 295 + "***y…"


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
def test_scrub_userinfo(said: str, shown: str) -> None:
    """User name and password of any URL are hidden, such as those of a proxy."""
    assert scrub(said, []) == shown


encodable = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(encodable, encodable)
@example("id", "a+b c%41:ä")
@example("a:b", ":")
def test_basic_credentials_round_trip(client_id: str, secret: str) -> None:
    """Any form decoder reads both parts back, whether it knows ``+`` or not."""
    credentials = basic_credentials(client_id, secret)

    pair = base64.b64decode(credentials, validate=True).decode("ascii")
    first, colon, second = pair.partition(":")

    assert colon
    for decode in (unquote, unquote_plus):
        assert (decode(first), decode(second)) == (client_id, secret)


def test_basic_credentials_example() -> None:
    """Id and secret are each form-encoded before they are joined (RFC 6749 §2.3.1)."""
    assert base64.b64decode(basic_credentials("my app", "p:ä+/")) == b"my%20app:p%3A%C3%A4%2B%2F"
    assert base64.b64decode(basic_credentials("apps/1", "p")) == b"apps%2F1:p"


@given(st.text(min_size=1))
@example("\ud800")
def test_fingerprint(token: str) -> None:
    """A fingerprint is eight hex digits, always the same for a token, whatever it is."""
    assert re.fullmatch(r"[0-9a-f]{8}", fingerprint(token))
    assert fingerprint(token) == fingerprint(token)


def test_fingerprint_tells_apart() -> None:
    """Different tokens have different fingerprints, which are no part of them."""
    marks = {fingerprint(f"token-{number}") for number in range(1000)}
    assert len(marks) == 1000
    assert fingerprint("deadbeefdeadbeef") not in "deadbeefdeadbeef"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Unpicklable, UnpicklableValue])
def test_no_pickle(kind: type[Unpicklable], protocol: int) -> None:
    """What holds a secret refuses to be pickled, and says what to do instead."""
    with pytest.raises(TypeError, match=f"^{kind.__name__} cannot be pickled: .* new one"):
        pickle.dumps(kind(), protocol)


def test_copies() -> None:
    """A value is its own copy; what is no value cannot be copied."""
    value = UnpicklableValue()
    assert copy.copy(value) is value
    assert copy.deepcopy(value) is value
    with pytest.raises(TypeError):
        copy.copy(Unpicklable())
    with pytest.raises(TypeError):
        copy.deepcopy(Unpicklable())
