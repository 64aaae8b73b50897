"""`StoreLink`: how one process asks the store about its fleet's token."""

from __future__ import annotations

import math
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from .._backoff import RetrySchedule
from .._clocks import is_mocked
from .._lifecycle import Moment
from .._token import LIFETIME_LIMIT
from . import _claimant
from ._access import STORE_TIMEOUT, Doing, StoreAccess, StoreFailedError, is_look
from ._claimant import Claimant, Trouble
from ._protocol import PACE, StoredToken, StoreError
from ._records import mark_of, name_of, token_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from .._config import Config
    from .._token import TokenInfo
    from ._protocol import Look, TokenStore

_WORDS = {
    Trouble.STUCK: (
        "the lease in the token store does not end (%s): this process requests its own token",
        "this process has waited longer than a token request can take",
    ),
    Trouble.FOREIGN: (
        "the token store holds another configuration's token (%s): this process requests its own",
        "its token request has other parameters",
    ),
    Trouble.LATER: (
        "the token store holds a token of a newer version (%s): this process requests its own",
        "this version cannot read it",
    ),
    Trouble.GARBAGE: (
        "the token store holds an invalid record (%s): the next token overwrites it",
        "it does not contain a token",
    ),
}

FAREWELL = 0.5
"""Seconds to give a lease back that is not needed; otherwise it ends by itself."""


def moment() -> Moment:
    """Return the time on the clocks of this Trio run."""
    clock = trio.lowlevel.current_clock()
    return Moment(clock.current_time(), None if is_mocked(clock) else time.time())


class StoreLink:
    """Asks the store, within a time limit, and passes what it sees to the claimant.

    Args:
        store: the store.
        config: the settings.
        owner: the name of this process in the store.
        report: called with each token handed out here that somebody has dropped.

    Attributes:
        access: knows whether the store works.
        claimant: knows what the store has shown.
        looks: how many looks have begun.
        tell_at: when the store may be told of drops again, on Trio's clock.
    """

    def __init__(
        self,
        store: TokenStore,
        config: Config,
        owner: str,
        report: Callable[[TokenInfo], object],
    ) -> None:
        self.access = StoreAccess()
        self.claimant = Claimant(config, RetrySchedule(config), random.uniform)
        self.looks = 0
        self.tell_at = -math.inf
        self._store = store
        self._config = config
        self._name = name_of(config)
        self._owner = owner
        self._report = report
        self._telling = trio.Lock()

    async def look(self) -> tuple[Look, float]:
        """Return what the store shows, and when it was asked.

        Raises:
            StoreFailedError: nothing.
        """
        self.looks += 1
        at = moment()
        asked = self.claimant.known.to_ask_about(at)
        seen = await self.access.ask(Doing.READING, self._store.look, self._name, tuple(asked))
        if not is_look(seen):
            self.access.fails(Doing.READING, StoreError("it returned an invalid answer"))
            raise StoreFailedError
        self.access.works(Doing.READING)
        for token in self.claimant.see(seen, at.now, asked, moment()):
            self._report(token)
        return seen, at.now

    async def claim(self, version: int) -> int | None:
        """Take the lease, and return its fence, or None if another process was faster.

        Raises:
            StoreFailedError: the store does not answer.
        """
        return await self.access.ask(
            Doing.WRITING, self._store.claim, self._name, self._owner, version, _claimant.LEASE
        )

    async def renew_for_ever(self, fence: int) -> None:
        """Renew a lease, until it has ended."""
        is_ours = True
        while is_ours:
            await trio.sleep(_claimant.LEASE / 3)
            with suppress(StoreFailedError):
                is_ours = await self.access.ask(
                    Doing.IN_PASSING, self._store.renew, self._name, fence, _claimant.LEASE
                )

    async def put(self, fence: int, token: TokenInfo, age: float) -> bool:
        """Put a token into the store. Return False if it is not the fleet's."""
        # The record is no local, which a traceback could show.
        stored = StoredToken(
            token_record(token, self._config, self._owner),
            mark_of(token.access_token),
            # No store has room for one that is endless, or nearly so.
            min(token.lifetime, LIFETIME_LIMIT),
            age,
        )
        try:
            is_kept = await self.access.ask(
                Doing.WRITING, self._store.put, self._name, fence, stored
            )
        except StoreFailedError:
            # It is good, if for this process alone. The others need not wait for the lease's end.
            with trio.move_on_after(FAREWELL):
                await self.release(fence)
            return True
        if is_kept:
            self.has_shown_token()
        return is_kept

    async def release(self, fence: int, failure: str | None = None, pause: float = 0.0) -> None:
        """Give a lease back, as well as possible."""
        with suppress(StoreFailedError):
            await self.access.ask(
                Doing.IN_PASSING, self._store.release, self._name, fence, failure, pause
            )

    def say(self, trouble: Trouble | None) -> None:
        """Log once what is wrong with what the store shows."""
        if trouble is not None:
            words, why = _WORDS[trouble]
            self.access.say_once(words, StoreError(why))

    def has_shown_token(self) -> None:
        """Note that the store has a token: by others at least, it can be written to."""
        self.access.is_over(*(words for words, _ in _WORDS.values()))
        self.access.works(Doing.WRITING)

    def drop(self, mark: str) -> None:
        """Drop a token here, and note that the store has to be told."""
        for token in self.claimant.known.drop_here(mark, moment()):
            self._report(token)

    @property
    def is_about_to_tell(self) -> bool:
        """Whether a call of `tell_drops` has yet to begin."""
        return self._telling.statistics().tasks_waiting > 0

    async def tell_drops(self) -> None:
        """Tell the store of what was dropped here, unless that has failed a moment ago."""
        known = self.claimant.known
        # Once: a second word, that comes late, could end what has been got meanwhile.
        async with self._telling:
            known.forget_the_old(moment())
            # The others can wait for the next look, and a waiting caller cannot.
            give_up_at = trio.current_time() + STORE_TIMEOUT
            for mark in tuple(known.untold):
                if not self.tell_at <= trio.current_time() < give_up_at:
                    return
                # The server may have said meanwhile that it is valid.
                if mark not in known.untold:
                    continue
                left = known.left_of(mark, moment())
                try:
                    await self.access.ask(Doing.WRITING, self._store.drop, self._name, mark, left)
                except StoreFailedError:
                    # A store that is read-only can be looked at all the same.
                    self.tell_at = trio.current_time() + PACE
                else:
                    known.was_told(mark, moment())

    async def open(self) -> None:
        """Open the store."""
        with suppress(StoreFailedError):
            await self.access.ask(Doing.READING, self._store.open)

    async def close(self) -> None:
        """Tell the last drops, and close the store."""
        try:
            # There is no later for what it has not taken a moment ago.
            self.tell_at = -math.inf
            with trio.move_on_after(FAREWELL):
                await self.tell_drops()
        finally:
            with trio.fail_after(STORE_TIMEOUT):
                # It closes also when it is cancelled.
                await self._store.aclose()  # noqa: ASYNC102

    def listen(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Return what `TokenStore.listen` returns."""
        return self._store.listen(self._name)
