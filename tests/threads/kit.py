"""Helpers: session threads with a fake token manager, without sockets."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from trio_anon_session.threads import SessionThread

from ..helpers import FakeTokenManager, make_config

if TYPE_CHECKING:
    from collections.abc import Callable


def fake_manager(*, latency: float = 0.0, **settings: Any) -> FakeTokenManager:
    """Return a manager for a session that may request tokens in quick succession."""
    settings = {"min_refresh_interval": 1e-6, "retry_interval": 1e-3, "max_retries": 0} | settings
    return FakeTokenManager(make_config(**settings), latency=latency)


def thread_on(manager: FakeTokenManager, **settings: Any) -> SessionThread:
    """Return a session thread that gets its tokens from the manager."""
    return SessionThread(manager.config, lambda config: nullcontext(manager), **settings)


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that no event reports, while other threads run."""
    while not condition():
        time.sleep(0)
