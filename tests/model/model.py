"""What a session has to do, and when: the table and the promises, written down naively.

A `Model` has no tasks, no locks and no clock. What users do is a method call, and
`pass_time` goes from one thing that happens to the next. Tokens are numbers: the n-th
that the server has issued. Times are Trio's, a wall clock beside it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["EMPTY", "FRESH", "STALE", "EXPIRED"]
Answer = Literal["good", "unavailable", "rejected", "malformed", "lifeless", "hung"]
LONGEST_PAUSE = 8.0
REQUEST_TIMEOUT = 20.0
LOOK_UP_INTERVAL = 60.0


@attrs.frozen
class Settings:
    """Is what is drawn of a session's config; ``pauses`` is what its strategy says."""

    eager: bool
    stale_buffer: float
    expired_buffer: float
    idle_timeout: float | None
    gap: float
    pauses: tuple[float | None, ...]


@attrs.define
class Endpoint:
    """Is how the server will answer, from now on.

    Attributes:
        planned: the answers to the next token requests, and the ``Retry-After`` of each.
        latency: seconds of every answer but those that hang.
        lifetime: of the tokens.
        revoking: how it answers revocations.
    """

    planned: deque[tuple[Answer, float | None]] = attrs.field(factory=deque)
    latency: float = 0.0
    lifetime: float = 256.0
    revoking: Answer = "good"


@attrs.define
class Token:
    """Is a token, and the grant that brings it."""

    number: int
    sent_at: float
    sent_wall: float
    stale_at: float
    expires_at: float


@attrs.define
class Grant:
    """Is a grant in flight: what will come of it, and whether that is still wanted."""

    token: Token
    answer: Answer
    retry_after: float | None
    ends_at: float
    discarded: bool = False
    revoked: bool = False


@attrs.define(eq=False)
class Revocation:
    """Is the revocation of a token: under way with an answer to come, or in a pause."""

    next_at: float
    attempts: int = 0
    answer: Answer | None = None


@attrs.frozen
class Outcome:
    """Is what became of a get or a revoke, and when.

    Attributes:
        what: "token", "done", "left", "closed" or "would block", or how it failed.
        token: its number.
        retry_after: of a failure, as well as
        attempts: how many there were.
    """

    what: str
    at: float
    token: int | None = None
    retry_after: float | None = None
    attempts: int | None = None


