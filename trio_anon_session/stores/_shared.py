"""`SharedTokenManager`: one token for all processes that use the same store.

How this works
    Asked for a token, it looks into the store. One that is usable there, and that it has not
    handed out before, is the answer, with what remains of its life. Else it takes the lease
    and has the inner manager ask the endpoint, while it renews the lease. Who does not get the
    lease waits for what comes of it, good or bad, and looks again.

    A lease's fence is the version that the store has counted it as. A token is kept only
    under the latest one, so that a process that was stopped, and comes back late, overwrites
    nothing.

    Whatever goes wrong with the store, the inner manager is asked directly.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, Protocol, Self, TypeVar

import attrs
import trio

from .._backoff import logger, normal_pause
from .._config import Config
from .._errors import TokenRequestError
from .._manager import TokenSource
from .._secrets import Unpicklable
from .._session import is_mocked
from .._token import TokenInfo, TokenState, state_at
from ._protocol import StoredToken, StoreError
from ._records import (
    ForeignRecordError,
    failure_record,
    mark_of,
    name_of,
    read_failure_record,
    read_token_record,
    token_record,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from .._token import TokenRequestOptions
    from ._protocol import Look, TokenStore

P = ParamSpec("P")
T = TypeVar("T")

LEASE = 5.0
"""Seconds; a holder that dies delays the others by no more. One that lives renews it."""
STORE_TIMEOUT = 2.0
"""Seconds for one question to the store, after which it counts as down."""
PACE = 0.5
"""Seconds between two looks of those who wait, where the store brings no news."""
FAREWELL = 0.5
"""Seconds in which a cancelled attempt may give its lease back; else that runs out by itself."""
_MOMENT = 0.05
"""Seconds until the next look of who was told that somebody else was faster."""
_SPREAD = 0.1
"""Share of a token's stale window, over which those who took it over refresh it later."""
_REMEMBERED = 10
"""Tokens, the last ones handed out, of which it is worth knowing that they are dead."""

_DOWN = "the token store fails (%s): until it answers again, this process gets its own tokens"
_NO_NEWS = "the token store brings no news (%s): it is looked at often instead"
_FOREIGN = "the token store holds another configuration's token (%s): this process gets its own"
_GARBAGE = "what the token store holds is no token (%s), and is overwritten"


class ConfiguredTokenSource(TokenSource, Protocol):
    """Is a token manager that says which config its tokens are got with."""

    @property
    def config(self) -> Config:
        """The config."""
        ...


class _StoreFailedError(Exception):
    """Tells that this has to do without the store. It has been said why."""


