"""Memory: what goes wrong ten thousand times leaves nothing behind.

    python -m tools.endurance.memory

Puts sessions under eight loads, each in virtual time, and looks at the memory ten times in
each: what Python has allocated (tracemalloc, after a collection), what the process holds,
and how many objects the collector knows. Fails with exit code 1 if what is allocated grows
once a third of the load is done. ``--scale 0.1`` does a tenth of everything.
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
"""Index of the first reading past a third of the load."""
NOISE = 8192
"""Bytes that may come and go: a dict that has grown, the scopes of deadlines still to come.

With 300 rounds or more, what loses 100 bytes in each is above that.
"""
PER_ROUND = 1.0
"""Bytes; to lose but a pointer in each round would be eight."""
LIFETIME = 20.0
"""Seconds. Some lists keep what they hold for as long as a token lives."""

Note = Callable[[int], None]
"""Is told how many rounds are done."""
Load = Callable[[int, Note], Awaitable[None]]


@attrs.frozen
class Reading:
    """Is the memory at one moment.

    Attributes:
        done: how many rounds were done.
        traced: bytes that Python has allocated.
        resident: bytes that the process holds; None where the system does not tell.
        objects: how many objects the collector knows beside those from before.
    """

    done: int
    traced: int
    resident: int | None
    objects: int


@attrs.define
class Course:
    """Is the memory over the course of one load."""

    readings: list[Reading] = attrs.field(factory=list)
    more_of: dict[str, int] = attrs.field(factory=dict)
    """How many more objects there are of each type than after a third."""
    _kinds: Counter[str] = attrs.field(factory=Counter)
    _own: int = 0

    def read(self, done: int, count: int) -> None:
        """Take a reading, if one is due."""
        due = (len(self.readings) + 1) * count / READINGS
        if done < due or len(self.readings) == READINGS:
            return
        gc.collect()
        # Python keeps up to 4096 names that it has looked up, in a cache of its own.
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
        """Bytes that were allocated since then, and stayed.

        The least of three readings each, for what is there may be more by chance.
        """
        early, late = self.readings[SETTLED : SETTLED + 3], self.readings[-3:]
        return min(each.traced for each in late) - min(each.traced for each in early)

    @property
    def rounds(self) -> int:
        """Rounds since then."""
        return self.readings[-1].done - self.readings[SETTLED].done

    @property
    def is_flat(self) -> bool:
        """Whether that is no more than noise."""
        return self.growth <= NOISE + PER_ROUND * self.rounds

    @property
    def slope(self) -> float:
        """Bytes a round: the straight line that fits the readings since then best."""
        since = self.readings[SETTLED:]
        middle = sum(each.done for each in since) / len(since)
        return sum((each.done - middle) * each.traced for each in since) / sum(
            (each.done - middle) ** 2 for each in since
        )

    def table(self) -> str:
        """Return the readings, and what to think of them."""
        lines = [f"{'done':>10}{'allocated KiB':>16}{'resident MiB':>15}{'objects':>10}"]
        for each in self.readings:
            held = "-" if each.resident is None else f"{each.resident / 2**20:.1f}"
            lines.append(f"{each.done:>10}{each.traced / 1024:>16.1f}{held:>15}{each.objects:>10}")
        verdict = "flat" if self.is_flat else "GROWS"
        lines.append(
            f"  {verdict}: {self.growth:+} bytes since the first third; "
            f"the line that fits has {self.slope:+.3f} bytes each"
        )
        if not self.is_flat:
            lines += [f"    {count:+} {kind}" for kind, count in self.more_of.items()]
        return "\n".join(lines)


def census() -> Counter[str]:
    """Count the objects that the collector knows by their types."""
    types = (type(each) for each in gc.get_objects())
    return Counter(f"{each.__module__}.{each.__qualname__}" for each in types)


def resident() -> int | None:
    """Return the bytes of memory that the process holds, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing: whoever keeps the records, as pytest does, would grow with them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def measure(load: Load, count: int) -> Course:
    """Put a session under so much load in virtual time, and read the memory meanwhile."""
    course = Course()
    random.seed(0)
    gc.collect()
    # What is there already is not looked through time and again.
    gc.freeze()
    tracemalloc.start()
    try:
        with quiet():
            run_virtually(load, count, lambda done: course.read(done, count))
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    return course


# What the loads are made of


class ForeignError(Exception):
    """What a token manager of somebody else's may raise."""


