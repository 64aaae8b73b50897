"""`Timeline`: everything that happens to a session in one run, as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import attrs

from ..._config import Config
from .._faults import Fault, FaultPlan
from .._server import Client, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._errors import TokenRequestError

Ask = Literal["get", "nowait", "exchange", "use"]
AnswerKind = Literal[
    "token",
    "unavailable",
    "rate limited",
    "rejected",
    "refused",
    "malformed",
    "bad lifetime",
    "cut",
    "hang",
    "raises",
    "nonsense",
    "crash",
]
Leaving = Literal["return", "raise", "cancel"]
PASSING_KINDS: tuple[AnswerKind, ...] = (
    "unavailable",
    "rate limited",
    "malformed",
    "bad lifetime",
    "cut",
    "hang",
    "raises",
    "nonsense",
)
"""What goes wrong with a request that may go right the next time."""

_CLIENT = Client()


class BriefRepr:
    """Shows only what differs from the default, so that examples can be read and pasted."""

    __slots__ = ()
    __attrs_attrs__: ClassVar[tuple[attrs.Attribute[Any], ...]] = ()

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in self.__attrs_attrs__
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002
        # Hypothesis looks for it: else it prints every field of a failing example.
        printer.text(repr(self))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_moment(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be a finite number of seconds ≥ 0, got {value!r}")


def _check_optional(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None:
        _check_moment(_, attribute, value)


def _check_finite(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"{attribute.name} must be a finite number of seconds, got {value!r}")


def _one_of(words: object) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a validator of what a ``Literal`` allows."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in get_args(words):
            known = ", ".join(map(repr, get_args(words)))
            raise ValueError(f"{attribute.name} must be one of {known}, got {value!r}")

    return check


def _check_gives_up(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None or value == "at release":
        return
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        expected = "a finite number of seconds ≥ 0, 'at release' or None"
        raise ValueError(f"{attribute.name} must be {expected}, got {value!r}")


def _check_pauses(
    _: object, attribute: attrs.Attribute[Any], value: tuple[float | None, ...] | None
) -> None:
    if value is not None and not isinstance(value, tuple):
        raise ValueError(f"{attribute.name} must be a tuple of pauses or None, got {value!r}")
    for pause in value or ():
        _check_optional(_, attribute, pause)


def _check_count(_: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"{attribute.name} must be an int ≥ 0, got {value!r}")


def _is_a(kind: Any, expected: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a validator of the type of a value."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"{attribute.name} must be {expected}, not {type(value).__name__}")

    return check


def _are_all(kind: Any, expected: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a validator of the types of a tuple's elements."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        elements = value if isinstance(value, tuple) else ()
        if elements is not value or not all(isinstance(element, kind) for element in elements):
            raise TypeError(f"{attribute.name} must be an iterable of {expected}, got {value!r}")

    return check


@attrs.frozen(kw_only=True, repr=False)
class Answer(BriefRepr):
    """Is what one token request, or one revocation, meets.

    Attributes:
        kind: ``"token"`` goes well. ``"raises"``, ``"nonsense"`` and ``"crash"`` are a
            token manager's: an exception that is not ours, an answer that is no
            ``TokenInfo``, and a ``BaseException``. The rest is the server's.
        latency: seconds until it is there; the server judges at the beginning.
        lifetime: seconds that the token lives; None for the timeline's.
        retry_after: seconds, of ``"unavailable"`` and ``"rate limited"``.
    """

    kind: AnswerKind = attrs.field(default="token", validator=_one_of(AnswerKind))
    latency: float = attrs.field(default=0.0, validator=_check_moment)
    lifetime: float | None = attrs.field(default=None, validator=_check_optional)
    retry_after: float | None = attrs.field(default=None, validator=_check_optional)

    @property
    def is_of_manager(self) -> bool:
        """Whether the request does not reach the server."""
        return self.kind in {"raises", "nonsense", "crash"}

    def fault(self) -> Fault | None:
        """Return what the embedded server is to do."""
        # Digits alone, as RFC 9110 wants them, or with the fraction that some send.
        asked = None if self.retry_after is None else f"{self.retry_after:.6f}".rstrip("0")
        retry_after = asked and asked.removesuffix(".")
        fault = Fault(lifetime=self.lifetime)
        match self.kind:
            case "unavailable":
                fault = Fault.server_error(503, retry_after=retry_after)
            case "rate limited":
                fault = Fault.rate_limited(retry_after)
            case "rejected":
                fault = Fault.refusal("invalid_client")
            case "refused":
                fault = Fault.refusal("invalid_scope")
            case "malformed":
                fault = Fault(status=200, body=b'{"access_token": "half of')
            case "bad lifetime":
                fault = Fault(fields={"expires_in": "true"})
            case "cut":
                fault = Fault(cut="before_headers")
            case "hang":
                return Fault.hang()
        return attrs.evolve(fault, delay=self.latency)


@attrs.frozen(kw_only=True, repr=False)
class Moment(BriefRepr):
    """Is a point in time, to the scheduler's pass.

    Attributes:
        at: seconds since the session was opened.
        passes: how many times to let all other ready tasks run first, so that something
            happens in the midst of what goes on at that time.
    """

    at: float = attrs.field(validator=_check_moment)
    passes: int = attrs.field(default=0, validator=_check_count)


@attrs.frozen(kw_only=True, repr=False)
class Get(Moment):
    """Some tasks ask for a token, each for itself.

    Attributes:
        ask: by which method; ``"use"`` gets a token, presents it, and reports a dead one
            and gets another, as ``SessionAuth`` does.
        count: how many tasks.
        gives_up: seconds until they are cancelled, 0 before they have begun;
            ``"at release"``: in the moment in which the session has a new token, before
            it has come to the getters; None: never.
        gives_up_passes: as ``passes``, for the cancellation.
    """

    ask: Ask = attrs.field(default="get", validator=_one_of(Ask))
    count: int = attrs.field(default=1, validator=_check_count)
    gives_up: float | Literal["at release"] | None = attrs.field(
        default=None, validator=_check_gives_up
    )
    gives_up_passes: int = attrs.field(default=0, validator=_check_count)


@attrs.frozen(kw_only=True, repr=False)
class Invalidate(Moment):
    """A task reports a token as dead.

    Attributes:
        age: 0 for the token that the session holds, else how many grants older than the
            server's last; one that never was, if there were not as many.
    """

    age: int = attrs.field(default=0, validator=_check_count)


@attrs.frozen(kw_only=True, repr=False)
class Revoke(Moment):
    """A task revokes the session's token.

    Attributes:
        gives_up: seconds until it is cancelled; None: never.
    """

    gives_up: float | None = attrs.field(default=None, validator=_check_optional)


@attrs.frozen(kw_only=True, repr=False)
class Kill(Moment):
    """The server ends the life of all tokens, as an administrator would."""


@attrs.frozen(kw_only=True, repr=False)
class Suspend(Moment):
    """The machine sleeps: the wall clock goes on, Trio's stands still."""

    seconds: float = attrs.field(default=60.0, validator=_check_moment)


