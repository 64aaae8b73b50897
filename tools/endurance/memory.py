"""Measure whether memory grows if something happens ten thousand times.

    python -m tools.endurance.memory

The program puts sessions under eight loads in virtual time, and reads the memory ten times during
each: the memory that Python has allocated (tracemalloc, after a collection), the memory of the
process, and the number of objects that the collector tracks. Exit code 1 if allocated memory
grows after the first third of a load. ``--scale 0.1`` does a tenth of everything.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import math
import os
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trio

from tests.helpers import make_config, run_virtually
from trio_anon_session import (
    AnonymousSession,
    RevocationError,
    SessionClosedError,
    TokenInfo,
    TokenManager,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trio_anon_session import Config, Event, TokenRequestOptions

READINGS = 10
SETTLED = 3
"""Index of the first reading after a third of the load."""
NOISE = 8192
"""Bytes that may vary: a dict that has grown, or the scopes of future deadlines.

A leak of 100 bytes in each round exceeds this after 300 rounds.
"""
PER_ROUND = 1.0
"""Bytes that each round may add. One leaked pointer in each round would be eight bytes."""
LIFETIME = 20.0
"""Lifetime of tokens in seconds. Some lists keep entries for as long as a token lives."""

Note = Callable[[int], None]
"""A function that is called with the number of finished rounds."""
Load = Callable[[int, Note], Awaitable[None]]


@attrs.frozen
class Reading:
    """The memory at one moment.

    Attributes:
        done: number of finished rounds.
        traced: bytes that Python has allocated.
        resident: resident memory of the process in bytes; None if the system does not report it.
        objects: number of objects that the collector tracks, without those before the load.
    """

    done: int
    traced: int
    resident: int | None
    objects: int


@attrs.define
class Course:
    """The memory during one load."""

    readings: list[Reading] = attrs.field(factory=list)
    more_of: dict[str, int] = attrs.field(factory=dict)
    """The types with the most new objects since the first third, and their numbers."""
    _kinds: Counter[str] = attrs.field(factory=Counter)
    _own: int = 0

    def read(self, done: int, count: int) -> None:
        """Read the memory, if a reading is due."""
        due = (len(self.readings) + 1) * count / READINGS
        if done < due or len(self.readings) == READINGS:
            return
        gc.collect()
        # Python caches up to 4096 attribute names.
        sys._clear_type_cache()
        traced, _ = tracemalloc.get_traced_memory()
        held = resident()
        self.readings.append(Reading(done, traced - self._own, held, len(gc.get_objects())))
        if len(self.readings) == SETTLED + 1:
            self._kinds = census()
            self._own = tracemalloc.get_traced_memory()[0] - traced
        elif len(self.readings) == READINGS:
            self.more_of = dict((census() - self._kinds).most_common(5))

    @property
    def growth(self) -> int:
        """Bytes by which allocated memory has grown since the first third.

        This compares the least of three readings at both ends, because a reading may be high by
        chance.
        """
        early, late = self.readings[SETTLED : SETTLED + 3], self.readings[-3:]
        return min(each.traced for each in late) - min(each.traced for each in early)

    @property
    def rounds(self) -> int:
        """Number of rounds since the first third."""
        return self.readings[-1].done - self.readings[SETTLED].done

    @property
    def is_flat(self) -> bool:
        """Whether the growth is within the noise."""
        return self.growth <= NOISE + PER_ROUND * self.rounds

    @property
    def slope(self) -> float:
        """Bytes for each round: the slope of the line fitted to the readings since a third."""
        since = self.readings[SETTLED:]
        middle = sum(each.done for each in since) / len(since)
        return sum((each.done - middle) * each.traced for each in since) / sum(
            (each.done - middle) ** 2 for each in since
        )

    def table(self) -> str:
        """Return the readings and the verdict."""
        lines = [f"{'done':>10}{'allocated KiB':>16}{'resident MiB':>15}{'objects':>10}"]
        for each in self.readings:
            held = "-" if each.resident is None else f"{each.resident / 2**20:.1f}"
            lines.append(f"{each.done:>10}{each.traced / 1024:>16.1f}{held:>15}{each.objects:>10}")
        verdict = "flat" if self.is_flat else "GROWS"
        lines.append(
            f"  {verdict}: {self.growth:+} bytes since the first third; "
            f"the fitted line grows by {self.slope:+.3f} bytes for each round"
        )
        if not self.is_flat:
            lines += [f"    {count:+} {kind}" for kind, count in self.more_of.items()]
        return "\n".join(lines)


def census() -> Counter[str]:
    """Count the objects that the collector tracks, by type."""
    types = (type(each) for each in gc.get_objects())
    return Counter(f"{each.__module__}.{each.__qualname__}" for each in types)


def resident() -> int | None:
    """Return the resident memory of the process in bytes, or None if the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def quiet() -> Iterator[None]:
    """Disable logging, because pytest keeps all records in memory."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def measure(load: Load, count: int) -> Course:
    """Put a session under a load in virtual time, and return the readings of the memory."""
    course = Course()
    random.seed(0)
    gc.collect()
    # The collector skips objects from before the load, which saves time.
    gc.freeze()
    tracemalloc.start()
    try:
        with quiet():
            run_virtually(load, count, lambda done: course.read(done, count))
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    return course


# Parts of the loads


class ForeignError(Exception):
    """An exception of a custom token manager."""


class Moody:
    """A token manager for a server in process, which can also misbehave itself.

    Attributes:
        server: the server; it records the last ten entries of each kind.
        raises: raised in place of a token request, a new exception each time.
        returns: returned in place of a token.
    """

    def __init__(self, server: TokenServer, manager: TokenManager) -> None:
        self.server = server
        self.raises: type[Exception] | None = None
        self.returns: object = None
        self._manager = manager

    def behave(self, mood: Fault | type[Exception] | str | None) -> None:
        """Set the result of all token requests from now on."""
        fault = mood if isinstance(mood, Fault) else None
        self.server.faults = FaultPlan(token_then=fault)
        self.raises = mood if isinstance(mood, type) else None
        self.returns = mood if isinstance(mood, str) else None

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return a token, or misbehave."""
        if self.raises is not None:
            raise self.raises("not ours")
        if self.returns is not None:
            return self.returns  # type: ignore[return-value]  # not a token on purpose
        return await self._manager.get_tokens_client_credentials_grant(options)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token."""
        await self._manager.revoke_tokens(token, options)


@asynccontextmanager
async def open_moody(**settings: Any) -> AsyncIterator[tuple[AnonymousSession, Moody]]:
    """Open a session that reaches a server in process through httpx."""
    server = TokenServer(lifetime=LIFETIME, keep=10)
    config = server.config(**settings)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
        TokenManager(config, http_client=client) as manager,
    ):
        moody = Moody(server, manager)
        async with AnonymousSession(config, moody) as session:
            yield session, moody


class Quick:
    """A token manager that answers immediately, and stores nothing.

    Attributes:
        granted: number of tokens that it has issued.
        lifetime: lifetime of its tokens in seconds.
        failure: raised in place of a token request, a new exception each time.
        revocation_failures: the exceptions of the next revocations.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.granted = 0
        self.lifetime = LIFETIME
        self.failure: type[Exception] | None = None
        self.revocation_failures: Iterator[type[Exception] | None] = itertools.repeat(None)

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return a token."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure("not now")
        self.granted += 1
        return TokenInfo.from_answer(
            f"token-{self.granted}", self.lifetime, trio.current_time(), self.config
        )

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token, or raise the next failure."""
        await trio.lowlevel.checkpoint()
        failure = next(self.revocation_failures)
        if failure is not None:
            raise failure("not now")


class Shared(Quick):
    """A token manager that shares its tokens through a store that is down."""

    def drop(self, token: TokenInfo) -> None:
        """Fail."""
        raise OSError("the store is down")

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Accept a listener, and never call it."""
        return lambda: None


