"""Events in words, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._events import Granted, Invalidated, RefreshFailed, Revoked, StateChanged
from .._token import TokenState

if TYPE_CHECKING:
    from .._events import Event


def tell(event: Event) -> str | None:
    """Return an event in words, or None if it is no news."""
    match event:
        case Granted():
            return (
                f"+ token {event.fingerprint} after {event.latency:.2f} s, "
                f"good for {event.expires_in:.1f} s"
            )
        case RefreshFailed():
            return f"! attempt failed, next in {event.retry_in:.2f} s: {failure_text(event)}"
        case Invalidated():
            return f"- token {event.fingerprint} was reported dead, and dropped"
        case Revoked(error=None):
            return f"- token {event.fingerprint} was revoked"
        case Revoked():
            return f"! token {event.fingerprint} was not revoked: {event.error}"
        case StateChanged(new=TokenState.EXPIRED):
            return "- the token has expired; getters are held"
    return None


def failure_text(event: RefreshFailed) -> str:
    """Return what a failed attempt's error says, without the name of its class."""
    return event.error.removeprefix(f"{event.kind}: ")
