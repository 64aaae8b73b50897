"""What is explored: the modes, their bounds, and a config whose times are small integers."""

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
LONGEST_PAUSE = 2.0
"""Seconds; ``max_retry_interval``. The shortest pause takes 1 second."""
ATTEMPTS = 2
"""The most attempts of a round."""
LOOK_UP_INTERVAL = 3.0
"""Seconds; the longest sleep of a session here. With 60 seconds there would be 60 times the
states, all alike."""


@attrs.frozen
class Bounds:
    """How much of the world is explored.

    The number of events has no bound, and neither has time: two states that differ only by the
    time at which the world began are one state.

    Attributes:
        refresh: as in `Config`.
        idle_timeout: as in `Config`.
        revoke_on_exit: as in `Config`.
        callers: the most callers that wait at one time.
        drops: the most tokens that the session knows as dropped or revoked when a caller drops
            or revokes one more. A late answer can add one to that.
        wall: how far the wall clock runs ahead of Trio's clock or behind it, in seconds, since
            the current token or the current request was sent. None in virtual time.
        gap: as ``min_refresh_interval`` in `Config`.
        stalls: whether time passes although a task could run: the session's, that of a request,
            or that of a caller that was woken.
        all_answers: whether all answers come, or only a new token, the same token, and two kinds
            of failures. If not, a dropped token never comes back, and revocations never end.
    """

    refresh: Literal["eager", "on_request"]
    idle_timeout: float | None = None
    revoke_on_exit: bool = False
    callers: int = 2
    drops: int = 1
    wall: float | None = None
    gap: float = 1.0
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
            max_retries=ATTEMPTS - 1,
            retry_interval=1.0,
            max_retry_interval=LONGEST_PAUSE,
            refresh=self.refresh,
            idle_timeout=self.idle_timeout,
            revoke_on_exit=self.revoke_on_exit,
        )


MODES = {
    "eager": Bounds("eager"),
    "on_request": Bounds("on_request", revoke_on_exit=True),
    "idle": Bounds("eager", idle_timeout=2.0, revoke_on_exit=True),
}
"""The settings that are explored. The other bounds differ for each part of a mode."""

_PARTS: dict[str, dict[str, Any]] = {
    "clocks": {"callers": 2, "drops": 0, "wall": 1.0},
    "drops": {"callers": 2, "drops": 1},
    "stalls": {"callers": 1, "drops": 0, "wall": 1.0, "stalls": True},
    # Requests are further apart than the first pause after a failure.
    "clocks, wide gap": {"callers": 2, "drops": 0, "wall": 1.0, "gap": 2.0},
    # An idle session has more states: its last use counts.
    "drops, one caller": {"callers": 1, "drops": 1},
    "stalls, one clock": {"callers": 1, "drops": 0, "stalls": True},
    # What an answer means depends on no mode, and this part is the largest.
    "answers": {"callers": 1, "drops": 1, "all_answers": True},
}
_PARTS_OF = {
    "eager": ("clocks", "drops", "stalls", "answers"),
    "on_request": ("clocks, wide gap", "drops", "stalls"),
    "idle": ("clocks", "drops, one caller", "stalls, one clock"),
}


def parts_of(mode: str) -> dict[str, Bounds]:
    """Return what the gate explores of a mode, one part after the other.

    All bounds together would take far too long. Each part has those that belong together: two
    callers and two clocks; two callers and dropped tokens; tasks that run late; a shared token
    manager that answers with old tokens. `python -m tools.lifecycle` takes larger bounds.
    """
    return {
        f"{mode}, {part}": attrs.evolve(MODES[mode], **_PARTS[part]) for part in _PARTS_OF[mode]
    }


def all_parts() -> dict[str, Bounds]:
    """Return what the gate explores of all modes."""
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
    """Let sessions sleep for `LOOK_UP_INTERVAL` at most."""
    usual = _lifecycle.LOOK_UP_INTERVAL
    _lifecycle.LOOK_UP_INTERVAL = LOOK_UP_INTERVAL
    try:
        yield
    finally:
        _lifecycle.LOOK_UP_INTERVAL = usual
