"""The referee, which reads the log of a fleet and finds a broken claim.

It uses only what the documentation promises: the lifetime of tokens and leases, the time until no
process uses a dropped token, and which process may send a token request. A fault excuses a broken
promise only if the fleet's data has that fault at that time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NoReturn

import attrs

from trio_anon_session import TokenRequestError
from trio_anon_session.stores._records import mark_of
from trio_anon_session.testing._timelines.names import letters

from .log import (
    Asked,
    Came,
    Claimed,
    Dropped,
    Ended,
    Failed,
    Flushed,
    GaveUp,
    Gone,
    Got,
    Holds,
    Joined,
    Put,
    Reported,
    Resumed,
    Sent,
    Stopped,
    Unanswered,
)
from .run import play

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .fleets import Fleet
    from .log import Entry
    from .run import Played

Claim = Literal[
    "one grant per life",
    "no grant is lost",
    "direct grants",
    "the newest token stays",
    "no expired token",
    "no caller fails",
    "no caller waits",
    "one token for all",
    "no process uses a dropped token",
    "failures are shared",
    "requests keep their gap",
    "a run ends",
]

NEARLY = 1e-6
"""Tolerance in seconds, because sums of floats are not exact."""
LEASE = 5.0
"""Lifetime of a lease in seconds. A killed holder delays the others at most by this."""
GRACE = 5.0
"""Seconds that a process waits for a failed store while it has a usable token."""
RENEWED = LEASE / 3
"""Seconds between two renewals of a lease."""
A_QUESTION = 2.0
"""Timeout of a call of the store in seconds."""
QUESTIONS = 6
"""The largest number of calls of the store until a process has a token."""
PACE = 0.5
"""Seconds between two looks of a process that waits for another one."""
SOON = 1.0
"""Seconds after which no process uses a dropped token."""
SPREAD = 0.1
"""Share of the stale window during which the processes take over a new token."""
LONGEST_PAUSE = 60.0
"""``max_retry_interval`` in seconds."""
SHORTEST_PAUSE = 2.0 * 0.5 / 3
"""A third of a session's shortest pause, in seconds."""
MIN_REFRESH_INTERVAL = 1.0


@attrs.frozen
class Tally:
    """The reasons for the grants of a fleet.

    Attributes:
        lives: tokens that the store accepted when it had none, or a STALE one.
        instead: tokens that the store accepted because the one before was dropped or lost.
        lost: tokens requested under a lease that the store did not accept.
        direct: tokens requested without the store, because it failed.
        under_way: token requests that were running at the end.
        grants: all grants that the server recorded.
        attempts: all token requests.
    """

    lives: int
    instead: int
    lost: int
    direct: int
    under_way: int
    grants: int
    attempts: int


class BrokenClaimError(AssertionError):
    """A fleet broke a claim. The message has the log.

    Attributes:
        claim: the broken claim.
    """

    def __init__(self, claim: Claim, at: float, text: str, played: Played) -> None:
        self.claim = claim
        log = log_text(played, at)
        super().__init__(f"{claim}: at {at:g} s, {text}\n\n{log}\n\n{played.fleet!r}")


def run_fleet(fleet: Fleet) -> tuple[Played, Tally]:
    """Run a fleet, and judge it.

    Raises:
        BrokenClaimError: it broke a claim.
    """
    __tracebackhide__ = True
    played = play(fleet)
    return played, judge(played)


def judge(played: Played) -> Tally:
    """Return the reasons for the grants.

    Raises:
        BrokenClaimError: a claim is broken.
    """
    return _Referee(played).judge()


@attrs.define
class _Hands:
    """A time in which a session had a token."""

    token: str
    since: float
    until: float = math.inf


@attrs.define
class _Get:
    asked_at: float
    ended_at: float = math.inf
    outcome: object = None


@attrs.define
class _Request:
    who: int
    sent_at: float
    fence: int | None
    is_direct: bool
    ended_at: float = math.inf
    came: Came | None = None


