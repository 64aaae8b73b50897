"""`Config`: the settings of a session, checked when the object is created."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

import attrs
import httpx
import trio

from ._authentication import (
    NAMES,
    ClientAuthentication,
    SecretFile,
    SecretProvider,
    authentication_with_secret,
)
from ._callables import lazy_kind
from ._errors import ConfigError, TokenRequestError
from ._secrets import (
    Secrets,
    UnpicklableValue,
    async_without_locals,
    with_quiet_init,
    without_locals,
)
from ._values import Value

AuthMethod = Literal["client_secret_post", "client_secret_basic", "client_secret_jwt"]
"""The ways in which a client with a secret authenticates, by their names in RFC 8414."""
RefreshMode = Literal["eager", "on_request"]
RetryStrategy = Callable[[int, TokenRequestError], float | None]

_PROTECTED_PARAMS = frozenset(
    {
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "box_subject_type",
        "box_subject_id",
    }
)
# RFC 6749 §3.3: one or more scope tokens, separated by single spaces.
_SCOPE = r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*"

_SECRETS = "must be a non-empty str, a SecretFile or a callable"

_Check = Callable[[str, Any], None]


def is_loopback(host: str) -> bool:
    """Return whether the host of a URL is this machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Before Python 3.13, is_loopback ignores an IPv4-mapped address.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_box(url: httpx.URL) -> bool:
    """Return whether a URL is on a server of Box."""
    return f".{url.host}".endswith(".box.com")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(*, zero: bool, optional: bool = False) -> _Check:
    wants = f"must be a finite number of seconds {'≥' if zero else '>'} 0"
    wants += ", or None" if optional else ""

    def check(field: str, value: object) -> None:
        if value is None and optional:
            return
        if (
            not isinstance(value, float)
            or not math.isfinite(value)
            or value < 0
            or (value == 0 and not zero)
        ):
            raise ConfigError(field, f"{wants}, got {_shown(value)}")

    return check


def _shown(value: object) -> str:
    # repr() of an int with more than 4300 digits raises an error.
    if isinstance(value, int | float) and -1e100 < value < 1e100:
        return repr(value)
    return _kind(value)


def _to_float(value: Any) -> Any:
    # An int that is too large for a float stays an int, and the check reports it.
    try:
        return float(value) if _is_number(value) else value
    except OverflowError:
        return value


def _check_text(field: str, value: object) -> None:
    # The value is not shown, because it may be a misplaced secret.
    if not isinstance(value, str) or not value:
        raise ConfigError(field, f"must be a non-empty str, got {_kind(value)}")
    if not _is_encodable(value):
        raise ConfigError(field, "must be text that UTF-8 can encode")
    if value.endswith(("\n", "\r")):
        raise ConfigError(field, "must not end with a line end, as text read from a file does")


def _is_encodable(text: str) -> bool:
    # A UnicodeEncodeError would contain the text, and would be the context of the ConfigError.
    return text.encode(errors="ignore").decode() == text


def _check_secret(field: str, value: object) -> None:
    if isinstance(value, str):
        _check_text(field, value)
    elif value is not None and not isinstance(value, SecretFile) and not callable(value):
        raise ConfigError(field, f"{_SECRETS}, got {_kind(value)}")


def _check_auth_method(field: str, value: object) -> None:
    if not isinstance(value, ClientAuthentication):
        _check_auth_name(field, value)


def _check_optional_text(field: str, value: object) -> None:
    if value is not None:
        _check_text(field, value)


def _kind(value: object) -> str:
    return "an empty str" if value == "" else f"{type(value).__name__}"


