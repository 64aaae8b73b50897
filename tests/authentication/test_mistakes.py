"""Tests of secrets in the wrong place or layout, which no error or attribute shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from tests.authentication.signing import PASSWORD, pem_of
from tests.helpers import traceback_with_locals
from trio_anon_session import (
    AssertionFile,
    Config,
    ConfigError,
    MutualTLS,
    PrivateKeyJWT,
    SecretFile,
)
from trio_anon_session._authentication._pem import key_text
from trio_anon_session._config import authentication_of
from trio_anon_session.testing import Client, TrustedIssuer

if TYPE_CHECKING:
    from collections.abc import Callable

PEM = pem_of().decode()
BODY = "".join(PEM.split("\n")[1:-2])
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJl"
TAKES_PATH: dict[str, Callable[[str], object]] = {
    "secret": SecretFile,
    "assertion": AssertionFile,
    "key": PrivateKeyJWT.from_file,
    "certificate": MutualTLS,
    "key of a certificate": lambda text: MutualTLS("/dev/null", text),
    "variable": lambda text: Config.from_env({"BOX_CLIENT_ID": "id", "BOX_CLIENT_KEY_FILE": text}),
}


def everything(error: BaseException) -> str:
    """Return all texts of an error, and its traceback with locals."""
    return "\n".join([repr(error), repr(vars(error)), *traceback_with_locals(error)])


@pytest.mark.parametrize("content", [PEM, PEM.replace("\n", " "), JWT, f"{JWT}\n"])
@pytest.mark.parametrize("name", TAKES_PATH)
def test_the_content_of_a_file_is_no_path(name: str, content: str) -> None:
    """A PEM text or a JWT in place of a path is refused, and the error does not show it."""
    with pytest.raises(ConfigError, match="must be a path, got the content of a file") as caught:
        TAKES_PATH[name](content)
    assert caught.value.field in ("path", "certfile", "keyfile")
    shown = everything(caught.value)
    assert not [part for part in (BODY[:40], JWT[:40]) if part in shown]


@pytest.mark.parametrize("path", ["eyJ.pem", "a/eyJ.b.c", "-----BEGIN", "eyJé.b.c"])
def test_odd_paths_are_paths(path: str) -> None:
    """Paths that only resemble a JWT or a PEM text are accepted."""
    assert SecretFile(path).path.name


@pytest.mark.parametrize("of", [Client, lambda keys: TrustedIssuer("i", "s", "a", keys)])
def test_a_private_key_of_a_registered_client_is_not_shown(of: Any) -> None:
    """A private key in place of a public one is not in the traceback."""
    with pytest.raises(ValueError, match="must be public keys") as caught:
        of(keys=PEM) if of is Client else of(PEM)
    assert BODY[:40] not in everything(caught.value)


LAYOUTS: dict[str, Callable[[list[str]], str]] = {
    "lines": "\n".join,
    "CRLF": "\r\n".join,
    "CR": "\r".join,
    "indented": "\n    ".join,
    "one line": " ".join,
    "no line ends": "".join,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_key_in_any_layout_is_remembered(layout: str) -> None:
    """Parts of a private key are hidden in texts, whatever the layout of the key."""
    try:
        key = PrivateKeyJWT(LAYOUTS[layout](PEM.strip().split("\n")), algorithm="ES256")
    except ConfigError:
        # Older versions of cryptography read only the usual layouts.
        assert layout not in ("lines", "CRLF")
        return
    for at in range(0, len(BODY) - 12, 7):
        assert key.secrets().hide(f"got! {BODY[at : at + 12]} !now") == "got! *** !now"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_headers_of_a_key_are_left_out(line_end: str) -> None:
    """The remembered text of an old encrypted key has no header lines."""
    block = pem_of("RSA-2048", password=PASSWORD, form=PrivateFormat.TraditionalOpenSSL).decode()
    assert "DEK-Info: " in block
    lines = [line for line in block.split("\n") if ":" not in line and "-----" not in line]
    assert key_text(block.replace("\n", line_end).encode()) == "".join(lines)


class _Unhashable:
    __hash__ = None  # type: ignore[assignment]  # an unhashable callable is what is tested

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashable)

    def __call__(self, signing_input: bytes) -> bytes:
        return signing_input


def test_a_signer_needs_no_hash() -> None:
    """Configs with equal, unhashable signers have the same hash."""
    one, same, other = (
        Config(client_id="id", auth_method=PrivateKeyJWT(_Unhashable(), key_id=key_id))
        for key_id in ("a", "a", "b")
    )
    assert one == same != other
    assert hash(one) == hash(same) != hash(other)


def test_attributes_show_no_secret() -> None:
    """The attributes of authentication objects, which debuggers show, contain no secret."""
    key = PrivateKeyJWT(pem_of(password=PASSWORD), algorithm="ES256", password=PASSWORD)
    config = Config(client_id="id", client_secret="s3cr3t-of-this-test")
    for client in (key, authentication_of(config)):
        names = {name for kind in type(client).__mro__ for name in getattr(kind, "__slots__", ())}
        shown = repr([getattr(client, name, None) for name in names])
        assert "_used" in names
        assert PASSWORD not in shown
        assert repr(PASSWORD.encode())[2:-1] not in shown
        assert "s3cr3t" not in shown
