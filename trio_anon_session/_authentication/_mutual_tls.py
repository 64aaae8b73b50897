"""``tls_client_auth``: the client has a certificate, and no secret (RFC 8705 §2)."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import httpx

from .._errors import ConfigError
from .._logging import log
from .._paths import checked_path, shown
from .._secrets import Hidden, async_without_locals, digest, with_quiet_init, without_locals
from ._credentials import ClientAuthentication, Credentials, CredentialsUnavailableError
from ._latest_context import LatestContext
from ._pem import blocks, key_text, why_too_costly
from ._sources import read_file
from ._threads import in_thread

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from ._credentials import AssertionRequest

_PASSWORD_LIMIT = 1024
"""The most bytes of a password, for OpenSSL."""
_KEY = b"PRIVATE KEY"


@with_quiet_init
class MutualTLS(ClientAuthentication):
    """Authenticate with a certificate in the TLS handshake (RFC 8705 §2), and without a secret.

    Use it as ``Config.auth_method``, without ``client_secret``. The form then has only the
    ``client_id``. ``token_url`` and ``revoke_url`` must be the server's endpoints for mutual TLS.
    The server's metadata may list them in ``mtls_endpoint_aliases`` (§5), and this way to
    authenticate as ``tls_client_auth`` or ``self_signed_tls_client_auth``.

    The files are read again before each attempt. If they have changed, the next connection uses
    the new certificate. If they are missing or do not match, for example while only one of them
    has been replaced, the old certificate stays in use and the log has a WARNING.

    ``TokenManager(config)`` presents the certificate by itself. A client that you pass as
    ``http_client``, of httpx or httpx2, must do that, so create it with the context of this
    object::

        method = MutualTLS("client.pem", "client.key")
        async with httpx.AsyncClient(verify=method.ssl_context()) as client:
            manager = TokenManager(config, http_client=client)

    If the server binds tokens to the certificate (RFC 8705 §3), the API requires it too. Then
    create the client of your API requests in the same way, with ``auth=session.auth(...)``. Its
    open connections keep the old certificate, with which the API refuses a new token. If you
    replace certificates, turn off idle connections: ``httpx.Limits(max_keepalive_connections=0)``.

    Args:
        certfile: a PEM file with the certificate, followed by further certificates of its chain.
            Each file has at most 64 KiB.
        keyfile: a PEM file with the private key. None: the key is in ``certfile``.
        password: the password of the private key. None: the key is not encrypted.

    Raises:
        ConfigError: a file cannot be read, is not PEM, or does not match the other one, or
            ``password`` is wrong. The message names the argument.
        TypeError: an argument has the wrong type.
    """

    __slots__ = ("_certfile", "_context", "_keyfile", "_password", "_trouble", "_version")

    method = "tls_client_auth"
    advice = (
        "client_id, that its certificate is registered and has not expired, "
        "and that token_url (BOX_TOKEN_URL) is the server's mTLS endpoint"
    )

    def __init__(
        self,
        certfile: str | os.PathLike[str],
        keyfile: str | os.PathLike[str] | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__()
        self._certfile = checked_path("certfile", certfile)
        self._keyfile = None if keyfile is None else checked_path("keyfile", keyfile)
        self._password = Hidden(_checked_password(password))
        self._trouble: str | None = None
        pair = self._read()
        self._remember_key(pair)
        self._context = LatestContext(self._load(pair))
        self._version = pair.version

    @property
    def certfile(self) -> Path:
        """The file with the certificate."""
        return self._certfile

    @property
    def keyfile(self) -> Path | None:
        """The file with the private key, or None if the key is in ``certfile``."""
        return self._keyfile

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MutualTLS) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def __repr__(self) -> str:
        arguments = [shown(path) for path in (self._certfile, self._keyfile) if path is not None]
        arguments += [] if self._password.value is None else ["password=***"]
        return f"MutualTLS({', '.join(arguments)})"

    def _settings(self) -> tuple[object, ...]:
        return self._certfile, self._keyfile, self._password.value

    def ssl_context(self) -> ssl.SSLContext:
        """Return the TLS context whose connections present the certificate.

        It is always the same object. It checks servers as httpx does by default, and so uses
        ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``. You cannot change its settings. After the files
        have changed, an attempt to get a token reads them, and from then on each new connection
        presents the new certificate. Open connections keep the old one.
        """
        return self._context

    @async_without_locals
    async def credentials(self, request: AssertionRequest) -> Credentials:
        """Read the files again, and return the client id."""
        trouble = None
        try:
            await self._renew()
        except (ConfigError, CredentialsUnavailableError) as error:
            trouble = str(error)
        if trouble is not None and trouble != self._trouble:
            log(logging.WARNING, "the client keeps its old certificate: %s", trouble)
        self._trouble = trouble
        return Credentials((("client_id", request.client_id),), version=self._version)

    @async_without_locals
    async def _renew(self) -> None:
        pair = await in_thread("certfile", self, self._read)
        if pair.version != self._version:
            self._remember_key(pair)
            self._context.replace(await in_thread("certfile", self, self._load, pair))
            self._version = pair.version

    @without_locals
    def _remember_key(self, pair: _Pair) -> None:
        keys = [key_text(block) for block in blocks(pair.key, _KEY)]
        self._remember(*keys, self._password.value or "")

    @without_locals
    def _read(self) -> _Pair:
        certificate = _read("certfile", self._certfile)
        key = certificate if self._keyfile is None else _read("keyfile", self._keyfile)
        return _Pair(certificate, key)

    @without_locals
    def _load(self, pair: _Pair) -> ssl.SSLContext:
        """Return a new context with the certificate.

        Raises:
            ConfigError: certificate, key and password do not match.
        """
        for block in blocks(pair.key, _KEY):
            wanted = why_too_costly(block)
            if wanted is not None:
                raise ConfigError("certfile" if self._keyfile is None else "keyfile", wanted)
        # The decorator removes the contexts of these errors.
        try:
            context = httpx.create_ssl_context(trust_env=True)
        except (OSError, ValueError):
            said = "must be a PEM file with the certificates of trusted authorities"
            raise ConfigError("SSL_CERT_FILE", said) from None
        try:
            # With a password of None, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._certfile, self._keyfile, self._password.value or "")
        except ssl.SSLError as error:
            raise self._problem_of(pair, error.reason or "") from None
        except OSError as error:
            raise ConfigError("certfile", f"cannot be read: {type(error).__name__}") from None
        return context

    @without_locals
    def _problem_of(self, pair: _Pair, reason: str) -> ConfigError:
        """Return the error for a reason of OpenSSL."""
        if not _is_certificate(pair.certificate):
            return ConfigError("certfile", f"must be a PEM file with a certificate{self._got()}")
        if reason.startswith(("EE_", "CA_")):
            said = reason.lower().replace("_", " ")
            return ConfigError("certfile", f"must have certificates that OpenSSL accepts: {said}")
        key = next(blocks(pair.key, _KEY), None)
        if self._keyfile is None and key is None:
            return ConfigError("keyfile", f"must be set: certfile has no private key{self._got()}")
        field = "certfile" if self._keyfile is None else "keyfile"
        if reason == "KEY_VALUES_MISMATCH":
            return ConfigError(field, "must have the private key of the certificate in certfile")
        if key is not None and b"ENCRYPTED" in key:
            said = "must be set" if self._password.value is None else "must be the right one"
            return ConfigError("password", f"{said}: the private key is encrypted")
        return ConfigError(field, "must be a PEM file with a valid private key")

    def _got(self) -> str:
        return f", got {shown(self._certfile)}"


class _Pair:
    """The content of the files. It has no repr, because it contains the key."""

    __slots__ = ("certificate", "key", "version")

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = certificate
        self.key = key
        self.version = digest(f"{len(certificate)}:{certificate!r}{key!r}")


def _checked_password(password: object) -> str | None:
    if password is None:
        return None
    if not isinstance(password, str):
        raise TypeError(f"password must be a str or None, not {type(password).__name__}")
    encoded = password.encode(errors="ignore")
    if not password or len(encoded) > _PASSWORD_LIMIT or encoded.decode() != password:
        raise ConfigError(
            "password", f"must be a non-empty str of at most {_PASSWORD_LIMIT} bytes in UTF-8"
        )
    return password


def _read(field: str, path: Path) -> bytes:
    try:
        return read_file(field, path)
    except CredentialsUnavailableError as error:
        raise ConfigError(field, str(error).removeprefix(f"{field}: ")) from None


def _is_certificate(content: bytes) -> bool:
    found = [block.decode("ascii", "ignore") for block in blocks(content, b"CERTIFICATE")]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(found))
    except (ssl.SSLError, ValueError):
        return False
    return True
