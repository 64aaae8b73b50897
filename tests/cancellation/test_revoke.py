"""A test that cancels a revocation at any point: promises 17 and 18."""

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
from tests.helpers import start_getters
from trio_anon_session import RevocationError
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

ANSWERS = {
    "at once": FaultPlan(),
    "late": FaultPlan(revoke_then=Fault(delay=2.0), token_then=Fault(delay=0.5)),
    "failing, then good": FaultPlan(
        revoke=[Fault.server_error(503, retry_after="3"), Fault(delay=1.0)]
    ),
    "failing": FaultPlan(revoke_then=Fault.refusal("invalid_request")),
}


@pytest.mark.slow
@pytest.mark.parametrize("also", ["before it", "after it", None])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("granting", [False, True])
def test_a_cancelled_revocation_is_still_done(
    granting: bool, answer: str, also: str | None
) -> None:
    """A cancelled revocation leaves immediately, and the token is still dropped and revoked."""

    async def play(strike: Strike) -> Seen:
        server = TokenServer(lifetime=LIFETIME)
        operation = Operation(strike)
        async with open_test_session(server, refresh="on_request") as session:
            old = await session.exchange_token("x")
            await trio.sleep_until(old.stale_at)
            if granting:
                # This request begins before the revocation. Its token must be discarded and
                # revoked, too.
                server.faults = FaultPlan(token=[Fault(delay=1.0)])
                assert await session.get_access_token() == old.access_token
                await settle()
                assert server.in_flight == 1
            server.faults = ANSWERS[answer]
            started_at = trio.current_time()
            others: list[tuple[str, float]] = []

            async def revoke() -> None:
                try:
                    await session.revoke_tokens()
                except RevocationError:
                    assert answer == "failing"

            async def be_cancelled() -> None:
                await operation.run(revoke)
                assert session.token_info is not old
                # A caller gets a new token now, even if the revocation has not reached the server.
                (getter,) = start_getters(nursery, session, 1)
                await trio.sleep(20.0)
                assert getter.token in server.tokens
                assert getter.token != old.access_token

            async def revoke_too() -> None:
                try:
                    await session.revoke_tokens()
                    others.append(("gone", trio.current_time() - started_at))
                except RevocationError:
                    others.append(("there", trio.current_time() - started_at))

            async with trio.open_nursery() as nursery:
                # The second revocation waits for the first one from the moment at which the session
                # drops the token.
                if also == "before it":
                    nursery.start_soon(revoke_too)
                nursery.start_soon(be_cancelled)
                if also == "after it":
                    nursery.start_soon(revoke_too)

            statistics = session.statistics()
            assert statistics.getters_held == 0
            assert statistics.revocations == server.revocations
            revoked = [text for text, token in server.tokens.items() if token.revoked_at]
            facts: dict[str, object] = {
                "sent": [request.at - started_at for request in server.revoke_requests()],
                "others": others,
                "revoked": revoked,
            }
            if answer != "failing":
                assert revoked == list(server.tokens)[: 2 if granting else 1]
            # The session still works.
            token = await session.get_access_token()
            assert server.tokens[token].verdict_at(trio.current_time()) == "good"
            assert server.most_in_flight == 1
            return Seen(operation, facts)

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.facts == usual.facts

    cancel_everywhere(play, check, at_least=3)
