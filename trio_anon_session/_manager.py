"""`TokenManager`: one token request or revocation, with the client's credentials.

Errors are raised outside of ``except`` blocks, in functions whose locals contain no secret.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, runtime_checkable

import trio

from ._advice import next_step
from ._authentication import AssertionRequest, CredentialsUnavailableError
from ._config import (
    Config,
    authentication_of,
    for_prefix,
    secrets_of,
    why_no_revocation,
)
from ._errors import RevocationError, TokenRequestError
from ._exchange import Exchange, Form, NoAnswer
from ._judging import judge_grant, judge_revocation, rejects_client
from ._secrets import Secrets, Unpicklable, without_locals
from ._token import TokenInfo, check_options, why_no_access_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._authentication import Credentials
    from ._exchange import Answer
    from ._http_libraries import HTTPClient
    from ._token import TokenRequestOptions

_REMEMBERED = 10
"""How many of the last tokens are scrubbed from the texts of a server."""
_RENEWED = "The client's credentials have changed since; the next attempt uses the new ones."


class _Reply(NamedTuple):
    """What is known after one request.

    Attributes:
        answer: the answer, or why there is none.
        sent_at: when the request was sent, on Trio's clock.
        secrets: the texts to hide in the answer.
        has_new_credentials: whether the server rejected the client, and its credentials have
            changed since.
    """

    answer: Answer | NoAnswer
    sent_at: float
    secrets: Secrets
    has_new_credentials: bool = False


class TokenSource(Protocol):
    """The methods that a session needs of a token manager.

    A manager that shares its tokens with other sessions has more methods: see
    :class:`SharedTokenSource`.
    """

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Make one attempt to get a token."""
        ...

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Make one attempt to revoke a token."""
        ...


@runtime_checkable
class SharedTokenSource(TokenSource, Protocol):
    """A token manager that returns the same token to several sessions.

    A session drops a token that was reported invalid or is being revoked. Then the manager must
    not return that token again, and the other sessions must stop using it. A session treats each
    manager with the methods ``drop`` and ``on_drop`` as shared.
    """

    def drop(self, token: TokenInfo) -> None:
        """Record that a session has dropped a token. This method must not wait.

        The session calls it in a Trio task. Afterwards, the session accepts a token if it is
        another one, or if its ``sent_at`` is later than this call.
        """
        ...

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Register a listener, and return a callable that removes it.

        A session registers one listener when it is entered, and removes it when it ends. The
        manager calls the listener if another session or process drops a token that this manager
        has returned. It passes the token, and calls in the session's Trio run. The listener does
        not wait. It ignores a token that its session does not use.
        """
        ...


