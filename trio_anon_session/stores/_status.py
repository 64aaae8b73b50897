"""`StoreStatus`: the content of a store, without the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from .._secrets import fingerprint
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
    from .._secrets import Secrets
    from ._protocol import Look


@attrs.frozen
class StoreStatus:
    """Result of :meth:`SharedTokenManager.look_at_store`. All times are in seconds.

    It contains no token, so you can show and log it. The name of a process consists of host,
    process id and a random part, separated by slashes.

    Attributes:
        fingerprint: one-way fingerprint of the stored token, as in a session's events. None if
            there is no token, or if this configuration cannot use it.
        granted_by: the process that requested the token.
        lifetime: the token's lifetime.
        age: time since the token was requested.
        leased_by: the process that requests a token now; None if no process does.
        leased_for: time until its lease ends, unless the process renews it.
        failure: error of the last token request, without secrets; None if it succeeded.
        failures: number of failed token requests in a row.
        pause: time during which no process must request a token.
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


def status_of(seen: Look, config: Config, secrets: Secrets) -> StoreStatus:
    """Return the content of a store for a config, without secrets.

    Args:
        seen: a look, from which `StoreLink` has removed the secrets.
        config: the settings.
        secrets: the texts to hide in the record of the token.
    """
    status = StoreStatus(leased_by=seen.owner, leased_for=seen.leased_for)
    if seen.failure is not None:
        error, count = read_failure_record(seen.failure.record, seen.failure.pause, config)
        # The advice on what to do next is for the process that raises the error.
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
    owner = owner_in(seen.token.record)
    return attrs.evolve(
        status,
        fingerprint=fingerprint(token.access_token),
        granted_by=None if owner is None else secrets.name(owner),
        lifetime=seen.token.lifetime,
        age=seen.token.age,
    )
