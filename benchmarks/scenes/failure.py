"""Many waiting callers get an error.

Many callers wait for a session that has no token, and the endpoint rejects the credentials. Each
caller gets an exception of its own, with a shared cause. For comparison, as many tasks wait for a
``trio.Event``, and then raise one shared exception, or a plain exception each.

- The time is the CPU time from the rejection until the last task has caught its exception and
  ended.
- The memory is what Python still has allocated (tracemalloc) for each task when all tasks have
  ended, and have kept their exceptions. An instance that is raised in many tasks collects all
  their tracebacks, and with them their frames. The memory is measured only once, because it does
  not vary.
- The exceptions are counted in the same pass.

Garbage is collected before each measurement, but not during it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks import crowds
from benchmarks.measure import Comparison, Contender, Effort, compare, in_turns_async
from benchmarks.memory import no_collection, traced, tracing
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession, CredentialsRejectedError, TokenInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from trio_anon_session import TokenRequestOptions

OURS = "get_access_token"
BASE = "trio.Event, one shared exception"
SIZES = (1_000, 100_000)
TURNS = {1_000: 15, 100_000: 3}
"""Maximum number of turns: a crowd of 100,000 takes seconds, and varies little."""

Keep = Callable[[Exception], object]
FailingGates = Callable[[Keep], AbstractAsyncContextManager[crowds.Gate]]
"""A function that makes a gate. Its tasks pass each exception that they catch to ``keep``."""


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    with _nothing_printed():
        return trio.run(_measure, effort)


async def _measure(effort: Effort) -> list[Comparison]:
    comparisons = []
    for size in effort.sizes(*SIZES):
        totals = await in_turns_async(
            {
                who: partial(crowds.total, partial(gates, _forget), size)
                for who, gates in GATES.items()
            },
            effort.turns_of(TURNS[size]),
        )
        kept = await in_turns_async(
            {who: partial(weigh, gates, size) for who, gates in GATES.items()}, 1
        )
        weights = {who: [each.weight for each in weighed] for who, weighed in kept.items()}
        counts = {who: [each.instances for each in weighed] for who, weighed in kept.items()}
        comparisons += [
            compare("time until the last task has its error", "s", totals, base=BASE, size=size),
            compare("the memory of each error", "B", weights, base=BASE, size=size),
            compare("distinct exceptions", "exceptions", counts, base=BASE, size=size),
        ]
    return comparisons


@attrs.frozen
class Kept:
    """The exceptions that tasks keep.

    Attributes:
        weight: bytes for each task.
        instances: number of distinct exceptions.
    """

    weight: float
    instances: int


async def weigh(gates: FailingGates, count: int) -> Kept:
    """Weigh and count the errors of a crowd."""
    errors: list[Exception] = []
    with no_collection():
        async with gates(errors.append) as gate:
            # Measure from before the tasks wait, because a traceback keeps the frames of tasks that
            # have ended.
            with tracing():
                async with trio.open_nursery() as nursery:
                    await crowds.gather(nursery, gate, count)
                    await gate.open()
                return Kept(traced() / count, len({id(error) for error in errors}))


def _forget(error: Exception) -> None:
    """Keep no exception."""


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Do not print the log, which has a record of each rejection."""
    handler = logging.NullHandler()
    logger = logging.getLogger("trio_anon_session")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Rejections(Grants):
    """A token manager whose credentials are rejected as soon as its gate is open."""

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        await super().get_tokens_client_credentials_grant(options)
        raise CredentialsRejectedError("rejected", retryable=False, error="invalid_client")


@asynccontextmanager
async def session(keep: Keep, rejections: Rejections | None = None) -> AsyncIterator[crowds.Gate]:
    """A session whose token request waits, and then fails."""
    rejections = rejections or Rejections()
    rejections.gate = trio.Event()
    async with AnonymousSession(CONFIG, rejections) as opened:

        async def wait() -> None:
            try:
                await opened.get_access_token()
            except CredentialsRejectedError as error:
                keep(error)

        async def fail() -> None:  # noqa: ASYNC124  # others' gates wait
            rejections.gate.set()

        yield crowds.Gate(wait, fail)


@asynccontextmanager
async def _raised(
    gates: crowds.Gates, make: Callable[[], Exception], keep: Keep
) -> AsyncIterator[crowds.Gate]:
    """A gate after which each task raises an exception from `make`."""
    async with gates() as gate:

        async def wait() -> None:
            try:
                await gate.wait()
                raise make()
            except OSError as error:
                keep(error)

        yield crowds.Gate(wait, gate.open)


@asynccontextmanager
async def _shared(gates: crowds.Gates, keep: Keep) -> AsyncIterator[crowds.Gate]:
    """A gate after which all tasks raise the same exception."""
    error = OSError("rejected")
    async with _raised(gates, lambda: error, keep) as gate:
        yield gate


GATES: dict[Contender, FailingGates] = {
    Contender(OURS, is_ours=True): session,
    Contender(BASE): partial(_shared, crowds.event),
    Contender("trio.Event, a plain exception each"): partial(
        _raised, crowds.event, partial(OSError, "rejected")
    ),
}
