"""Checks of the arguments of a session, and of where it is used."""

from __future__ import annotations

import sys
import warnings
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn

from trio.lowlevel import current_clock

from ._config import TOKEN_SETTINGS, Config
from ._errors import ConfigError

if TYPE_CHECKING:
    import trio


class Block:
    """The ``async with`` block of a session that owns its token manager.

    Attributes:
        config: the config of the session.
        is_open: whether the block has been entered and not left.
    """

    __slots__ = ("__weakref__", "config", "is_open")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.is_open = False

    def enter(self) -> None:
        """Record that the block is entered. Warn if a block around it has an equal config."""
        # Remove blocks that no longer exist. Otherwise the tuple would grow without limit in a
        # program where the block of each session starts the task that opens the next one.
        around = tuple(there for there in _blocks_around.get() if there() is not None)
        if any(self._is_duplicate(there()) for there in around):
            warnings.warn(
                "a session with the same config is already open around this one, and each of them "
                "requests its own tokens: pass on the outer session instead of opening another",
                RuntimeWarning,
                stacklevel=3,
            )
        _blocks_around.set((*around, weakref.ref(self)))
        self.is_open = True

    def leave(self) -> None:
        """Record that the block is left."""
        self.is_open = False
        around = tuple(there for there in _blocks_around.get() if there() is not self)
        _blocks_around.set(around)

    def _is_duplicate(self, other: Block | None) -> bool:
        return other is not None and other.is_open and other.config == self.config


_blocks_around: ContextVar[tuple[weakref.ref[Block], ...]] = ContextVar("blocks_around", default=())
"""The blocks in which the task runs or was started, as weak references, since it may outlive them.

Blocks of sessions that were given a token manager are not included, because they cause no warning.
Each task copies this tuple, which would be long in a program with many nested sessions.
"""


def check_parts(config: object, token_manager: object) -> None:
    """Check the arguments of a session.

    Raises:
        TypeError: ``config`` is not a Config, or ``token_manager`` lacks a method.
        ConfigError: the config of the token manager describes other tokens.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config must be a Config, not {type(config).__name__}")
    if token_manager is None:
        return
    for method in ("get_tokens_client_credentials_grant", "revoke_tokens"):
        if not callable(getattr(token_manager, method, None)):
            raise TypeError(f"token_manager must have an async method {method}")
    other = getattr(token_manager, "config", None)
    for field in TOKEN_SETTINGS if isinstance(other, Config) else ():
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
    # Raised outside of the except block, so that Trio's error is not the context.
    refuse_asyncio()
    raise RuntimeError(
        "an AnonymousSession can only be used inside a Trio task: start the program with "
        "trio.run(main); in a worker thread, call trio.from_thread.run(session.get_access_token)"
    )


def is_on_trio() -> bool:
    """Return whether this thread has a Trio run."""
    try:
        current_clock()
    except RuntimeError:
        return False
    return True


def refuse_asyncio() -> None:
    """Raise RuntimeError if the program runs on asyncio."""
    # If asyncio is not in sys.modules, the program does not use it. Importing it here would take
    # time.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "an AnonymousSession works only on Trio, but this is asyncio: start the program with "
            "trio.run(main), or with anyio.run(main, backend='trio')"
        )


def refuse_second_entry() -> NoReturn:
    """Raise RuntimeError for a session that is entered a second time."""
    raise RuntimeError(
        "a session can be opened only once, and this one was: create a new AnonymousSession"
    )


def refuse_unopened() -> NoReturn:
    """Raise RuntimeError for a session that was not entered."""
    refuse_asyncio()
    raise RuntimeError(
        "the session is not open: write 'async with AnonymousSession(config) as session:', "
        "and use it inside that block"
    )


def refuse_other_run() -> NoReturn:
    """Raise RuntimeError for an open session that is used outside of its Trio run."""
    clock_here()
    raise RuntimeError(
        "this session was opened in another Trio run: open one session in each run, "
        "or call into that run with trio.from_thread"
    )
