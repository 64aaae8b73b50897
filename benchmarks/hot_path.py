"""Measure what a hit costs, and what it takes to release many held getters.

Every figure is a ratio of two things measured side by side, in turns, in this one run:
the median over the turns, and the spread of the middle half. Run it with::

    python -m benchmarks.hot_path
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
from typing import TYPE_CHECKING

import trio
import trio.testing

from trio_anon_session import AnonymousSession, Config, TokenInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_anon_session import TokenRequestOptions

TURNS = 21
CALLS = 20_000


class Grants:
    """A token manager that grants at once, or when it is let."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sent = 0
        self.gate = trio.Event()
        self.gate.set()

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        self.sent += 1
        sent_at = trio.current_time()
        await self.gate.wait()
        return TokenInfo.from_answer(f"token-{self.sent}", 3600.0, sent_at, self.config)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        await trio.lowlevel.checkpoint()


def time_sync(function: Callable[[], object]) -> float:
    """Return the seconds that one call takes, over many."""
    began = time.perf_counter()
    for _ in range(CALLS):
        function()
    return (time.perf_counter() - began) / CALLS


async def time_async(function: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that one call takes, over many."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await function()
    return (time.perf_counter() - began) / CALLS


def report(name: str, ours: list[float], floor: list[float], limit: float | None = None) -> None:
    """Print the ratio of two series taken in turns, beside what it is to be at the most."""
    ratios = sorted(a / b for a, b in zip(ours, floor, strict=True))
    median = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    verdict = "" if limit is None else f"  limit {limit:g}: {'ok' if median <= limit else 'OVER'}"
    print(
        f"{name:<58}{median:6.2f} x  [{low:.2f} to {high:.2f}]"
        f"  {statistics.median(ours) * 1e9:8.0f} ns{verdict}"
    )


async def measure_hits() -> None:
    """Compare the two getters with their floors."""
    config = Config(client_id="id", client_secret="secret")
    async with AnonymousSession(config, Grants(config)) as session:
        await session.get_access_token()
        nowait, clock, getter, checkpoint = [], [], [], []
        for _ in range(TURNS):
            clock.append(time_sync(trio.current_time))
            nowait.append(time_sync(session.get_access_token_nowait))
            checkpoint.append(await time_async(trio.lowlevel.checkpoint))
            getter.append(await time_async(session.get_access_token))
    report("get_access_token_nowait / trio.current_time", nowait, clock, 4.0)
    report("get_access_token / trio.lowlevel.checkpoint", getter, checkpoint, 1.25)
    report("get_access_token_nowait / trio.lowlevel.checkpoint", nowait, checkpoint)


async def release(count: int) -> tuple[float, int]:
    """Return the seconds from the grant's answer to the last of the getters, and the grants."""
    config = Config(client_id="id", client_secret="secret")
    grants = Grants(config)
    grants.gate = trio.Event()
    async with AnonymousSession(config, grants) as session:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(session.get_access_token)
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            began = time.perf_counter()
            grants.gate.set()
        return time.perf_counter() - began, grants.sent


async def measure_release() -> None:
    """Show that the release of held getters is linear in their number."""
    counts = (1_000, 10_000, 40_000)
    times: dict[int, list[float]] = {count: [] for count in counts}
    sent = set()
    for _ in range(5):
        for count in counts:
            seconds, grants = await release(count)
            times[count].append(seconds / count)
            sent.add(grants)
    for count in counts:
        each = statistics.median(times[count])
        print(f"release of {count:>6} held getters: {each * count * 1e3:8.1f} ms, ", end="")
        print(f"{each * 1e6:.1f} us each")
    print(f"grants for each crowd: {sorted(sent)}")
    report("a getter's share: among 40,000 / among 1,000", times[40_000], times[1_000], 2.0)


async def main() -> None:
    """Measure everything."""
    print(f"Python {platform.python_version()}, trio {trio.__version__}, {TURNS} turns")
    await measure_hits()
    await measure_release()


if __name__ == "__main__":
    trio.run(main)
