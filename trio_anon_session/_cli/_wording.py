"""The texts of events and counts on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._events import Granted, Invalidated, RefreshFailed, Revoked, StateChanged
from .._token import TokenState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._events import Event


def counted(figures: Mapping[str, int]) -> str:
    """Return each figure before its name, such as ``1 grant, 2 failures``."""
    return ", ".join(
        f"{figure} {name.removesuffix('s') if figure == 1 else name}"
        for name, figure in figures.items()
    )


def describe(event: Event) -> str | None:
    """Return the text of an event, or None if the event is not shown."""
    match event:
        case Granted():
            return (
                f"+ token {event.fingerprint} after {event.latency:.2f} s, "
                f"valid for {event.expires_in:.1f} s"
            )
        case RefreshFailed():
            return f"! attempt failed, retry in {event.retry_in:.2f} s: {failure_text(event)}"
        case Invalidated():
            return f"- token {event.fingerprint} was invalidated"
        case Revoked(error=None):
            return f"- token {event.fingerprint} was revoked"
        case Revoked():
            return f"! token {event.fingerprint} could not be revoked: {event.error}"
        case StateChanged(new=TokenState.EXPIRED):
            return "- the token has expired; callers wait for a new one"
    return None


def failure_text(event: RefreshFailed) -> str:
    """Return the error message of a failed attempt, without the name of its class."""
    return event.error.removeprefix(f"{event.kind}: ")