@attrs.define
class _Process:
    joined_at: float = math.inf
    gone_at: float = math.inf
    left_in_order: bool = False
    stops: list[tuple[float, float]] = attrs.field(factory=list)
    hands: list[_Hands] = attrs.field(factory=list)
    unanswered: list[float] = attrs.field(factory=list)

    def stopped_within(self, since: float, until: float) -> float:
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in self.stops)


@attrs.define
class _Kept:
    """A token that the store accepted, and how long it kept the token."""

    token: str
    issued_at: float
    put_at: float
    who: int
    fence: int
    until: float = math.inf
    was_lost: bool = False


class _Referee:
    def __init__(self, played: Played) -> None:
        self.played = played
        self.fleet = fleet = played.fleet
        self.names = letters(played.server.tokens)
        self.order = {text: number for number, text in enumerate(played.server.tokens)}
        self.text_of = {mark_of(text): text for text in played.server.tokens}
        self.processes = [_Process() for _ in fleet.joins]
        self.gets: dict[int, tuple[int, _Get]] = {}
        self.requests: list[_Request] = []
        self.claims: dict[int, tuple[float, int]] = {}
        self.kept: list[_Kept] = []
        self.kept_under: set[int] = set()
        self.reports: list[tuple[float, int, str]] = []
        self.drops: list[tuple[float, str]] = []
        self.flushes: list[float] = []
        self.ended_at = fleet.ends_at
        window = fleet.until_expired - fleet.until_stale
        self.spread = min(fleet.refresh_jitter, window / 2) or SPREAD * window
        # A token may look older than it is, by at most this time.
        slowest = max((getattr(one, "latency", 0.0) for one in fleet.store), default=0.0)
        self.ageing = NEARLY + min(A_QUESTION, fleet.store_latency + slowest)
        # For this time after the endpoint recovers, a process may still wait in a pause.
        self.grace = fleet.request_timeout + LEASE + LONGEST_PAUSE + QUESTIONS * A_QUESTION

    def broken(self, claim: Claim, at: float, text: str) -> NoReturn:
        raise BrokenClaimError(claim, at, text, self.played)

    def name(self, token: str) -> str:
        return self.names.get(token, "?")

    def judge(self) -> Tally:
        for entry in self.played.log:
            self._read(entry)
        for process in self.processes:
            end = min(process.gone_at, self.ended_at)
            for hands in process.hands:
                expires_at = self._issued_at(hands.token) + self.fleet.until_expired
                hands.until = min(hands.until, end, expires_at)
        if self.fleet.has_store:
            self._judge_requests()
            self._judge_drops()
            self._judge_hands()
            self._judge_pauses()
        self._judge_distances()
        self._judge_gets()
        return self._tally()

    # Reading

    def _read(self, entry: Entry) -> None:
        at, who, what = entry.at, entry.who, entry.what
        process = self.processes[who] if who >= 0 else _Process()
        match what:
            case Joined():
                process.joined_at = at
            case Gone():
                process.gone_at, process.left_in_order = at, what.in_order
            case Stopped():
                process.stops.append((at, math.inf))
            case Resumed():
                process.stops[-1] = (process.stops[-1][0], at)
            case Asked():
                self.gets[what.getter] = who, _Get(at)
            case Got() | Failed() | GaveUp():
                get = self.gets[what.getter][1]
                get.ended_at, get.outcome = at, what
            case Holds():
                if process.hands and process.hands[-1].until == math.inf:
                    process.hands[-1].until = at
                if what.token is not None:
                    process.hands.append(_Hands(what.token, at))
            case Reported():
                self.reports.append((at, who, what.token))
            case Sent():
                self.requests.append(_Request(who, at, what.fence, what.fence is None))
            case Came():
                request = next(
                    r for r in reversed(self.requests) if r.who == who and r.came is None
                )
                request.ended_at, request.came = at, what
            case Claimed():
                self.claims[what.fence] = at, who
            case Put():
                self._read_put(at, who, what)
            case Dropped():
                token = self.text_of.get(what.mark)
                if token is not None:
                    self.drops.append((at, token))
                    if self.kept and self.kept[-1].token == token:
                        self._let_go(at)
            case Flushed():
                self.flushes.append(at)
                self._let_go(at, was_lost=True)
            case Unanswered():
                process.unanswered.append(at)
            case Ended():
                self.ended_at = at

    def _let_go(self, at: float, *, was_lost: bool = False) -> None:
        if self.kept:
            self.kept[-1].until = min(at, self.kept[-1].until)
            self.kept[-1].was_lost |= was_lost

    def _read_put(self, at: float, who: int, put: Put) -> None:
        if not put.is_kept:
            return
        token = self.text_of[put.mark]
        issued_at = self._issued_at(token)
        before = self.kept[-1] if self.kept else None
        if before is not None:
            if self.order[token] <= self.order[before.token]:
                self.broken(
                    "the newest token stays",
                    at,
                    f"token {self.name(token)} overwrites {self.name(before.token)}, "
                    f"which is {before.issued_at - issued_at:g} s newer",
                )
            is_stale = self._was_stale(before, issued_at)
            was_reported = any(token == before.token for _, _, token in self.reports)
            is_excused = was_reported or self._was_put_meanwhile(before, put.fence)
            if not is_stale and before.until == math.inf and not is_excused:
                self.broken(
                    "one grant per life",
                    at,
                    f"token {self.name(token)} takes the place of {self.name(before.token)}, "
                    f"which was {issued_at - before.issued_at:g} s old when it was asked for",
                )
        self._let_go(at)
        self.kept.append(_Kept(token, issued_at, at, who, put.fence))
        self.kept_under.add(put.fence)

    def _was_stale(self, kept: _Kept, at: float) -> bool:
        # Counted from the lease, because the process may be stopped between claim and request.
        since = min(kept.issued_at, self.claims[kept.fence][0])
        return at >= since + self.fleet.until_stale - self.ageing

    def _was_put_meanwhile(self, before: _Kept, fence: int) -> bool:
        """Return whether a token was put late, between another process's look and its claim.

        After a lease has expired, its token can still be put until another process claims it.
        """
        claimed_at = self.claims[fence][0]
        if not claimed_at - A_QUESTION <= before.put_at <= claimed_at:
            return False
        since = self.claims[before.fence][0]
        stop = self._longest_stop(self.processes[before.who], since, claimed_at)
        failed = self._store_trouble(before.who, since, claimed_at)
        return failed > 0 or stop >= LEASE - RENEWED

    def _issued_at(self, token: str) -> float:
        return self.played.server.tokens[token].issued_at

    # Excuses

    def _store_trouble(self, who: int, since: float, until: float) -> int:
        """Return how often the store failed for a process, or lost all data."""
        troubles = self.fleet.troubles_of(who)
        count = sum(t.at <= until and t.ends_at + A_QUESTION >= since for t in troubles)
        return count + sum(since <= at <= until for at in self.flushes)

    def _endpoint_trouble(self, since: float, until: float) -> bool:
        troubles = self.fleet.endpoint
        return self.fleet.latency >= self.fleet.request_timeout or any(
            t.at <= until and t.at + t.seconds >= since for t in troubles
        )

    def _incidents(self, since: float, until: float) -> int:
        """Return how often any process was stopped or ended, or dropped a token."""
        count = sum(since <= at <= until for at, _, _ in self.reports)
        count += sum(since <= at <= until for at, _ in self.drops)
        for process in self.processes:
            count += since <= process.gone_at <= until
            count += sum(begin <= until and end >= since for begin, end in process.stops)
        return count

    def _delay(self, since: float, until: float) -> float:
        """Return how long all faults of a time may delay a process, in seconds."""
        since -= LEASE + self.fleet.latency
        a_lease = LEASE + self.fleet.latency + PACE
        delay = self._incidents(since, until) * a_lease
        worst = max(self._store_trouble(who, since, until) for who in range(len(self.processes)))
        return delay + worst * (a_lease + QUESTIONS * A_QUESTION)

    @property
    def _on_the_way(self) -> float:
        """Seconds that the store calls of one grant take, if the store works."""
        return QUESTIONS * self.fleet.store_latency

    # Judging

    def _judge_requests(self) -> None:
        for request in self.requests:
            if request.is_direct:
                self._judge_direct(request)
            elif request.fence not in self.kept_under:
                self._judge_loss(request)

    def _judge_direct(self, request: _Request) -> None:
        at = request.sent_at
        process = self.processes[request.who]
        # A direct request waits for the gap after the process's last request.
        since = at - MIN_REFRESH_INTERVAL - NEARLY
        was_failed = any(since <= failed_at <= at + NEARLY for failed_at in process.unanswered)
        since = at - A_QUESTION - self.fleet.store_latency
        is_excused = was_failed and self._store_trouble(request.who, since, at) > 0
        # A process that was stopped may find that the call has timed out, or its answer is old.
        if not is_excused and not process.stopped_within(at - A_QUESTION, at):
            text = f"process {request.who} bypasses a store that works"
            self.broken("direct grants", at, text)
        if is_excused and not process.stopped_within(at - GRACE - A_QUESTION, at):
            self._judge_patience(request.who, at)

    def _judge_patience(self, who: int, at: float) -> None:
        """Check that a process with a usable token waits for a failed store."""
        held = [hands for hands in self.processes[who].hands if hands.since < at < hands.until]
        # The process cannot know that the store works again.
        waited = at - min(trouble.at for trouble in self.fleet.troubles_of(who))
        for hands in held:
            left = self._issued_at(hands.token) + self.fleet.until_expired - at
            # The next try takes time too, and must leave half of it for the endpoint.
            could_wait = waited + PACE + A_QUESTION < (waited + left) / 2 - self.ageing
            if waited < GRACE - NEARLY and could_wait:
                self.broken(
                    "direct grants",
                    at,
                    f"process {who} can use token {self.name(hands.token)} for {left:g} s, and "
                    f"bypasses a store that worked {waited:g} s ago",
                )

    def _judge_loss(self, request: _Request) -> None:
        assert request.fence is not None
        process = self.processes[request.who]
        since = self.claims[request.fence][0]
        until = request.ended_at + self._on_the_way + A_QUESTION
        # The process may be stopped just before it puts the token.
        until += sum(end - begin for begin, end in process.stops if begin <= until <= end)
        is_excused = (
            request.ended_at == math.inf
            or (request.came is not None and request.came.token is None)
            or process.gone_at <= until
            or until >= self.ended_at
            or self._longest_stop(process, since, until) >= LEASE - RENEWED
            or self._store_trouble(request.who, since, until) > 0
            or any(since <= at <= until for at, _ in self.drops)
        )
        if not is_excused:
            self.broken(
                "no grant is lost",
                request.ended_at,
                f"the store lost the token of process {request.who} under lease {request.fence}",
            )

    def _longest_stop(self, process: _Process, since: float, until: float) -> float:
        spans = (min(end, until) - max(begin, since) for begin, end in process.stops)
        return max(spans, default=0.0)

    def _settled_at(self, who: Iterable[int], since: float) -> float:
        """Return when some processes must know of a drop, including delays by their faults."""
        blocks: list[tuple[float, float]] = []
        for one in who:
            for trouble in self.fleet.troubles_of(one):
                # A message in transit is late by at most the latency.
                lasts = max(A_QUESTION, trouble.latency / 2)
                blocks.append((trouble.at, trouble.ends_at + lasts))
            blocks += self.processes[one].stops
        blocks += [(at, at) for at in self.flushes]
        settled_at = since + SOON + self._on_the_way
        for begin, end in sorted(blocks):
            if begin <= settled_at and end >= since:
                settled_at = max(settled_at, end + SOON + self._on_the_way)
        return settled_at

    def _judge_drops(self) -> None:
        for at, by, token in self.reports:
            told_at = min(
                (when for when, what in self.drops if what == token and when >= at),
                default=math.inf,
            )
            for who, process in enumerate(self.processes):
                limit = self._settled_at((by, who), at)
                if self._may_have_ended_first(by, at, limit):
                    limit = math.inf if told_at == math.inf else self._settled_at((who,), told_at)
                if any(at <= lost_at <= limit for lost_at in self.flushes):
                    continue
                for hands in process.hands:
                    if hands.token == token and hands.until > limit + NEARLY:
                        self.broken(
                            "no process uses a dropped token",
                            limit,
                            f"process {who} uses token {self.name(token)}, which "
                            f"process {by} dropped at {at:g} s",
                        )

    def _may_have_ended_first(self, who: int, reported_at: float, until: float) -> bool:
        """Return whether a process may have ended before it reported a drop to the store."""
        process = self.processes[who]
        if process.gone_at > until:
            return False
        # A process that leaves normally reports the drop first, but only once.
        told_by = process.gone_at + A_QUESTION + self._on_the_way
        return not process.left_in_order or self._store_trouble(who, reported_at, told_by) > 0

    def _judge_hands(self) -> None:
        kept = {one.token: one for one in self.kept}
        reported = {token for _, _, token in self.reports}
        own: dict[int, set[str]] = defaultdict(set)
        for request in self.requests:
            if request.came is not None and request.came.token is not None:
                own[request.who].add(request.came.token)
        for who, process in enumerate(self.processes):
            for hands in process.hands:
                token, in_store = hands.token, kept.get(hands.token)
                # An answer may have been in transit, or the process stopped.
                late = A_QUESTION + NEARLY
                late += sum(end - begin for begin, end in process.stops if end <= hands.since)
                if token not in own[who] and (
                    in_store is None or in_store.until < hands.since - late
                ):
                    self.broken(
                        "one token for all",
                        hands.since,
                        f"process {who} uses token {self.name(token)}, which is not in the store",
                    )
                if token in reported:
                    continue
                stale_at = self._issued_at(token) + self.fleet.until_stale
                limit = stale_at + self.spread + self.fleet.latency
                if in_store is not None and not in_store.was_lost:
                    if in_store.until == math.inf:
                        continue
                    limit = max(limit, in_store.until)
                limit += MIN_REFRESH_INTERVAL + PACE + self._on_the_way
                if hands.until <= limit:
                    continue
                limit += self._delay(stale_at, hands.until)
                limit += process.stopped_within(stale_at, hands.until)
                if hands.until > limit and not self._endpoint_trouble(
                    stale_at - self.grace, hands.until
                ):
                    self.broken(
                        "one token for all",
                        limit,
                        f"process {who} still uses token {self.name(token)}",
                    )

    def _judge_pauses(self) -> None:
        for nth, request in enumerate(self.requests):
            error = request.came.error if request.came is not None else None
            if not isinstance(error, TokenRequestError) or error.status_code not in (429, 503):
                continue
            if request.fence is None:
                continue
            at = request.ended_at
            pause = error.retry_after
            pause = SHORTEST_PAUSE if pause is None else min(pause, LONGEST_PAUSE)
            since, until = self.claims[request.fence][0], at + pause
            process = self.processes[request.who]
            if (
                self._store_trouble(request.who, since, at + self._on_the_way)
                or any(since <= lost_at <= until for lost_at in self.flushes)
                or any(since <= dropped_at <= at + self._on_the_way for dropped_at, _ in self.drops)
                or process.gone_at <= at + self._on_the_way
                or process.stopped_within(since, at + self._on_the_way)
            ):
                continue
            for later in self.requests[nth + 1 :]:
                if later.sent_at >= until - NEARLY:
                    break
                if later.fence is not None:
                    self.broken(
                        "failures are shared",
                        later.sent_at,
                        f"process {later.who} sends a request {later.sent_at - at:g} s after "
                        f"process {request.who} got a pause of {pause:g} s",
                    )

    def _judge_distances(self) -> None:
        last: dict[int, float] = {}
        for request in self.requests:
            at = request.sent_at
            if at < last.get(request.who, -math.inf) + MIN_REFRESH_INTERVAL - NEARLY:
                self.broken(
                    "requests keep their gap",
                    at,
                    f"process {request.who} sends a request {at - last[request.who]:g} s after its "
                    "last one",
                )
            last[request.who] = at

    def _judge_gets(self) -> None:
        for number, (who, get) in self.gets.items():
            process = self.processes[who]
            ended_at = min(get.ended_at, process.gone_at, self.ended_at)
            if isinstance(get.outcome, Got):
                expires_at = self._issued_at(get.outcome.token) + self.fleet.until_expired
                if ended_at > expires_at - NEARLY:
                    self.broken(
                        "no expired token",
                        ended_at,
                        f"caller {number} of process {who} gets a token that has expired",
                    )
            waited = ended_at - get.asked_at
            stopped = process.stopped_within(get.asked_at - self.grace, ended_at)
            is_down = self._endpoint_trouble(get.asked_at - self.grace - stopped, ended_at)
            if isinstance(get.outcome, Failed) and not is_down:
                self.broken(
                    "no caller fails",
                    ended_at,
                    f"caller {number} of process {who} gets {get.outcome.error!r}",
                )
            for hands in process.hands:
                # A caller may be late for a token that arrives or expires at the same moment. A
                # token also looks older, and expires sooner, by the latency of the store.
                wait = min(hands.until, ended_at) - max(hands.since, get.asked_at)
                wait -= process.stopped_within(max(hands.since, get.asked_at), ended_at)
                if wait > self.ageing:
                    self.broken(
                        "no caller waits",
                        ended_at,
                        f"caller {number} of process {who} waits for {wait:g} s although the "
                        f"process has token {self.name(hands.token)}",
                    )
            limit = self.fleet.latency + MIN_REFRESH_INTERVAL + PACE + self._on_the_way
            waited -= process.stopped_within(get.asked_at, ended_at)
            if waited > limit and not is_down:
                limit += self._delay(get.asked_at, ended_at)
                if waited > limit:
                    self.broken(
                        "no caller waits",
                        ended_at,
                        f"caller {number} of process {who} waits for {waited:g} s",
                    )

    def _tally(self) -> Tally:
        lives = instead = 0
        before: _Kept | None = None
        for one in self.kept:
            is_life = before is None or self._was_stale(before, one.issued_at)
            lives, instead = lives + is_life, instead + (not is_life)
            before = one
        direct = sum(request.is_direct for request in self.requests)
        under_way = lost = 0
        for request in self.requests:
            if request.ended_at == math.inf and self.processes[request.who].gone_at == math.inf:
                under_way += 1
            elif not request.is_direct and request.fence not in self.kept_under:
                lost += request.came is None or request.came.token is not None
        server = self.played.server
        return Tally(lives, instead, lost, direct, under_way, server.grants, len(self.requests))


def log_text(played: Played, until: float = math.inf, *, lines: int = 60) -> str:
    """Return the last lines of a log up to a time, without callers that did not wait."""
    names = letters(played.server.tokens)
    marks = {mark_of(text): name for text, name in names.items()}

    def say(entry: Entry) -> str:
        words = [type(entry.what).__name__.lower()]
        for field in attrs.fields(type(entry.what)):
            value = getattr(entry.what, field.name)
            if isinstance(value, str):
                value = names.get(value) or marks.get(value, value)
            elif isinstance(value, BaseException):
                value = type(value).__name__
            words.append(f"{field.name}={value}")
        who = "" if entry.who < 0 else f"process {entry.who}"
        return f"{entry.at:12.3f}  {who:<10}  {' '.join(words)}"

    asked = {e.what.getter: e.at for e in played.log if isinstance(e.what, Asked)}
    at_once = {
        e.what.getter
        for e in played.log
        if isinstance(e.what, Got) and e.at == asked[e.what.getter]
    }
    shown = [
        entry
        for entry in played.log
        if entry.at <= until + PACE and getattr(entry.what, "getter", None) not in at_once
    ]
    return "\n".join(say(entry) for entry in shown[-lines:])
