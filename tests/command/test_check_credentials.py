"""``doctor``'s check of the credentials, which sends nothing, and its advice after a rejection."""

from __future__ import annotations

import sys
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.authentication.signing import pem_of
from trio_anon_session import AssertionRequest
from trio_anon_session._cli._checks import Check
from trio_anon_session._cli._checks._assertion import decoded, problems_of, shown_claims
from trio_anon_session._cli._checks._certificate import check_client_certificate
from trio_anon_session._cli._checks._credentials import check_credentials, signed_by
from trio_anon_session._cli._checks._examine import Report
from trio_anon_session._cli._checks._token import check_clock
from trio_anon_session._config import authentication_of

from .running import SECRET, source
from .ways import (
    AUDIENCE,
    ISSUER,
    SUBJECT,
    assertion,
    write_assertion,
    write_certificate,
    write_key,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0
CLAIMS: dict[str, Any] = {"iss": "i", "sub": "s", "aud": "a", "exp": NOW + 3600}


async def check(**flags: Any) -> tuple[Check, bool]:
    """Check the credentials of a client with these flags."""
    settings = source(client_id="id", **flags).settings()
    return await check_credentials(settings, settings.config())


async def test_a_secret() -> None:
    """For a secret, the check names the method and the source."""
    found, is_usable = await check(client_secret=SECRET, auth_method="client_secret_basic")
    assert is_usable
    assert (found.verdict, found.advice) == ("ok", None)
    assert found.found == "client_secret_basic with the secret (flag --client-secret-file)"


async def test_a_secret_that_signs_assertions() -> None:
    """For ``client_secret_jwt``, the check shows the assertion's claims, and not the secret."""
    secret = SECRET + SECRET
    found, _ = await check(
        client_secret=secret, auth_method="client_secret_jwt", issuer="https://id.example"
    )
    assert found.found.endswith("has iss 'id', sub 'id', aud 'https://id.example'")
    assert secret not in found.found


@pytest.mark.parametrize(
    ("kind", "algorithm", "words"),
    [
        ("RSA-2048", "PS256", "RSA, 2048 bits, PS256, no kid; the assertion has iss 'id'"),
        ("P-256", "ES256", "EC, P-256, ES256, no kid; "),
        ("Ed25519", "EdDSA", "Ed25519, EdDSA, no kid; "),
        ("Ed448", "EdDSA", "Ed448, EdDSA, no kid; "),
    ],
)
async def test_a_key(tmp_path: Path, kind: str, algorithm: str, words: str) -> None:
    """For a key, the check shows its type, size or curve, algorithm and id, and the claims."""
    path = write_key(tmp_path, kind)
    flags = {"client_key_file": path, "client_key_algorithm": algorithm}
    found, is_usable = await check(**flags)
    assert is_usable
    assert (found.verdict, found.advice) == ("ok", None)
    assert words in found.found
    assert "aud 'https://api.box.com/oauth2/token'" in found.found
    found, _ = await check(**flags, client_key_id="k1", issuer="https://id.example")
    assert "kid 'k1'; " in found.found
    assert "aud 'https://id.example'" in found.found
    lines = pem_of(kind).decode().split("\n")[1:-2]
    assert not [line for line in lines if line in found.found]


async def test_a_report_masks_assertions(tmp_path: Path) -> None:
    """The report masks an assertion that was sent, because a server may quote it."""
    settings = source(
        client_id="id", client_key_file=write_key(tmp_path), client_key_algorithm="ES256"
    ).settings()
    config = settings.config()
    request = AssertionRequest("id", config.token_url)
    sent = dict((await authentication_of(config).credentials(request)).fields)
    said: list[Check] = []
    report = Report([], said.append, settings.secrets())
    report.config = config
    report(Check("grant", "ok", f"scope {sent['client_assertion']}"))
    assert [check.found for check in said] == ["scope ***"]


async def test_a_key_that_vanishes(tmp_path: Path) -> None:
    """A key file that can no longer be read fails the check, and makes the credentials unusable."""
    path = write_key(tmp_path)
    settings = source(client_id="id", client_key_file=path, client_key_algorithm="ES256").settings()
    config = settings.config()
    path.unlink()
    found, is_usable = await check_credentials(settings, config)
    assert not is_usable
    assert (found.verdict, found.exit_code) == ("failed", 2)
    assert "cannot be read" in found.found
    assert "(flag --client-key-file)" in found.found
    assert "this user can read it" in (found.advice or "")


@pytest.mark.parametrize(
    ("claims", "verdict", "words", "advice"),
    [
        ({}, "ok", f"iss '{ISSUER}', sub '{SUBJECT}', aud '{AUDIENCE}', valid for ", None),
        ({"exp": -7300}, "failed", "it expired 2 hours ago", "replaces the file"),
        ({"exp": 864000}, "warning", "more than a day", "expirationSeconds"),
        ({"iat": 10000}, "warning", "its iat is 2 hours in", "machine's clock"),
        ({"aud": None, "sub": None}, "warning", "it has no sub, aud", "RFC 7523"),
        ({"exp": None}, "warning", "it has no exp", "RFC 7523"),
    ],
)
async def test_an_assertion(
    tmp_path: Path, claims: dict[str, int | None], verdict: str, words: str, advice: str | None
) -> None:
    """The check shows an assertion's claims, fails if it has expired, and warns of odd claims."""
    now = int(time.time())
    times = {name: now + claim if claim is not None else None for name, claim in claims.items()}
    path = write_assertion(tmp_path, **times)
    found, is_usable = await check(client_assertion_file=path)
    # The command also sends the assertion after a failure: this machine's clock may be wrong.
    assert is_usable
    assert (found.verdict, found.exit_code) == (verdict, 2 if verdict != "ok" else 1)
    assert words in found.found
    assert advice in (found.advice or "") if advice is not None else found.advice is None
    assert path.read_text().split(".")[2] not in f"{found.found} {found.advice}"


# The header of the last one uses the standard alphabet of base64 instead of base64url.
@pytest.mark.parametrize(
    "text", [SECRET, f"a.{SECRET}.b", "e30.e30", "....", "ö.ö.ö", "eyJhIjoiPj4+In0.e30.b"]
)
async def test_a_file_without_an_assertion(tmp_path: Path, text: str) -> None:
    """A file without a JWT fails the check, is not shown, and makes the credentials unusable."""
    (tmp_path / "file").write_text(text)
    found, is_usable = await check(client_assertion_file=tmp_path / "file")
    assert not is_usable
    assert (found.verdict, found.exit_code) == ("failed", 2)
    assert "does not contain a signed JWT" in found.found
    assert text not in f"{found.found} {found.advice}"


@pytest.mark.parametrize(
    ("claims", "is_over", "problems"),
    [
        ({}, False, []),
        ({"exp": NOW}, True, ["it expired 0 seconds ago"]),
        ({"exp": NOW - 119}, True, ["it expired 119 seconds ago"]),
        ({"exp": NOW - 120}, True, ["it expired 2 minutes ago"]),
        ({"exp": NOW - 3 * 86400}, True, ["it expired 3 days ago"]),
        ({"exp": NOW + 86400}, False, []),
        ({"exp": NOW + 86401}, False, ["that is more than a day"]),
        ({"exp": "tomorrow"}, False, ["its exp is not a valid time"]),
        ({"exp": True}, False, ["its exp is not a valid time"]),
        ({"exp": 10**400}, False, ["its exp is not a valid time"]),
        ({"iat": NOW + 5}, False, []),
        ({"iat": NOW + 6, "nbf": NOW + 60}, False, ["its iat is 6 seconds in the future"]),
        ({"iat": "now", "nbf": NOW - 60}, False, []),
    ],
)
def test_the_times_of_an_assertion(
    claims: dict[str, Any], is_over: bool, problems: list[str]
) -> None:
    """The check reports a future ``iat``, and an ``exp`` that is past, far ahead or invalid."""
    found_over, found = problems_of(CLAIMS | claims, NOW)
    assert found_over == is_over
    assert [problem for problem, _ in found][: len(problems)] == problems
    assert bool(found) == bool(problems)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300)
