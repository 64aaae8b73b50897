"""`SharedTokenManager`: one token for all processes that use the same store.

How it works
    `_claimant` decides how to answer a session, and `Questions` does it: it calls the store through
    `StoreLink` and the token endpoint through `Attempts`. `Watch` is the task that waits for
    notifications from the store. `SharedTokenManager` creates these objects for each Trio run, and
    opens and closes them.
"""

from __future__ import annotations

import os
import secrets
import socket
import warnings
from contextlib import suppress
from logging import WARNING
from typing import TYPE_CHECKING, Protocol, Self

import attrs
import trio

from .._callables import lazy_kind
from .._config import Config
from .._logging import log
from .._manager import TokenSource
from .._nursery import Background, raise_at_exit
from .._secrets import Unpicklable
from .._token import TokenInfo, check_options, why_no_access_token
from ._access import StoreFailedError, words_of
from ._attempts import Attempts
from ._link import RELEASE_TIMEOUT, StoreLink
from ._protocol import StoreError, check_is_store
from ._questions import Questions
from ._records import mark_of
from ._status import StoreStatus, status_of
from ._trial import try_out
from ._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._token import TokenRequestOptions
    from ._protocol import TokenStore
    from ._statistics import StoreStatistics


_CHECK_TIMEOUT = 10.0
"""Time limit of `SharedTokenManager.check_store` in seconds."""


class ConfiguredTokenSource(TokenSource, Protocol):
    """A token manager with the config that it uses to request tokens."""

    @property
    def config(self) -> Config:
        """The config."""
        ...


@attrs.frozen
class _Hidden:
    """A secret text, hidden from tracebacks that show the local variables of a frame."""

    text: str = attrs.field(repr=False)


