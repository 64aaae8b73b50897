"""`PrivateKeyJWT`: the client signs an assertion with a private key (OpenID Connect Core §9)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from .._errors import ConfigError
from .._paths import shown
from .._secrets import async_without_locals, with_quiet_init, without_locals
from ._credentials import ClientAuthentication, Credentials, CredentialsUnavailableError
from ._jwt import JWTSettings, assertion_fields, assertion_of
from ._keys import ALGORITHMS, KeyFile, PrivateKey
from ._sources import SIZE_LIMIT, call
from ._threads import in_thread

if TYPE_CHECKING:
    import os

    from ._credentials import AssertionRequest

Signer = Callable[[bytes], bytes | Awaitable[bytes]]

# RFC 7518 §3.4: R and S, each as long as the order of the curve.
_EC_SIGNATURE_BYTES = {"ES256": 64, "ES384": 96, "ES512": 132}


class KeyOptions(TypedDict, total=False):
    """The keyword arguments of `PrivateKeyJWT`."""

    algorithm: str | None
    key_id: str | None
    audience: str | None
    lifetime: float
    headers: Mapping[str, object]
    claims: Mapping[str, object]
    password: str | bytes | None
    clock_skew: float


@with_quiet_init
class PrivateKeyJWT(ClientAuthentication):
    """A client with a private key, for ``Config.auth_method``: ``private_key_jwt``.

    For every attempt, the session signs a new JWT assertion with the key (RFC 7523 §2.2). The
    server verifies it with the public key that you have registered. The claims are ``iss`` and
    ``sub`` (the client id), ``aud``, ``iat``, ``exp`` and a random ``jti``.

    Needs the extra ``jwt``: ``pip install 'trio_anon_session[jwt]'``. A callable as key works
    without it.

    Args:
        key: the private key as PEM text, or a callable that signs, plain or async, for a key
            service or HSM. The callable gets the signing input as bytes and returns the signature
            as bytes, in the format of RFC 7518 §3. For ES256, ES384 and ES512 this is R and S, and
            not DER. A plain callable runs in a worker thread. If the attempt is cancelled or times
            out, it does not wait for that thread.
        algorithm: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA. None:
            RS256 for an RSA key or a callable; for another key, the one that fits it.
        key_id: the id under which the server knows the key, for the header ``kid``.
        audience: the claim ``aud``. Default: the issuer of the config, or without one, its
            ``token_url``.
        lifetime: seconds from now to the claim ``exp``, at least 1.
        headers: further headers, such as ``{"x5t#S256": …}``. They can replace ``typ``, which is
            ``client-authentication+jwt``.
        claims: further claims. They cannot replace the claims above.
        password: the password of an encrypted PEM text.
        clock_skew: seconds by which the claim ``iat`` lies in the past. Set it for a server that
            refuses assertions of a machine whose clock is ahead.

    Raises:
        TypeError: an argument has the wrong type.
        ConfigError: a value is wrong, the key cannot be used with the algorithm, or the extra is
            not installed.
    """

    __slots__ = ("_algorithm", "_identity", "_key", "_key_id", "_settings")

    method = "private_key_jwt"
    advice = (
        "client_id (BOX_CLIENT_ID), the public key that is registered at the server, key_id, "
        "algorithm, audience and this machine's clock"
    )

    def __init__(
        self,
        key: str | bytes | Signer,
        *,
        algorithm: str | None = None,
        key_id: str | None = None,
        audience: str | None = None,
        lifetime: float = 60.0,
        headers: Mapping[str, object] = {},
        claims: Mapping[str, object] = {},
        password: str | bytes | None = None,
        clock_skew: float = 0.0,
    ) -> None:
        super().__init__()
        _check_algorithm(algorithm)
        secret = _checked_password(password)
        self._key_id = key_id
        self._key: PrivateKey | KeyFile | Signer
        source: object
        if isinstance(key, _FromFile):
            self._key = KeyFile(key.path, secret, algorithm)
            source = self._key.path
            algorithm = self._key.algorithm
            self._remember(*self._key.texts)
        elif isinstance(key, str | bytes):
            pem = key.encode(errors="replace") if isinstance(key, str) else key
            if b"-----BEGIN" not in pem:
                raise ConfigError(
                    "key",
                    "must be PEM text that begins with -----BEGIN, or a callable; "
                    "to read a file, use PrivateKeyJWT.from_file(path)",
                )
            self._key = PrivateKey(pem, secret, algorithm)
            source = hashlib.sha256(pem).digest()
            algorithm = self._key.algorithm
            self._remember(*self._key.texts)
        elif callable(key):
            if secret is not None:
                raise ConfigError("password", "must be None, because key is a callable")
            source = self._key = key
        else:
            raise TypeError(f"key must be a str, bytes or a callable, not {type(key).__name__}")
        self._algorithm = algorithm or ALGORITHMS[0]
        self._settings = JWTSettings(
            self._algorithm,
            key_id=key_id,
            audience=audience,
            lifetime=lifetime,
            headers=headers,
            claims=claims,
            clock_skew=clock_skew,
        )
        self._identity = (source, _digest_of(secret), self._settings.identity)

    @classmethod
    @without_locals
    def from_file(cls, path: str | os.PathLike[str], **options: Unpack[KeyOptions]) -> Self:
        """Return a client whose key is in a PEM file. You may replace the file at any time.

        The session reads the file for every attempt. If the server answers ``invalid_client``, it
        reads the file again; if the file has changed, the next attempt uses the new key.
        While the file is missing or has no usable key, attempts fail with a
        :class:`~trio_anon_session.TokenUnavailableError`, and the session retries.

        Args:
            path: the file, at most 64 KiB. ``algorithm`` and ``key_id`` must also fit the keys
                that replace the first one.
            **options: the keyword arguments of the class.

        Raises:
            TypeError: an argument has the wrong type.
            ConfigError: as for the class, or the file cannot be read.
        """
        source: Any = _FromFile(path)
        return cls(source, **options)

    @async_without_locals
    async def credentials(self, request: AssertionRequest) -> Credentials:
        version = None
        texts: tuple[str, ...] = ()
        signing_input = self._settings.signing_input(request)
        if isinstance(self._key, KeyFile | PrivateKey):
            work = partial(_signed, self._key, signing_input)
            version, texts, signature = await in_thread("key", self._key, work)
        else:
            result = await call("key", self._key, signing_input)
            signature = _checked_signature(result, self._algorithm)
        assertion = assertion_of(signing_input, signature)
        self._remember(*texts, assertion)
        return Credentials(assertion_fields(request.client_id, assertion), version=version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKeyJWT) and self._identity == other._identity

    def __hash__(self) -> int:
        # Not of a callable, because it may have no hash.
        return hash((PrivateKeyJWT, self._identity[1:]))

    def __repr__(self) -> str:
        key = self._key
        start = f".from_file({shown(key.path)}" if isinstance(key, KeyFile) else "(..."
        key_id = "" if self._key_id is None else f", key_id={self._key_id!r}"
        return f"PrivateKeyJWT{start}, algorithm={self._algorithm!r}{key_id})"


def _signed(key: PrivateKey | KeyFile, text: bytes) -> tuple[str | None, tuple[str, ...], bytes]:
    """Return the version of a key, its secret texts, and a signature.

    Called in a thread: a large key takes 40 ms to sign, and seconds to parse.
    """
    version, current = key.read()
    return version, current.texts, current.sign(text)


class _FromFile:
    """The key of `PrivateKeyJWT.from_file`, which the constructor accepts, too."""

    __slots__ = ("path",)

    def __init__(self, path: object) -> None:
        self.path: Any = path


def _check_algorithm(algorithm: object) -> None:
    if algorithm is None:
        return
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a str or None, not {type(algorithm).__name__}")
    if algorithm not in ALGORITHMS:
        *others, last = map(repr, ALGORITHMS)
        # The value is not shown, because it may be a misplaced secret.
        raise ConfigError("algorithm", f"must be {', '.join(others)} or {last}, got another str")


def _checked_password(password: object) -> bytes | None:
    if password is None:
        return None
    if not isinstance(password, str | bytes):
        raise TypeError(f"password must be a str, bytes or None, not {type(password).__name__}")
    if not password:
        raise ConfigError("password", "must be a non-empty str or bytes, or None")
    return password.encode(errors="replace") if isinstance(password, str) else password


def _digest_of(password: bytes | None) -> bytes | None:
    # Not the password itself, because debuggers show attributes.
    return None if password is None else hashlib.sha256(password).digest()


def _checked_signature(result: object, algorithm: str) -> bytes:
    what = "key: the callable must return"
    if not isinstance(result, bytes):
        raise CredentialsUnavailableError(f"{what} bytes, not {type(result).__name__}")
    if not result:
        raise CredentialsUnavailableError(f"{what} a signature, not empty bytes")
    if len(result) > SIZE_LIMIT:
        raise CredentialsUnavailableError(f"{what} at most {SIZE_LIMIT} bytes")
    # Key services often return DER, which servers would reject as invalid_client.
    wanted = _EC_SIGNATURE_BYTES.get(algorithm, len(result))
    if len(result) != wanted:
        raise CredentialsUnavailableError(
            f"{what} {wanted} bytes for {algorithm}: R and S (RFC 7518 §3.4), not DER; "
            f"got {len(result)} bytes"
        )
    return bytes(result)