_CLAIMS = ("iss", "sub", "aud", "exp", "iat", "nbf")


@given(st.dictionaries(st.sampled_from(_CLAIMS), _SCALARS | st.lists(_SCALARS, max_size=7)))
def test_any_claims(claims: dict[str, Any]) -> None:
    """Claims of any type and length are shown shortened, without an exception."""
    problems_of(claims, NOW)
    # At most five items of a list are shown, and repr() may escape each character.
    assert len(shown_claims(claims)) < 3 * 5 * 201 * 10 + 100


@given(st.text() | st.text("aZ09-_.=", max_size=40))
def test_any_text_instead_of_an_assertion(text: str) -> None:
    """Decoding any text raises no exception; only a text with two dots can be an assertion."""
    parts = decoded(text)
    assert parts is None or text.count(".") == 2


def test_decoding() -> None:
    """Header and claims of an assertion are decoded without its key."""
    parts = decoded(assertion(aud=["a", 3]))
    assert parts is not None
    assert parts[0]["alg"] == "ES256"
    assert shown_claims(parts[1]).endswith("aud ['a', (a JSON int)]")


@pytest.mark.parametrize(
    ("days", "begins", "verdict", "words", "advice"),
    [
        (100.5, -1.0, "ok", "(100 days)", None),
        (14.5, -1.0, "ok", "(14 days)", None),
        (13.5, -1.0, "warning", "(13 days)", "Get a new certificate"),
        (-1.0, -9.0, "failed", "expired on ", "Get a new certificate"),
        (100.0, 3.0, "failed", "is not valid before ", "clock"),
    ],
)
async def test_a_certificate(
    tmp_path: Path, days: float, begins: float, verdict: str, words: str, advice: str | None
) -> None:
    """The check shows the subject, warns two weeks before expiry, and fails outside validity."""
    certfile, keyfile = write_certificate(tmp_path, days, begins)
    found, is_usable = await check(client_cert_file=certfile, client_cert_key_file=keyfile)
    assert is_usable
    assert found.verdict == verdict
    assert found.found.startswith("tls_client_auth (flag --client-cert-file): ")
    assert words in found.found
    assert "OU=Testing cert" in found.found
    assert ("fit together" in found.found) == (verdict != "failed")
    assert advice in (found.advice or "") if advice is not None else found.advice is None
    assert found.exit_code == (2 if verdict == "failed" else 1)