@attrs.frozen(kw_only=True, repr=False)
class SetWall(Moment):
    """Somebody sets the wall clock.

    Attributes:
        by: seconds, negative to set it back.
    """

    by: float = attrs.field(validator=_check_finite)


Action = Get | Invalidate | Revoke | Kill | Suspend | SetWall


def _as_answers(value: Iterable[Answer]) -> tuple[Answer, ...]:
    # What is no list is the validator's to refuse, by its name.
    return tuple(value) if isinstance(value, Iterable) else value


def _as_actions(value: Iterable[Action]) -> tuple[Action, ...]:
    return tuple(value) if isinstance(value, Iterable) else value


@attrs.frozen(kw_only=True, repr=False)
class Timeline(BriefRepr):
    """Is everything that happens to a session in one run, and the session's settings.

    Plain data: two that are equal run alike, to the order in which tasks take turns.

    Attributes:
        lifetime: seconds that tokens live, if their answer says nothing else; 0 is none.
        answers: what the token requests meet, in order.
        then: what the token requests after those meet.
        revocations: what the revocations meet, in order; those after them go well.
        actions: what the program and the world do.
        leaves_at: when the session's block is left.
        leaves_by: how.
        reuses_tokens: the server answers with the token that is alive, if there is one.
        seed: of the order in which Trio runs the tasks that are ready, and of the
            jitter; with 0, tasks run in the order in which they were started.
        strategy: the pauses of a ``retry_strategy``, the last one for all that follow;
            None among them ends a round; None for no strategy.
        stale_buffer: as in :class:`~trio_anon_session.Config`, like all that follow.
        expired_buffer: likewise.
        refresh: likewise.
        refresh_jitter: likewise.
        idle_timeout: likewise.
        max_retries: likewise.
        retry_interval: likewise.
        max_retry_interval: likewise.
        request_timeout: likewise.
        min_refresh_interval: likewise.
        revoke_on_exit: likewise.
        shutdown_timeout: likewise.
    """

    lifetime: float = attrs.field(default=3600.0, validator=_check_moment)
    answers: tuple[Answer, ...] = attrs.field(
        default=(), converter=_as_answers, validator=_are_all(Answer, "Answers")
    )
    then: Answer = attrs.field(default=Answer(), validator=_is_a(Answer, "an Answer"))
    revocations: tuple[Answer, ...] = attrs.field(
        default=(), converter=_as_answers, validator=_are_all(Answer, "Answers")
    )
    actions: tuple[Action, ...] = attrs.field(
        default=(), converter=_as_actions, validator=_are_all(Action, "actions, such as Get")
    )
    leaves_at: float = attrs.field(default=4 * 3600.0, validator=_check_moment)
    leaves_by: Leaving = attrs.field(default="return", validator=_one_of(Leaving))
    reuses_tokens: bool = attrs.field(default=False, validator=_is_a(bool, "a bool"))
    seed: int = attrs.field(default=0, validator=_is_a(int, "an int"))
    strategy: tuple[float | None, ...] | None = attrs.field(default=None, validator=_check_pauses)
    stale_buffer: float = 600.0
    expired_buffer: float = 30.0
    refresh: Literal["eager", "on_request"] = "eager"
    refresh_jitter: float = 0.0
    idle_timeout: float | None = None
    max_retries: int = 5
    retry_interval: float = 2.0
    max_retry_interval: float = 60.0
    request_timeout: float = 30.0
    min_refresh_interval: float = 1.0
    revoke_on_exit: bool = False
    shutdown_timeout: float = 5.0

    def __attrs_post_init__(self) -> None:
        if any(answer.kind == "crash" for answer in self.revocations):
            raise ValueError("revocations must not contain an Answer of kind 'crash'")
        self.config()

    @property
    def moves_wall_clock(self) -> bool:
        """Whether the wall clock and Trio's part company."""
        return any(isinstance(action, Suspend | SetWall) for action in self.actions)

    def answer(self, nth: int) -> Answer:
        """Return what a token request meets; the first is number 0."""
        return self.answers[nth] if nth < len(self.answers) else self.then

    def revocation(self, nth: int) -> Answer:
        """Return what a revocation meets; the first is number 0."""
        return self.revocations[nth] if nth < len(self.revocations) else Answer()

    def revocation_at_server(self, nth: int) -> Answer:
        """Return what a revocation meets that comes to the server; the first is number 0."""
        at_server = [answer for answer in self.revocations if not answer.is_of_manager]
        return at_server[nth] if nth < len(at_server) else Answer()

    def config(self) -> Config:
        """Return the session's settings."""
        return Config(
            client_id=_CLIENT.client_id,
            client_secret=_CLIENT.client_secret,
            api_root_url="http://localhost",
            retry_strategy=None if self.strategy is None else self._pause,
            **{name: getattr(self, name) for name in _SETTINGS},
        )

    def server(self) -> TokenServer:
        """Return a server that does what the answers say."""
        token = [answer.fault() for answer in self.answers if not answer.is_of_manager]
        revoke = [answer.fault() for answer in self.revocations if not answer.is_of_manager]
        faults = FaultPlan(token=token, token_then=self.then.fault(), revoke=revoke)
        return TokenServer(
            faults, clients=[_CLIENT], lifetime=self.lifetime, reuses_tokens=self.reuses_tokens
        )

    def _pause(self, attempt: int, error: TokenRequestError) -> float | None:  # noqa: ARG002
        assert self.strategy is not None
        return self.pause_of_strategy(attempt)

    def pause_of_strategy(self, attempt: int) -> float | None:
        """Return what the strategy says after so many failed attempts of a round."""
        if not self.strategy:
            return None
        return self.strategy[min(attempt, len(self.strategy)) - 1]


_SETTINGS = (
    "stale_buffer",
    "expired_buffer",
    "refresh",
    "refresh_jitter",
    "idle_timeout",
    "max_retries",
    "retry_interval",
    "max_retry_interval",
    "request_timeout",
    "min_refresh_interval",
    "revoke_on_exit",
    "shutdown_timeout",
)