class Moody:
    """A token manager over a server in process, and beside it what no server can do.

    Attributes:
        server: what it asks; keeps ten entries in each of its books.
        raises: raised in place of a grant, a new one each time.
        returns: returned in place of a grant.
    """

    def __init__(self, server: TokenServer, manager: TokenManager) -> None:
        self.server = server
        self.raises: type[Exception] | None = None
        self.returns: object = None
        self._manager = manager

    def behave(self, mood: Fault | type[Exception] | str | None) -> None:
        """Decide on all grants from now on."""
        fault = mood if isinstance(mood, Fault) else None
        self.server.faults = FaultPlan(token_then=fault)
        self.raises = mood if isinstance(mood, type) else None
        self.returns = mood if isinstance(mood, str) else None

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Grant as it feels."""
        if self.raises is not None:
            raise self.raises("not ours")
        if self.returns is not None:
            return self.returns  # type: ignore[return-value]  # nonsense is the point
        return await self._manager.get_tokens_client_credentials_grant(options)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token."""
        await self._manager.revoke_tokens(token, options)


@asynccontextmanager
async def open_moody(**settings: Any) -> AsyncIterator[tuple[AnonymousSession, Moody]]:
    """Open a session over httpx and a server in process."""
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
    """A token manager that answers at once, and keeps nothing.

    Attributes:
        granted: how many tokens it made.
        lifetime: seconds that they live.
        failure: raised in place of a grant, a new one each time.
        revocation_failures: what the next revocations raise, over and over.
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
        """Grant."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure("not now")
        self.granted += 1
        return TokenInfo.from_answer(
            f"token-{self.granted}", self.lifetime, trio.current_time(), self.config
        )

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token, or not."""
        await trio.lowlevel.checkpoint()
        failure = next(self.revocation_failures)
        if failure is not None:
            raise failure("not now")


class Shared(Quick):
    """One that shares its tokens by way of a store that is down."""

    def drop(self, token: TokenInfo) -> None:
        """Fail."""
        raise OSError("the store is down")

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Have nothing to report."""
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
    """Fail rounds in nine ways in turn, each with three getters held and one that comes late."""
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
    """Cancel getters before, at and during the hold, in flight, hung, and in a pause."""
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
                # Before it asks.
                (None, (0.0,)),
                # At the gate, a few steps further each time; those of the last kind are held.
                (Fault.hang(), (math.inf,)),
                # With a grant in flight: before, at and after the moment of its answer.
                (Fault(delay=1.0), (0.5, 1.0, math.inf)),
                # Between two attempts, and at the moment of the second one.
                (Fault.server_error(503, retry_after="1"), (0.5, 1.0, 2.0)),
                # While the first attempt hangs, when it is given up, and while the second does.
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
            # Until what is in flight has come, and every pause is over.
            await trio.sleep(120.0)
            if session.token_info is not None:
                session.invalidate(session.token_info.access_token)
            note(done)
            if done >= count:
                break


async def invalidated_tokens(count: int, note: Note) -> None:
    """Report each token dead."""
    config = make_config()
    async with AnonymousSession(config, Quick(config)) as session:
        for done in range(1, count + 1):
            session.invalidate(await session.get_access_token())
            note(done)


async def unforgettable_tokens(count: int, note: Note) -> None:
    """Report each token dead, beside a store of shared tokens that is down."""
    config = make_config()
    manager = Shared(config)
    # All that live are to be forgotten each time.
    manager.lifetime = LIFETIME / 2
    async with AnonymousSession(config, manager) as session:
        for done in range(1, count + 1):
            session.invalidate(await session.get_access_token())
            note(done)


async def revocations(count: int, note: Note) -> None:
    """Revoke each token: some at once, some at the second attempt, some never."""
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
    """Fail to refresh a token that lives on, with a getter between any two attempts."""
    config = make_config(stale_buffer=1e9)
    manager = Quick(config)
    # Stale from the middle of its life on.
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
    """Follow the states with waits that are cancelled and loops that break off."""
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
    """Open and leave sessions, each with a grant in flight and a getter held outside."""
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
            # Trio keeps the scopes of deadlines that no longer matter until they have passed.
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
"""Each load, and how often."""
LEAST: dict[Load, int] = {stale_failures: 3_300}
"""How often a load is put on at the least, until it settles.

Each of these leaves a deadline that is far away. Trio forgets those when there are 1,000 of them.
"""


def main(arguments: list[str] | None = None) -> int:
    """Put on all loads, and say which of them cost memory for good."""
    parser = argparse.ArgumentParser(prog="python -m tools.endurance.memory", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 does a tenth of it all")
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