def check_url(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(field, f"must be a URL as a str, got {_kind(value)}")
    # url.host decodes the host, which can also raise.
    try:
        url = httpx.URL(value)
        host = url.host
    except (httpx.InvalidURL, ValueError):
        host = ""
    if not host:
        raise ConfigError(field, "must be an absolute URL such as https://api.box.com")
    if url.userinfo:
        raise ConfigError(field, "must be a URL without user name and password")
    if url.fragment or value.endswith("#"):
        raise ConfigError(field, "must be a URL without a fragment (RFC 6749 §3.2)")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ConfigError(
            field,
            "must be an https URL, or http for a loopback host (RFC 6749 §3.2), "
            f"got {url.scheme}://{host}",
        )


def _check_optional_url(field: str, value: object) -> None:
    if value is not None:
        check_url(field, value)


def check_issuer(field: str, value: str) -> None:
    check_url(field, value)
    # RFC 8414 §2: an issuer identifier has no query.
    if "?" in value:
        raise ConfigError(field, "must be a URL without a query")


def _check_root_url(field: str, value: str) -> None:
    check_issuer(field, value)
    url = httpx.URL(value)
    if is_box(url) and url.path != "/":
        raise ConfigError(field, f"must be https://{url.host} without a path")


def _check_optional_issuer(field: str, value: Any) -> None:
    if value is not None:
        check_issuer(field, value)


def _one_of(choices: tuple[str, ...], *, optional: bool = False) -> _Check:
    *others, last = [*map(repr, choices), *(["None"] if optional else [])]
    wants = f"must be {', '.join(others)} or {last}"

    def check(field: str, value: object) -> None:
        if value not in choices and not (optional and value is None):
            # The value is not shown, because it may be a misplaced secret.
            shown = "another str" if isinstance(value, str) and value else _kind(value)
            raise ConfigError(field, f"{wants}, got {shown}")

    return check


_check_auth_name = _one_of(NAMES)


def _check_scope(field: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(_SCOPE, value)):
        raise ConfigError(
            field, "must be None, or scopes separated by single spaces (RFC 6749 §3.3)"
        )


def _freeze_params(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return MappingProxyType(
        {
            name: tuple(item) if isinstance(item, list | tuple) else item
            for name, item in value.items()
        }
    )


def _check_params(field: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(field, f"must be a mapping of form fields, got {_kind(value)}")
    for name, item in value.items():
        if not isinstance(name, str) or not name or not _is_encodable(name):
            raise ConfigError(field, "must have non-empty str names")
        if name in _PROTECTED_PARAMS:
            raise ConfigError(field, f"must not set {name!r}: it has its own setting")
        # RFC 8707 §2: `resource` may be repeated. All other fields have one value.
        texts = item if isinstance(item, tuple) and name == "resource" else (item,)
        for text in texts:
            if not isinstance(text, str) or not _is_encodable(text):
                raise ConfigError(
                    field,
                    f"must have a str for {name!r}"
                    + (", or a list of str" if name == "resource" else ""),
                )


def _show_params(value: Mapping[str, object]) -> str:
    # Only the names: a value may be a password of another scheme.
    return "{" + ", ".join(f"{name!r}: ..." for name in value) + "}"


def _check_count(field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(field, f"must be an int ≥ 0, got {_shown(value)}")


def _check_strategy(field: str, value: object) -> None:
    if value is None:
        return
    got = lazy_kind(value) if callable(value) else _kind(value)
    if got is not None:
        raise ConfigError(
            field, f"must be a plain callable (attempt, error) -> seconds or None, got {got}"
        )


def _check_flag(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(field, f"must be True or False, got {_kind(value)}")


_ZERO_OR_MORE = ("stale_buffer", "expired_buffer", "refresh_jitter", "shutdown_timeout")
_MORE_THAN_ZERO = (
    "retry_interval",
    "max_retry_interval",
    "request_timeout",
    "min_refresh_interval",
    "default_lifetime",
)
_DURATIONS = (*_ZERO_OR_MORE, *_MORE_THAN_ZERO, "idle_timeout")
# Not validators of attrs, for a faster import: see the package's __init__.
_CHECKS: dict[str, _Check] = {
    "client_id": _check_text,
    "client_secret": _check_secret,
    "api_root_url": _check_root_url,
    "token_url": _check_optional_url,
    "revoke_url": _check_optional_url,
    "auth_method": _check_auth_method,
    "issuer": _check_optional_issuer,
    "scope": _check_scope,
    "box_subject_type": _one_of(("enterprise", "user"), optional=True),
    "box_subject_id": _check_optional_text,
    "extra_params": _check_params,
    "refresh": _one_of(get_args(RefreshMode)),
    "idle_timeout": _seconds(zero=False, optional=True),
    "max_retries": _check_count,
    "retry_strategy": _check_strategy,
    "revoke_on_exit": _check_flag,
    **dict.fromkeys(_ZERO_OR_MORE, _seconds(zero=True)),
    **dict.fromkeys(_MORE_THAN_ZERO, _seconds(zero=False)),
}
"""The check of each setting."""

TOKEN_SETTINGS = (
    "token_url",
    "client_id",
    "scope",
    "box_subject_type",
    "box_subject_id",
    "extra_params",
)
"""The settings that select the token: its owner and its permissions."""


@with_quiet_init
@attrs.frozen(kw_only=True, eq=False, repr=False)
class Config(Value, UnpicklableValue):
    """The settings of a session: frozen, and checked when the object is created.

    Each argument is also an attribute. All durations are in seconds, as floats.

    Args:
        client_id: the client id of the application.
        client_secret: the client secret: a str, a :class:`SecretFile`, or a callable without
            arguments, plain or async, that returns a str. A file or callable is read for every
            attempt. If the server answers ``invalid_client``, it is read again; if the secret has
            changed, the request is sent once more immediately. No repr contains the secret.
        api_root_url: the root URL of the API.
        token_url: the token endpoint. Default: ``api_root_url + "/oauth2/token"``.
        revoke_url: the revocation endpoint. Default: ``api_root_url + "/oauth2/revoke"``. Without
            it, a ``token_url`` turns revocation off if it is on another origin than
            ``api_root_url``, or if ``issuer`` is set, too. So the secret is sent only to the
            server of the token endpoint.
        auth_method: how the client authenticates: ``"client_secret_post"`` with form fields
            (Box), ``"client_secret_basic"`` with HTTP Basic (RFC 6749 §2.3.1),
            ``"client_secret_jwt"`` with a JWT assertion that the secret signs (HS256, extra
            ``jwt``), or an object such as :class:`PrivateKeyJWT` for a client without a shared
            secret.
        issuer: the issuer identifier of the authorization server (RFC 8414 §2).
        scope: the scopes to request, separated by spaces.
        box_subject_type: ``"enterprise"`` or ``"user"``. Set both subject settings or neither.
        box_subject_id: the id of the enterprise or user.
        extra_params: further form fields of the token request, such as ``audience``. Only
            ``resource`` may be a list of values (RFC 8707 §2).
        stale_buffer: the session refreshes a token this long before its lifetime ends. The
            session uses at most half the lifetime.
        expired_buffer: callers no longer get a token this long before its lifetime ends. The
            session uses at most a quarter of the lifetime.
        refresh: ``"eager"`` refreshes each token when it becomes STALE, also without callers.
            ``"on_request"`` refreshes it when a caller asks while it is STALE.
        idle_timeout: eager refreshing pauses after this long without a caller. None: it never
            pauses.
        refresh_jitter: each token becomes STALE later by a random time. It is at most this long,
            and at most half the time between ``stale_at`` and ``expires_at``. So the processes of
            a fleet refresh at different times.
        max_retries: the number of attempts after the first one of a round.
        retry_interval: the pause before the first retry. It doubles with each retry, and is
            multiplied by a random factor from 0.5 to 1.5.
        max_retry_interval: the longest pause, also if ``Retry-After`` is longer.
        retry_strategy: ``(attempt, error) -> seconds or None``, a plain function that replaces
            this schedule. ``None`` ends the round. The session does not await it.
        request_timeout: the time limit of one attempt, from connecting to the end of the body.
        min_refresh_interval: the shortest time between two token requests, in all cases.
        default_lifetime: the lifetime of a token whose response has no ``expires_in``.
        revoke_on_exit: whether leaving the block revokes the token.
        shutdown_timeout: the time limit of this revocation. A shared token manager uses the same
            limit to publish tokens that were dropped just before the end.

    Raises:
        ConfigError: a setting is missing or wrong. The message names it and what it must be.
    """

    client_id: str
    client_secret: str | SecretFile | SecretProvider | None = attrs.field(default=None, repr=False)
    api_root_url: str = "https://api.box.com"
    _token_url: str | None = attrs.field(default=None, alias="token_url")
    _revoke_url: str | None = attrs.field(default=None, alias="revoke_url")
    auth_method: AuthMethod | ClientAuthentication = "client_secret_post"
    issuer: str | None = None
    scope: str | None = None
    box_subject_type: Literal["enterprise", "user"] | None = None
    box_subject_id: str | None = None
    extra_params: Mapping[str, str | tuple[str, ...]] = attrs.field(
        factory=dict, converter=_freeze_params, repr=_show_params, hash=False
    )
    stale_buffer: float = 600.0
    expired_buffer: float = 30.0
    refresh: RefreshMode = "eager"
    idle_timeout: float | None = None
    refresh_jitter: float = 0.0
    max_retries: int = 5
    retry_interval: float = 2.0
    max_retry_interval: float = 60.0
    retry_strategy: RetryStrategy | None = None
    request_timeout: float = 30.0
    min_refresh_interval: float = 1.0
    default_lifetime: float = 3600.0
    revoke_on_exit: bool = False
    shutdown_timeout: float = 5.0
    _authentication: ClientAuthentication = attrs.field(
        init=False, repr=False, eq=False, hash=False
    )

    def __attrs_post_init__(self) -> None:
        for name in _DURATIONS:
            object.__setattr__(self, name, _to_float(getattr(self, name)))
        for attribute in attrs.fields(Config):
            if attribute.init:
                field = attribute.alias or attribute.name
                _CHECKS[field](field, getattr(self, attribute.name))
        object.__setattr__(self, "_authentication", self._make_authentication())
        if (self.box_subject_type is None) != (self.box_subject_id is None):
            missing = "box_subject_id" if self.box_subject_id is None else "box_subject_type"
            raise ConfigError(
                missing, "must be set: box_subject_type and box_subject_id go together"
            )

    def _make_authentication(self) -> ClientAuthentication:
        method, secret = self.auth_method, self.client_secret
        if isinstance(method, ClientAuthentication):
            if secret is not None:
                raise ConfigError(
                    "client_secret",
                    f"must not be set: a client with {type(method).__name__} has no secret",
                )
            return method
        if secret is None:
            raise ConfigError(
                "client_secret",
                f"{_SECRETS}, unless auth_method is an object such as PrivateKeyJWT",
            )
        return authentication_with_secret(method, self.client_id, secret)

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return self._token_url or self.api_root_url.rstrip("/") + "/oauth2/token"

    @property
    def revoke_url(self) -> str:
        """The revocation endpoint."""
        return self._revoke_url or self.api_root_url.rstrip("/") + "/oauth2/revoke"

    @without_locals
    def replace(self, **changes: Any) -> Self:
        """Return a new, checked config with these settings changed.

        Raises:
            ConfigError: a setting is unknown, or a value is wrong.
        """
        known = {attribute.alias for attribute in attrs.fields(type(self)) if attribute.init}
        for name in changes:
            if name not in known:
                raise ConfigError(name, "Config has no such setting")
        return attrs.evolve(self, **changes)

    @classmethod
    # Without this, the traceback of a KeyboardInterrupt could show locals with the secret.
    @trio.lowlevel.enable_ki_protection
    @async_without_locals
    async def discover(
        cls,
        issuer: str,
        *,
        client_id: str,
        http_client: httpx.AsyncClient | None = None,
        **settings: Any,
    ) -> Self:
        """Return a config whose endpoints come from the metadata of an authorization server.

        Requests the metadata from the URL of RFC 8414 §3. If that has none, the URL of OpenID
        Connect Discovery §4 is tried. Fills ``token_url``, ``issuer``, and ``revoke_url`` if you do
        not set it. If the server lists no revocation endpoint, revocation is off. For a client
        with a certificate, the endpoints are those of ``mtls_endpoint_aliases`` (RFC 8705 §5).

        Each call requests the metadata once, without credentials and without retries. Nothing
        refreshes it later.

        Args:
            issuer: the issuer identifier: an https URL, or http for a loopback host. The issuer in
                the metadata must be equal to it, character by character. Take it from your
                configuration, never from a response of an API.
            client_id: the client id of the application.
            http_client: the httpx client for these requests, used as by :class:`TokenManager`.
                Default: a client of its own, which is closed at the end.
            **settings: further settings of the config, except ``token_url``. Set
                ``api_root_url`` to the root URL of your API. ``request_timeout`` (default: 30 s)
                is the limit of both requests together.

        Raises:
            ConfigError: a setting is missing or wrong; there is no metadata of this issuer, or it
                has no valid endpoint; or it lists the methods of clients, but not
                ``auth_method``. Without such a list, each method is accepted.
            TokenUnavailableError: the server did not answer in time, or had a temporary error.
                ``network_failure`` and ``next_step`` are set as by a token request.

        Cancellation: closes the connection.
        """
        # Imported late, because only this method sends requests. The module imports this one.
        from ._discovery import discover

        return await discover(cls, issuer, client_id, http_client, settings)

    @classmethod
    @without_locals
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, prefix: str = "BOX_") -> Self:
        """Return the config from the environment variables.

        Required: ``BOX_CLIENT_ID``, and one variable that says how the client authenticates:

        - ``BOX_CLIENT_SECRET``, or ``BOX_CLIENT_SECRET_FILE`` for a :class:`SecretFile`
        - ``BOX_CLIENT_KEY_FILE`` for ``PrivateKeyJWT``; optional: ``BOX_CLIENT_KEY_ID`` and
          ``BOX_CLIENT_KEY_ALGORITHM``
        - ``BOX_CLIENT_ASSERTION_FILE`` for ``AssertionFile``
        - ``BOX_CLIENT_CERT_FILE`` for ``MutualTLS``; optional: ``BOX_CLIENT_CERT_KEY_FILE``

        Optional: ``BOX_API_ROOT_URL``, ``BOX_TOKEN_URL``, ``BOX_REVOKE_URL``, ``BOX_AUTH_METHOD``,
        ``BOX_ISSUER``, ``BOX_SCOPE``, ``BOX_SUBJECT_TYPE`` and ``BOX_SUBJECT_ID``. An empty
        variable counts as missing.

        ``BOX_AUTH_METHOD`` is the name of the method in RFC 8414. Set it to choose between
        ``client_secret_post`` and the other methods with a secret. For the other methods, it
        must agree with the file: ``private_key_jwt``, or ``tls_client_auth``.

        Args:
            environ: the environment.
            prefix: replaces ``BOX_`` in these names, for a program with several clients.

        Raises:
            ConfigError: a required variable is missing, two variables contradict each other, or a
                value is wrong. The message names the variables.
            TypeError: ``prefix`` is not a str.
        """
        # Imported late, like `PrivateKeyJWT` and others there.
        from ._environment import read

        return read(cls, environ, prefix)

    @classmethod
    @without_locals
    def from_box_json(cls, path: str | os.PathLike[str]) -> Self:
        """Return the config from a settings file of Box's developer console.

        Reads ``boxAppSettings.clientID`` and ``boxAppSettings.clientSecret``. If the file has an
        ``enterpriseID``, that enterprise becomes the subject.

        Raises:
            ConfigError: the file cannot be read, or a key is missing or wrong. The message names
                the file or the key.
        """
        # Raised outside of the except block: the context of the ConfigError would otherwise be an
        # error of the json module, which contains the whole document.
        problem = None
        document: object = None
        try:
            document = json.loads(Path(path).read_bytes())
        except OSError as error:
            problem = f"cannot be read: {error.strerror or type(error).__name__}"
        except (ValueError, RecursionError):
            problem = "is not JSON"
        if problem is not None:
            raise ConfigError("path", f"{os.fspath(path)} {problem}")
        app = document.get("boxAppSettings") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(app, dict):
            raise ConfigError("boxAppSettings", f"must be an object in {os.fspath(path)}")
        for key in ("clientID", "clientSecret"):
            if not isinstance(app.get(key), str) or not app[key]:
                raise ConfigError(
                    f"boxAppSettings.{key}", f"must be a non-empty string in {os.fspath(path)}"
                )
        enterprise = document.get("enterpriseID")
        if enterprise is not None and type(enterprise) not in (str, int):
            raise ConfigError("enterpriseID", f"must be a string in {os.fspath(path)}")
        # Apps that were created outside an enterprise have "0" here.
        subject: dict[str, Any] = (
            {"box_subject_type": "enterprise", "box_subject_id": str(enterprise)}
            if enterprise and str(enterprise) != "0"
            else {}
        )
        return cls(client_id=app["clientID"], client_secret=app["clientSecret"], **subject)


def why_no_revocation(config: Config) -> str | None:
    """Return why a config has no revocation endpoint, or None if it has one."""
    if config._token_url is None or config._revoke_url is not None:
        return None
    if config.issuer is not None:
        return "issuer and token_url are set, and revoke_url is not set"
    token_url, root = httpx.URL(config._token_url), httpx.URL(config.api_root_url)
    if (token_url.scheme, token_url.raw_host, token_url.port) != (
        root.scheme,
        root.raw_host,
        root.port,
    ):
        return "token_url and api_root_url are on different servers, and revoke_url is not set"
    return None


def authentication_of(config: Config) -> ClientAuthentication:
    """Return how the client of a config authenticates."""
    return config._authentication


def secrets_of(config: Config) -> Secrets:
    """Return the client's secret texts: those of the config, and the last that were read."""
    return config._authentication.secrets()
