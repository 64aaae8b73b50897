"""Tests of the exceptions: their classes, attributes and copies."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

import trio_anon_session as tas
from trio_anon_session import (
    AnonymousSessionError,
    ConfigError,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = (
    AnonymousSessionError,
    ConfigError,
    TokenRequestError,
    CredentialsRejectedError,
    TokenUnavailableError,
    MalformedTokenResponseError,
    RevocationError,
    SessionClosedError,
)
OF_REQUESTS = (
    TokenRequestError,
    CredentialsRejectedError,
    TokenUnavailableError,
    MalformedTokenResponseError,
    RevocationError,
)


@pytest.mark.parametrize("error", ALL)
def test_base(error: type[Exception]) -> None:
    """Every error of this package is public, and an AnonymousSessionError."""
    assert issubclass(error, AnonymousSessionError)
    assert getattr(tas, error.__name__) is error
    assert error.__name__ in tas.__all__
    assert error.__module__ == "trio_anon_session"


def test_all_public_exceptions_are_tested() -> None:
    """The table of tests has every public exception."""
    public = {getattr(tas, name) for name in tas.__all__}
    assert {
        kind for kind in public if isinstance(kind, type) and issubclass(kind, BaseException)
    } == set(ALL)


@pytest.mark.parametrize(
    ("base", "heirs"),
    [
        (ValueError, {ConfigError}),
        (TokenRequestError, set(OF_REQUESTS)),
        (httpx.RequestError, {*OF_REQUESTS, SessionClosedError}),
        (trio.ClosedResourceError, {SessionClosedError}),
        (CredentialsRejectedError, {CredentialsRejectedError}),
        (TokenUnavailableError, {TokenUnavailableError}),
        (MalformedTokenResponseError, {MalformedTokenResponseError}),
        (RevocationError, {RevocationError}),
        # Retry code catches specific subclasses of httpx's errors, so the session's errors derive
        # from none of them.
        (httpx.TransportError, set()),
        (httpx.HTTPStatusError, set()),
        (OSError, set()),
        (RuntimeError, set()),
    ],
)
def test_tree(base: type[Exception], heirs: set[type[Exception]]) -> None:
    """Each error has the bases that the tree shows, and no others."""
    assert {error for error in ALL if issubclass(error, base)} == heirs


class WithoutConstructorError(TokenRequestError):
    """An error of another token manager, which does not call the constructor of this package."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


@pytest.mark.parametrize("kind", [*OF_REQUESTS, WithoutConstructorError])
def test_defaults(kind: type[TokenRequestError]) -> None:
    """An error has defaults for its attributes; only rejected credentials are not retryable."""
    error = kind("what happened")

    assert str(error) == "what happened"
    assert error.retryable is (kind is not CredentialsRejectedError)
    assert error.status_code is None
    assert error.error is None
    assert error.error_description is None
    assert error.retry_after is None
    assert error.attempts == 1
    assert error.request_id is None
    assert error.next_step is None
    assert error.network_failure is None
    assert error.__cause__ is None


FACTS: dict[str, Any] = {
    "status_code": 429,
    "error": "rate_limit_exceeded",
    "error_description": "later",
    "retry_after": 7.0,
    "attempts": 3,
    "request_id": "abc",
}


@pytest.mark.parametrize("kind", OF_REQUESTS)
def test_facts(kind: Any) -> None:
    """Each attribute of an error is a keyword argument of its constructor."""
    for retryable in (True, False):
        error = kind("message", retryable=retryable, **FACTS)
        assert error.retryable is retryable
        assert {name: getattr(error, name) for name in FACTS} == FACTS
    with pytest.raises(TypeError):
        kind("message", True)
    with pytest.raises(TypeError):
        kind("message", unknown=1)


@pytest.mark.parametrize(
    "copied",
    [
        lambda error: error,
        copy.copy,
        copy.deepcopy,
        lambda error: pickle.loads(pickle.dumps(error)),
    ],
    ids=["itself", "copy", "deep copy", "pickle"],
)
def test_config_error(copied: Callable[[ConfigError], ConfigError]) -> None:
    """A ConfigError has the field and what it must be, also after a copy or pickle."""
    error = copied(ConfigError("stale_buffer", "must be seconds"))
    assert (error.field, error.wants) == ("stale_buffer", "must be seconds")
    assert str(error) == "stale_buffer must be seconds"


