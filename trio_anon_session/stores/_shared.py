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
from .._nursery import Background, Unwrapped, settle
from .._secrets import Unpicklable
from .._token import TokenInfo, check_options
from ._access import Doing, StoreFailedError
from ._claimant import AskDirectly, Claim, Trouble, Use, Wait
from ._link import FAREWELL, StoreLink, moment
from ._protocol import PACE, STORE_METHODS, StoreError
from ._records import mark_of
from ._status import StoreStatus, status_of
from ._watch import MOMENT, Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._lifecycle import Moment
    from .._token import TokenRequestOptions
    from ._claimant import Question
    from ._protocol import TokenStore

_WORDS = {
    Trouble.STUCK: (
        "the lease in the token store does not end (%s): this process gets its own token",
        "it was waited for long enough",
    ),
    Trouble.FOREIGN: (
        "the token store holds another configuration's token (%s): this process gets its own",
        "its grant asks for something else",
    ),
    Trouble.GARBAGE: (
        "what the token store holds is no token (%s), and is overwritten",
        "no token can be read from it",
    ),
}


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


class _ClaimInFlight:
    """A claim that goes on when its caller is cancelled, because its lease has to be given back."""

    def __init__(self) -> None:
        self.is_over = trio.Event()
        self.is_abandoned = False
        self.fence: int | None = None
        self.has_failed = False


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
        return self._hand_out(await self._ask_endpoint(options))

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
        while True:
            # Before the look, so that no news is missed after it.
            news, looks = self._watch.news(), self._link.looks
            await self._link.tell_drops()
            seen, asked_at = await self._link.look()
            decision = self._claimant.decide(question, seen, asked_at, moment())
            if isinstance(decision, Claim):
                self._say(decision.trouble)
                fence = await self._claim(decision.version)
                if fence is not None:
                    used = await self._answer_under_lease(question, decision, fence, options)
                    if used is None or await self._was_dropped_meanwhile(used.token, looks):
                        continue
                    return used.token
                decision = self._claimant.claim_failed(question, moment())
            match decision:
                case Use(token):
                    self._works()
                    if await self._was_dropped_meanwhile(token, looks):
                        continue
                    return token
                case AskDirectly(trouble):
                    self._say(trouble)
                    raise StoreFailedError
                case Wait(seconds):
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
            # It is used, and the watch finds out as soon as the store answers.
            self._watch.look_soon()
        return not self._claimant.known.is_known(mark_of(token.access_token))

    async def _claim(self, version: int) -> int | None:
        """Take the lease. If this is cancelled, a lease that was taken is given back."""
        if not self._is_open:
            return await self._link.claim(version)
        claim = _ClaimInFlight()
        self._background.start_soon(self._finish_claim, claim, version)
        try:
            await claim.is_over.wait()
        except trio.Cancelled:
            claim.is_abandoned = True
            await self._give_back(claim)
            raise
        if claim.has_failed:
            raise StoreFailedError
        return claim.fence

    async def _finish_claim(self, claim: _ClaimInFlight, version: int) -> None:
        try:
            # When the manager is left, there is a moment to give the lease back.
            with trio.CancelScope(shield=True):
                claim.fence = await self._link.claim(version)
        except StoreFailedError:
            claim.has_failed = True
        claim.is_over.set()
        if claim.is_abandoned:
            await self._give_back(claim)

    async def _give_back(self, claim: _ClaimInFlight) -> None:
        """Give back the lease of a claim that nobody waits for, if it is known by now."""
        if claim.fence is not None:
            with trio.move_on_after(FAREWELL, shield=True):
                await self._link.release(claim.fence)

    async def _answer_under_lease(
        self, question: Question, claim: Claim, fence: int, options: TokenRequestOptions | None
    ) -> Use | None:
        """Return what the endpoint answers, or None if it is not the fleet's."""
        answer, is_kept = await self._request_under_lease(fence, claim.failures, options)
        if is_kept:
            return Use(self._hand_out(answer))
        if question.was_overtaken:
            # No endpoint is asked again and again because a store keeps nothing.
            self._access.fails(Doing.WRITING, StoreError("it keeps no token"))
            return Use(self._hand_out(answer))
        question.was_overtaken = True
        return None

    async def _request_under_lease(
        self, fence: int, failures: int, options: TokenRequestOptions | None
    ) -> tuple[object, bool]:
        """Request a token, and put it into the store or tell the others why there is none.

        Args:
            fence: of the lease.
            failures: how many attempts of the fleet have failed in a row.
            options: what to send along.

        Returns:
            The answer, and whether it is the fleet's: not if it is a token that counts for nothing
            there, because the lease was lost meanwhile.
        """
        began = moment()
        try:
            with Unwrapped():
                outcome = await self._ask_and_renew(fence, options)
            is_kept = True
            at = moment()
            if isinstance(outcome, TokenInfo):
                is_kept = await self._link.put(fence, outcome, _age(outcome, began, at))
                if is_kept:
                    self._is_over()
            else:
                record, pause = self._claimant.failure_to_leave(failures, outcome, at)
                await self._link.release(fence, record, pause)
        except BaseException:
            with trio.move_on_after(FAREWELL, shield=True):
                await self._link.release(fence)
            raise
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                # A frame and an exception that hold each other are left to the collector.
                del outcome
        return outcome, is_kept

    async def _ask_and_renew(self, fence: int, options: TokenRequestOptions | None) -> object:
        """Return what the inner manager answers or raises, renewing the lease meanwhile."""
        outcome: object = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.renew_for_ever, fence)
            try:
                outcome = await self._ask_endpoint(options)
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: ASYNC103  # raised outside: here, in a group
                outcome = error
            nursery.cancel_scope.cancel()
        try:
            return outcome
        finally:
            # As above.
            del outcome

    async def _ask_endpoint(self, options: TokenRequestOptions | None) -> object:
        self._claimant.send(moment())
        return await self._manager.get_tokens_client_credentials_grant(options)

    def _hand_out(self, answer: object) -> TokenInfo:
        self._claimant.hand_out(answer, moment())
        return answer  # type: ignore[return-value]  # of nonsense, a session makes an error

    # What is logged

    def _say(self, trouble: Trouble | None) -> None:
        if trouble is not None:
            words, why = _WORDS[trouble]
            self._access.say_once(words, StoreError(why))

    def _works(self) -> None:
        """Note that the store has a token: by others at least, it can be written to."""
        self._is_over()
        self._access.works(Doing.WRITING)

    def _is_over(self) -> None:
        self._access.is_over(*(words for words, _ in _WORDS.values()))


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


def _age(token: TokenInfo, began: Moment, at: Moment) -> float:
    """Return for how long a token has been valid, on the clock that says more."""
    age = at.now - token.sent_at
    if at.wall is not None and began.wall is not None:
        age = max(age, at.wall - began.wall)
    return age