class TokenManager(Unpicklable):
    """A client of the token and revocation endpoints that makes one attempt for each call.

    Args:
        config: credentials, endpoints and limits.
        http_client: your client, an ``httpx.AsyncClient`` or an ``httpx2.AsyncClient``. Without
            one, the manager creates a client of httpx and closes it. That client uses the proxy
            variables, but plain http goes only through a loopback proxy. With your client, the
            manager uses none of its authentication, cookies, headers, redirects and timeouts; only
            ``config.request_timeout`` applies. The client's event hooks are called, and can read
            the secret and the token. If a hook raises, the attempt fails. With ``MutualTLS``, your
            client must present the certificate.

    Raises:
        TypeError: ``config`` is not a Config, or ``http_client`` is not such a client.
    """

    def __init__(self, config: Config, *, http_client: HTTPClient | None = None) -> None:
        if not isinstance(config, Config):
            raise TypeError(f"config must be a Config, not {type(config).__name__}")
        self._config = config
        self._exchange = Exchange(http_client)
        # The last tokens: the server may quote one of them.
        self._granted: tuple[Secrets, ...] = ()

    @property
    def config(self) -> Config:
        """The settings."""
        return self._config

    def __repr__(self) -> str:
        return f"<TokenManager for {self._config.client_id!r} at {self._config.token_url}>"

    def __del__(self) -> None:
        # Python calls __del__ even if the constructor has raised.
        exchange: Exchange | None = getattr(self, "_exchange", None)
        if exchange is not None and exchange.must_be_closed:
            warnings.warn(
                f"{self!r} was not closed: use it with 'async with', or await its aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the HTTP client, if the manager created it.

        Cancellation: the sockets are still closed, but forcefully.
        """
        await self._exchange.aclose()

    # Without this, the traceback of a KeyboardInterrupt could show locals with the form.
    @trio.lowlevel.enable_ki_protection
    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Request a token from the token endpoint, in one attempt (RFC 6749 §4.4).

        Args:
            options: sent with the request.

        Returns:
            The token. Its lifetime counts from the moment before the request was sent.

        Raises:
            CredentialsRejectedError: the server rejects the client, or does not allow it the grant.
                If the credentials have changed in the meantime, the message says so: a second call
                uses the new ones.
            TokenUnavailableError: there was no response within ``request_timeout``, or a temporary
                failure.
            MalformedTokenResponseError: the response is not a valid token response.
            TokenRequestError: the server refused the request for another reason, or the manager
                is closed.
            TypeError: ``options`` is not a TokenRequestOptions.

        Cancellation: closes the connection. The server may have granted a token that is not used.
        """
        check_options(options)
        reply = await self._ask(self._grant_form(options), Secrets())
        secrets = self._secrets().and_also(reply.secrets)
        outcome = judge_grant(reply.answer, reply.sent_at, self._config, secrets)
        if isinstance(outcome, TokenInfo):
            granted = Secrets(outcome.access_token)
            self._granted = (*self._granted, granted)[-_REMEMBERED:]
        if isinstance(outcome, TokenRequestError):
            self._advise(outcome, reply)
            try:
                raise outcome
            finally:
                # Otherwise, frame and exception refer to each other until garbage collection.
                del outcome
        return outcome

    @trio.lowlevel.enable_ki_protection
    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token at the server, in one attempt (RFC 7009 §2).

        A token that the server does not know counts as revoked.

        Args:
            token: the token.
            options: sent with the request.

        Raises:
            RevocationError: the token may still be valid.
            TypeError: ``token`` is not a str, or ``options`` is not a TokenRequestOptions.
            ValueError: ``token`` is empty, or begins with ``Bearer``.

        Cancellation: closes the connection. The token may still be valid.
        """
        reason = why_no_revocation(self._config)
        problem: Exception | None = why_no_access_token("token", token)
        if problem is not None:
            # A traceback can show the locals of its frames.
            del token
            raise problem
        if reason is not None:
            # As above.
            del token
            await trio.lowlevel.checkpoint()
            raise _no_revocation_endpoint(reason, self._config)
        try:
            check_options(options)
            form = Form(self._config.revoke_url, [("token", token)], _ip_of(options))
        finally:
            revoked = Secrets(token)
            # As above.
            del token
        reply = await self._ask(form, revoked)
        problem = judge_revocation(reply.answer, self._secrets().and_also(reply.secrets))
        if problem is not None:
            problem.retryable |= reply.has_new_credentials
            self._advise(problem, reply)
            try:
                raise problem
            finally:
                # As above.
                del problem

    def is_access_token_valid(self, token_info: TokenInfo, buffer: float = 0.0) -> bool:
        """Return whether a token is valid for more than ``buffer`` seconds from now.

        This uses ``sent_at`` and ``lifetime`` on Trio's clock. It ignores the config's buffers.
        """
        return token_info.sent_at + token_info.lifetime - buffer > trio.current_time()

    @without_locals
    def _grant_form(self, options: TokenRequestOptions | None) -> Form:
        config = self._config
        fields = [("grant_type", "client_credentials")]
        optional = {
            "scope": config.scope,
            "box_subject_type": config.box_subject_type,
            "box_subject_id": config.box_subject_id,
            **config.extra_params,
        }
        for name, value in optional.items():
            # RFC 6749 §3.2: a parameter without a value counts as omitted.
            texts = value if isinstance(value, tuple) else (value,)
            fields += [(name, text) for text in texts if text]
        return Form(config.token_url, fields, _ip_of(options))

    async def _ask(self, form: Form, secrets: Secrets) -> _Reply:
        """Send a form with credentials.

        Args:
            form: the form.
            secrets: further texts to hide.
        """
        deadline = trio.current_time() + self._config.request_timeout
        credentials = await self._credentials(1, deadline)
        if isinstance(credentials, NoAnswer):
            return _Reply(credentials, deadline, secrets)
        # Taken now: many other requests in the meantime would displace these credentials.
        secrets = self._secrets().and_also(secrets)
        sent_at = trio.current_time()
        answer = await self._exchange.send(
            form.request(credentials),
            secrets,
            limit=self._config.request_timeout,
            deadline=deadline,
            ssl_context=authentication_of(self._config).ssl_context(),
        )
        if credentials.version is None or not rejects_client(answer):
            return _Reply(answer, sent_at, secrets)
        changed = await self._credentials(2, deadline)
        if isinstance(changed, NoAnswer):
            # The source may be about to be replaced, so a retry can help.
            said = "the server rejected the client, and new credentials are not available"
            return _Reply(NoAnswer(f"{said}: {changed.reason}"), sent_at, secrets)
        # Sent by the next attempt and not here, because the session decides when requests are sent.
        return _Reply(answer, sent_at, secrets, changed.version != credentials.version)

    async def _credentials(self, attempt: int, deadline: float) -> Credentials | NoAnswer:
        """Return the credentials for an attempt, or why they are not available."""
        config = self._config
        setting = "auth_method" if config.client_secret is None else "client_secret"
        problem, is_local = f"{setting}: no credentials within {config.request_timeout:g} s", False
        request = AssertionRequest(config.client_id, config.token_url, config.issuer, attempt)
        with trio.move_on_at(deadline):
            try:
                return await authentication_of(config).credentials(request)
            except CredentialsUnavailableError as error:
                problem, is_local = str(error), error.is_local
        await trio.lowlevel.checkpoint()
        return NoAnswer(problem, is_local=is_local)

    def _advise(self, error: TokenRequestError, reply: _Reply) -> None:
        """Add to an error what to do about it."""
        if isinstance(reply.answer, NoAnswer):
            error.network_failure = reply.answer.failure
        error._is_scrubbed = True
        error._has_new_credentials = reply.has_new_credentials
        error.next_step = next_step(error, self._config)
        if error._has_new_credentials:
            others = (
                f" If the server rejects them too: {error.next_step}" if error.next_step else ""
            )
            error.next_step = _RENEWED + others

    def _secrets(self) -> Secrets:
        """Return the texts to hide in a response: the client's secrets, and the last tokens."""
        return secrets_of(self._config).and_also(*self._granted)


def _ip_of(options: TokenRequestOptions | None) -> str | None:
    return None if options is None else options.ip


def _no_revocation_endpoint(reason: str, config: Config) -> RevocationError:
    error = RevocationError(f"the token cannot be revoked: {reason}", retryable=False)
    step = "If the server of token_url can revoke tokens, set revoke_url (BOX_REVOKE_URL)."
    error.next_step = for_prefix(step, config)
    return error
