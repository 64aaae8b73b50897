"""`SharedTokenManager`: one token for all processes that use the same store.

How it works
    `_claimant` decides. The manager asks the store by way of a `StoreLink`, and the endpoint by way
    of the inner manager, and does what the claimant says. A task hears the news (`Watch`).

    Whatever goes wrong with the store, the inner manager is asked directly: at once where somebody
    may be waiting, and else when the store has had a moment to come back.
"""

from __future__ import annotations

import math
import os
import random
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
from ._access import Doing, StoreFailedError, words_of
from ._attempts import Attempts
from ._claimant import AskDirectly, Claim, Use, Wait
from ._link import FAREWELL, StoreLink, moment
from ._protocol import PACE, STORE_METHODS, StoreError
from ._records import mark_of
from ._statistics import StoreStatistics
from ._status import StoreStatus, status_of
from ._trial import try_out
from ._watch import MOMENT, Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._token import TokenRequestOptions
    from ._claimant import Question
    from ._protocol import TokenStore


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
        self._attempts = Attempts(self._link, self._manager, self._background)
        self._taken_over = self._requested = self._requested_directly = self._lease_waits = 0

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
    def trouble(self) -> str | None:
        """What is wrong with the store, in the words of the log; None where nothing is."""
        return self._access.trouble

    async def __aenter__(self) -> Self:
        if self._is_open:
            raise RuntimeError("this SharedTokenManager is open already: make one for each block")
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
                "this SharedTokenManager is used outside of its block, and its store is not open: "
                "write 'async with SharedTokenManager(...) as manager:'",
                RuntimeWarning,
                stacklevel=2,
            )
        failed_at = math.inf
        while True:
            with suppress(StoreFailedError):
                return await self._get_shared(options)
            # One that comes and goes is waited for no longer than one that is down.
            failed_at = min(failed_at, self._access.failed_at)
            if not self._claimant.can_wait_for_store(failed_at, self._access.took, moment()):
                break
            await trio.sleep(random.uniform(0.5, 1.0) * PACE)
        # A session counts the gap from its question, and an answer may have been waited for.
        await trio.sleep_until(self._claimant.gap_ends_at)
        self._requested_directly += 1
        return self._hand_out(await self._attempts.ask_endpoint(options))

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
        access = self._access
        return StoreStatistics(
            is_up=access.is_up,
            questions=access.questions,
            failed_questions=access.failed_questions,
            question_seconds=access.question_seconds,
            taken_over=self._taken_over,
            requested=self._requested,
            requested_directly=self._requested_directly,
            lease_waits=self._lease_waits,
            untold_drops=len(self._claimant.known.untold),
        )

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
            self._watch = Watch(self._link)
            self._background.start_soon(self._watch.run)

    async def _tell_drops(self) -> None:
        try:
            await self._link.tell_drops()
        finally:
            if self._claimant.known.untold:
                self._watch.look_soon()
        await trio.lowlevel.checkpoint()

    # One question

    async def _get_shared(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return a token by way of the store.

        Raises:
            StoreFailedError: it has to be got without.
        """
        question = self._claimant.ask(moment())
        has_waited = False
        while True:
            # Before the look, so that no news is missed after it.
            news, looks = self._watch.news(), self._link.looks
            await self._link.tell_drops()
            seen, asked_at = await self._link.look()
            if self._claimant.known.missing:
                # The second look, after which the store is told again.
                self._watch.look_soon()
            decision = self._claimant.decide(question, seen, asked_at, moment())
            if isinstance(decision, Claim):
                self._link.say(decision.trouble)
                fence = await self._attempts.claim(decision.version)
                if fence is not None:
                    self._requested += 1
                    used = await self._answer_under_lease(question, decision, fence, options)
                    if used is None or await self._was_dropped_meanwhile(used.token, looks):
                        continue
                    return used.token
                decision = self._claimant.claim_failed(question, moment())
            match decision:
                case Use(token):
                    self._link.has_shown_token()
                    if await self._was_dropped_meanwhile(token, looks):
                        continue
                    self._taken_over += 1
                    return token
                case AskDirectly(trouble):
                    self._link.say(trouble)
                    raise StoreFailedError
                case Wait(seconds):
                    self._lease_waits += seen.leased_for > 0 and not has_waited
                    has_waited = has_waited or seen.leased_for > 0
                    # No longer than the store may be wrong about time.
                    seconds = min(random.uniform(0.5, 1.0) * PACE, seconds)
                    with trio.move_on_after(max(MOMENT, seconds)):
                        await news.wait()

    async def _was_dropped_meanwhile(self, token: TokenInfo, looks: int) -> bool:
        """Return whether a token was dropped while it was on its way here.

        Args:
            token: it; handed out, so that each look asks about it from now on.
            looks: how many looks had begun before. One that has begun since then, apart from the
                one that found the token, did not ask about it, although that may have been its
                news.
        """
        if self._link.looks <= looks + 1 or not isinstance(token, TokenInfo):
            return False
        try:
            await self._link.look()
        except StoreFailedError:
            # The token is used. The watch finds out when the store answers again.
            self._watch.look_soon()
        return not self._claimant.known.is_known(mark_of(token.access_token))

    async def _answer_under_lease(
        self, question: Question, claim: Claim, fence: int, options: TokenRequestOptions | None
    ) -> Use | None:
        """Return what the endpoint answers, or None if it is not the fleet's."""
        answer, is_kept = await self._attempts.request(fence, claim.failures, options)
        if is_kept:
            return Use(self._hand_out(answer))
        if question.was_overtaken:
            # No endpoint is asked again and again because a store keeps nothing.
            self._access.fails(Doing.WRITING, StoreError("it keeps no token"))
            return Use(self._hand_out(answer))
        question.was_overtaken = True
        return None

    def _hand_out(self, answer: object) -> TokenInfo:
        self._claimant.hand_out(answer, moment())
        return answer  # type: ignore[return-value]  # of nonsense, a session makes an error


def _check_parts(manager: ConfiguredTokenSource, store: TokenStore) -> Config:
    """Return the manager's config.

    Raises:
        TypeError: the manager or the store is none.
    """
    config = getattr(manager, "config", None)
    if not isinstance(config, Config):
        raise TypeError("manager: wants a token manager that has a Config as its config")
    for method in ("get_tokens_client_credentials_grant", "revoke_tokens"):
        if not callable(getattr(manager, method, None)):
            raise TypeError(f"manager: wants an async method {method}")
    if isinstance(store, type):
        raise TypeError(f"store: wants an object, and not its class: {store.__name__}(...)")
    for method in STORE_METHODS:
        if not callable(getattr(store, method, None)):
            # No repr of it: a URL has a password in it.
            raise TypeError(
                "store: wants a store, such as SQLiteStore('tokens.db'); "
                f"{type(store).__name__} has no method {method}"
            )
    return config
