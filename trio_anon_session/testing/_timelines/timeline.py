"""`Timeline`: all events of one run of a session, as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import attrs

from ..._config import Config
from .._clients import Client
from .._faults import Fault, FaultPlan
from .._server import TokenServer

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
"""Faults of a request that may succeed the next time."""

_CLIENT = Client()


class BriefRepr:
    """A mixin whose repr shows only the values that are not defaults, to be pasted into tests."""

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
        # Hypothesis uses this method; otherwise it prints all fields of a failing example.
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
    """Return a validator of the values of a ``Literal``."""

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
    """Return a validator of the elements of a tuple."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        elements = value if isinstance(value, tuple) else ()
        if elements is not value or not all(isinstance(element, kind) for element in elements):
            raise TypeError(f"{attribute.name} must be an iterable of {expected}, got {value!r}")

    return check


@attrs.frozen(kw_only=True, repr=False)
class Answer(BriefRepr):
    """The answer to one token request or revocation.

    Attributes:
        kind: ``"token"`` is a success. ``"raises"``, ``"nonsense"`` and ``"crash"`` are faults
            of a token manager: it raises an unknown exception, returns an object that is not a
            ``TokenInfo``, or raises a ``BaseException``. The others are faults of the server.
        latency: seconds until the answer arrives. The server processes the request at the start.
        lifetime: lifetime of the token in seconds; None for the timeline's.
        retry_after: ``Retry-After`` in seconds, for ``"unavailable"`` and ``"rate limited"``.
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
        """Return the fault with which the embedded server gives this answer."""
        # RFC 9110 §10.2.3 requires whole seconds, but some servers send a fraction.
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
    """A point of a timeline, up to the step of the scheduler.

    Attributes:
        at: seconds since the session was opened.
        passes: number of times that all other ready tasks run first, so that the action
            happens between the steps of other tasks.
    """

    at: float = attrs.field(validator=_check_moment)
    passes: int = attrs.field(default=0, validator=_check_count)


@attrs.frozen(kw_only=True, repr=False)
class Get(Moment):
    """An action: some tasks call the session for a token.

    Attributes:
        ask: the method. ``"use"`` gets a token and presents it; if the server rejects it,
            the task invalidates it and gets another, as ``SessionAuth`` does.
        count: number of tasks.
        gives_up: seconds until the tasks are cancelled; 0 cancels them before they start.
            ``"at release"`` cancels them when the session has a new token, before they
            receive it. None never cancels them.
        gives_up_passes: like ``passes``, for the cancellation.
    """

    ask: Ask = attrs.field(default="get", validator=_one_of(Ask))
    count: int = attrs.field(default=1, validator=_check_count)
    gives_up: float | Literal["at release"] | None = attrs.field(
        default=None, validator=_check_gives_up
    )
    gives_up_passes: int = attrs.field(default=0, validator=_check_count)


@attrs.frozen(kw_only=True, repr=False)
class Invalidate(Moment):
    """An action: a task invalidates a token.

    Attributes:
        age: 0 for the session's current token; else the number of tokens that the server
            has issued since. If there are fewer, an unknown token is invalidated.
    """

    age: int = attrs.field(default=0, validator=_check_count)


@attrs.frozen(kw_only=True, repr=False)
class Revoke(Moment):
    """An action: a task revokes the session's token.

    Attributes:
        gives_up: seconds until the task is cancelled; None never cancels it.
    """

    gives_up: float | None = attrs.field(default=None, validator=_check_optional)


@attrs.frozen(kw_only=True, repr=False)
class Kill(Moment):
    """An action: the server revokes all tokens, as an administrator would."""


@attrs.frozen(kw_only=True, repr=False)
class Suspend(Moment):
    """An action: the machine is suspended. The wall clock advances, but Trio's does not."""

    seconds: float = attrs.field(default=60.0, validator=_check_moment)


@attrs.frozen(kw_only=True, repr=False)
class SetWall(Moment):
    """An action: the wall clock is set.

    Attributes:
        by: seconds; negative to set it back.
    """

    by: float = attrs.field(validator=_check_finite)


Action = Get | Invalidate | Revoke | Kill | Suspend | SetWall


def _as_answers(value: Iterable[Answer]) -> tuple[Answer, ...]:
    # The validator refuses other types with an error that names the field.
    return tuple(value) if isinstance(value, Iterable) else value


def _as_actions(value: Iterable[Action]) -> tuple[Action, ...]:
    return tuple(value) if isinstance(value, Iterable) else value


@attrs.frozen(kw_only=True, repr=False)
class Timeline(BriefRepr):
    """All events of one run of a session, and the session's settings.

    A timeline is plain data. Equal timelines run identically, including the task order.

    Attributes:
        lifetime: lifetime of tokens in seconds, unless their answer has another; 0 is a fault.
        answers: answers to the token requests, in order.
        then: answer to all later token requests.
        revocations: answers to the revocations, in order; later revocations succeed.
        actions: actions of the program, the server and the machine.
        leaves_at: when the session's block ends, in seconds.
        leaves_by: how the block ends.
        reuses_tokens: whether the server answers with the valid token, if there is one.
        seed: seed of the task order and of the jitter; with 0, tasks run in the order in
            which they started.
        strategy: pauses of a ``retry_strategy``; the last one is repeated. A None among them
            ends the round of attempts. None instead of a tuple is no strategy.
        stale_buffer: as in :class:`~trio_anon_session.Config`.
        expired_buffer: as in :class:`~trio_anon_session.Config`.
        refresh: as in :class:`~trio_anon_session.Config`.
        refresh_jitter: as in :class:`~trio_anon_session.Config`.
        idle_timeout: as in :class:`~trio_anon_session.Config`.
        max_retries: as in :class:`~trio_anon_session.Config`.
        retry_interval: as in :class:`~trio_anon_session.Config`.
        max_retry_interval: as in :class:`~trio_anon_session.Config`.
        request_timeout: as in :class:`~trio_anon_session.Config`.
        max_wait: as in :class:`~trio_anon_session.Config`.
        min_refresh_interval: as in :class:`~trio_anon_session.Config`.
        revoke_on_exit: as in :class:`~trio_anon_session.Config`.
        shutdown_timeout: as in :class:`~trio_anon_session.Config`.
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
    max_wait: float | None = 30.0
    min_refresh_interval: float = 1.0
    revoke_on_exit: bool = False
    shutdown_timeout: float = 5.0

    def __attrs_post_init__(self) -> None:
        if any(answer.kind == "crash" for answer in self.revocations):
            raise ValueError("revocations must not contain an Answer of kind 'crash'")
        self.config()

    @property
    def moves_wall_clock(self) -> bool:
        """Whether the wall clock moves independently of Trio's clock."""
        return any(isinstance(action, Suspend | SetWall) for action in self.actions)

    def answer(self, nth: int) -> Answer:
        """Return the answer to a token request; the first is number 0."""
        return self.answers[nth] if nth < len(self.answers) else self.then

    def revocation(self, nth: int) -> Answer:
        """Return the answer to a revocation; the first is number 0."""
        return self.revocations[nth] if nth < len(self.revocations) else Answer()

    def revocation_at_server(self, nth: int) -> Answer:
        """Return the answer to a revocation that reaches the server; the first is number 0."""
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
        """Return a server with the faults of the answers."""
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
        """Return the strategy's pause after this number of failed attempts of a round."""
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
    "max_wait",
    "min_refresh_interval",
    "revoke_on_exit",
    "shutdown_timeout",
)
