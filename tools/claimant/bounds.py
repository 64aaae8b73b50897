"""The parts of the exploration, their bounds, and constants with small values."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import attrs

from tools.lifecycle.bounds import LIFETIME
from trio_anon_session import Config
from trio_anon_session.stores import _claimant, _entry, _known, _records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_anon_session import TokenInfo, TokenRequestError

POLL_INTERVAL = 1.0
TIMEOUT = 1.0
"""Seconds: ``request_timeout``, and the longest time until the store answers."""
GAP = 1.0
RECOVERY_TIME = 2.0
LONGEST_PAUSE = 2.0
ABOUT_TO_END = 0.5
CONFIRM_AFTER = 1.0

_PATCHES: tuple[tuple[Any, dict[str, object]], ...] = (
    (_claimant, {"RECOVERY_TIME": RECOVERY_TIME, "POLL_INTERVAL": POLL_INTERVAL}),
    # No more tokens fit into one lifetime, because requests are `GAP` apart.
    (
        _known,
        {"_REMEMBERED": 4, "_ABOUT_TO_END": ABOUT_TO_END, "_CONFIRM_AFTER": CONFIRM_AFTER},
    ),
    (_entry, {"KEPT_AFTERWARDS": 2.0}),
)


@attrs.frozen
class Bounds:
    """Bounds of an exploration.

    The number of questions and the time have no bound. Two states that differ only by the start
    time of the world, or by the names of tokens, count as one state.

    Attributes:
        processes: number of processes.
        lease: duration of a lease in seconds.
        turns: number of attempts of other processes for which a question waits.
        faults: maximum number of faults in a history.
        kinds: kinds of faults.
        early: whether faults and drops happen only during the lifetime of the first token.
        clock: steps in seconds by which a fault can set the store's clock.
        drops: maximum number of dropped tokens in a history.
        watch: maximum number of looks of the watches in a history.
        cancels: maximum number of cancelled questions in a history.
        failures: maximum number of failed requests in a history.
        hows: kinds of failed requests.
        asks: maximum number of questions in a history; None for no bound.
        halves: whether the store can execute a call after a delay. The answer is always a
            separate event.
        prompt: whether a process receives the answers to puts, releases and drops immediately.
        slow: whether up to a second can pass during a call of the store.
        same: whether the server issues a valid token again, even if it was dropped.
        lifetime: lifetime of a token in seconds.
        stale_buffer, expired_buffer: as in `Config`.
    """

    processes: int = 2
    lease: float = 2.0
    turns: int = 1
    faults: int = 0
    kinds: tuple[str, ...] = ()
    clock: tuple[float, ...] = (3.0, -3.0)
    early: bool = False
    drops: int = 0
    watch: int = 0
    cancels: int = 0
    failures: int = 0
    hows: tuple[str, ...] = ("busy", "rejected", "unreached")
    asks: int | None = None
    halves: bool = False
    prompt: bool = False
    slow: bool = False
    same: bool = False
    lifetime: float = LIFETIME
    stale_buffer: float = 2.0
    expired_buffer: float = 1.0

    @property
    def patience(self) -> float:
        """Seconds that a question waits for one attempt."""
        return TIMEOUT + self.lease

    def config(self) -> Config:
        """Return the settings of the processes."""
        return Config(
            client_id="id",
            client_secret="secret",
            stale_buffer=self.stale_buffer,
            expired_buffer=self.expired_buffer,
            min_refresh_interval=GAP,
            request_timeout=TIMEOUT,
            retry_interval=1.0,
            max_retry_interval=LONGEST_PAUSE,
            default_lifetime=self.lifetime,
        )


_SHORT = Bounds(lifetime=2.0, stale_buffer=1.0, expired_buffer=0.5)
_LONGER = Bounds(lifetime=3.0, stale_buffer=1.0, expired_buffer=0.5)
_PROMPT = attrs.evolve(_LONGER, prompt=True)
# The token is STALE for long enough to wait for the store.
_PATIENT = Bounds(prompt=True, lifetime=6.0, stale_buffer=3.0, expired_buffer=0.5)

_PARTS: dict[str, Bounds] = {
    # Without faults, the number of requests must be minimal.
    "calm": Bounds(halves=True, turns=2),
    "three": Bounds(processes=3, prompt=True),
    "cancels": attrs.evolve(_PROMPT, cancels=1, asks=3),
    "failures": Bounds(failures=1, hows=("busy",), turns=2, asks=4),
    "crashes": Bounds(prompt=True, faults=1, kinds=("crash",), turns=2, asks=3),
    "stops": attrs.evolve(_PROMPT, faults=1, kinds=("stop",), early=True, asks=3),
    "lost writes": attrs.evolve(
        _SHORT, faults=1, kinds=("lost write",), halves=True, early=True, asks=3
    ),
    "lost answers": attrs.evolve(_LONGER, faults=1, kinds=("lost answer",), early=True),
    "flush": attrs.evolve(_LONGER, faults=1, kinds=("flush",)),
    "clock": attrs.evolve(_LONGER, faults=1, kinds=("clock",)),
    "drops": attrs.evolve(_LONGER, drops=1),
    "drops, same": attrs.evolve(_SHORT, prompt=True, drops=1, same=True, early=True, asks=4),
    "drops, watch": attrs.evolve(_SHORT, prompt=True, drops=1, watch=1, asks=3, early=True),
    # One process is enough for most of what a process must notice by itself.
    "drops, flush": attrs.evolve(
        _PROMPT, processes=1, drops=1, watch=2, asks=3, faults=1, kinds=("flush",), early=True
    ),
    "drops, copies": attrs.evolve(
        _SHORT,
        prompt=True,
        processes=1,
        drops=1,
        watch=1,
        asks=2,
        faults=1,
        kinds=("restore",),
        early=True,
    ),
    "stuck": attrs.evolve(_LONGER, processes=1, faults=1, kinds=("stuck", "clock"), turns=2),
    "outage": attrs.evolve(_PATIENT, processes=1, faults=2, kinds=("outage",)),
    "slow": attrs.evolve(_LONGER, processes=1, slow=True, faults=1, kinds=("clock",)),
}
_LARGER: dict[str, dict[str, Any]] = {
    "calm": {"slow": True, "lease": 3.0},
    "three": {"cancels": 1},
    "failures": {"asks": None, "hows": ("busy", "later", "rejected", "unreached")},
    "crashes": {"faults": 2, "asks": 4},
    "stops": {"early": False, "asks": None},
    "flush": {"faults": 2},
    "clock": {"faults": 2},
    "drops, watch": {"watch": 3},
    "drops, flush": {"processes": 2, "prompt": True},
    "stuck": {"processes": 2, "prompt": True},
    "outage": {"processes": 2, "faults": 1, "early": True},
    "slow": {"processes": 2, "prompt": True, "lease": 3.0},
}


def all_parts(*, larger: bool = False) -> dict[str, Bounds]:
    """Return the parts that the gate explores, or the parts with larger bounds.

    All bounds together would take far too long, so each part combines only related bounds.
    """
    if larger:
        return {name: attrs.evolve(_PARTS[name], **changes) for name, changes in _LARGER.items()}
    return dict(_PARTS)


class Rising:
    """A `Schedule` without jitter: 3 seconds, then 6. The fleet waits a third of that."""

    def next_pause(self, attempt: int, error: TokenRequestError) -> float | None:
        return None

    def background_pause(self, failures: int, error: TokenRequestError) -> float:
        return min(3.0 * failures, 6.0)


def no_draw(low: float, high: float) -> float:
    """Return `low` instead of a random number."""
    return low


@contextlib.contextmanager
def small_constants(bounds: Bounds) -> Iterator[None]:
    """Set small constants in the machine, and cache its expensive functions."""
    read = functools.lru_cache(maxsize=None)(_digested)
    marks = functools.lru_cache(maxsize=None)(_records.mark_of)
    patches: tuple[tuple[Any, dict[str, Any]], ...] = (
        *_PATCHES,
        (_claimant, {"LEASE": bounds.lease, "_MAX_ATTEMPTS_AWAITED": bounds.turns}),
        (_claimant, {"read_token_record": read, "mark_of": marks}),
        (_known, {"mark_of": marks}),
    )
    usual = [(module, name, getattr(module, name)) for module, new in patches for name in new]
    for module, new in patches:
        for name, value in new.items():
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in usual:
            setattr(module, name, value)


def _digested(record: str, sent_at: float, config: Config) -> TokenInfo | None:
    # The claimant copies each token that it reads, so all reads can return the same object.
    return _records.read_token_record(record, sent_at, config)
