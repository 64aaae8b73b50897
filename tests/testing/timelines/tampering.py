"""Changes to the log of a run, so that it shows a session that breaks a promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from trio_anon_session import TokenRequestError
from trio_anon_session.testing._timelines.log import (
    Asked,
    Came,
    Decided,
    Entry,
    Failed,
    Got,
    Leaving,
    Reported,
    RevocationCame,
    RevocationSent,
)
from trio_anon_session.testing._timelines.names import token_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_anon_session.testing._timelines.log import Happening
    from trio_anon_session.testing._timelines.timeline import Ask

Log = tuple[Entry, ...]


def find(log: Log, kind: type[Happening], nth: int) -> int:
    """Return the index of an entry of a kind."""
    return [index for index, entry in enumerate(log) if isinstance(entry.what, kind)][nth]


def tokens_of(log: Log) -> list[str]:
    """Return the tokens that came, in order."""
    return list(token_names(log))


class Tampering:
    """Changes a log; ``a | b`` does one after the other."""

    def __init__(self, change: Callable[[Log], Log]) -> None:
        self.change = change

    def __call__(self, log: Log) -> Log:
        return self.change(log)

    def __or__(self, then: Tampering) -> Tampering:
        return Tampering(lambda log: then(self(log)))


def change(kind: type[Happening], nth: int = 0, **changes: Any) -> Tampering:
    """Change fields of an entry."""

    def tamper(log: Log) -> Log:
        index = find(log, kind, nth)
        # The types of what is logged do not tell mypy that all of it is attrs.
        what: Any = log[index].what
        entry = attrs.evolve(log[index], what=attrs.evolve(what, **changes))
        return (*log[:index], entry, *log[index + 1 :])

    return Tampering(tamper)


def drop(kind: type[Happening], nth: int = 0) -> Tampering:
    """Leave an entry out."""

    def tamper(log: Log) -> Log:
        index = find(log, kind, nth)
        return log[:index] + log[index + 1 :]

    return Tampering(tamper)


def drop_between(after: float, until: float) -> Tampering:
    """Leave out all entries after a time and before another."""
    return Tampering(lambda log: tuple(e for e in log if not after < e.at < until))


def move(kind: type[Happening], nth: int = 0, *, by: float) -> Tampering:
    """Let an entry be seen later, or earlier; after all others of its new time."""

    def tamper(log: Log) -> Log:
        index = find(log, kind, nth)
        moved = attrs.evolve(log[index], at=log[index].at + by)
        return insert(log[:index] + log[index + 1 :], moved)

    return Tampering(tamper)


def insert(log: Log, *entries: Entry) -> Log:
    """Put entries of one time behind all others of their time."""
    before = tuple(entry for entry in log if entry.at <= entries[0].at)
    return before + entries + log[len(before) :]


def add(at: float, *happenings: Happening) -> Tampering:
    """Let something be seen that never was, after all else of that time."""
    return Tampering(lambda log: insert(log, *(Entry(at, what) for what in happenings)))


def put_after(kind: type[Happening], nth: int, *happenings: Happening) -> Tampering:
    """Let something be seen that never was, right after an entry."""

    def tamper(log: Log) -> Log:
        index = find(log, kind, nth) + 1
        new = tuple(Entry(log[index - 1].at, what) for what in happenings)
        return log[:index] + new + log[index:]

    return Tampering(tamper)


def replace(kind: type[Happening], nth: int, what: Happening) -> Tampering:
    """Let something else be seen in place of an entry."""
    return put_after(kind, nth, what) | drop(kind, nth)


def hand_out(at: float, *, nth: int = 0, getter: int = 99, ask: Ask = "get") -> Tampering:
    """Let one more getter come, and get the token that came as the so manyth."""

    def tamper(log: Log) -> Log:
        moments = Asked(getter, ask), Decided(getter), Got(getter, tokens_of(log)[nth])
        return insert(log, *(Entry(at, what) for what in moments))

    return Tampering(tamper)


def change_token(nth: int = 0, **changes: Any) -> Tampering:
    """Let a token come with other boundaries."""

    def tamper(log: Log) -> Log:
        came = log[find(log, Came, nth)].what
        assert isinstance(came, Came)
        assert came.token is not None
        return change(Came, nth, token=attrs.evolve(came.token, **changes))(log)

    return Tampering(tamper)


def answer_with_token_of(source: int, nth: int = 0) -> Tampering:
    """Let a failed request bring the token of another one."""

    def tamper(log: Log) -> Log:
        came = log[find(log, Came, source)].what
        assert isinstance(came, Came)
        return change(Came, nth, token=came.token, error=None)(log)

    return Tampering(tamper)


def change_error(
    nth: int = 0,
    kind: type[TokenRequestError] | None = None,
    *,
    cause: BaseException | None = None,
    **changes: Any,
) -> Tampering:
    """Let a getter get an error of another kind, or with other facts."""

    def tamper(log: Log) -> Log:
        error = error_of(log, nth)
        facts = {"retry_after": error.retry_after, "attempts": error.attempts} | changes
        other = (kind or type(error))(str(error), **facts)
        other.__cause__ = error.__cause__ if cause is None else cause
        return change(Failed, nth, error=other)(log)

    return Tampering(tamper)


def error_of(log: Log, nth: int) -> TokenRequestError:
    failed = log[find(log, Failed, nth)].what
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, TokenRequestError)
    return failed.error


def change_statistics(**changes: Any) -> Tampering:
    """Let the session say something else of itself."""

    def tamper(log: Log) -> Log:
        leaving = log[find(log, Leaving, 0)].what
        assert isinstance(leaving, Leaving)
        return change(Leaving, statistics=attrs.evolve(leaving.statistics, **changes))(log)

    return Tampering(tamper)


share_error = Tampering(lambda log: change(Failed, 1, error=error_of(log, 0))(log))
keep_reported_token = Tampering(lambda log: change(Reported, after=tokens_of(log)[0])(log))
revoke_again = Tampering(lambda log: add(11.0, RevocationSent(9, tokens_of(log)[0]))(log))
lose_revocation = drop(RevocationSent) | drop(RevocationCame)