def test_a_certificate_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ``jwt`` extra, the check still works, and says how to install it."""
    certfile, _ = write_certificate(tmp_path)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    found = check_client_certificate(str(certfile), "tls_client_auth", NOW)
    assert found.verdict == "ok"
    assert "pip install 'trio_anon_session[jwt]'" in found.found


async def test_what_a_client_signs_with(tmp_path: Path) -> None:
    """``signed_by`` returns what the client signs assertions with: key, secret or None."""
    key = {"client_key_file": write_key(tmp_path), "client_key_algorithm": "ES256"}
    ways: list[tuple[dict[str, Any], str | None]] = [
        (key, "key"),
        ({"client_secret": SECRET * 2, "auth_method": "client_secret_jwt"}, "secret"),
        ({"client_secret": SECRET}, None),
        ({"client_assertion_file": write_assertion(tmp_path)}, None),
    ]
    for flags, signer in ways:
        assert signed_by(source(client_id="id", **flags).config()) == signer


@pytest.mark.parametrize(
    ("ahead", "signer", "advice"),
    [
        (8.0, None, None),
        (4.0, "key", None),
        (8.0, "key", "clock_skew=7"),
        (8.0, "secret", "from the future (iat)."),
        (-8.0, "key", "has expired (exp)"),
        (90.0, "key", "clock_skew=89"),
        (90.0, None, "signed requests do"),
    ],
)
def test_a_clock_and_assertions(ahead: float, signer: Any, advice: str | None) -> None:
    """A clock that is wrong by a few seconds is a warning for a client that signs assertions."""
    date = formatdate(NOW - ahead, usegmt=True)
    found = check_clock(date, NOW, NOW + 0.5, signer)
    assert found.verdict == ("ok" if advice is None else "warning")
    assert advice in (found.advice or "") if advice is not None else found.advice is None
