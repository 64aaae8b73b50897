"""The modes of the exploration, their bounds, and a config with small integer times."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import attrs

from trio_anon_session import Config, _lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_anon_session import TokenRequestError

LIFETIME = 4.0
STALE_AGE = 2.0
EXPIRED_AGE = 3.0
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 2.0
"""Seconds: ``retry_interval`` and ``max_retry_interval``."""
REQUEST_TIMEOUT = 4.0
"""Seconds. The machine only estimates with it when the next attempt is due."""
ATTEMPTS = 2
"""Maximum number of attempts of a round."""
LOOK_UP_INTERVAL = 3.0
"""Longest sleep of a session in seconds. With the usual 60 seconds there would be 60 times as many
states, all of them alike."""


@attrs.frozen
class Bounds:
    """Bounds of an exploration.

    The number of events and the time have no bound. Two states that differ only by the start time
    of the world count as one state.

    Attributes:
        refresh: as in `Config`.
        idle_timeout: as in `Config`.
        revoke_on_exit: as in `Config`.
        callers: maximum number of callers that wait at the same time.
        drops: maximum number of dropped or revoked tokens that the session knows when a caller
            drops or revokes one more. A late answer can add one.
        wall: maximum difference between the wall clock and Trio's clock in seconds, since the
            current token or request was sent. None in virtual time.
        gap: as ``min_refresh_interval`` in `Config`.
        max_wait: as in `Config`.
        stalls: whether time can pass while a task is runnable: the session's task, the task of a
            request, or the task of a woken caller.
        all_answers: whether all answers are possible, or only a new token, the same token, and two
            kinds of failures. Without all answers, a dropped token never comes back, and
            revocations never end.
    """

    refresh: Literal["eager", "on_request"]
    idle_timeout: float | None = None
    revoke_on_exit: bool = False
    callers: int = 2
    drops: int = 1
    wall: float | None = None
    gap: float = 1.0
    max_wait: float | None = None
    stalls: bool = False
    all_answers: bool = False

    def config(self) -> Config:
        """Return the settings of the session."""
        return Config(
            client_id="id",
            client_secret="secret",
            stale_buffer=LIFETIME - STALE_AGE,
            expired_buffer=LIFETIME - EXPIRED_AGE,
            min_refresh_interval=self.gap,
            max_wait=self.max_wait,
            max_retries=ATTEMPTS - 1,
            retry_interval=SHORTEST_PAUSE,
            max_retry_interval=LONGEST_PAUSE,
            request_timeout=REQUEST_TIMEOUT,
            refresh=self.refresh,
            idle_timeout=self.idle_timeout,
            revoke_on_exit=self.revoke_on_exit,
        )


MODES = {
    "eager": Bounds("eager"),
    "on_request": Bounds("on_request", revoke_on_exit=True),
    "idle": Bounds("eager", idle_timeout=2.0, revoke_on_exit=True),
}
"""The modes with their settings. The other bounds differ for each part of a mode."""

_PARTS: dict[str, dict[str, Any]] = {
    "clocks": {"callers": 2, "drops": 0, "wall": 1.0},
    "drops": {"callers": 2, "drops": 1},
    "stalls": {"callers": 1, "drops": 0, "wall": 1.0, "stalls": True},
    # Requests are further apart than the first pause after a failure.
    # A wait ends before, during and after an attempt, in the pause and in the gap.
    "waits": {"callers": 2, "drops": 1, "gap": 2.0, "max_wait": 3.0},
    "clocks, wide gap": {"callers": 2, "drops": 0, "wall": 1.0, "gap": 2.0},
    # An idle session has more states, because the time of its last use counts.
    "drops, one caller": {"callers": 1, "drops": 1},
    "stalls, one clock": {"callers": 1, "drops": 0, "stalls": True},
    "waits, stalls": {"callers": 1, "drops": 0, "stalls": True, "max_wait": 2.0},
    # The meaning of an answer does not depend on the mode. This part is the largest.
    "answers": {"callers": 1, "drops": 1, "all_answers": True},
}
_PARTS_OF = {
    "eager": ("clocks", "drops", "stalls", "waits", "answers"),
    "on_request": ("clocks, wide gap", "drops", "stalls", "waits"),
    "idle": ("clocks", "drops, one caller", "stalls, one clock", "waits, stalls"),
}


def parts_of(mode: str) -> dict[str, Bounds]:
    """Return the parts of a mode that the gate explores.

    All bounds together would take far too long, so each part combines only related bounds: two
    callers and two clocks; two callers and dropped tokens; tasks that run late; waits that end; a
    shared token manager that answers with old tokens. `python -m tools.lifecycle` accepts larger
    bounds.
    """
    return {
        f"{mode}, {part}": attrs.evolve(MODES[mode], **_PARTS[part]) for part in _PARTS_OF[mode]
    }


def all_parts() -> dict[str, Bounds]:
    """Return the parts of all modes that the gate explores."""
    return {name: bounds for mode in MODES for name, bounds in parts_of(mode).items()}


class Doubling:
    """A `Schedule` without jitter: 1 second, then 2."""

    def next_pause(self, attempt: int, error: TokenRequestError) -> float | None:
        if attempt >= ATTEMPTS or not error.retryable:
            return None
        return self.background_pause(attempt, error)

    def background_pause(self, failures: int, error: TokenRequestError) -> float:
        return min(2.0 ** (failures - 1), LONGEST_PAUSE)


@contextlib.contextmanager
def short_sleeps() -> Iterator[None]:
    """Limit the sleep of sessions to `LOOK_UP_INTERVAL`."""
    usual = _lifecycle.LOOK_UP_INTERVAL
    _lifecycle.LOOK_UP_INTERVAL = LOOK_UP_INTERVAL
    try:
        yield
    finally:
        _lifecycle.LOOK_UP_INTERVAL = usual
