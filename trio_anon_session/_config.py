"""`Config`: the settings of a session, checked when the object is created."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import attrs
import httpx
import trio

from ._authentication import (
    ClientAuthentication,
    SecretFile,
    SecretProvider,
    authentication_with_secret,
)
from ._checks import CHECKS, DURATIONS, SECRETS, RefreshMode, freeze_params, show_params, to_float
from ._errors import ConfigError, TokenRequestError
from ._secrets import (
    Secrets,
    UnpicklableValue,
    async_without_locals,
    with_quiet_init,
    without_locals,
)
from ._values import Value

if TYPE_CHECKING:
    from ._http_libraries import HTTPClient

AuthMethod = Literal["client_secret_post", "client_secret_basic", "client_secret_jwt"]
"""The ways in which a client with a secret authenticates, by their names in RFC 8414."""
RetryStrategy = Callable[[int, TokenRequestError], float | None]

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
            attempt, within ``request_timeout``; a plain callable is called in a worker thread. If
            the server answers ``invalid_client``, it is read again; if the secret has changed, the
            session uses it in the next attempt, after ``min_refresh_interval``. One line end at
            the end of a file or result is not part of the secret. No repr contains the secret.
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
            session uses at most half the lifetime. 0: it refreshes only when callers wait. A
            ``stale_buffer`` below ``expired_buffer`` has the same effect for each token that lives
            at least four times as long as ``stale_buffer``; ``doctor`` warns about that.
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
        max_wait: the longest time that callers wait for a token. It counts from the moment since
            which any caller has waited. Then all callers that wait get an error that says what is
            known so far; the session continues to request a token. None: callers wait until the
            round of attempts ends.
        min_refresh_interval: the shortest time between two token requests, in all cases.
        default_lifetime: the lifetime of a token whose response has no ``expires_in``.
        revoke_on_exit: whether leaving the block revokes the token.
        shutdown_timeout: the time limit of this revocation. A shared token manager uses the same
            limit to publish tokens that were dropped just before the end.

    Raises:
        ConfigError: a setting is missing or wrong. The message names it and what it must be.
    """

    client_id: str
    # No hash, because a callable may have none.
    client_secret: str | SecretFile | SecretProvider | None = attrs.field(
        default=None, repr=False, hash=False
    )
    api_root_url: str = "https://api.box.com"
    _token_url: str | None = attrs.field(default=None, alias="token_url")
    _revoke_url: str | None = attrs.field(default=None, alias="revoke_url")
    auth_method: AuthMethod | ClientAuthentication = "client_secret_post"
    issuer: str | None = None
    scope: str | None = None
    box_subject_type: Literal["enterprise", "user"] | None = None
    box_subject_id: str | None = None
    extra_params: Mapping[str, str | tuple[str, ...]] = attrs.field(
        factory=dict, converter=freeze_params, repr=show_params, hash=False
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
    max_wait: float | None = 30.0
    min_refresh_interval: float = 1.0
    default_lifetime: float = 3600.0
    revoke_on_exit: bool = False
    shutdown_timeout: float = 5.0
    _authentication: ClientAuthentication = attrs.field(
        init=False, repr=False, eq=False, hash=False
    )
    # Of the variables in advice.
    _prefix: str = attrs.field(default="BOX_", init=False, repr=False, eq=False, hash=False)

    def __attrs_post_init__(self) -> None:
        for name in DURATIONS:
            object.__setattr__(self, name, to_float(getattr(self, name)))
        for attribute in attrs.fields(Config):
            if attribute.init:
                field = attribute.alias or attribute.name
                CHECKS[field](field, getattr(self, attribute.name))
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
                f"{SECRETS}, unless auth_method is an object such as PrivateKeyJWT",
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
        return attrs.evolve(self, **changes)._with_prefix(self._prefix)

    def _with_prefix(self, prefix: str) -> Self:
        object.__setattr__(self, "_prefix", prefix)
        return self

    @classmethod
    # Without this, the traceback of a KeyboardInterrupt could show locals with the secret.
    @trio.lowlevel.enable_ki_protection
    @async_without_locals
    async def discover(
        cls,
        issuer: str,
        *,
        client_id: str,
        http_client: HTTPClient | None = None,
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
                the metadata must be equal to it, character by character. The endpoints of an
                https issuer must be https URLs. Take the issuer from your configuration, never
                from a response of an API.
            client_id: the client id of the application.
            http_client: the client for these requests, of httpx or httpx2, used as by
                :class:`TokenManager`. Default: a client of its own, which is closed at the end.
            **settings: further settings of the config, except ``token_url``. Set
                ``api_root_url`` to the root URL of your API. ``request_timeout`` (default: 30 s)
                is the limit of both requests together.

        Raises:
            ConfigError: a setting is missing or wrong; there is no metadata of this issuer, or it
                has no valid endpoint; or it lists the methods of clients, but not
                ``auth_method``. Without such a list, each method is accepted.
            TokenUnavailableError: the server did not answer in time, or had a temporary error.
                ``network_failure`` and ``next_step`` are set as by a token request.
            TypeError: ``http_client`` is not a client of httpx or httpx2.

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
            prefix: replaces ``BOX_`` in these names, for a program with several clients. It is
                empty or ends with an underscore. Advice in errors has these names, too.

        Raises:
            ConfigError: a required variable is missing, two variables contradict each other, or a
                value is wrong. The message names the variables. Or ``prefix`` has no underscore at
                its end.
            TypeError: ``prefix`` is not a str.
        """
        # Imported late, like `PrivateKeyJWT` and others there.
        from ._environment import read

        return read(cls, environ, prefix)._with_prefix(prefix)

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
        # Imported late, because few programs read such a file.
        from ._box_json import settings_in

        return cls(**settings_in(path))


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


def with_prefix(config: Config, prefix: str) -> Config:
    """Return a config whose advice has the names of variables with this prefix."""
    return config._with_prefix(prefix)


def for_prefix(advice: str, config: Config) -> str:
    """Return advice with the names of the variables from which a config was read."""
    return advice.replace("BOX_", config._prefix)


def authentication_of(config: Config) -> ClientAuthentication:
    """Return how the client of a config authenticates."""
    return config._authentication


def secrets_of(config: Config) -> Secrets:
    """Return the client's secret texts: those of the config, and the last that were read."""
    return config._authentication.secrets()
