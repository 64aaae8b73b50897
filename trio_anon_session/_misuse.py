"""Checks that a session is made from the right parts, and used in the right place."""

from __future__ import annotations

import sys
import warnings
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn

from trio.lowlevel import current_clock

from ._config import WHOSE_TOKEN, Config
from ._errors import ConfigError

if TYPE_CHECKING:
    import trio


class Block:
    """The ``async with`` block of a session that owns its token manager.

    Attributes:
        config: the session's.
        is_open: whether the block has been entered and not left.
    """

    __slots__ = ("__weakref__", "config", "is_open")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.is_open = False

    def enter(self) -> None:
        """Note that the block is entered. Warn if another one around it gets the same tokens."""
        # Without those that no longer exist: where the block of each session starts the task that
        # opens the next one, they would pile up.
        around = tuple(there for there in _blocks_around.get() if there() is not None)
        if any(self._is_twin(there()) for there in around):
            warnings.warn(
                "a session with the same config is already open around this one, and each of them "
                "requests its own tokens: pass on the outer session instead of opening another",
                RuntimeWarning,
                stacklevel=3,
            )
        _blocks_around.set((*around, weakref.ref(self)))
        self.is_open = True

    def leave(self) -> None:
        """Note that the block is left."""
        self.is_open = False
        around = tuple(there for there in _blocks_around.get() if there() is not self)
        _blocks_around.set(around)

    def _is_twin(self, other: Block | None) -> bool:
        return other is not None and other.is_open and other.config == self.config


_blocks_around: ContextVar[tuple[weakref.ref[Block], ...]] = ContextVar("blocks_around", default=())
"""The blocks in which a task runs or was started. A task may outlive them, and keeps none alive.

Sessions that were given a token manager are not among them, because they cause no warning. Each
task has a copy of this, and a program that opens many sessions inside each other would have copies
as long.
"""


def check_parts(config: object, token_manager: object) -> None:
    """Check what a session is made of.

    Raises:
        TypeError: one of the two is not what it must be.
        ConfigError: the token manager requests other tokens than the config describes.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config must be a Config, not {type(config).__name__}")
    if token_manager is None:
        return
    for method in ("get_tokens_client_credentials_grant", "revoke_tokens"):
        if not callable(getattr(token_manager, method, None)):
            raise TypeError(f"token_manager must have an async method {method}")
    other = getattr(token_manager, "config", None)
    for field in WHOSE_TOKEN if isinstance(other, Config) else ():
        if getattr(config, field) != getattr(other, field):
            raise ConfigError(
                field,
                "must be the same as in the token manager's config: pass the same Config to both",
            )


def clock_here() -> trio.abc.Clock:
    """Return the clock of the Trio run.

    Raises:
        RuntimeError: this is not a Trio task.
    """
    try:
        return current_clock()
    except RuntimeError:
        pass
    # Outside of the except block: Trio's error has nothing to add.
    refuse_asyncio()
    raise RuntimeError(
        "an AnonymousSession can only be used inside a Trio task: start the program with "
        "trio.run(main); in a worker thread, call trio.from_thread.run(session.get_access_token)"
    )


def refuse_asyncio() -> None:
    """Raise on asyncio, where a session can be neither opened nor used."""
    # A program that has not imported asyncio does not run on it, and need not wait for the import.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "an AnonymousSession works only on Trio, but this is asyncio: start the program with "
            "trio.run(main), or with anyio.run(main, backend='trio')"
        )


def refuse_second_entry() -> NoReturn:
    """Raise for a session that is entered a second time."""
    raise RuntimeError(
        "a session can be opened only once, and this one was: create a new AnonymousSession"
    )


def refuse_unopened() -> NoReturn:
    """Raise for a session that was not entered."""
    refuse_asyncio()
    raise RuntimeError(
        "the session is not open: write 'async with AnonymousSession(config) as session:', "
        "and use it inside that block"
    )


def refuse_other_run() -> NoReturn:
    """Raise where an open session is used outside of its Trio run."""
    clock_here()
    raise RuntimeError(
        "this session was opened in another Trio run: open one session in each run, "
        "or call into that run with trio.from_thread"
    )
