"""The observer that is always there: events as records of the standard library's logging.

What goes well is told at DEBUG, and nothing at INFO: a session that works is quiet.
"""

from __future__ import annotations

from logging import ERROR, WARNING
from typing import TYPE_CHECKING

from ._backoff import logger
from ._events import Closed, Granted, Invalidated, RefreshFailed, Revoked, StateChanged

if TYPE_CHECKING:
    from ._events import Event


def failure_level(*, retryable: bool) -> int:
    """Return the level of a failure: higher where no other attempt will mend it."""
    return WARNING if retryable else ERROR


def log_event(event: Event) -> None:
    """Write one record of an event."""
    match event:
        case Granted():
            logger.debug(
                "token %s came after %.2f s, and is good for %.1f s",
                event.fingerprint,
                event.latency,
                event.expires_in,
            )
        case RefreshFailed():
            logger.log(
                failure_level(retryable=event.retryable),
                "no new token; next attempt in %.1f s at the earliest: %s",
                event.retry_in,
                event.error,
            )
        case Invalidated():
            logger.debug("token %s was reported dead, and is dropped", event.fingerprint)
        case Revoked(error=None):
            logger.debug("token %s was revoked", event.fingerprint)
        case Revoked():
            logger.warning("%s", event.error)
        case StateChanged():
            logger.debug("the session is %s, and was %s", event.new.name, event.old.name)
        case Closed():
            logger.debug("the session is closed")
