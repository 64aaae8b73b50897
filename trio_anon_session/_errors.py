"""The exception tree.

::

    AnonymousSessionError
    ├── ConfigError                        also a ValueError
    ├── TokenRequestError                  also an httpx.RequestError
    │   ├── CredentialsRejectedError       not retryable
    │   ├── TokenUnavailableError          transient
    │   ├── MalformedTokenResponseError    retryable
    │   └── RevocationError
    └── SessionClosedError                 also a trio.ClosedResourceError
                                           and an httpx.RequestError

Each error that :class:`~trio_anon_session.SessionAuth` can raise is also an
``httpx.RequestError``. So code that handles errors of an httpx client handles these, too.
"""

from __future__ import annotations

from typing import Literal, Self, TypedDict, Unpack

import httpx
import trio

NetworkFailure = Literal["name", "refused", "no_route", "certificate", "tls", "timeout", "proxy"]
"""The kinds of failures without a response from the server."""


class AnonymousSessionError(Exception):
    """The base class of all errors of this library. It is never raised itself."""


class ConfigError(AnonymousSessionError, ValueError):
    """A setting is missing or wrong.

    Attributes:
        field: the name of the setting.
        wants: what the setting must be, such as ``"must be a non-empty str, got int"``.
    """

    def __init__(self, field: str, wants: str) -> None:
        # Text such as "must be …" continues a sentence that begins with the name of the field.
        separator = " " if wants.startswith("must ") else ": "
        super().__init__(f"{field}{separator}{wants}")
        self.field = field
        self.wants = wants

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.field, self.wants)


class Facts(TypedDict, total=False):
    """The attributes of a failed request: see `TokenRequestError`."""

    status_code: int | None
    error: str | None
    error_description: str | None
    retry_after: float | None
    attempts: int
    request_id: str | None


class TokenRequestError(AnonymousSessionError, httpx.RequestError):
    """A token request failed.

    Raised itself if the server refuses the request for a permanent reason other than the
    credentials, such as ``invalid_scope``.

    Attributes:
        retryable: whether the same request may succeed later.
        status_code: the HTTP status, or None without a response.
        error: the error code of the response, such as ``invalid_client``.
        error_description: the server's description, without secrets.
        retry_after: seconds. From :class:`~trio_anon_session.TokenManager`: the server's
            ``Retry-After``. From a session: the time until its next attempt, at most. While a
            request is in progress, the session assumes that it times out.
        attempts: how many requests of the round failed, at most ``1 + max_retries``. After a
            round has failed, the session retries in the background; each of these requests
            counts as the last one of the round. 0: ``max_wait`` has passed, and the first request
            has had no answer. From a token manager: 1.
        request_id: the server's id of the request.
        next_step: what to do about the error, in one sentence, or None. ``str()`` ends with it.
        network_failure: why there was no response, if that is known: ``"name"`` (the host name
            was not found), ``"refused"``, ``"no_route"``, ``"certificate"``, ``"tls"``,
            ``"timeout"`` or ``"proxy"``.
    """

    # Defaults for a foreign subclass that does not call this constructor.
    retryable: bool = True
    status_code: int | None = None
    error: str | None = None
    error_description: str | None = None
    retry_after: float | None = None
    attempts: int = 1
    request_id: str | None = None
    next_step: str | None = None
    network_failure: NetworkFailure | None = None
    _is_cause: bool = False
    # When attempts failed, and when the next one is due, in a sentence without the last full stop.
    _progress: str | None = None
    # Whether the client's credentials have changed since the server rejected them.
    _has_new_credentials: bool = False
    # Whether a file of the client is missing or cannot be read.
    _is_local: bool = False
    # Whether this package wrote the message. Another token manager's may contain secrets.
    _is_scrubbed: bool = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        status_code: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status_code = status_code
        self.error = error
        self.error_description = error_description
        self.retry_after = retry_after
        self.attempts = attempts
        self.request_id = request_id

    def __str__(self) -> str:
        said = super().__str__()
        # A traceback also shows the cause, and the advice should appear only once.
        if self._is_cause:
            return said
        for more in (self._progress, self.next_step):
            if more:
                said = f"{said.rstrip('. ')}. {more}"
        return said

    def copy_with(self, **changes: object) -> Self:
        """Return a new error with the same attributes, except for the changes.

        Each task needs its own error, because one object would collect the tracebacks of all
        tasks. The constructor of a subclass is not called, because it may take other arguments.
        """
        error = Exception.__new__(type(self), *self.args)
        error.__dict__.update(self.__dict__, _is_cause=False)
        error.__dict__.update(changes)
        if hasattr(self, "__notes__"):
            error.__notes__ = list(self.__notes__)
        return error


class CredentialsRejectedError(TokenRequestError):
    """The server rejects the client credentials, or does not allow the client this grant."""

    def __init__(self, message: str, *, retryable: bool = False, **facts: Unpack[Facts]) -> None:
        super().__init__(message, retryable=retryable, **facts)


class TokenUnavailableError(TokenRequestError):
    """The token request failed for a temporary reason."""


class MalformedTokenResponseError(TokenRequestError):
    """The token endpoint did not send a valid token response."""


class RevocationError(TokenRequestError):
    """A token could not be revoked at the server.

    The session has dropped the token and does not return it again.
    """


class SessionClosedError(AnonymousSessionError, trio.ClosedResourceError, httpx.RequestError):
    """The session is closed: its block was left, or one of its tasks crashed."""

    def __init__(
        self,
        message: str = (
            "the session is closed: use it inside its 'async with' block, or open a new one"
        ),
    ) -> None:
        super().__init__(message)


def message_of(error: BaseException) -> str:
    """Return ``str(error)``, also for a foreign error whose ``__str__`` raises."""
    try:
        return str(error)
    except Exception:
        return "(its str() raises an error)"


def as_cause(cause: Exception) -> Exception:
    """Return an error for use as the cause of another. Its message then has no advice."""
    if isinstance(cause, TokenRequestError):
        cause._is_cause = True
    return cause


for _error in tuple(vars().values()):
    if isinstance(_error, type) and issubclass(_error, AnonymousSessionError):
        # So that a traceback shows the name under which users import the error.
        _error.__module__ = "trio_anon_session"
del _error