# The loads

FAILURES: dict[str, Fault | type[Exception] | str] = {
    "rejected": Fault.refusal("invalid_client", status=401),
    "unavailable": Fault.server_error(503),
    "rate limited": Fault.rate_limited("5"),
    "timed out": Fault.hang(),
    "malformed": Fault(body=b"<html>Welcome to the hotel</html>"),
    "cut off": Fault(cut="before_headers"),
    "cut short": Fault(cut="after_headers"),
    "foreign": ForeignError,
    "no token": "nonsense",
}


async def failed_rounds(count: int, note: Note) -> None:
    """Fail rounds in nine ways in turn, each with three waiting callers and a late one."""
    async with open_moody(max_retries=1) as (session, moody):
        for done, mood in zip(range(1, count + 1), itertools.cycle(FAILURES.values())):
            moody.behave(mood)
            pauses: list[float] = []

            async def get(pauses: list[float] = pauses) -> None:
                try:
                    await session.get_access_token()
                except TokenRequestError as error:
                    pauses.append(error.retry_after or 0.0)

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(get)
            await get()
            assert len(pauses) == 4
            await trio.sleep(pauses[-1])
            note(done)
        assert session.statistics().grants == 0


BATCH = 100


async def cancelled_getters(count: int, note: Note) -> None:
    """Cancel callers before, at and during the wait, in flight, hung, and in a pause."""
    done = 0

    async def get(session: AnonymousSession, within: float) -> None:
        nonlocal done
        with trio.move_on_after(within), suppress(TokenRequestError):
            try:
                await session.get_access_token()
            except trio.Cancelled:
                done += 1
                raise

    async with open_moody() as (session, moody):
        moods = itertools.cycle(
            [
                # The call is cancelled before it begins.
                (None, (0.0,)),
                # Calls are cancelled at the gate, a few steps further each time. The last callers
                # wait.
                (Fault.hang(), (math.inf,)),
                # Calls are cancelled during a token request: before, at and after the moment of its
                # answer.
                (Fault(delay=1.0), (0.5, 1.0, math.inf)),
                # Calls are cancelled between two attempts, and at the moment of the second one.
                (Fault.server_error(503, retry_after="1"), (0.5, 1.0, 2.0)),
                # Calls are cancelled while the first attempt hangs, at its timeout, and while the
                # second one hangs.
                (Fault.hang(), (1.0, 30.0, 45.0)),
            ]
        )
        for turn, (mood, limits) in zip(itertools.count(), moods):
            moody.behave(mood)
            async with trio.open_nursery() as nursery:
                for number in range(BATCH):
                    nursery.start_soon(get, session, limits[number % len(limits)])
                if limits == (math.inf,):
                    for _ in range(turn % 7):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            # After this, no request is in flight, and every pause is over.
            await trio.sleep(120.0)
            if session.token_info is not None:
                session.invalidate(session.token_info.access_token)
            note(done)
            if done >= count:
                break


