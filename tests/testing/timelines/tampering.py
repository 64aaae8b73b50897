"""Changes to the log of a run, so that it shows a session that breaks a promise."""

from __future__ import annotations

from inspect import isfunction
from typing import TYPE_CHECKING, Any

import attrs

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

    from trio_anon_session import TokenRequestError
    from trio_anon_session.testing._timelines.log import Happening

Log = tuple[Entry, ...]


def find(log: Log, kind: type[Happening], nth: int) -> int:
    """Return the index of an entry of a kind."""
    return [index for index, entry in enumerate(log) if isinstance(entry.what, kind)][nth]


def tokens_of(log: Log) -> list[str]:
    """Return the granted tokens, in order."""
    return list(token_names(log))


class Tampering:
    """Changes a log; ``a | b`` does one after the other."""

    def __init__(self, change: Callable[[Log], Log]) -> None:
        self.change = change

    def __call__(self, log: Log) -> Log:
        return self.change(log)

    def __or__(self, then: Tampering) -> Tampering:
        return Tampering(lambda log: then(self(log)))


def splice(
    kind: type[Happening], nth: int, make: Callable[[Entry], tuple[Entry, ...]]
) -> Tampering:
    """Replace one entry with others."""

    def tamper(log: Log) -> Log:
        index = find(log, kind, nth)
        return log[:index] + make(log[index]) + log[index + 1 :]

    return Tampering(tamper)


def change(kind: type[Happening], nth: int = 0, **changes: Any) -> Tampering:
    """Change fields of an entry; a function gets the old value, and returns the new one."""

    def make(entry: Entry) -> tuple[Entry]:
        # mypy does not see that all logged types are attrs classes.
        what: Any = entry.what
        values = {
            name: value(getattr(what, name)) if isfunction(value) else value
            for name, value in changes.items()
        }
        return (attrs.evolve(entry, what=attrs.evolve(what, **values)),)

    return splice(kind, nth, make)


def drop(kind: type[Happening], nth: int = 0) -> Tampering:
    """Remove an entry."""
    return splice(kind, nth, lambda _: ())


def replace(kind: type[Happening], nth: int, what: Happening) -> Tampering:
    """Replace what happened in an entry."""
    return splice(kind, nth, lambda entry: (Entry(entry.at, what),))


def put_after(kind: type[Happening], nth: int, what: Happening) -> Tampering:
    """Add a happening right after an entry."""
    return splice(kind, nth, lambda entry: (entry, Entry(entry.at, what)))


def drop_between(after: float, until: float) -> Tampering:
    """Remove all entries after a time and before another."""
    return Tampering(lambda log: tuple(e for e in log if not after < e.at < until))


def insert(log: Log, at: float, *happenings: Happening) -> Log:
    """Insert entries of one time after all others of their time."""
    before = tuple(entry for entry in log if entry.at <= at)
    return before + tuple(Entry(at, what) for what in happenings) + log[len(before) :]


def add(at: float, *happenings: Happening) -> Tampering:
    """Add happenings after all others of their time."""
    return Tampering(lambda log: insert(log, at, *happenings))


def move(kind: type[Happening], nth: int = 0, *, by: float) -> Tampering:
    """Move an entry in time, after all others of its new time."""

    def tamper(log: Log) -> Log:
        entry = log[find(log, kind, nth)]
        return insert(drop(kind, nth)(log), entry.at + by, entry.what)

    return Tampering(tamper)


def hand_out(at: float, *, nth: int = 0) -> Tampering:
    """Add getter 99, which gets the token with the index `nth`."""

    def tamper(log: Log) -> Log:
        return insert(log, at, Asked(99, "get"), Decided(99), Got(99, tokens_of(log)[nth]))

    return Tampering(tamper)


def change_token(**changes: Any) -> Tampering:
    """Change the boundaries of the first token."""
    return change(Came, token=lambda token: attrs.evolve(token, **changes))


def answer_with_token_of(source: int) -> Tampering:
    """Give the first request, which failed, the token of another one."""

    def tamper(log: Log) -> Log:
        came: Any = log[find(log, Came, source)].what
        return change(Came, token=came.token, error=None)(log)

    return Tampering(tamper)


def change_error(
    nth: int = 0,
    kind: type[TokenRequestError] | None = None,
    *,
    cause: BaseException | None = None,
    **changes: Any,
) -> Tampering:
    """Change the type, the cause or the attributes of a getter's error."""

    def alter(error: TokenRequestError) -> TokenRequestError:
        facts = {"retry_after": error.retry_after, "attempts": error.attempts} | changes
        other = (kind or type(error))(str(error), **facts)
        other.__cause__ = error.__cause__ if cause is None else cause
        return other

    return change(Failed, nth, error=alter)


def change_statistics(**changes: Any) -> Tampering:
    """Change the session's statistics."""
    return change(Leaving, statistics=lambda statistics: attrs.evolve(statistics, **changes))


def first_error(log: Log) -> Any:
    """Return the error that the first getter got."""
    failed: Any = log[find(log, Failed, 0)].what
    return failed.error


share_error = Tampering(lambda log: change(Failed, 1, error=first_error(log))(log))
keep_reported_token = Tampering(lambda log: change(Reported, after=tokens_of(log)[0])(log))
revoke_again = Tampering(lambda log: add(11.0, RevocationSent(9, tokens_of(log)[0]))(log))
lose_revocation = drop(RevocationSent) | drop(RevocationCame)