class SharedTokenManager(Unpicklable):
    """Gets one token for all processes that use the same store.

    A token manager like any other: give it to a session. Use it with ``async with``, which
    opens the store, and at the end closes the store and the inner manager.

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
        for method in _STORE_METHODS:
            if not callable(getattr(store, method, None)):
                raise TypeError(f"store: wants a method {method}")
        self._manager = manager
        self._store = store
        self._config = config
        self._name = name_of(config)
        self._owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        # By their marks. Kept as they were handed out: their jitter is drawn once.
        self._handed_out: dict[str, TokenInfo] = {}
        # By their marks, those that were dropped: when that was, and when their life is over.
        self._dropped: dict[str, tuple[float, float]] = {}
        # The marks of which the store has not been told as yet.
        self._undelivered: list[str] = []
        self._listeners: list[Callable[[str], object]] = []
        self._news = trio.Event()
        self._said: set[str] = set()

    def __repr__(self) -> str:
        return f"<SharedTokenManager of {self._manager!r} and {self._store!r}>"

    @property
    def config(self) -> Config:
        """The inner manager's config."""
        return self._config

    async def __aenter__(self) -> Self:
        with suppress(_StoreFailedError):
            await self._ask(self._store.open)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the store, and the inner manager.

        Cancellation: both are closed all the same.
        """
        try:
            await self._store.aclose()
        except Exception as error:
            logger.warning("closing the token store raised %s", type(error).__name__)
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
        with suppress(_StoreFailedError):
            return await self._get_shared(options)
        return self._hand_out(await self._manager.get_tokens_client_credentials_grant(options))

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
        await self.forget_token(token)
        revoking = self._manager.revoke_tokens(token, options)
        # A traceback can show the locals of its frames.
        del token
        await revoking

    async def forget_token(self, token: str) -> None:
        """Have no process hand the token out any more.

        Raises nothing where the store is down: it is told later, and until then the others do
        not know.

        Cancellation: it is forgotten here, and the store is told later.
        """
        mark = mark_of(token)
        del token
        if mark not in self._dropped:
            self._note_drop(mark)
            self._undelivered.append(mark)
        with suppress(_StoreFailedError):
            await self._deliver_drops()
        await trio.lowlevel.checkpoint()

    async def watch_drops(self, drop: Callable[[str], object]) -> None:
        """Call ``drop`` with each token handed out here that another process reports dead.

        Goes on for ever; a session runs it as one of its tasks, and gives it its ``invalidate``.

        Args:
            drop: called with the token, between two checkpoints.
        """
        self._listeners.append(drop)
        try:
            while True:
                try:
                    async with self._store.listen(self._name) as wait_for_news:
                        self._said.discard(_NO_NEWS)
                        while True:
                            await self._look_around()
                            await wait_for_news()
                except _StoreFailedError:
                    pass
                except Exception as error:
                    self._say_once(_NO_NEWS, error)
                    with suppress(_StoreFailedError):
                        await self._look_around()
                await trio.sleep(random.uniform(0.5, 1.0) * PACE)
        finally:
            self._listeners.remove(drop)

    # The store

    async def _get_shared(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Return a token by way of the store."""
        # Longer than that, no attempt of another process takes.
        give_up_at = trio.current_time() + self._config.request_timeout + LEASE
        awaited: int | None = None
        while trio.current_time() < give_up_at:
            # Before the look, so that no news is missed after it.
            news = self._news
            await self._deliver_drops()
            asked_at = trio.current_time()
            seen = await self._look()
            token = self._take_over(seen.token, asked_at)
            if token is not None:
                return token
            failures = self._raise_shared_failure(seen, awaited)
            fence = None
            if not seen.leased_for:
                fence = await self._ask(
                    self._store.claim, self._name, self._owner, seen.version, LEASE
                )
            if fence is not None:
                token = await self._grant(fence, failures, options)
                if token is not None:
                    return token
                continue
            awaited = seen.version if seen.leased_for else None
            pause = min(random.uniform(0.5, 1.0) * PACE, seen.leased_for) or _MOMENT
            with trio.move_on_after(pause):
                await news.wait()
        self._say_once(_DOWN, StoreError("a lease does not end"))
        raise _StoreFailedError

    async def _look(self) -> Look:
        seen = await self._ask(self._store.look, self._name, tuple(self._handed_out))
        for mark in seen.dead:
            token = self._handed_out.get(mark)
            self._note_drop(mark)
            if token is not None:
                for drop in tuple(self._listeners):
                    drop(token.access_token)
        return seen

    async def _look_around(self) -> None:
        """Look what others have done, and wake who waits here."""
        await self._deliver_drops()
        await self._look()
        self._news.set()
        self._news = trio.Event()

    async def _ask(
        self, question: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return a store's answer.

        Raises:
            _StoreFailedError: there is none.
        """
        try:
            with trio.fail_after(STORE_TIMEOUT):
                answer = await question(*args, **kwargs)
        except Exception as error:
            self._say_once(_DOWN, error)
        else:
            if _DOWN in self._said:
                self._said.discard(_DOWN)
                logger.info("the token store answers again")
            return answer
        raise _StoreFailedError

    def _say_once(self, trouble: str, error: Exception) -> None:
        """Log what is wrong with the store, until it is over."""
        if trouble in self._said:
            return
        self._said.add(trouble)
        match error:
            case StoreError():
                said = str(error)
            case trio.TooSlowError():
                said = f"no answer within {STORE_TIMEOUT:g} s"
            case _:
                # No word of it: a store of somebody else's may show anything.
                said = type(error).__name__
        logger.warning(trouble, said)

    async def _deliver_drops(self) -> None:
        """Tell the store of what was dropped here."""
        now = trio.current_time()
        self._dropped = {
            mark: (at, ends_at) for mark, (at, ends_at) in self._dropped.items() if ends_at > now
        }
        self._undelivered = [mark for mark in self._undelivered if mark in self._dropped]
        while self._undelivered:
            mark = self._undelivered[0]
            _, ends_at = self._dropped[mark]
            await self._ask(self._store.drop, self._name, mark, ends_at - now)
            # Another task may have told of it meanwhile.
            if mark in self._undelivered:
                self._undelivered.remove(mark)

    # Tokens

    def _note_drop(self, mark: str) -> None:
        now = trio.current_time()
        token = self._handed_out.pop(mark, None)
        lifetime = self._config.default_lifetime
        ends_at = now + lifetime if token is None else token.sent_at + token.lifetime
        self._dropped[mark] = now, ends_at

    def _take_over(self, stored: StoredToken | None, asked_at: float) -> TokenInfo | None:
        """Return a token that the store has, if it is an answer."""
        if stored is None or stored.mark in self._dropped:
            return None
        sent_at = asked_at - stored.age
        known = self._handed_out.get(stored.mark)
        if known is None:
            token = self._read(stored, sent_at)
        else:
            # The store's clock has gone on while this machine was suspended.
            token = _moved(known, min(0.0, sent_at - known.sent_at))
        state = state_at(token, trio.current_time())
        if token is None or state is TokenState.EXPIRED:
            return None
        if state is TokenState.STALE and known is not None:
            # Who asks has it, and wants another one.
            return None
        return self._hand_out(token)

    def _read(self, stored: StoredToken, sent_at: float) -> TokenInfo | None:
        try:
            token = read_token_record(stored.record, sent_at, self._config)
        except ForeignRecordError:
            self._say_once(_FOREIGN, StoreError("its grant asks for something else"))
            foreign = True
        else:
            foreign = False
        if foreign:
            raise _StoreFailedError
        if token is None:
            self._say_once(_GARBAGE, StoreError("no token can be read from it"))
            return None
        self._said -= {_FOREIGN, _GARBAGE}
        if self._config.refresh_jitter:
            return token
        # Who got the token is to refresh it first. The others find the new one then, or, where
        # the store is down by then, do not ask the endpoint all at once.
        share = random.uniform(0.0, _SPREAD) * (token.expires_at - token.stale_at)
        return attrs.evolve(token, stale_at=token.stale_at + share)

    def _hand_out(self, token: TokenInfo) -> TokenInfo:
        if isinstance(token, TokenInfo):
            mark = mark_of(token.access_token)
            # A server that gives a token again says that it lives.
            self._dropped.pop(mark, None)
            self._handed_out.pop(mark, None)
            self._handed_out[mark] = token
            while len(self._handed_out) > _REMEMBERED:
                del self._handed_out[next(iter(self._handed_out))]
        return token

    # Grants

    async def _grant(
        self, fence: int, failures: int, options: TokenRequestOptions | None
    ) -> TokenInfo | None:
        """Ask the endpoint under a lease; None where the answer counts for nothing.

        Args:
            fence: the lease's.
            failures: how many attempts of the fleet have failed in a row.
            options: what to send along.
        """
        is_released = False
        try:
            wall = _wall_clock()
            outcome = await self._ask_endpoint(fence, options)
            if isinstance(outcome, TokenInfo):
                age = max(trio.current_time() - outcome.sent_at, _wall_clock() - wall)
                is_released = True
                is_kept = await self._keep(fence, outcome, age)
                return self._hand_out(outcome) if is_kept else None
            failure, pause = None, 0.0
            if isinstance(outcome, TokenRequestError) and outcome.retryable:
                failure = failure_record(outcome, failures + 1)
                if outcome.status_code is not None:
                    # What the endpoint said holds for all of the fleet. That it could not be
                    # reached may be this process's own trouble, and a rejection its own secret's.
                    pause = _shortest_pause(self._config, failures + 1, outcome)
            is_released = True
            with suppress(_StoreFailedError):
                await self._ask(self._store.release, self._name, fence, failure, pause)
        finally:
            if not is_released:
                with trio.move_on_after(FAREWELL, shield=True), suppress(_StoreFailedError):
                    await self._ask(self._store.release, self._name, fence)  # noqa: ASYNC102
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                # A frame and an exception that hold each other are left to the collector.
                del outcome
        return outcome  # type: ignore[return-value]  # nonsense, of which a session makes an error

    async def _ask_endpoint(self, fence: int, options: TokenRequestOptions | None) -> object:
        """Return what the inner manager answers or raises, renewing the lease meanwhile."""
        outcome: object = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew, fence)
            try:
                outcome = await self._manager.get_tokens_client_credentials_grant(options)
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: ASYNC103  # raised outside: here, in a group
                outcome = error
            nursery.cancel_scope.cancel()
        return outcome

    async def _renew(self, fence: int) -> None:
        is_ours = True
        while is_ours:
            await trio.sleep(LEASE / 3)
            with suppress(_StoreFailedError):
                is_ours = await self._ask(self._store.renew, self._name, fence, LEASE)

    async def _keep(self, fence: int, token: TokenInfo, age: float) -> bool:
        """Put a token into the store; False if it counts for nothing by now."""
        record = token_record(token, self._config, self._owner)
        stored = StoredToken(record, mark_of(token.access_token), token.lifetime, age)
        try:
            return await self._ask(self._store.put, self._name, fence, stored)
        except _StoreFailedError:
            # It is good, if for this process alone.
            return True

    def _raise_shared_failure(self, seen: Look, awaited: int | None) -> int:
        """Raise what another process was told, or return how often it went wrong in a row.

        Args:
            seen: what the store has.
            awaited: the fence of the lease for which this has waited.
        """
        failure = seen.failure
        if failure is None:
            return 0
        error, count = read_failure_record(failure.record, failure.pause)
        if error is not None and (failure.pause > 0 or failure.fence == awaited):
            raise error
        return count


_STORE_METHODS = (
    "open",
    "aclose",
    "look",
    "claim",
    "renew",
    "put",
    "release",
    "drop",
    "listen",
)


def _shortest_pause(config: Config, failures: int, error: TokenRequestError) -> float:
    """Return the seconds after which the first process of a fleet may try again.

    No more than its session's own pause: else that would meet what it has left itself.
    """
    pause = normal_pause(config, failures, error)
    return pause if error.retry_after is not None else pause / 3


def _moved(token: TokenInfo, seconds: float) -> TokenInfo:
    """Return a token whose life began so much later."""
    times = {name: getattr(token, name) + seconds for name in ("sent_at", "stale_at", "expires_at")}
    return attrs.evolve(token, **times)


def _wall_clock() -> float:
    """Return the time on the wall; in virtual time there is only Trio's."""
    clock = trio.lowlevel.current_clock()
    return clock.current_time() if is_mocked(clock) else time.time()
