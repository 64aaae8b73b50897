"""Tests of a rejection, if the credentials have changed during the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.authentication.kit import KINDS, Judge, Source, shown_by
from tests.helpers import make_config, run_virtually
from tests.http.endpoint import CALLS, Endpoint, ask, fails, open_manager, says
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    RevocationError,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from trio_anon_session import TokenManager


class Replacing(Judge):
    """An endpoint that replaces the texts of a source when it gets a request.

    Args:
        source: the source.
        *texts: the next texts; the last one stays.
    """

    def __init__(self, source: Source, *texts: Any) -> None:
        super().__init__()
        self._source = source
        self._texts = list(texts)

    async def _judge(self, request: httpx.Request) -> httpx.Response:
        if self._texts:
            self._source.put(self._texts.pop(0))
        return await super()._judge(request)


async def error_of(endpoint: Judge, source: Source, call: str) -> TokenRequestError:
    """Return the error of a request with this source."""
    async with open_manager(endpoint, source.config()) as manager:
        with pytest.raises(TokenRequestError) as caught:
            await ask(manager, call)
    return caught.value


async def outcome_of(manager: TokenManager, call: str) -> TokenRequestError | None:
    """Return the error of a request, or None if it succeeds."""
    try:
        await ask(manager, call)
    except TokenRequestError as error:
        return error
    return None


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_replaced_secret_is_used_by_the_next_request(
    autojump_clock: MockClock, tmp_path: Path, kind: str, call: str
) -> None:
    """If the secret is replaced during a request, the error says so, and a second call succeeds."""
    source = Source(kind, tmp_path)
    judge = Replacing(source, "second-secret")
    judge.accepted = {"second-secret"}
    async with open_manager(judge, source.config()) as manager:
        error = await outcome_of(manager, call)
        assert judge.shown == ["first-secret"]
        assert type(error) is (CredentialsRejectedError if call == "grant" else RevocationError)
        assert error.error == "invalid_client"
        assert "credentials have changed since; the next attempt uses the new ones" in str(error)
        await ask(manager, call)
    assert judge.shown == ["first-secret", "second-secret"]
    if "provider" in kind:
        assert [request.attempt for request in source.requests] == [1, 2, 1]


@pytest.mark.parametrize("max_retries", [0, 5])
async def test_a_session_uses_a_replaced_secret_after_the_gap(
    autojump_clock: MockClock, tmp_path: Path, max_retries: int
) -> None:
    """A session uses a replaced secret without a pause, but keeps its requests apart."""
    source = Source("async callable", tmp_path)
    judge = Replacing(source, "second-secret")
    judge.accepted = {"second-secret"}
    config = source.config(min_refresh_interval=5.0, max_retries=max_retries, retry_interval=60.0)
    async with open_manager(judge, config) as manager, AnonymousSession(config, manager) as session:
        await session.get_access_token()
    assert (judge.shown, trio.current_time()) == (["first-secret", "second-secret"], 5.0)


async def test_a_secret_that_changes_each_time_is_rejected_after_two_requests(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """If the request with the changed credentials is rejected, too, the client is rejected."""
    source = Source("async callable", tmp_path)
    judge = Replacing(source, "second-secret", "third-secret", "fourth-secret")
    config = source.config()
    async with open_manager(judge, config) as manager, AnonymousSession(config, manager) as session:
        with pytest.raises(CredentialsRejectedError):
            await session.get_access_token()
    assert judge.shown == ["first-secret", "second-secret"]


async def test_a_session_revokes_with_a_replaced_secret(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A revocation is retried if the client's secret was replaced during the request."""
    source = Source("async callable", tmp_path)
    judge = Replacing(source)
    judge.accepted = {"first-secret"}
    config = source.config()
    async with open_manager(judge, config) as manager, AnonymousSession(config, manager) as session:
        await session.get_access_token()
        judge.accepted = {"second-secret"}
        judge._texts = ["second-secret"]
        await session.revoke_tokens()
    assert judge.shown == ["first-secret", "first-secret", "second-secret"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_unchanged_secret_is_sent_once(
    autojump_clock: MockClock, tmp_path: Path, kind: str, call: str
) -> None:
    """If the secret has not changed, the client is rejected after one request."""
    judge = Judge()
    error = await error_of(judge, Source(kind, tmp_path), call)
    assert judge.shown == ["first-secret"]
    assert type(error) is (CredentialsRejectedError if call == "grant" else RevocationError)
    assert error.error == "invalid_client"
    assert not error.retryable


OTHER_ANSWERS = {
    "success": says(200, {"access_token": "token"}),
    "wrong scope": says(400, {"error": "invalid_scope"}),
    "wrong request": says(400, {"error": "invalid_request"}),
    "overloaded": says(503, {"error": "invalid_client"}),
    "too many": says(429, {"error": "invalid_client"}),
    "temporary": says(401, {"error": "temporarily_unavailable"}),
    "no token endpoint": says(404, b"invalid_client"),
    "no answer": fails(httpx.ConnectError("no route")),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_fixed_secret_is_sent_once(
    autojump_clock: MockClock, method: str, call: str
) -> None:
    """A secret that is a str is sent once, because it cannot change."""
    endpoint = Endpoint(says(401, {"error": "invalid_client"}))
    async with open_manager(endpoint, make_config(auth_method=method)) as manager:
        with pytest.raises(TokenRequestError):
            await ask(manager, call)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", OTHER_ANSWERS)
async def test_only_a_rejection_of_the_client_reads_the_secret_again(
    autojump_clock: MockClock, tmp_path: Path, answer: str, call: str
) -> None:
    """After a success or another failure, the secret is not read again."""
    source = Source("async callable", tmp_path)
    asked: list[str] = []

    async def judge(request: httpx.Request) -> httpx.Response:
        asked.append(shown_by(request))
        source.put("second-secret")
        return await OTHER_ANSWERS[answer](request)

    async with open_manager(Endpoint(judge), source.config()) as manager:
        outcome = await outcome_of(manager, call)
    assert type(outcome) is not CredentialsRejectedError
    assert (outcome is None) is (answer == "success")
    assert asked == ["first-secret"]


REJECTIONS = [(400, "invalid_client"), (401, ""), (401, "invalid_client"), (403, "x")]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("status", "code"), REJECTIONS)
async def test_every_rejection_of_the_client_reads_the_secret_again(
    autojump_clock: MockClock, tmp_path: Path, status: int, code: str, call: str
) -> None:
    """After each form of rejection, the error says whether there is a new secret."""
    source = Source("async callable", tmp_path)

    async def judge(request: httpx.Request) -> httpx.Response:
        source.put("second-secret")
        return httpx.Response(status, json={"error": code} if code else {})

    async with open_manager(Endpoint(judge), source.config()) as manager:
        error = await outcome_of(manager, call)
    assert error is not None
    assert "credentials have changed" in str(error)


@pytest.mark.parametrize("call", CALLS)
async def test_a_source_that_breaks_after_a_rejection_is_a_retryable_error(
    autojump_clock: MockClock, tmp_path: Path, call: str
) -> None:
    """If the source fails after a rejection, the error is retryable, and names both problems."""
    source = Source("plain callable", tmp_path)
    judge = Replacing(source, KeyError("gone"))
    error = await error_of(judge, source, call)
    assert type(error) is (TokenUnavailableError if call == "grant" else RevocationError)
    assert error.retryable
    assert str(error).endswith(
        ": the server rejected the client, and new credentials are not available: "
        "client_secret: the callable raised KeyError"
    )
    assert judge.shown == ["first-secret"]


durations = st.one_of(st.just(0.0), st.floats(0.0, 12.0))


@given(
    reading=durations,
    answering=durations,
    call=st.sampled_from(CALLS),
    kind=st.sampled_from(["async callable", "async provider"]),
)
@example(reading=0.0, answering=8.0, call="grant", kind="async callable")
def test_an_attempt_ends_within_request_timeout(
    tmp_path_factory: pytest.TempPathFactory,
    reading: float,
    answering: float,
    call: str,
    kind: str,
) -> None:
    """The two readings and the request together take at most request_timeout."""
    source = Source(kind, tmp_path_factory.getbasetemp())
    source.latency = reading
    judge = Replacing(source, "second-secret")
    judge.latency = answering
    judge.accepted = {"second-secret"}
    needed = 2 * reading + answering

    async def attempt() -> None:
        async with open_manager(judge, source.config(request_timeout=10.0)) as manager:
            outcome = await outcome_of(manager, call)
        assert trio.current_time() == pytest.approx(min(needed, 10.0))
        assert outcome is not None
        if needed != pytest.approx(10.0):
            assert ("credentials have changed" in str(outcome)) is (needed < 10.0)

    run_virtually(attempt)
