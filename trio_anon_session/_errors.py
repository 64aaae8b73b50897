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

What can come up through :class:`~trio_anon_session.SessionAuth` is an
``httpx.RequestError`` too, the broad kind, so that code around an httpx client
catches it without knowing this library.
"""

from __future__ import annotations

from typing import Literal, Self, TypedDict, Unpack

import httpx
import trio

NetworkFailure = Literal["name", "refused", "no_route", "certificate", "tls", "timeout", "proxy"]
"""The kinds of failures that keep an answer from coming."""


class AnonymousSessionError(Exception):
    """Is the base of every error of this library, and never raised itself."""


class ConfigError(AnonymousSessionError, ValueError):
    """Tells that a setting is missing or wrong.

    Attributes:
        field: name of the setting.
        wants: what it wants.
    """

    def __init__(self, field: str, wants: str) -> None:
        # "must …" goes on from the field's name; any other text stands on its own.
        separator = " " if wants.startswith("must ") else ": "
        super().__init__(f"{field}{separator}{wants}")
        self.field = field
        self.wants = wants

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.field, self.wants)


class Facts(TypedDict, total=False):
    """What is known of a failed request; see `TokenRequestError`."""

    status_code: int | None
    error: str | None
    error_description: str | None
    retry_after: float | None
    attempts: int
    request_id: str | None


class TokenRequestError(AnonymousSessionError, httpx.RequestError):
    """Tells that the token endpoint gave no token.

    Raised itself for a refusal that is neither about the credentials nor passing,
    such as ``invalid_scope``.

    Attributes:
        retryable: whether the same request may succeed later.
        status_code: HTTP status, or None where no answer came.
        error: error code of the answer, such as ``invalid_client``.
        error_description: the server's words, scrubbed of secrets.
        retry_after: seconds; from :class:`~trio_anon_session.TokenManager` what the
            server asked for, from a getter the time until the session tries again.
        attempts: how many requests of the round failed, at most ``1 + max_retries``. After a
            round has failed, the session retries in the background; each of these requests
            counts as the last one of the round. From a token manager: 1.
        request_id: the server's name for the request.
        next_step: what to do about it, in a sentence, or None; ``str()`` ends with it.
        network_failure: what kept an answer from coming, where that is known: ``"name"``
            (the host's was not found), ``"refused"``, ``"no_route"``, ``"certificate"``,
            ``"tls"``, ``"timeout"`` or ``"proxy"``.
    """

    # For a subclass of somebody else's that does not call this constructor.
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
    # Whether its words are ours: those of another token manager may show anything.
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
        # A traceback shows causes, too, and says only once what to do.
        if not self.next_step or self._is_cause:
            return said
        return f"{said.rstrip('. ')}. {self.next_step}"

    def twin(self, **changes: object) -> Self:
        """Return a new error with the same facts.

        One instance raised in many tasks would gather all their tracebacks.
        A subclass with a constructor of its own is copied without calling it.
        """
        twin = Exception.__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__, _is_cause=False)
        twin.__dict__.update(changes)
        if hasattr(self, "__notes__"):
            twin.__notes__ = list(self.__notes__)
        return twin


class CredentialsRejectedError(TokenRequestError):
    """Tells that the server does not accept the client or forbids it the grant."""

    def __init__(self, message: str, *, retryable: bool = False, **facts: Unpack[Facts]) -> None:
        super().__init__(message, retryable=retryable, **facts)


class TokenUnavailableError(TokenRequestError):
    """Tells that no token could be had for a passing reason."""


class MalformedTokenResponseError(TokenRequestError):
    """Tells that the endpoint's answer is not a token answer."""


class RevocationError(TokenRequestError):
    """Tells that a token could not be revoked at the server.

    The session has forgotten it all the same.
    """


class SessionClosedError(AnonymousSessionError, trio.ClosedResourceError, httpx.RequestError):
    """Tells that the session's block has been left."""

    def __init__(
        self,
        message: str = (
            "the session is closed: use it inside its 'async with' block, or open a new one"
        ),
    ) -> None:
        super().__init__(message)


def words_of(error: BaseException) -> str:
    """Return what an error says; somebody else may have written one that cannot say it."""
    try:
        return str(error)
    except Exception:
        return "(its str() raises an error)"


def as_cause(cause: Exception) -> Exception:
    """Return an error whose words leave to the one that comes of it what to do."""
    if isinstance(cause, TokenRequestError):
        cause._is_cause = True
    return cause


for _error in tuple(vars().values()):
    if isinstance(_error, type) and issubclass(_error, AnonymousSessionError):
        # A traceback names an error as users import it.
        _error.__module__ = "trio_anon_session"
del _error