async def invalidated_tokens(count: int, note: Note) -> None:
    """Invalidate each token."""
    config = make_config()
    async with AnonymousSession(config, Quick(config)) as session:
        for done in range(1, count + 1):
            session.invalidate(await session.get_access_token())
            note(done)


async def unforgettable_tokens(count: int, note: Note) -> None:
    """Invalidate each token, with a store of shared tokens that is down."""
    config = make_config()
    manager = Shared(config)
    # The session must remove all valid tokens each time.
    manager.lifetime = LIFETIME / 2
    async with AnonymousSession(config, manager) as session:
        for done in range(1, count + 1):
            session.invalidate(await session.get_access_token())
            note(done)


async def revocations(count: int, note: Note) -> None:
    """Revoke each token: some at the first attempt, some at the second, some never."""
    config = make_config(max_retries=1)
    manager = Quick(config)
    unavailable = TokenUnavailableError
    manager.revocation_failures = itertools.cycle(
        [None, unavailable, None, RevocationError, unavailable, LookupError, LookupError]
    )
    async with AnonymousSession(config, manager) as session:
        for done in range(1, count + 1):
            await session.get_access_token()
            with suppress(RevocationError):
                await session.revoke_tokens()
            note(done)


async def stale_failures(count: int, note: Note) -> None:
    """Fail to refresh a token that stays valid, with a caller between any two attempts."""
    config = make_config(stale_buffer=1e9)
    manager = Quick(config)
    # The token is STALE for the second half of its lifetime.
    manager.lifetime = 2.0 * (count + 60) * config.max_retry_interval
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(manager.lifetime / 2)
        manager.failure = TokenUnavailableError
        for done in range(1, count + 1):
            failures = session.statistics().failures
            while session.statistics().failures == failures:
                await trio.sleep(session.statistics().next_refresh_in or 0.0)
                await session.get_access_token()
            note(done)
        assert session.state is TokenState.STALE


