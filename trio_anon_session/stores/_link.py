"""`StoreLink`: the requests of one process to the store."""

from __future__ import annotations

import math
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import attrs
import trio

from .._backoff import RetrySchedule
from .._clocks import is_mocked
from .._config import secrets_of
from .._lifecycle import Moment
from .._secrets import Secrets, without_locals
from .._token import LIFETIME_LIMIT
from . import _claimant
from ._access import STORE_TIMEOUT, Operation, StoreAccess, StoreFailedError, is_look
from ._claimant import Claimant, Trouble
from ._protocol import POLL_INTERVAL, StoredToken, StoreError
from ._records import mark_of, name_of, token_record, tokens_in, without_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from .._config import Config
    from .._token import TokenInfo
    from ._known import Asked
    from ._protocol import Look, TokenStore

_MESSAGES = {
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

_HIDDEN_TOKENS = 20
"""How many of the last tokens are hidden in the texts of the store."""

RELEASE_TIMEOUT = 0.5
"""Seconds to release a lease that is not needed. After that it ends by itself."""


def moment() -> Moment:
    """Return the time on the clocks of this Trio run."""
    clock = trio.lowlevel.current_clock()
    return Moment(clock.current_time(), None if is_mocked(clock) else time.time())


class StoreLink:
    """The link to the store: sends requests, and passes each look to the claimant.

    Args:
        store: the store.
        config: the settings.
        owner: the name of this process in the store.
        report: called with each token of this process that any process has dropped.

    Attributes:
        access: records whether the store works.
        claimant: the decisions and the facts of this process.
        looks: number of looks that have begun.
        report_drops_at: when drops may be reported again after a failure, on Trio's clock.
    """

    def __init__(
        self,
        store: TokenStore,
        config: Config,
        owner: str,
        report: Callable[[TokenInfo], object],
    ) -> None:
        self.access = StoreAccess(self.secrets)
        self.claimant = Claimant(config, RetrySchedule(config), random.uniform)
        self.looks = 0
        self.report_drops_at = -math.inf
        self._store = store
        self._config = config
        self._name = name_of(config)
        self._owner = owner
        self._report = report
        self._report_lock = trio.Lock()
        # By mark, the latest last.
        self._tokens: dict[str, Secrets] = {}

    def secrets(self) -> Secrets:
        """Return the texts to hide in what the store says: the client's secrets and the tokens."""
        return secrets_of(self._config).and_also(*self._tokens.values())

    def hide_token(self, text: str) -> None:
        """Hide a token in what the store says from now on."""
        mark = mark_of(text)
        self._tokens[mark] = self._tokens.pop(mark) if mark in self._tokens else Secrets(text)
        while len(self._tokens) > _HIDDEN_TOKENS:
            del self._tokens[next(iter(self._tokens))]

    async def look(self) -> tuple[Look, float]:
        """Return the content of the store, and when the look began.

        Raises:
            StoreFailedError: the store failed, or its answer is invalid.
        """
        self.looks += 1
        at = moment()
        asked = self.claimant.known.to_ask_about(at)
        seen = self._without_secrets(
            await self.access.ask(Operation.READ, self._store.look, self._name, tuple(asked)),
            asked,
        )
        if seen is None:
            self._refuse(Operation.READ)
        self.access.record_success(Operation.READ)
        for token in self.claimant.see(seen, at.now, asked, moment()):
            self._report(token)
        return seen, at.now

    @without_locals
    def _without_secrets(self, seen: object, asked: Asked) -> Look | None:
        """Return a look without secrets in the texts that are shown; None if it is invalid.

        Any program with access to the store can write a secret into any of them.
        """
        if not is_look(seen):
            return None
        if seen.token is not None:
            for text in tokens_in(seen.token.record):
                self.hide_token(text)
        secrets = self.secrets()
        owner, failure = seen.owner, seen.failure
        if owner is not None:
            owner = secrets.name(owner)
        if failure is not None:
            failure = attrs.evolve(failure, record=without_secrets(failure.record, secrets))
        # The marks are those that this process sent.
        dead = seen.dead.intersection(asked)
        return attrs.evolve(seen, owner=owner, failure=failure, dead=dead)

    def _refuse(self, operation: Operation) -> NoReturn:
        self.access.record_failure(operation, StoreError("it returned an invalid answer"))
        raise StoreFailedError

    async def claim(self, version: int) -> int | None:
        """Take the lease, and return its fence; None if another process was faster.

        Raises:
            StoreFailedError: the store failed.
        """
        fence = await self.access.ask(
            Operation.WRITE, self._store.claim, self._name, self._owner, version, _claimant.LEASE
        )
        if not isinstance(fence, int | None):
            # A traceback could show it.
            del fence
            self._refuse(Operation.WRITE)
        return fence

    async def keep_renewing(self, fence: int) -> None:
        """Renew a lease until it has ended, or until this is cancelled."""
        is_ours = True
        while is_ours:
            await trio.sleep(_claimant.LEASE / 3)
            with suppress(StoreFailedError):
                is_ours = await self.access.ask(
                    Operation.BEST_EFFORT, self._store.renew, self._name, fence, _claimant.LEASE
                )

    async def put(self, fence: int, token: TokenInfo, age: float) -> bool:
        """Put a token into the store. Return False if this process had lost the lease."""
        # The record must not be a local variable, because a traceback could show it.
        stored = StoredToken(
            token_record(token, self._config, self._owner),
            mark_of(token.access_token),
            # Stores cannot hold an unlimited lifetime.
            min(token.lifetime, LIFETIME_LIMIT),
            age,
        )
        try:
            is_kept = await self.access.ask(
                Operation.WRITE, self._store.put, self._name, fence, stored
            )
        except StoreFailedError:
            # This process can use the token. Release the lease, so that the others need not wait.
            with trio.move_on_after(RELEASE_TIMEOUT):
                await self.release(fence)
            return True
        if is_kept:
            self.record_stored_token()
        return is_kept

    async def release(self, fence: int, failure: str | None = None, pause: float = 0.0) -> None:
        """Release a lease. Ignore a failure, because the lease ends by itself."""
        if failure is not None:
            failure = without_secrets(failure, self.secrets())
        with suppress(StoreFailedError):
            await self.access.ask(
                Operation.BEST_EFFORT, self._store.release, self._name, fence, failure, pause
            )

    def log_problem(self, trouble: Trouble | None) -> None:
        """Log a problem with the content of the store, once."""
        if trouble is not None:
            words, why = _MESSAGES[trouble]
            self.access.log_once(words, why)

    def record_stored_token(self) -> None:
        """Record that the store has a token, so at least one process can write to it."""
        self.access.clear_problems(*(words for words, _ in _MESSAGES.values()))
        self.access.record_success(Operation.WRITE)

    def drop(self, mark: str) -> None:
        """Drop a token in this process, and record that the drop must be reported to the store."""
        for token in self.claimant.known.drop_here(mark, moment()):
            self._report(token)

    @property
    def is_report_pending(self) -> bool:
        """Whether a call of `report_drops` waits for another call to end."""
        return self._report_lock.statistics().tasks_waiting > 0

    async def report_drops(self) -> None:
        """Report the drops of this process to the store, unless that failed a moment ago."""
        known = self.claimant.known
        # Report each drop once. A second, late report could remove a token that was issued again.
        async with self._report_lock:
            known.forget_the_old(moment())
            # Stop in time, because a caller may be waiting. The rest follows with the next look.
            give_up_at = trio.current_time() + STORE_TIMEOUT
            for mark in tuple(known.untold):
                if not self.report_drops_at <= trio.current_time() < give_up_at:
                    return
                # During this time the server may have issued the token again.
                if mark not in known.untold:
                    continue
                left = known.left_of(mark, moment())
                try:
                    await self.access.ask(Operation.WRITE, self._store.drop, self._name, mark, left)
                except StoreFailedError:
                    # Looks continue, because a read-only store can still be read.
                    self.report_drops_at = trio.current_time() + POLL_INTERVAL
                else:
                    known.record_report(mark, moment())

    async def open(self) -> None:
        """Open the store."""
        with suppress(StoreFailedError):
            await self.access.ask(Operation.READ, self._store.open)

    async def close(self) -> None:
        """Report the last drops, and close the store."""
        try:
            # Retry immediately, because there is no later chance.
            self.report_drops_at = -math.inf
            with trio.move_on_after(RELEASE_TIMEOUT):
                await self.report_drops()
        finally:
            with trio.fail_after(STORE_TIMEOUT):
                # A store closes even if this call is cancelled.
                await self._store.aclose()  # noqa: ASYNC102

    def listen(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Return the result of `TokenStore.listen` for the token's name."""
        return self._store.listen(self._name)
