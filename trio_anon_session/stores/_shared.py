"""`SharedTokenManager`: one token for all processes that use the same store.

How it works
    `_claimant` decides what to do about a session's question, and `Questions` does it: it asks the
    store by way of a `StoreLink`, and the endpoint by way of `Attempts`. `Watch` is the task that
    waits for the store's news. The manager has what belongs to a Trio run: it opens and closes, and
    begins anew with each run.
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
from .._nursery import Background, settle
from .._secrets import Unpicklable
from .._token import TokenInfo, check_options
from ._access import StoreFailedError, words_of
from ._attempts import Attempts
from ._link import FAREWELL, StoreLink
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
"""Seconds for all questions of `SharedTokenManager.check_store`."""


class ConfiguredTokenSource(TokenSource, Protocol):
    """Is a token manager that says which config its tokens are got with."""

    @property
    def config(self) -> Config:
        """The config."""
        ...


@attrs.frozen
class _Hidden:
    """A text that is a secret: a traceback can show the locals of its frames."""

    text: str = attrs.field(repr=False)


class SharedTokenManager(Unpicklable):
    """Gets one token for all processes that use the same store.

    A token manager like any other: give it to a session. Use it with ``async with``, which
    opens the store, and at the end closes the store and the inner manager. Outside of that, it
    warns.

    No store, no lease and no other process keeps a session from its token: what goes wrong with
    them is logged once, and the inner manager is asked directly until the store answers again.

    Args:
        manager: what grants and revokes; a :class:`~trio_anon_session.TokenManager`, or
            another one whose ``config`` is a :class:`~trio_anon_session.Config`.
        store: where the token is shared.

    Raises:
        TypeError: the manager or the store is none.
    """

    def __init__(self, manager: ConfiguredTokenSource, store: TokenStore) -> None:
        self._config = _check_parts(manager, store)
        self._manager = manager
        self._store = store
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._listeners: list[Callable[[TokenInfo], object]] = []
        self._is_open = False
        self._background = Background()
        self._begin()

    def _begin(self) -> None:
        """Forget what belongs to another Trio run, whose clock began elsewhere."""
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
        """The inner manager's config."""
        return self._config

    @property
    def owner(self) -> str:
        """The name of this manager in the store, made of host, process id and a random part."""
        return self._owner

    @property
    def is_open(self) -> bool:
        """Whether its block lasts."""
        return self._is_open

    @property
    def trouble(self) -> str | None:
        """What is wrong with the store, in the words of the log; None where nothing is."""
        return self._access.trouble

    async def __aenter__(self) -> Self:
        if self._is_open:
            raise RuntimeError("this SharedTokenManager is already open: create one for each block")
        self._begin()
        self._is_open = True
        try:
            await self._link.open()
        except BaseException:
            with trio.move_on_after(FAREWELL, shield=True):
                await self.aclose()
            raise
        await self._background.open(trio.lowlevel.cancel_shielded_checkpoint)
        self._watch_if_wanted()
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
        settle(exc, crash)

    async def aclose(self) -> None:
        """Close the store, and the inner manager.

        Cancellation: both are closed all the same.
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
                # It closes also when it is cancelled, and shields itself where it has to.
                await close()  # noqa: ASYNC102
        await trio.lowlevel.checkpoint()

    # What a session asks for

    # As in TokenManager: an interrupt would show the locals of whatever is busy with a token.
    @trio.lowlevel.enable_ki_protection
    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return the fleet's token, or a new one for all of it.

        Args:
            options: what to send along, if it is this process that asks the endpoint.

        Returns:
            A token that this manager has not handed out before, or one that is FRESH still.
            Its ``sent_at`` lies as far in the past as the store says it has lived.

        Raises:
            TokenRequestError: the endpoint gave none, to this process or to the one for which
                this has waited.

        Cancellation: gives the lease back. The server may have made a token that nobody will
        use.
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
        """Have no process hand the token out any more, then revoke it at the server, once.

        Args:
            token: the token.
            options: what to send along.

        Raises:
            RevocationError: the token may live on at the server.

        Cancellation: the token may live on at the server.
        """
        check_options(options)
        hidden = _Hidden(token)
        del token
        self._link.drop(mark_of(hidden.text))
        await self._tell_drops()
        await self._manager.revoke_tokens(hidden.text, options)

    @trio.lowlevel.enable_ki_protection
    def drop(self, token: TokenInfo) -> None:
        """Make sure that no process hands the token out any more.

        The store is told in the background. Where it is down, it is told later, and until then the
        other processes do not know.

        Args:
            token: the token.
        """
        self._link.drop(mark_of(token.access_token))
        # A call that has yet to begin takes this one along.
        if self._is_open and not self._link.is_about_to_tell:
            self._background.start_soon(self._tell_drops)

    @trio.lowlevel.enable_ki_protection
    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Call ``listener`` with each token handed out here that somebody drops.

        Args:
            listener: called with the token, between two checkpoints.

        Returns:
            A callable that ends this.

        Raises:
            TypeError: ``listener`` is not a plain callable.
        """
        kind = lazy_kind(listener) if callable(listener) else type(listener).__name__
        if kind is not None:
            raise TypeError(f"listener must be a plain callable, not {kind}")
        self._listeners.append(listener)
        if self._is_open and len(self._listeners) == 1:
            self._watch_if_wanted()

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if not self._listeners:
                self._watch.stop()

        return stop

    def statistics(self) -> StoreStatistics:
        """Return what this process has done with the store. Any thread may call this."""
        return self._questions.statistics()

    async def look_at_store(self) -> StoreStatus:
        """Return what is in the store now, to be shown.

        Raises:
            StoreError: the store does not answer; the words may be shown.

        Cancellation: changes nothing.
        """
        with suppress(StoreFailedError):
            seen, _ = await self._link.look()
            return status_of(seen, self._config)
        raise StoreError(self._access.why)

    async def check_store(self) -> str | None:
        """Try the store out: claim, put, look and drop under a name of its own.

        A health check can call this. It changes nothing that the fleet uses.

        Returns:
            Why the store brings no news, or None. Without news the processes look for
            themselves, and hear of a dropped token up to half a second later.

        Raises:
            StoreError: the store does not do what it should, or does not answer within
                ten seconds. The words may be shown.

        Cancellation: leaves something in the store for a minute.
        """
        words = f"no answer within {_CHECK_TIMEOUT:g} s"
        try:
            with trio.move_on_after(_CHECK_TIMEOUT):
                return await try_out(self._store, self._owner)
        except Exception as error:
            words = words_of(error)
        # Outside of the handler: an error of a store may hold what it was asked to keep.
        raise StoreError(words)

    # Drops

    def _report(self, token: TokenInfo) -> None:
        for listener in tuple(self._listeners):
            listener(token)

    def _watch_if_wanted(self) -> None:
        if self._listeners:
            self._watch.start(self._background)

    async def _tell_drops(self) -> None:
        try:
            await self._link.tell_drops()
        finally:
            if self._claimant.known.untold:
                self._watch.look_soon()
        await trio.lowlevel.checkpoint()


def _check_parts(manager: ConfiguredTokenSource, store: TokenStore) -> Config:
    """Return the manager's config.

    Raises:
        TypeError: the manager or the store is none.
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