async def watchers(count: int, note: Note) -> None:
    """Follow the states with waits that are cancelled, and loops that end early."""
    config = make_config()
    events: Counter[type[Event]] = Counter()

    def observe(event: Event) -> None:
        events[type(event)] += 1

    async with AnonymousSession(config, Quick(config), observers=[observe]) as session:
        for done in range(1, count + 1):
            with trio.move_on_after(0.5):
                await session.states.wait_value(TokenState.EXPIRED)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.get_access_token)
                async for _ in session.states.transitions(TokenState.FRESH):
                    break
            session.invalidate(session.get_access_token_nowait())
            note(done)


async def sessions(count: int, note: Note) -> None:
    """Open and close sessions, each with a token request in flight and a waiting caller."""
    server = TokenServer(FaultPlan(token_then=Fault.hang()), keep=10)
    config = server.config()

    async def get(session: AnonymousSession) -> None:
        with suppress(SessionClosedError):
            await session.get_access_token()

    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
        TokenManager(config, http_client=client) as manager,
    ):
        for done in range(1, count + 1):
            async with trio.open_nursery() as nursery:
                async with AnonymousSession(config, manager) as session:
                    nursery.start_soon(get, session)
                    await trio.sleep(1.0)
            # Trio keeps the scopes of cancelled deadlines until the deadlines have passed.
            await trio.sleep(120.0)
            note(done)


LOADS: dict[Load, int] = {
    failed_rounds: 10_000,
    cancelled_getters: 100_000,
    invalidated_tokens: 100_000,
    unforgettable_tokens: 10_000,
    revocations: 10_000,
    stale_failures: 10_000,
    watchers: 10_000,
    sessions: 15_000,
}
"""The number of rounds of each load."""
LEAST: dict[Load, int] = {stale_failures: 3_300}
"""The least number of rounds of a load, until its memory is stable.

Each round leaves a deadline in the far future. Trio removes those when there are 1,000 of them.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run all loads, and report under which of them memory grows."""
    parser = argparse.ArgumentParser(prog="python -m tools.endurance.memory", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 does a tenth of everything")
    parser.add_argument("--only", choices=[load.__name__ for load in LOADS], help="one load")
    wishes = parser.parse_args(arguments)
    growing = []
    for load, count in LOADS.items():
        if wishes.only in (None, load.__name__):
            began = time.monotonic()
            least = LEAST.get(load, READINGS)
            course = measure(load, max(least, round(count * wishes.scale)))
            seconds = time.monotonic() - began
            print(f"{load.__name__}: {load.__doc__} {seconds:.0f} s")
            print(course.table(), end="\n\n", flush=True)
            if not course.is_flat:
                growing.append(load.__name__)
    print("memory grows under: " + ", ".join(growing) if growing else "memory is flat")
    return 1 if growing else 0


if __name__ == "__main__":
    sys.exit(main())
