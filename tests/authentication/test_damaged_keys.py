"""Whatever a damaged key does to its parser, users see an error of the library."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.authentication.damaged_keys import KEYS, Key, damaged
from tests.authentication.mutual_tls.certificates import Pair
from tests.helpers import run_virtually
from tests.http.endpoint import Endpoint, open_manager, says
from trio_anon_session import Config, ConfigError, MutualTLS, PrivateKeyJWT, TokenUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    Way = Callable[[Key, Path], Any]

CERTIFICATE = Pair(trustme.CA(), "client.example").certificate


def from_text(key: Key, path: Path) -> PrivateKeyJWT:
    """Pass the key as text."""
    return PrivateKeyJWT(path.read_bytes(), algorithm=key.algorithm, password=key.password)


def from_file(key: Key, path: Path) -> PrivateKeyJWT:
    """Read the key from a file, for every attempt."""
    return PrivateKeyJWT.from_file(path, algorithm=key.algorithm, password=key.password)


def mutual_tls(key: Key, path: Path) -> MutualTLS:
    """Use the key in TLS handshakes. It does not match the certificate, so it never works."""
    certfile = path.with_name("client.pem")
    certfile.write_bytes(CERTIFICATE)
    return MutualTLS(certfile, path, key.password)


WAYS = [from_text, from_file, mutual_tls]


async def requests_a_token(method: PrivateKeyJWT) -> None:
    """Request a token with a key, which may have been damaged in the meantime."""
    async with open_manager(
        Endpoint(says()), Config(client_id="id", auth_method=method)
    ) as manager:
        await manager.get_tokens_client_credentials_grant()


def said_by(function: Callable[[], object], kind: type[Exception]) -> str:
    """Return the text of the error that a function raises, or an empty text."""
    said = ""
    with suppress(kind):
        try:
            function()
        except Exception as error:
            said = str(error)
            raise
    return said


class PanicError(BaseException):
    """What some versions of cryptography raise is no `Exception`."""


ERRORS = [PanicError, ArithmeticError, MemoryError, RecursionError, GeneratorExit]


@pytest.mark.parametrize("error", ERRORS)
async def test_whatever_cryptography_raises(
    error: type[BaseException],
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No error of cryptography leaves the library, from a parser or from a signature."""
    path = tmp_path / "key"
    path.write_bytes(KEYS["P-256, PKCS8"].pem)
    method = PrivateKeyJWT.from_file(path)

    def fail(*args: object) -> NoReturn:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("jwt.algorithms.ECAlgorithm.sign", fail)
        with pytest.raises(TokenUnavailableError, match="key: the private key cannot sign"):
            await requests_a_token(method)
    monkeypatch.setattr("cryptography.hazmat.primitives.serialization.load_pem_private_key", fail)
    with pytest.raises(ConfigError, match="got a damaged or unsupported one"):
        PrivateKeyJWT.from_file(path)
    path.write_bytes(KEYS["P-384, PKCS8"].pem)
    with pytest.raises(TokenUnavailableError, match="got a damaged or unsupported one"):
        await requests_a_token(method)


def check_damaged(kind: str, way: Way, texts: list[bytes]) -> None:
    """Use damaged texts of a key in one way, and check the errors."""
    key = KEYS[kind]
    with TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_bytes(key.pem)
        replaced = from_file(key, path) if way is from_file else None
        for text in texts:
            path.write_bytes(text)
            said = said_by(partial(way, key, path), ConfigError)
            if replaced is not None:
                said += said_by(
                    partial(run_virtually, requests_a_token, replaced), TokenUnavailableError
                )
            words = re.findall(r"[A-Za-z0-9+/]{12,}", said.replace(folder, ""))
            assert [word for word in words if word.encode() in key.pem + text] == []


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", KEYS)
@given(data=st.data())
def test_a_damaged_key(kind: str, way: Way, data: st.DataObject) -> None:
    """A damaged key is a `ConfigError` on creation, and later an error that is retried."""
    check_damaged(kind, way, data.draw(st.lists(damaged(KEYS[kind].pem), min_size=3, max_size=8)))


# Each kind of key with one way, and each way with one form of nearly every kind.
@pytest.mark.parametrize(("kind", "way"), [*zip(KEYS, itertools.cycle(WAYS), strict=False)])
@given(data=st.data())
def test_a_damaged_key_in_one_way(kind: str, way: Way, data: st.DataObject) -> None:
    """The same for fewer damaged texts, and for each kind of key in one way only."""
    check_damaged(kind, way, data.draw(st.lists(damaged(KEYS[kind].pem), min_size=1, max_size=3)))
