"""The exception tree: who is what, what each carries, and how one is made twice."""

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
    """Every error of this library has the one base, and is public, under the name it shows."""
    assert issubclass(error, AnonymousSessionError)
    assert getattr(tas, error.__name__) is error
    assert error.__name__ in tas.__all__
    assert error.__module__ == "trio_anon_session"


def test_no_other() -> None:
    """Every public exception is in the table above."""
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
    """Without facts an error knows nothing, and only rejected credentials are final."""
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
    """Each fact is given by its name, and is an attribute of that name."""
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
    """A ConfigError names the field and what it expects; another process can receive it."""
    error = copied(ConfigError("stale_buffer", "must be seconds"))
    assert (error.field, error.wants) == ("stale_buffer", "must be seconds")
    assert str(error) == "stale_buffer must be seconds"


def test_session_closed_error() -> None:
    """A SessionClosedError says what to do, or what it is given."""
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


class TestTwin:
    @pytest.mark.parametrize("kind", OF_REQUESTS)
    def test_same_facts(self, kind: type[TokenRequestError]) -> None:
        """A twin is a new object of the same class with the same facts."""
        error = kind("message", retryable=False, **FACTS)

        twin = error.copy_with()

        assert twin is not error
        assert type(twin) is kind
        assert str(twin) == "message"
        assert twin.args == error.args
        assert twin.retryable is False
        assert {name: getattr(twin, name) for name in FACTS} == FACTS

    def test_changes(self) -> None:
        """Facts that are named differ in the twin, and stay in the original."""
        error = TokenUnavailableError("message", **FACTS)

        twin = error.copy_with(retry_after=1.5, attempts=6)

        assert (twin.retry_after, twin.attempts, twin.status_code) == (1.5, 6, 429)
        assert (error.retry_after, error.attempts) == (7.0, 3)

    def test_no_history(self) -> None:
        """A twin has no traceback, cause or context of the original."""
        error = raised(TokenUnavailableError("message"), ValueError("cause"))
        assert error.__traceback__ is not None

        twin = error.copy_with()

        assert twin.__traceback__ is None
        assert twin.__cause__ is None
        assert twin.__context__ is None
        assert not twin.__suppress_context__

    def test_notes_are_its_own(self) -> None:
        """A note added to a twin is not added to the original, nor to the next twin."""
        error = TokenUnavailableError("message")
        error.add_note("first")

        error.copy_with().add_note("second")

        assert error.__notes__ == ["first"]
        assert error.copy_with().__notes__ == ["first"]

    def test_subclass_with_own_constructor(self) -> None:
        """A subclass with another constructor has twins too, with its own attributes."""

        class OddError(TokenRequestError):
            def __init__(self, code: int, *, host: str) -> None:
                super().__init__(f"{host} said {code}", status_code=code)
                self.host = host

        twin = OddError(503, host="id.example").copy_with(retry_after=2.0)

        assert type(twin) is OddError
        assert str(twin) == "id.example said 503"
        assert (twin.host, twin.status_code, twin.retry_after) == ("id.example", 503, 2.0)

    def test_subclass_that_calls_no_constructor(self) -> None:
        """A subclass that leaves our constructor out has the facts' defaults, and twins."""

        class LazyError(TokenRequestError):
            def __new__(cls, code: int) -> LazyError:
                return super().__new__(cls, code)

            def __init__(self, code: int) -> None:
                self.code = code

        error = LazyError(503)
        assert error.retryable
        assert (error.status_code, error.error, error.error_description) == (None, None, None)
        assert (error.retry_after, error.attempts, error.request_id) == (None, 1, None)

        twin = error.copy_with(retry_after=2.0)
        assert type(twin) is LazyError
        assert (twin.code, twin.retry_after, twin.args) == (503, 2.0, (503,))
        assert error.retry_after is None

    def test_subclass_with_own_new(self) -> None:
        """A subclass whose objects are made in another way has twins too."""

        class KeywordError(TokenRequestError):
            def __new__(cls, *, host: str) -> KeywordError:
                return super().__new__(cls)

            def __init__(self, *, host: str) -> None:
                super().__init__(f"{host} is down")

        twin = KeywordError(host="id.example").copy_with()
        assert type(twin) is KeywordError
        assert str(twin) == "id.example is down"


@pytest.mark.parametrize("kind", OF_REQUESTS)
def test_copy(kind: type[TokenRequestError]) -> None:
    """An error can be copied, as debuggers and reporters do."""
    error = copy.copy(kind("message", **FACTS))
    assert (str(error), error.status_code, error.attempts) == ("message", 429, 3)