class Model:
    """Is a session. The server's side is an `Endpoint`, which may change at any time.

    Attributes:
        outcomes: what became of each caller.
        reached: how often the places worth going to were reached.
    """

    def __init__(
        self,
        settings: Settings,
        now: float,
        wall: float,
        was_sent_at: Callable[[float], bool],
    ) -> None:
        self.settings = settings
        self.endpoint = Endpoint()
        self.now = now
        self.wall = wall
        self.closed = False
        # In the minute after a suspend, the session may start what nobody waits for early
        # or late. Nowhere else is it asked what it has done.
        self.was_sent_at = was_sent_at
        self.unsure_until = -math.inf

        self.token: Token | None = None
        self.grant: Grant | None = None
        self.issued = 0
        self.met_stale = False
        self.asked_at = -math.inf
        self.held: list[int] = []
        self.revocations: list[Revocation] = []
        self.revokers: dict[int, list[Revocation]] = {}

        self.attempts = 0
        self.failed_round: tuple[str, int] | None = None
        self.failed_at = self.retry_at = -math.inf

        self.sent: list[float] = []
        self.revocations_sent: list[float] = []
        self.outcomes: dict[int, Outcome] = {}
        self.grants = self.failures = self.consecutive_failures = 0
        self.held_total = self.invalidations = self.revoked = 0
        self.reached: Counter[str] = Counter()
        self._last_state: State = "EMPTY"

    # The table

    def aged(self, token: Token) -> float:
        """Return now, by whichever clock says that a token is older."""
        return max(self.now, token.sent_at + (self.wall - token.sent_wall))

    def state(self) -> State:
        """Return what the token is good for."""
        if self.token is None:
            return "EMPTY"
        aged = self.aged(self.token)
        if aged >= self.token.expires_at:
            return "EXPIRED"
        return "STALE" if aged >= self.token.stale_at else "FRESH"

    def is_parked(self) -> bool:
        """Return whether nobody has asked for so long that nothing is refreshed unasked."""
        timeout = self.settings.idle_timeout
        return timeout is not None and self.now - self.asked_at >= timeout

    def is_wanted(self) -> bool:
        """Return whether a grant is to be sent."""
        unasked = self.settings.eager and not self.is_parked()
        match self.state():
            case "EMPTY":
                return bool(self.held)
            case "FRESH":
                return False
            case "STALE":
                return unasked or self.met_stale
            case "EXPIRED":
                return unasked or bool(self.held)

    def may_send_at(self) -> float:
        """Return the earliest time of the next grant."""
        gap_ends_at = self.sent[-1] + self.settings.gap if self.sent else -math.inf
        return max(gap_ends_at, self.retry_at)

    def boundaries(self) -> list[float]:
        """Return when time alone will bring the next states."""
        if self.token is None:
            return []
        ahead = self.aged(self.token) - self.now
        times = (self.token.stale_at - ahead, self.token.expires_at - ahead)
        return [time for time in times if time > self.now]

    def next_refresh_in(self) -> float | None:
        """Return how long it is until the next grant, if nobody does anything."""
        if self.closed:
            return None
        if self.grant is not None:
            return 0.0
        wanted_at = self.now if self.is_wanted() else math.inf
        if self.state() == "FRESH" and self.settings.eager and not self.is_parked():
            wanted_at = min(self.boundaries())
        due_at = max(wanted_at, self.may_send_at())
        return max(0.0, due_at - self.now) if due_at < math.inf else None

    # What users do

    def get(self, who: int) -> None:
        """Ask for a token: it is there, or the getter is held, or told of a failed round."""
        if self.closed:
            self.outcomes[who] = Outcome("closed", self.now)
            return
        self._note_waking()
        if not self._give(who):
            self.asked_at = self.now
            if self.failed_round is not None and self.now < self.retry_at:
                self._tell(who)
                self.reached["told in the pause after a failed round"] += 1
            else:
                is_given_up = not self.held and self.now >= self.failed_at + 2 * LONGEST_PAUSE
                if self.failed_round is not None or is_given_up:
                    self.failed_round, self.attempts = None, 0
                elif self.attempts:
                    self.reached["joined a round between two attempts"] += 1
                self.held.append(who)
                self.held_total += 1
                self.reached[f"held, {self.state()}"] += 1
        self._settle()

    def get_nowait(self, who: int) -> None:
        """Ask for a token that is there; without one this starts nothing."""
        if self.closed:
            self.outcomes[who] = Outcome("closed", self.now)
        elif not self._give(who):
            self.outcomes[who] = Outcome("would block", self.now)
            if not self.is_parked():
                self.asked_at = self.now
        self._settle()

    def leave(self, who: int) -> None:
        """Cancel a getter or a revoker that waits: it takes nothing along."""
        self.outcomes[who] = Outcome("left", self.now)
        if who in self.held:
            self.held.remove(who)
        else:
            del self.revokers[who]

    def invalidate(self, number: int) -> None:
        """Report a token dead: it counts if it is the one that getters get."""
        if self.token is None or self.token.number != number or self.state() == "EXPIRED":
            self.reached["late report"] += 1
            return
        self.invalidations += 1
        self._drop()
        self._settle()

    def revoke(self, who: int) -> None:
        """Forget the token, and have it revoked, as well as one that is on its way."""
        if self.closed:
            self.outcomes[who] = Outcome("closed", self.now)
            return
        if self.grant is not None:
            self.grant.discarded = self.grant.revoked = True
        if self.token is not None:
            self.revocations.append(Revocation(self.now))
            self._drop()
        self.revokers[who] = list(self.revocations)
        self._end_revokers()
        self._settle()

    def close(self) -> None:
        """Leave the block."""
        self.closed = True
        for who in [*self.held, *self.revokers]:
            self.outcomes[who] = Outcome("closed", self.now)
            self.reached["waiting at the end"] += 1
        self.held, self.revokers, self.revocations = [], {}, []
        self.token = self.grant = None

    def move_wall(self, seconds: float) -> None:
        """Suspend the machine, or set its wall clock."""
        self.wall += seconds
        if seconds > 0:
            self.unsure_until = self.now + LOOK_UP_INTERVAL
        self._settle()

    # Time

    def next_event(self) -> float:
        """Return the next time at which something may happen; infinity for never."""
        if self.closed:
            return math.inf
        times = [revocation.next_at for revocation in self.revocations]
        if self.grant is not None:
            times.append(self.grant.ends_at)
        else:
            times += [*self.boundaries(), self.may_send_at(), self.unsure_until]
        return min((time for time in times if time > self.now), default=math.inf)

    def pass_time(self, until: float) -> None:
        """Let time pass, through all that happens in it."""
        while True:
            moment = min(self.next_event(), until)
            self.wall += moment - self.now
            self.now = moment
            self._settle()
            if moment == until:
                return

    def _settle(self) -> None:
        """Do what is due now, one thing after the other."""
        while not self.closed:
            self._note_state()
            due = [revocation for revocation in self.revocations if revocation.next_at <= self.now]
            if due:
                self._go_on_with(due[0])
            elif self.grant is not None and self.grant.ends_at <= self.now:
                self._receive(self.grant)
            elif self._is_due():
                self._send()
            else:
                return

    def _is_due(self) -> bool:
        if self.grant is not None or not self.is_wanted() or self.now < self.may_send_at():
            return False
        is_asked_for = self.held or (self.met_stale and self.state() == "STALE")
        if not is_asked_for and self.now < self.unsure_until:
            return self.was_sent_at(self.now)
        return True

    # Grants

    def _send(self) -> None:
        answer: Answer = "good"
        retry_after = None
        if self.endpoint.planned:
            answer, retry_after = self.endpoint.planned.popleft()
        if answer in ("good", "lifeless", "hung"):
            self.issued += 1
        lifetime = self.endpoint.lifetime
        expires_at = self.now + lifetime - min(self.settings.expired_buffer, lifetime / 4)
        stale_at = self.now + lifetime - min(self.settings.stale_buffer, lifetime / 2)
        token = Token(self.issued, self.now, self.wall, min(stale_at, expires_at), expires_at)
        self.grant = Grant(token, answer, retry_after, self._ends_at(answer))
        self.sent.append(self.now)

    def _ends_at(self, answer: Answer) -> float:
        """Return when a request that is sent now has its answer, or is given up."""
        return self.now + (REQUEST_TIMEOUT if answer == "hung" else self.endpoint.latency)

    def _receive(self, grant: Grant) -> None:
        self.grant = None
        if grant.answer == "good" and grant.revoked:
            self.revocations.append(Revocation(self.now))
            self.reached["late answer revoked"] += 1
        if grant.answer != "good":
            how = {"lifeless": "malformed", "hung": "unavailable"}.get(grant.answer, grant.answer)
            self._fail(how, grant.retry_after)
        elif self.aged(grant.token) >= grant.token.expires_at:
            self.reached["expired on arrival"] += 1
            self._fail("unavailable", None)
        else:
            self.grants += 1
            self.attempts = self.consecutive_failures = 0
            self.failed_round, self.retry_at = None, -math.inf
            if grant.discarded:
                self.reached["late answer discarded"] += 1
                return
            self.token = grant.token
            self.met_stale = False
            for who in self.held:
                self._give(who)
            self.held = []

    def _fail(self, how: str, retry_after: float | None) -> None:
        self.failures += 1
        # No round has more.
        self.attempts = min(self.attempts + 1, 1 + len(self.settings.pauses))
        self.failed_at = self.now
        self.consecutive_failures += 1
        self.reached[f"{how}, {self.state()}"] += 1
        pause = self._pause(self.attempts, how)
        is_over = pause is None
        self.failed_round = (how, self.attempts) if is_over else None
        if pause is None:
            pause = LONGEST_PAUSE if retry_after is None else retry_after
        self.retry_at = max(self.now + min(pause, LONGEST_PAUSE), self.sent[-1] + self.settings.gap)
        if is_over:
            for who in self.held:
                self._tell(who)
                self.reached["held until the round failed"] += 1
            self.held = []

    def _pause(self, attempts: int, how: str) -> float | None:
        """Return the pause after so many attempts of a round, or None where it is over."""
        if how == "rejected" or attempts > len(self.settings.pauses):
            return None
        return self.settings.pauses[attempts - 1]

    def _give(self, who: int) -> bool:
        """Give a getter the token, if it is one to be given."""
        state = self.state()
        if self.token is None or state == "EXPIRED":
            return False
        self.asked_at = self.now
        self.met_stale = self.met_stale or state == "STALE"
        self.outcomes[who] = Outcome("token", self.now, self.token.number)
        return True

    def _tell(self, who: int) -> None:
        assert self.failed_round is not None
        how, attempts = self.failed_round
        self.outcomes[who] = Outcome(how, self.now, None, self.retry_at - self.now, attempts)

    def _drop(self) -> None:
        self.token = None
        if self.grant is not None:
            self.grant.discarded = True

    # Revocations

    def _go_on_with(self, revocation: Revocation) -> None:
        if revocation.answer is None:
            revocation.attempts += 1
            revocation.answer = self.endpoint.revoking
            revocation.next_at = self._ends_at(revocation.answer)
            self.revocations_sent.append(self.now)
            return
        pause = self._pause(revocation.attempts, revocation.answer)
        if revocation.answer != "good" and pause is not None:
            self.reached["revocation retried"] += 1
            revocation.answer = None
            revocation.next_at = self.now + min(pause, LONGEST_PAUSE)
            return
        self.revocations.remove(revocation)
        self.revoked += revocation.answer == "good"
        if revocation.answer != "good":
            self.reached["revocation failed"] += 1
            for who in [who for who, awaited in self.revokers.items() if revocation in awaited]:
                del self.revokers[who]
                self.outcomes[who] = Outcome("not revoked", self.now, attempts=revocation.attempts)
        self._end_revokers()

    def _end_revokers(self) -> None:
        for who, awaited in tuple(self.revokers.items()):
            if not any(revocation in self.revocations for revocation in awaited):
                del self.revokers[who]
                self.outcomes[who] = Outcome("done", self.now)

    # Where the model has been

    def _note_state(self) -> None:
        state = self.state()
        if state != self._last_state:
            self.reached[f"{self._last_state} -> {state}"] += 1
            self._last_state = state

    def _note_waking(self) -> None:
        if self.settings.eager and self.is_parked() and self.state() in ("STALE", "EXPIRED"):
            self.reached[f"woken, {self.state()}"] += 1