class SharedTokenManager(Unpicklable):
    """A token manager that shares one token with all processes that use the same store.

    Pass it to a session like any token manager. Use it with ``async with``: entering opens the
    store, leaving closes the store and the inner manager. If you request a token outside of the
    block, it warns.

    If the store, a lease or another process fails, the session still gets a token. The manager
    logs the problem once, and requests tokens from the inner manager until the store works again.

    Args:
        manager: the inner manager, which requests and revokes tokens: a
            :class:`~trio_anon_session.TokenManager`, or another token manager whose ``config`` is
            a :class:`~trio_anon_session.Config`.
        store: the store that the processes share.

    Raises:
        TypeError: ``manager`` is not a token manager with a ``Config``, or ``store`` is not a
            :class:`TokenStore`.
    """

    def __init__(self, manager: ConfiguredTokenSource, store: TokenStore) -> None:
        self._config = _check_parts(manager, store)
        self._manager = manager
        self._store = store
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        # By registration, because the same listener can be registered several times.
        self._listeners: dict[object, Callable[[TokenInfo], object]] = {}
        self._is_open = False
        self._background = Background()
        self._begin()

    def _begin(self) -> None:
        """Create the objects of this Trio run. Times of another run are on another clock."""
        self._link = StoreLink(self._store, self._config, self._owner, self._report)
        self._claimant = self._link.claimant
        self._access = self._link.access
        self._watch = Watch(self._link)
        attempts = Attempts(self._link, self._manager, self._background)
        self._questions = Questions(self._link, self._watch, attempts)

    def __repr__(self) -> str:
        return f"<SharedTokenManager of {self._manager!r} and {self._store!r}>"

    @property
    def config(self) -> Config:
        """The config of the inner manager."""
        return self._config

    @property
    def owner(self) -> str:
        """The name of this manager in the store, made of host, process id and a random part."""
        return self._owner

    @property
    def is_open(self) -> bool:
        """Whether the ``async with`` block is running."""
        return self._is_open

    @property
    def trouble(self) -> str | None:
        """The current problem with the store, as logged; None if the store works."""
        return self._access.trouble

    async def __aenter__(self) -> Self:
        if self._is_open:
            raise RuntimeError("this SharedTokenManager is already open: create one for each block")
        self._begin()
        self._is_open = True
        try:
            await self._link.open()
        except BaseException:
            with trio.move_on_after(RELEASE_TIMEOUT, shield=True):
                await self.aclose()
            raise
        await self._background.open()
        self._start_watch_if_needed()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            crash = await self._background.close()  # noqa: ASYNC102  # shielded within
        finally:
            await self.aclose()  # noqa: ASYNC102  # closes also when it is cancelled
        raise_at_exit(exc, crash)

    async def aclose(self) -> None:
        """Close the store and the inner manager.

        Cancellation: both are still closed.
        """
        was_open, self._is_open = self._is_open, False
        try:
            if was_open:
                await self._link.close()
        except Exception as error:
            log(WARNING, "closing the token store raised %s", type(error).__name__)
        finally:
            close = getattr(self._manager, "aclose", None)
            if close is not None:
                # The manager closes even if this call is cancelled, and shields what must not be
                # cancelled.
                await close()  # noqa: ASYNC102
        await trio.lowlevel.checkpoint()

    # Called by a session

    # Protected as in TokenManager, because the traceback of a KeyboardInterrupt could show a token.
    @trio.lowlevel.enable_ki_protection
    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return the fleet's token from the store, or request a new one for the fleet.

        Args:
            options: sent with the token request, if this process makes one.

        Returns:
            A token that this manager has not returned before, or one that is still FRESH.
            Its ``sent_at`` is as far in the past as the token's age in the store.

        Raises:
            TokenRequestError: the token request failed. This process made it, or waited for
                the request of another process.

        Cancellation: releases the lease. The server may have issued a token that no process
        will use.
        """
        check_options(options)
        if not self._is_open:
            warnings.warn(
                "this SharedTokenManager is used outside of its block, so its store is not open: "
                "use it inside 'async with SharedTokenManager(...) as manager:'",
                RuntimeWarning,
                stacklevel=2,
            )
        return await self._questions.answer(options)

    @trio.lowlevel.enable_ki_protection
    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Drop the token in all processes, then send one revocation request to the server.

        Args:
            token: the token.
            options: sent with the revocation request.

        Raises:
            RevocationError: the request failed; the token may still be valid at the server.
            TypeError: ``token`` is not a str.
            ValueError: ``token`` is empty, or begins with ``Bearer``.

        Cancellation: the token may still be valid at the server.
        """
        check_options(options)
        problem = why_no_access_token("token", token)
        hidden = _Hidden(token)
        del token
        if problem is not None:
            raise problem
        self._link.hide_token(hidden.text)
        self._link.drop(mark_of(hidden.text))
        await self._report_drops()
        await self._manager.revoke_tokens(hidden.text, options)

    @trio.lowlevel.enable_ki_protection
    def drop(self, token: TokenInfo) -> None:
        """Drop the token in all processes.

        A background task reports the drop to the store. If the store is down, the task retries
        later, and until then the other processes can still use the token.

        Args:
            token: the token.
        """
        self._link.hide_token(token.access_token)
        self._link.drop(mark_of(token.access_token))
        # If another call of `_report_drops` has not begun yet, it reports this drop too.
        if self._is_open and not self._link.is_report_pending:
            self._background.start_soon(self._report_drops)

    @trio.lowlevel.enable_ki_protection
    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Call ``listener`` with each token of this manager that any process drops.

        Args:
            listener: a plain callable, which receives the token. It is called without a checkpoint.

        Returns:
            A callable that removes this registration of the listener. A second call does nothing.

        Raises:
            TypeError: ``listener`` is not a plain callable.
        """
        kind = lazy_kind(listener) if callable(listener) else type(listener).__name__
        if kind is not None:
            raise TypeError(f"listener must be a plain callable, not {kind}")
        registration = object()
        self._listeners[registration] = listener
        if self._is_open and len(self._listeners) == 1:
            self._start_watch_if_needed()

        def stop() -> None:
            if self._listeners.pop(registration, None) is None:
                return
            if not self._listeners:
                self._watch.stop()

        return stop

    def statistics(self) -> StoreStatistics:
        """Return the counters of this process. Any thread can call this."""
        return self._questions.statistics()

    async def look_at_store(self) -> StoreStatus:
        """Return the current content of the store, without secrets.

        Raises:
            StoreError: the store failed. The message contains no secret.

        Cancellation: changes nothing.
        """
        with suppress(StoreFailedError):
            seen, _ = await self._link.look()
            return status_of(seen, self._config, self._link.secrets())
        raise StoreError(self._access.why)

    async def check_store(self) -> str | None:
        """Test the store with a claim, a put, a look and a drop, under a name that no fleet uses.

        A health check can call this. It does not change the fleet's token.

        Returns:
            None, or why the store sends no notifications. Without them the processes poll the
            store, and notice a dropped token up to half a second later.

        Raises:
            StoreError: the store gave a wrong result, failed, or did not answer within ten
                seconds. The message contains no secret.

        Cancellation: the test entry stays in the store for a minute.
        """
        words = f"no answer within {_CHECK_TIMEOUT:g} s"
        try:
            with trio.move_on_after(_CHECK_TIMEOUT):
                return await try_out(self._store, self._owner, self._link.secrets())
        except Exception as error:
            words = words_of(error, self._link.secrets())
        # Raised outside of the handler: the error of a store may contain the record.
        raise StoreError(words)

    # Drops

    def _report(self, token: TokenInfo) -> None:
        for listener in tuple(self._listeners.values()):
            listener(token)

    def _start_watch_if_needed(self) -> None:
        if self._listeners:
            self._watch.start(self._background)

    async def _report_drops(self) -> None:
        try:
            await self._link.report_drops()
        finally:
            if self._claimant.known.untold:
                self._watch.look_soon()


def _check_parts(manager: ConfiguredTokenSource, store: TokenStore) -> Config:
    """Return the manager's config.

    Raises:
        TypeError: `manager` is not a token manager with a `Config`, or `store` is not a store.
    """
    config = getattr(manager, "config", None)
    if not isinstance(config, Config):
        raise TypeError(
            "manager must be a token manager whose config is a Config, "
            f"not {type(manager).__name__}"
        )
    for method in ("get_tokens_client_credentials_grant", "revoke_tokens"):
        if not callable(getattr(manager, method, None)):
            raise TypeError(f"manager must have an async method {method}")
    check_is_store(store)
    return config
