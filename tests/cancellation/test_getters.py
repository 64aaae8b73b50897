"""Tests that cancel a get or an exchange at any point: promises 8, 9 and 10."""

from __future__ import annotations

import pytest
import trio

from tests.cancellation.everywhere import (
    LIFETIME,
    Operation,
    Seen,
    Strike,
    cancel_everywhere,
    settle,
)
from tests.helpers import Getter, start_getters
from trio_anon_session import AnonymousSession, TokenState, TokenUnavailableError
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

BUSY = Fault.server_error(503, retry_after="3")
ANSWERS = {
    "at once": FaultPlan(),
    "late": FaultPlan(token_then=Fault(delay=2.0)),
    "failing, then good": FaultPlan(token=[BUSY], token_then=Fault(delay=1.0)),
    "failing": FaultPlan(token=[BUSY, BUSY], token_then=Fault(delay=1.0)),
}
HELD_FOR = {"at once": 0.0, "late": 2.0, "failing, then good": 4.0, "failing": 3.0}


async def _bring_to(session: AnonymousSession, state: TokenState) -> None:
    """Bring a session that refreshes on request into a state."""
    if state is TokenState.EMPTY:
        # Sleep as in the other states, so that the gap after the last grant is over.
        await trio.sleep(10.0)
        return
    token = await session.exchange_token("x")
    moments = {
        TokenState.FRESH: token.stale_at - 10.0,
        TokenState.STALE: token.stale_at,
        TokenState.EXPIRED: token.expires_at,
    }
    await trio.sleep_until(moments[state])
    assert session.state is state


@pytest.mark.slow
@pytest.mark.parametrize("who", ["the first", "the last", "the only one"])
@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        ("get", "at once"),
        ("get", "late"),
        ("get", "failing, then good"),
        ("get", "failing"),
        ("exchange", "late"),
    ],
)
@pytest.mark.parametrize(
    ("state", "checkpoints"),
    [
        (TokenState.EMPTY, 2),
        (TokenState.FRESH, 2),
        (TokenState.STALE, 2),
        (TokenState.EXPIRED, 3),
    ],
)
def test_a_cancelled_caller_changes_no_other_result(
    ask: str, state: TokenState, checkpoints: int, answer: str, who: str
) -> None:
    """A caller that is cancelled at any point leaves immediately, and changes no other result."""

    async def play(strike: Strike) -> Seen:
        server = TokenServer(lifetime=LIFETIME)
        operation = Operation(strike)
        async with open_test_session(server, refresh="on_request", max_retries=1) as session:
            await _bring_to(session, state)
            granted_before = server.grants
            server.faults = ANSWERS[answer]
            server.requests.clear()
            started_at = trio.current_time()
            others: list[Getter] = []

            async def get() -> str:
                try:
                    if ask == "get":
                        return await session.get_access_token()
                    return (await session.exchange_token("x")).access_token
                except TokenUnavailableError:
                    assert answer == "failing"
                    return "nothing"

            async def be_cancelled() -> None:
                await operation.run(get)
                await settle()
                # Each other caller has its token or waits. The session no longer counts the
                # cancelled one.
                waiting = [other for other in others if not other.ended]
                assert session.statistics().getters_held == len(waiting)

            async with trio.open_nursery() as nursery:
                if who == "the last":
                    others += start_getters(nursery, session, 2)
                nursery.start_soon(be_cancelled)
                if who == "the first":
                    others += start_getters(nursery, session, 2)
            await trio.sleep(10.0)

            is_usable = state in (TokenState.FRESH, TokenState.STALE)
            for other in others:
                assert other.ended_at - started_at == (0.0 if is_usable else HELD_FOR[answer])
                assert (other.token is None) == (answer == "failing" and not is_usable)
            statistics = session.statistics()
            assert statistics.getters_held == 0
            assert statistics.grants == server.grants
            facts: dict[str, object] = {
                "sent": [request.at - started_at for request in server.token_requests()],
                "got": [
                    (other.token, type(other.error), other.ended_at - started_at)
                    for other in others
                ],
                "grants": server.grants - granted_before,
                "failures": statistics.failures,
                "held": statistics.getters_held_total,
            }
            # The session still works.
            server.faults = FaultPlan()
            token = await session.get_access_token()
            assert server.tokens[token].verdict_at(trio.current_time()) == "good"
            assert server.most_in_flight == 1
            assert server.grants - granted_before <= (0 if state is TokenState.FRESH else 1)
            return Seen(operation, facts)

    def check(seen: Seen, usual: Seen) -> None:
        was_held = seen.facts.pop("held")
        held_usually = usual.facts["held"]
        assert isinstance(was_held, int)
        assert isinstance(held_usually, int)
        assert held_usually - was_held in (0, 1)
        operation = seen.operation
        if not operation.was_cancelled:
            assert operation.result == usual.operation.result
            duration = operation.ended_at - operation.strike.began_at
            assert duration == usual.operation.ended_at - usual.operation.strike.began_at
        if operation.was_cancelled and who == "the only one":
            # The session sends no new request for the cancelled operation.
            sent = seen.facts["sent"]
            sent_usually = usual.facts["sent"]
            assert isinstance(sent, list)
            assert isinstance(sent_usually, list)
            assert sent == sent_usually[: len(sent)]
        else:
            assert seen.facts == {k: v for k, v in usual.facts.items() if k != "held"}

    cancel_everywhere(play, check, at_least=checkpoints)
