"""`SharedTokenManager`: one token for all processes that use the same store.

How this works
    Asked for a token, it looks into the store. One that is usable there, and that it has not
    handed out before, is the answer, with what remains of its life. Else it takes the lease
    and has the inner manager ask the endpoint, while it renews the lease. Who does not get the
    lease waits for what comes of it, good or bad, and looks again.

    A lease's fence is the version that the store has counted it as. A token is kept only
    under the latest one, so that a process that was stopped, and comes back late, overwrites
    nothing.

    What is dropped here, the store is told, and so are all sessions that use this manager.
    What is dropped elsewhere is seen with the next look, which the store's news bring about.

    Whatever goes wrong with the store, the inner manager is asked directly: at once where
    somebody may be waiting, and else when the store has had a moment to come back.
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

from .._backoff import RetrySchedule
from .._callables import lazy_kind
from .._config import Config
from .._errors import TokenRequestError
from .._logging import log
from .._manager import TokenSource
from .._nursery import Background, Unwrapped, settle
from .._secrets import Unpicklable
from .._token import LIFETIME_LIMIT, TokenInfo, TokenState, check_options, state_at
from ._access import STORE_TIMEOUT, Doing, StoreAccess, StoreFailedError, is_look
from ._clock import Moment
from ._known import KnownTokens
from ._protocol import PACE, STORE_METHODS, StoredToken, StoreError
from ._records import (
    ForeignRecordError,
    failure_record,
    mark_of,
    name_of,
    read_failure_record,
    read_token_record,
    token_record,
)
from ._status import StoreStatus, status_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._token import TokenRequestOptions
    from ._protocol import Look, StoredFailure, TokenStore

LEASE = 5.0
"""Seconds; a holder that dies delays the others by no more. One that lives renews it."""
GRACE = 5.0
"""Seconds in which a store that fails may come back, while the token that is there is usable."""
FAREWELL = 0.5
"""Seconds in which a lease may be given back of which nothing comes; else that runs out itself."""
QUIET = 300.0
"""Seconds without news, after which they are listened for anew: a connection may be gone unseen."""
_TURNS = 3
"""Attempts of others, one after another, of which nothing comes, and that are waited for."""
_MOMENT = 0.05
"""Seconds between two looks at the least."""
_SPREAD = 0.1
"""Share of a token's stale window, over which those who took it over refresh it later."""

_NO_NEWS = "the token store brings no news (%s): it is looked at often instead"
_STUCK = "the lease in the token store does not end (%s): this process gets its own token"
_FOREIGN = "the token store holds another configuration's token (%s): this process gets its own"
_GARBAGE = "what the token store holds is no token (%s), and is overwritten"


class ConfiguredTokenSource(TokenSource, Protocol):
    """Is a token manager that says which config its tokens are got with."""

    @property
    def config(self) -> Config:
        """The config."""
        ...


