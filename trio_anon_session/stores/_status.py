"""What a shared token manager sees in its store, without a token in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from .._secrets import Secrets, fingerprint
from ._records import (
    OF_THE_FLEET,
    ForeignRecordError,
    LaterFormatError,
    mark_of,
    owner_in,
    read_failure_record,
    read_token_record,
)

if TYPE_CHECKING:
    from .._config import Config
    from ._protocol import Look


@attrs.frozen
class StoreStatus:
    """Is what :meth:`SharedTokenManager.look_at_store` saw at one moment. Times are seconds.

    It may be shown and logged: there is no token in it. Processes are named by their hosts,
    process ids and a random part, with slashes between them.

    Attributes:
        fingerprint: a one-way mark of the token there, as in a session's events; None where
            there is none, or one that is of no use to this configuration.
        granted_by: the process that got it.
        lifetime: of its whole life.
        age: for which it has lived.
        leased_by: the process that asks the endpoint now; None where nobody does.
        leased_for: until its lease ends, unless it renews it.
        failure: what the last attempt came to, scrubbed; None where it brought a token.
        failures: how many failed in a row.
        pause: for which nobody is to ask the endpoint.
    """

    fingerprint: str | None = None
    granted_by: str | None = None
    lifetime: float = 0.0
    age: float = 0.0
    leased_by: str | None = None
    leased_for: float = 0.0
    failure: str | None = None
    failures: int = 0
    pause: float = 0.0


def status_of(seen: Look, config: Config) -> StoreStatus:
    """Return what there is in a store for a config, made fit to show."""
    status = StoreStatus(leased_by=_plain(seen.owner), leased_for=seen.leased_for)
    if seen.failure is not None:
        error, count = read_failure_record(seen.failure.record, seen.failure.pause, config)
        # Without what to do next, which is for who gets the error.
        said = Exception.__str__(error).removeprefix(OF_THE_FLEET) if error is not None else None
        status = attrs.evolve(status, failure=said, failures=count, pause=seen.failure.pause)
    if seen.token is None:
        return status
    try:
        token = read_token_record(seen.token.record, trio.current_time(), config)
    except (ForeignRecordError, LaterFormatError):
        return status
    if token is None or mark_of(token.access_token) != seen.token.mark:
        return status
    return attrs.evolve(
        status,
        fingerprint=fingerprint(token.access_token),
        granted_by=_plain(owner_in(seen.token.record)),
        lifetime=seen.token.lifetime,
        age=seen.token.age,
    )


def _plain(owner: str | None) -> str | None:
    """Return an owner made fit to show: whoever can write to a store can put any words there."""
    return Secrets().name(owner) if owner is not None else None
