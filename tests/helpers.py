"""What many tests need: a virtual clock to run under, and a token manager that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.testing import MockClock

from trio_anon_session import TokenInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_anon_session import Config, TokenRequestOptions


def run_virtually(async_fn: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """Run an async function under virtual time that jumps whenever all tasks sleep.

    For property tests: the clock of a fixture would be shared by all examples.
    """
    clock = MockClock(autojump_threshold=0)

    async def limited() -> Any:
        with trio.fail_after(10 * 365 * 86400.0):
            return await async_fn(*args)

    return trio.run(limited, clock=clock)


class FakeTokenManager:
    """A token manager whose answers the test decides, one coroutine function for all calls.

    Attributes:
        config: gives the buffers of the tokens.
        lifetime: seconds that its tokens live.
        latency: seconds that a grant takes.
        outcomes: what the next grants bring, in order: an exception is raised, anything
            else returned; when there are none left, a new token.
        sent: the times at which grants were sent.
        revoked: the tokens that it was asked to revoke, in order.
        revoke_outcomes: exceptions of the next revocations; None for a good one.
        options: the options of each grant.
        in_flight: grants under way.
        most_in_flight: the most there ever were.
    """

    def __init__(self, config: Config, *, lifetime: float = 3600.0, latency: float = 0.0) -> None:
        self.config = config
        self.lifetime = lifetime
        self.latency = latency
        self.outcomes: list[object] = []
        self.sent: list[float] = []
        self.options: list[TokenRequestOptions | None] = []
        self.revoked: list[str] = []
        self.revoke_outcomes: list[BaseException | None] = []
        self.revoke_latency = 0.0
        self.in_flight = 0
        self.most_in_flight = 0
        self.granted = 0

    def new_token(self, sent_at: float) -> TokenInfo:
        """Return a token that nobody has seen yet."""
        self.granted += 1
        return TokenInfo.from_answer(f"token-{self.granted}", self.lifetime, sent_at, self.config)

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Grant as the test has decided."""
        sent_at = trio.current_time()
        self.sent.append(sent_at)
        self.options.append(options)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await trio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else self.new_token(sent_at)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome  # type: ignore[return-value]  # a test may decide on nonsense

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke as the test has decided."""
        self.revoked.append(token)
        await trio.sleep(self.revoke_latency)
        outcome = self.revoke_outcomes.pop(0) if self.revoke_outcomes else None
        if outcome is not None:
            raise outcome