@attrs.frozen
class _Hidden:
    """Is a text that is a secret: a traceback can show the locals of its frames."""

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
        self._manager = manager
        self._store = store
        self._config = config
        self._name = name_of(config)
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._known = KnownTokens(config.default_lifetime)
        self._deliver_at = -math.inf
        self._delivering = trio.Lock()
        # Where news are waited for.
        self._waits: set[trio.CancelScope] = set()
        self._news = trio.Event()
        self._looks_around = 0
        # When the endpoint was asked last from here.
        self._sent_at = -math.inf
        # The fence of the failure that was met last, and when it was met.
        self._failure_met = (0, -math.inf)
        self._access = StoreAccess()
        self._is_open = False
        self._background = Background()
        # Of the task that listens for news, while there are listeners.
        self._watch = trio.CancelScope()

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
        self._is_open = True
        try:
            with suppress(StoreFailedError):
                await self._access.ask(Doing.READING, self._store.open)
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
                await self._close_store()
        except Exception as error:
            log(WARNING, "closing the token store raised %s", type(error).__name__)
        finally:
            close = getattr(self._manager, "aclose", None)
            if close is not None:
                # It closes also when it is cancelled, and shields itself where it has to.
                await close()  # noqa: ASYNC102
        await trio.lowlevel.checkpoint()

    async def _close_store(self) -> None:
        try:
            # There is no later for what it has not taken a moment ago.
            self._deliver_at = -math.inf
            with trio.move_on_after(FAREWELL):
                await self._deliver_drops()
        finally:
            with trio.fail_after(STORE_TIMEOUT):
                # It closes also when it is cancelled.
                await self._store.aclose()  # noqa: ASYNC102

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
            if not self._can_wait_for_store(failed_at):
                break
            await trio.sleep(random.uniform(0.5, 1.0) * PACE)
        # A session counts the gap from its question, and an answer may have been waited for.
        await trio.sleep_until(self._gap_ends_at())
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
        self._known.drop_here(mark_of(hidden.text))
        await self._deliver_now()
        await self._manager.revoke_tokens(hidden.text, options)

    @trio.lowlevel.enable_ki_protection
    def drop(self, token: TokenInfo) -> None:
        """Make sure that no process hands the token out any more.

        The store is told in the background. Where it is down, it is told later, and until then the
        other processes do not know.

        Args:
            token: the token.
        """
        self._known.drop_here(mark_of(token.access_token))
        # A delivery that has yet to begin takes this one along.
        if self._is_open and not self._delivering.statistics().tasks_waiting:
            self._background.start_soon(self._deliver_now)

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
        listeners = self._known.listeners
        listeners.append(listener)
        if self._is_open and len(listeners) == 1:
            self._watch_if_wanted()

        def stop() -> None:
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._watch.cancel()

        return stop

    async def look_at_store(self) -> StoreStatus:
        """Return what is in the store now, to be shown.

        Raises:
            StoreError: the store does not answer; the words may be shown.

        Cancellation: changes nothing.
        """
        with suppress(StoreFailedError):
            return status_of(await self._look(), self._config)
        raise StoreError(self._access.why)

    # The store

    def _watch_if_wanted(self) -> None:
        if self._known.listeners:
            self._watch = trio.CancelScope()
            self._background.start_soon(self._watch_drops, self._watch)

    async def _watch_drops(self, scope: trio.CancelScope) -> None:
        """Look around with each piece of news, for as long as there are listeners."""
        was_deaf = False
        with scope:
            while True:
                problem = await self._listen()
                # A store that is down in all is said to be that, and no more. Neither is a lost
                # connection, if the next one lasts.
                is_deaf = problem is not None and await self._look_around()
                if problem is not None and is_deaf and was_deaf:
                    self._access.say_once(_NO_NEWS, problem)
                was_deaf = is_deaf
                del problem
                await trio.sleep(random.uniform(0.5, 1.0) * PACE)

    async def _deliver_now(self) -> None:
        try:
            await self._deliver_drops()
        finally:
            if self._known.untold:
                # Whoever listens is to try again soon.
                for wait in self._waits:
                    wait.cancel()
        await trio.lowlevel.checkpoint()

    async def _get_shared(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return a token by way of the store."""
        # Longer than that, no attempt lasts; each that follows is another version.
        patience = self._config.request_timeout + LEASE
        last_at = trio.current_time() + _TURNS * patience
        version = awaited = None
        give_up_at = math.inf
        was_overtaken = False
        while True:
            # Before the look, so that no news is missed after it.
            news, looks_around = self._news, self._looks_around
            await self._deliver_drops()
            asked_at = trio.current_time()
            seen = await self._look()
            if seen.version != version:
                version = seen.version
                give_up_at = min(trio.current_time() + patience, last_at)
            token = self._take_over(seen.token, asked_at)
            if token is not None:
                if await self._was_dropped_meanwhile(token, looks_around):
                    continue
                return token
            if awaited is None:
                # An attempt that is under way counts, as for a getter that joins a round.
                awaited = seen.version if seen.leased_for > 0 else seen.version + 1
            failures, pause = self._meet_failure(seen.failure, awaited)
            gap = self._gap_ends_at() - trio.current_time()
            blocked_for = max(seen.leased_for, pause, gap)
            fence = None if blocked_for > 0 else await self._claim(seen.version)
            if fence is None:
                # Not before a look and a claim: this process may have been stopped for so long.
                if trio.current_time() >= give_up_at:
                    self._access.say_once(_STUCK, StoreError("it was waited for long enough"))
                    raise StoreFailedError
                pause = min(random.uniform(0.5, 1.0) * PACE, blocked_for)
                with trio.move_on_after(max(_MOMENT, pause)):
                    await news.wait()
                continue
            answer, is_kept = await self._grant(fence, failures, options)
            if was_overtaken:
                # No endpoint is asked again and again because a store keeps nothing.
                if not is_kept:
                    self._access.fails(Doing.WRITING, StoreError("it keeps no token"))
                return self._hand_out(answer)
            if is_kept:
                token = self._hand_out(answer)
                if not await self._was_dropped_meanwhile(token, looks_around):
                    return token
            was_overtaken = True

    def _can_wait_for_store(self, failed_at: float) -> bool:
        """Tell whether a store that began to fail then may be back before a token is needed here.

        When one is restarted in the middle of a grant, all who waited for that grant would
        ask the endpoint else.
        """
        waited, left = trio.current_time() - failed_at, self._known.stale_for()
        # Half of what was left is for the endpoint, also if the next try fails as late as this.
        return waited < GRACE and waited + PACE + self._access.took < (waited + left) / 2

    async def _look(self) -> Look:
        seen = await self._access.ask(
            Doing.READING, self._store.look, self._name, self._known.marks
        )
        if not is_look(seen):
            self._access.fails(Doing.READING, StoreError("its answer is none"))
            raise StoreFailedError
        self._access.works(Doing.READING)
        self._known.drop(seen.dead)
        return seen

    async def _claim(self, version: int) -> int | None:
        return await self._access.ask(
            Doing.WRITING, self._store.claim, self._name, self._owner, version, LEASE
        )

    async def _was_dropped_meanwhile(self, token: TokenInfo, looks_around: int) -> bool:
        """Tell whether a token was dropped while it was on its way here.

        Args:
            token: it; handed out, so that it is asked about from now on.
            looks_around: how many had begun before. One that began since did not ask about it,
                and what it was called for is no news any more.
        """
        if self._looks_around == looks_around or not isinstance(token, TokenInfo):
            return False
        with suppress(StoreFailedError):
            await self._look()
        return not self._known.is_known(mark_of(token.access_token))

    async def _listen(self) -> Exception | None:
        """Look around with each piece of news, until that fails; return why no more come."""
        try:
            with Unwrapped(), trio.fail_after(STORE_TIMEOUT) as limit:
                async with self._store.listen(self._name) as wait_for_news:
                    limit.deadline = math.inf
                    try:
                        while await self._look_around():
                            # Also where the store says that there is news all the time.
                            await trio.sleep(_MOMENT)
                            with trio.move_on_at(self._listen_until()) as wait:
                                self._waits.add(wait)
                                try:
                                    await wait_for_news()
                                finally:
                                    self._waits.remove(wait)
                            if not wait.cancelled_caught:
                                self._access.is_over(_NO_NEWS)
                            elif not self._known.untold:
                                break
                    finally:
                        limit.deadline = trio.current_time() + STORE_TIMEOUT
        except Exception as error:
            return error
        return None

    def _listen_until(self) -> float:
        """Return when it is time to look around without news."""
        return self._deliver_at if self._known.untold else trio.current_time() + QUIET

    async def _look_around(self) -> bool:
        """Look what others have done, and wake who waits here; False where that fails."""
        self._looks_around += 1
        await self._deliver_drops()
        try:
            await self._look()
        except StoreFailedError:
            return False
        self._news.set()
        self._news = trio.Event()
        return True

    async def _deliver_drops(self) -> None:
        """Tell the store of what was dropped here, unless that has failed a moment ago."""
        # Once: a second word, that comes late, could end what has been got meanwhile.
        async with self._delivering:
            self._known.forget_the_old()
            # The others can wait for the next look, and a getter that is held cannot.
            give_up_at = trio.current_time() + STORE_TIMEOUT
            for mark in tuple(self._known.untold):
                if not self._deliver_at <= trio.current_time() < give_up_at:
                    return
                # The server may have said meanwhile that it lives.
                if mark not in self._known.untold:
                    continue
                left = self._known.left_of(mark)
                try:
                    await self._access.ask(Doing.WRITING, self._store.drop, self._name, mark, left)
                except StoreFailedError:
                    # A store that is read-only can be looked at all the same.
                    self._deliver_at = trio.current_time() + PACE
                else:
                    self._known.was_told(mark)

    # Tokens

    def _take_over(self, stored: StoredToken | None, asked_at: float) -> TokenInfo | None:
        """Return a token that the store has, if it is an answer."""
        if stored is None:
            return None
        # The look took time. And nothing lies in the future, whatever a store says.
        sent_at = asked_at - max(0.0, stored.age)
        if self._known.is_dropped(stored.mark, sent_at):
            return None
        known = self._known.get(stored.mark, sent_at)
        token = self._read(stored, sent_at) if known is None else known
        state = state_at(token, trio.current_time())
        if token is None or state is TokenState.EXPIRED:
            return None
        if state is TokenState.STALE and known is not None:
            # Who asks has it, and wants another one.
            return None
        return self._hand_out(token)

    def _read(self, stored: StoredToken, sent_at: float) -> TokenInfo | None:
        is_foreign = False
        token = None
        try:
            token = read_token_record(stored.record, sent_at, self._config)
        except ForeignRecordError:
            is_foreign = True
        if is_foreign:
            self._access.say_once(_FOREIGN, StoreError("its grant asks for something else"))
            raise StoreFailedError
        if token is None or mark_of(token.access_token) != stored.mark:
            self._access.say_once(_GARBAGE, StoreError("no token can be read from it"))
            return None
        self._access.is_over(_FOREIGN, _GARBAGE, _STUCK)
        # By others at least, it can be written to.
        self._access.works(Doing.WRITING)
        if self._config.refresh_jitter:
            return token
        # Who got the token is to refresh it first. The others find the new one then, or, where
        # the store is down by then, do not ask the endpoint all at once.
        share = random.uniform(0.0, _SPREAD) * (token.expires_at - token.stale_at)
        return attrs.evolve(token, stale_at=token.stale_at + share)

    def _hand_out(self, answer: object) -> TokenInfo:
        if isinstance(answer, TokenInfo):
            self._known.hand_out(answer)
        return answer  # type: ignore[return-value]  # of nonsense, a session makes an error

    # Grants

    def _gap_ends_at(self) -> float:
        return self._sent_at + self._config.min_refresh_interval

    async def _ask_endpoint(self, options: TokenRequestOptions | None) -> object:
        self._sent_at = trio.current_time()
        return await self._manager.get_tokens_client_credentials_grant(options)

    async def _grant(
        self, fence: int, failures: int, options: TokenRequestOptions | None
    ) -> tuple[object, bool]:
        """Ask the endpoint under a lease.

        Args:
            fence: the lease's.
            failures: how many attempts of the fleet have failed in a row.
            options: what to send along.

        Returns:
            The answer, and whether it is the fleet's: not if it is a token that counts for
            nothing there, for the lease was lost meanwhile.
        """
        began = Moment.now()
        try:
            with Unwrapped():
                outcome = await self._ask_under_lease(fence, options)
            is_kept = True
            if isinstance(outcome, TokenInfo):
                age = max(trio.current_time() - outcome.sent_at, Moment.now().wall - began.wall)
                is_kept = await self._keep(fence, outcome, age)
            else:
                await self._tell_failure(fence, failures, outcome)
        except BaseException:
            with trio.move_on_after(FAREWELL, shield=True):
                await self._release(fence)
            raise
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                # A frame and an exception that hold each other are left to the collector.
                del outcome
        return outcome, is_kept

    async def _ask_under_lease(self, fence: int, options: TokenRequestOptions | None) -> object:
        """Return what the inner manager answers or raises, renewing the lease meanwhile."""
        outcome: object = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew, fence)
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

    async def _renew(self, fence: int) -> None:
        is_ours = True
        while is_ours:
            await trio.sleep(LEASE / 3)
            with suppress(StoreFailedError):
                is_ours = await self._access.ask(
                    Doing.IN_PASSING, self._store.renew, self._name, fence, LEASE
                )

    async def _keep(self, fence: int, token: TokenInfo, age: float) -> bool:
        """Put a token into the store; False if it counts for nothing there."""
        # The record is no local, which a traceback could show.
        stored = StoredToken(
            token_record(token, self._config, self._owner),
            mark_of(token.access_token),
            # No store has room for one that is endless, or nearly so.
            min(token.lifetime, LIFETIME_LIMIT),
            age,
        )
        try:
            is_kept = await self._access.ask(
                Doing.WRITING, self._store.put, self._name, fence, stored
            )
        except StoreFailedError:
            # It is good, if for this process alone. The others need not wait for the lease's end.
            with trio.move_on_after(FAREWELL):
                await self._release(fence)
            return True
        if is_kept:
            self._access.works(Doing.WRITING)
            self._access.is_over(_FOREIGN, _GARBAGE, _STUCK)
        return is_kept

    async def _tell_failure(self, fence: int, failures: int, outcome: object) -> None:
        """End a lease, and tell the others why there is no token, if that concerns them."""
        failure, pause = None, 0.0
        if isinstance(outcome, TokenRequestError) and outcome.retryable:
            failure = failure_record(outcome, failures + 1, self._config)
            if outcome.status_code is not None:
                # What the endpoint said holds for all of the fleet. That it could not be
                # reached may be this process's own trouble, and a rejection its own secret's.
                gap = self._gap_ends_at() - trio.current_time()
                pause = max(gap, _shortest_pause(self._config, failures + 1, outcome))
        await self._release(fence, failure, pause)

    async def _release(self, fence: int, failure: str | None = None, pause: float = 0.0) -> None:
        with suppress(StoreFailedError):
            await self._access.ask(
                Doing.IN_PASSING, self._store.release, self._name, fence, failure, pause
            )

    def _meet_failure(self, failure: StoredFailure | None, awaited: int) -> tuple[int, float]:
        """Raise what another process was told, if it is an answer.

        Args:
            failure: what the store has of one.
            awaited: the fence of the first attempt whose outcome counts as that of this.

        Returns:
            How often it went wrong in a row, and seconds for which nobody is to try again.
        """
        if failure is None:
            return 0, 0.0
        now, longest = trio.current_time(), self._config.max_retry_interval
        if self._failure_met[0] != failure.fence:
            self._failure_met = failure.fence, now
        # No pause is longer, whatever a store says.
        pause = min(failure.pause, longest) if now < self._failure_met[1] + longest else 0.0
        error, count = read_failure_record(failure.record, pause, self._config)
        if error is None:
            return 0, 0.0
        # One that is about to end is waited for: whoever is told to come again so soon comes
        # too early once more.
        if failure.fence >= awaited or pause > PACE:
            try:
                raise error
            finally:
                # As above.
                del error
        return count, pause


def _shortest_pause(config: Config, failures: int, error: TokenRequestError) -> float:
    """Return the seconds after which the first process of a fleet may try again.

    No more than its session's own pause: else that would meet what it has left itself.
    """
    pause = RetrySchedule(config).background_pause(failures, error)
    return pause if error.retry_after is not None else pause / 3
