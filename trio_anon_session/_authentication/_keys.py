"""Private keys that sign assertions, from PEM text or a file.

The public methods of `PrivateKeyJWT` remove the frames of this module from tracebacks.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import ConfigError
from .._paths import checked_path, shown
from .._secrets import Unpicklable
from ._credentials import CredentialsUnavailableError
from ._jwt import algorithm_of
from ._pem import blocks, key_text, why_too_costly
from ._sources import read_file

T = TypeVar("T")

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE = {
    "secp256r1": ("P-256", "ES256"),
    "secp384r1": ("P-384", "ES384"),
    "secp521r1": ("P-521", "ES512"),
}
ALGORITHMS = (*_RSA, *(algorithm for _, algorithm in _BY_CURVE.values()), "EdDSA")
"""The algorithms with a private key (RFC 7518 §3.1, RFC 8037 §3.1)."""

# RFC 7518 §3.3 and §3.5.
_LEAST_RSA_BITS = 2048

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from jwt.algorithms import Algorithm


class PrivateKey(Unpicklable):
    """A private key and its algorithm. It has no repr, because a traceback can show it.

    Args:
        pem: PEM text.
        password: the password of an encrypted key, or None.
        algorithm: one of `ALGORITHMS`, or None for the usual one of such a key.

    Attributes:
        algorithm: the algorithm.
        kind: the type of the key, and its size or curve.
        texts: secret texts, for scrubbing.

    Raises:
        ConfigError: the key cannot be used, or not with this algorithm.
    """

    __slots__ = ("_key", "_signer", "algorithm", "kind", "texts")

    def __init__(self, pem: bytes, password: bytes | None, algorithm: str | None) -> None:
        # Without the extra, this error is more useful than one about the key.
        self._signer: Algorithm = algorithm_of(algorithm or ALGORITHMS[0], "PrivateKeyJWT")
        block = _private_block(pem)
        self._key = _loaded(block, password)
        self.kind, self.algorithm = _checked_kind(self._key, algorithm)
        if algorithm is None:
            self._signer = algorithm_of(self.algorithm, "PrivateKeyJWT")
        secret = () if password is None else (password.decode(errors="replace"),)
        self.texts = (key_text(block), *secret)

    def read(self) -> tuple[None, PrivateKey]:
        """Return this key, and no version, because it cannot change."""
        return None, self

    def sign(self, signing_input: bytes) -> bytes:
        """Return a signature, as RFC 7518 §3 defines it for the algorithm.

        Raises:
            CredentialsUnavailableError: the key cannot sign.
        """
        signature = _result_of(self._signer.sign, signing_input, self._key)
        if not isinstance(signature, bytes):
            raise CredentialsUnavailableError("key: the private key cannot sign")
        return signature


class KeyFile(Unpicklable):
    """A file with a private key. It is read again for every attempt, and parsed if it has changed.

    Args:
        path: the file.
        password: the password of an encrypted key, or None.
        algorithm: one of `ALGORITHMS`, or None for the usual one of the first key.

    Attributes:
        algorithm: the algorithm, also of later keys.
        path: the file.
        texts: secret texts of the first key, for scrubbing.

    Raises:
        TypeError: ``path`` is not a path.
        ConfigError: the file or its key cannot be used.
    """

    __slots__ = ("_loaded", "_password", "algorithm", "path", "texts")

    def __init__(
        self, path: str | os.PathLike[str], password: bytes | None, algorithm: str | None
    ) -> None:
        self.path = checked_path("path", path)
        self._password = password
        self.algorithm = algorithm
        # One attribute, because two threads may read the file at the same time.
        self._loaded: tuple[str, PrivateKey] | None = None
        problem = None
        try:
            _, key = self._load()
            self.algorithm, self.texts = key.algorithm, key.texts
        except CredentialsUnavailableError as error:
            problem = str(error)
        # Raised outside of the except block, so that the error has no context.
        if problem is not None:
            raise ConfigError("key", problem.removeprefix("key: "))

    def read(self) -> tuple[str, PrivateKey]:
        """Return the current version of the file, and its key.

        Raises:
            CredentialsUnavailableError: the file or its key cannot be used.
        """
        problem = None
        try:
            return self._load()
        except ConfigError as error:
            problem = str(error)
        # As above.
        raise CredentialsUnavailableError(problem)

    def _load(self) -> tuple[str, PrivateKey]:
        content = read_file("key", self.path)
        version = hashlib.sha256(content).hexdigest()
        loaded = self._loaded
        if loaded is None or loaded[0] != version:
            try:
                key = PrivateKey(content, self._password, self.algorithm)
            except ConfigError as error:
                problem = error.field, f"{error.wants} (file {shown(self.path)})"
            else:
                self._loaded = loaded = version, key
                return loaded
            # As above.
            raise ConfigError(*problem)
        return loaded


def _private_block(pem: bytes) -> bytes:
    """Return the first private key of a PEM text."""
    if rb"\n" in pem:
        raise ConfigError("key", r"must have line ends in its PEM text, got \n as two characters")
    # A file may contain certificates or EC parameters, too.
    block = next(blocks(pem, b"PRIVATE KEY"), None)
    if block is None:
        label = _LABEL.search(pem)
        got = "no PEM text" if label is None else f"{label[1].decode()!r}"
        raise ConfigError("key", f"must be a private key in PEM format, got {got}")
    return block


def _result_of(function: Callable[..., T], *args: object) -> T | None:
    """Call a function of cryptography, and return None if it raises anything.

    Damaged keys make it raise many errors, and some versions panic, which is no `Exception`. The
    texts are foreign, and may quote the key.
    """
    try:
        return function(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def _loaded(block: bytes, password: bytes | None) -> Any:
    # Imported here, because cryptography is in an extra.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    is_encrypted = b"ENCRYPTED" in block
    if is_encrypted and password is None:
        raise ConfigError("password", "must be set, because the key is encrypted")
    if password is not None and not is_encrypted:
        raise ConfigError("password", "must be None, because the key is not encrypted")
    wanted = why_too_costly(block)
    if wanted is not None:
        raise ConfigError("key", wanted)
    key = _result_of(load_pem_private_key, block, password)
    if key is not None:
        return key
    if is_encrypted:
        raise ConfigError("password", "must be the password of the key, or the key is damaged")
    raise ConfigError(
        "key", "must be a private key in PEM format (PKCS #8), got a damaged or unsupported one"
    )


def _checked_kind(key: Any, algorithm: str | None) -> tuple[str, str]:
    """Return the type of a key, with its size or curve, and the algorithm, which fits it."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    possible: tuple[str, ...]
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise ConfigError(
                "key",
                f"must be an RSA key of at least {_LEAST_RSA_BITS} bits (RFC 7518 §3.3), "
                f"got {key.key_size} bits",
            )
        kind, possible = "RSA", _RSA
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _BY_CURVE:
        curve, name = _BY_CURVE[key.curve.name]
        kind, possible = f"EC, {curve}", (name,)
    elif isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        kind, possible = "Ed25519 or Ed448", ("EdDSA",)
    else:
        curve = f" on {key.curve.name}" if isinstance(key, ec.EllipticCurvePrivateKey) else ""
        raise ConfigError(
            "key",
            "must be an RSA key, an EC key on P-256, P-384 or P-521, an Ed25519 or an Ed448 key, "
            f"got {type(key).__name__.removesuffix('PrivateKey')}{curve}",
        )
    if algorithm is None:
        algorithm = possible[0]
    if algorithm not in possible:
        *others, last = map(repr, possible)
        names = f"{', '.join(others)} or {last}" if others else last
        raise ConfigError("algorithm", f"must be {names} for this key ({kind}), got {algorithm!r}")
    if isinstance(key, rsa.RSAPrivateKey):
        kind = f"RSA, {key.key_size} bits"
    elif not isinstance(key, ec.EllipticCurvePrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
    return kind, algorithm