def test_session_closed_error() -> None:
    """The default message of a SessionClosedError says what to do."""
    assert str(SessionClosedError()).startswith("the session is closed: use it inside its 'async")
    assert str(SessionClosedError("because")) == "because"


def raised(error: TokenRequestError, cause: Exception) -> TokenRequestError:
    """Return the error after it has been raised, with a cause and a context."""
    try:
        try:
            raise RuntimeError("context")
        except RuntimeError:
            raise error from cause
    except TokenRequestError as same:
        return same


class TestCopyWith:
    @pytest.mark.parametrize("kind", OF_REQUESTS)
    def test_same_facts(self, kind: type[TokenRequestError]) -> None:
        """A copy is a new object of the same class with the same attributes."""
        error = kind("message", retryable=False, **FACTS)

        copied = error.copy_with()

        assert copied is not error
        assert type(copied) is kind
        assert str(copied) == "message"
        assert copied.args == error.args
        assert copied.retryable is False
        assert {name: getattr(copied, name) for name in FACTS} == FACTS

    def test_changes(self) -> None:
        """Changed attributes differ in the copy, and the original keeps its own."""
        error = TokenUnavailableError("message", **FACTS)

        copied = error.copy_with(retry_after=1.5, attempts=6)

        assert (copied.retry_after, copied.attempts, copied.status_code) == (1.5, 6, 429)
        assert (error.retry_after, error.attempts) == (7.0, 3)

    def test_no_history(self) -> None:
        """A copy does not have the original's traceback, cause and context."""
        error = raised(TokenUnavailableError("message"), ValueError("cause"))
        assert error.__traceback__ is not None

        copied = error.copy_with()

        assert copied.__traceback__ is None
        assert copied.__cause__ is None
        assert copied.__context__ is None
        assert not copied.__suppress_context__

    def test_notes_are_its_own(self) -> None:
        """A note that is added to a copy is in neither the original nor the next copy."""
        error = TokenUnavailableError("message")
        error.add_note("first")

        error.copy_with().add_note("second")

        assert error.__notes__ == ["first"]
        assert error.copy_with().__notes__ == ["first"]

    def test_subclass_with_own_constructor(self) -> None:
        """A subclass with another constructor can be copied, with its own attributes."""

        class OddError(TokenRequestError):
            def __init__(self, code: int, *, host: str) -> None:
                super().__init__(f"{host} said {code}", status_code=code)
                self.host = host

        copied = OddError(503, host="id.example").copy_with(retry_after=2.0)

        assert type(copied) is OddError
        assert str(copied) == "id.example said 503"
        assert (copied.host, copied.status_code, copied.retry_after) == ("id.example", 503, 2.0)

    def test_subclass_that_calls_no_constructor(self) -> None:
        """A subclass that does not call our constructor has the defaults, and can be copied."""

        class LazyError(TokenRequestError):
            def __new__(cls, code: int) -> LazyError:
                return super().__new__(cls, code)

            def __init__(self, code: int) -> None:
                self.code = code

        error = LazyError(503)
        assert error.retryable
        assert (error.status_code, error.error, error.error_description) == (None, None, None)
        assert (error.retry_after, error.attempts, error.request_id) == (None, 1, None)

        copied = error.copy_with(retry_after=2.0)
        assert type(copied) is LazyError
        assert (copied.code, copied.retry_after, copied.args) == (503, 2.0, (503,))
        assert error.retry_after is None

    def test_subclass_with_own_new(self) -> None:
        """A subclass with another ``__new__`` can be copied."""

        class KeywordError(TokenRequestError):
            def __new__(cls, *, host: str) -> KeywordError:
                return super().__new__(cls)

            def __init__(self, *, host: str) -> None:
                super().__init__(f"{host} is down")

        copied = KeywordError(host="id.example").copy_with()
        assert type(copied) is KeywordError
        assert str(copied) == "id.example is down"


@pytest.mark.parametrize("kind", OF_REQUESTS)
def test_copy(kind: type[TokenRequestError]) -> None:
    """An error can be copied, as debuggers and reporters do."""
    error = copy.copy(kind("message", **FACTS))
    assert (str(error), error.status_code, error.attempts) == ("message", 429, 3)
