"""The runs of a row, and their results.

Each row is run twice: with a waiting caller, whose session has no token, and with a *STALE* one,
whose session's token has just become stale, so that the refresh in the background meets the fault.
"""

from __future__ import annotations

import functools
import math
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_anon_session import (
    AnonymousSession,
    TokenInfo,
    TokenManager,
    TokenRequestError,
    TokenState,
)
from trio_anon_session.testing import virtual_time

from .places import open_in_process, open_on_sockets
from .rows import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from trio_anon_session import TokenRequestOptions

    from .places import Place
    from .rows import Row, Where

FAULTY_ANSWERS = 2
"""Number of faulty answers to a refresh before the server works again."""

AT_ONCE = "immediately"
WITH_THE_NEXT = "at the next attempt"

TIME_LIMIT = 1000.0
"""Virtual seconds after which a run in process fails."""
REAL_TIME_LIMIT = 60.0
"""Seconds after which a run on sockets fails."""

SETTINGS: dict[str, Any] = {"max_retries": 2, "max_wait": None}
"""Settings of sessions in process."""

# Pauses are short on real sockets, because no test asserts a time there.
QUICK_SETTINGS = SETTINGS | {
    "retry_interval": 0.004,
    "max_retry_interval": 0.004,
    "min_refresh_interval": 0.001,
}
IMPATIENT = 0.3
"""Timeout for an answer that never comes on a real socket, in seconds."""


@attrs.frozen
class Outcome:
    """The results of a row, as the page shows them.

    Attributes:
        held: what the waiting caller got.
        attempts: number of token requests for the waiting caller.
        stale: what callers got during the outage while the token was STALE.
        refreshes: number of token requests until the session had a new token.
        recovered: when the new token replaced the stale one.
        said: the token of the waiting caller, or the message of its error; not on the page.
    """

    held: str
    attempts: int
    stale: str
    refreshes: int
    recovered: str
    said: str = attrs.field(eq=False)


@attrs.frozen
class _Way:
    """How to run a row at one kind of place."""

    open_place: Callable[[Row], AbstractAsyncContextManager[Place]]
    settings: dict[str, Any]
    settings_if_hanging: dict[str, Any]
    time_is_virtual: bool


_WAYS: dict[Where, _Way] = {
    "in process": _Way(open_in_process, SETTINGS, SETTINGS, time_is_virtual=True),
    "real sockets": _Way(
        open_on_sockets,
        QUICK_SETTINGS,
        QUICK_SETTINGS | {"request_timeout": IMPATIENT},
        time_is_virtual=False,
    ),
}


class _Attempts:
    """A token manager that prepares the server before each attempt.

    Attributes:
        faulty_from: number of the first attempt that meets the fault.
        faulty_until: number of the first attempt after those.
        first_is_stale: whether the first token is STALE from the beginning.
        sent: the time of each attempt.
        look: called at the beginning and at the end of each attempt.
    """

    def __init__(self, row: Row, place: Place, way: _Way, *, first_is_stale: bool) -> None:
        self.place = place
        self.first_is_stale = first_is_stale
        self.faulty_from = 1 if first_is_stale else 0
        self.faulty_until = math.inf
        self.sent: list[float] = []
        self.look: Callable[[], object] = lambda: None
        # On a busy machine, a good answer must not miss the timeout.
        self._patient = self._manager(way.settings)
        self._impatient = self._manager(way.settings_if_hanging) if row.hangs else self._patient

    def _manager(self, settings: dict[str, Any]) -> TokenManager:
        return TokenManager(self.place.config(settings), http_client=self.place.client)

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        nth = len(self.sent)
        is_faulty = self.faulty_from <= nth < self.faulty_until
        await self.place.begin_attempt(is_faulty=is_faulty)
        self.sent.append(trio.current_time())
        manager = self._impatient if is_faulty else self._patient
        self.look()
        try:
            token = await manager.get_tokens_client_credentials_grant(options)
        finally:
            self.look()
        if nth == 0 and self.first_is_stale:
            return attrs.evolve(token, stale_at=token.sent_at)
        return token

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        raise NotImplementedError


@functools.cache
def measure(row: Row, where: Where) -> Outcome:
    """Run a row at one kind of place, and return the results."""
    way = _WAYS[where]
    if where == "in process":
        with _pauses_without_jitter():
            held, stale = virtual_time(_run)(row, way, TIME_LIMIT)
        recovered = f"{stale.seconds:g} s" if stale.seconds else AT_ONCE
    else:
        held, stale = trio.run(_run, row, way, REAL_TIME_LIMIT)
        refreshes = {1: AT_ONCE, FAULTY_ANSWERS + 1: WITH_THE_NEXT}
        recovered = refreshes.get(stale.attempts, f"after {stale.attempts} attempts")
    return Outcome(held.got, held.attempts, stale.got, stale.attempts, recovered, held.said)


@attrs.frozen
class _Run:
    got: str
    attempts: int
    said: str = ""
    seconds: float = math.nan


async def _run(row: Row, way: _Way, limit: float) -> tuple[_Run, _Run]:
    with trio.fail_after(limit):
        async with way.open_place(row) as place:
            held = await _run_held(_Attempts(row, place, way, first_is_stale=False), way)
            assert place.is_elsewhere_untouched()
        async with way.open_place(row) as place:
            stale = await _run_stale(_Attempts(row, place, way, first_is_stale=True), way)
            assert place.is_elsewhere_untouched()
    return held, stale


async def _run_held(attempts: _Attempts, way: _Way) -> _Run:
    config = attempts.place.config(way.settings)
    async with AnonymousSession(config, attempts) as session:
        try:
            token = await session.get_access_token()
        except TokenRequestError as caught:
            error = caught
        else:
            return _Run(TOKEN, len(attempts.sent), said=token)
        run = _Run(_in_words(error), len(attempts.sent), said=str(error))
        assert error.attempts == run.attempts
        # The fault has no lasting effect: the first caller after the pause gets a token.
        attempts.faulty_until = run.attempts
        assert error.retry_after is not None
        await trio.sleep(error.retry_after)
        await session.get_access_token()
        assert len(attempts.sent) == run.attempts + 1
        return run


async def _run_stale(attempts: _Attempts, way: _Way) -> _Run:
    attempts.faulty_until = 1 + FAULTY_ANSWERS
    config = attempts.place.config(way.settings)
    async with AnonymousSession(config, attempts) as session:
        old = await session.get_access_token()
        assert session.state is TokenState.STALE
        watch = _Watch(session)
        attempts.look = watch.look
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.keep_asking, config.retry_interval / 4)
            await session.states.wait_value(TokenState.FRESH)
            nursery.cancel_scope.cancel()
        run = _Run(
            TOKEN if watch.seen == {old} else "not always the token",
            len(attempts.sent) - 1,
            seconds=trio.current_time() - attempts.sent[1],
        )
        attempts.look = lambda: None
        if way.time_is_virtual:
            assert watch.longest_wait == 0.0
        if run.attempts == 1:
            # The fault does no harm, so all later answers have it too.
            attempts.faulty_until = math.inf
        for _ in range(2):
            made = len(attempts.sent)
            session.invalidate(await session.get_access_token())
            await session.get_access_token()
            assert len(attempts.sent) == made + 1
        return run


class _Watch:
    """Callers that ask while a token is STALE."""

    def __init__(self, session: AnonymousSession) -> None:
        self._session = session
        self.seen: set[str] = set()
        self.longest_wait = 0.0

    def look(self) -> None:
        try:
            self.seen.add(self._session.get_access_token_nowait())
        except trio.WouldBlock:
            self.seen.add("")

    async def keep_asking(self, interval: float) -> None:
        while True:
            asked_at = trio.current_time()
            token = await self._session.get_access_token()
            self.longest_wait = max(self.longest_wait, trio.current_time() - asked_at)
            # The new token may arrive at this moment.
            if self._session.state is TokenState.STALE:
                self.seen.add(token)
            await trio.sleep(interval)


def _in_words(error: TokenRequestError) -> str:
    words = [f"`{type(error).__name__}`"]
    if error.status_code is not None:
        words.append(str(error.status_code))
    if error.error is not None:
        words.append(f"`{error.error}`")
    return " ".join(words)


@contextmanager
def _pauses_without_jitter() -> Iterator[None]:
    """Replace random pauses by the middle of their range."""
    original = random.uniform
    random.uniform = lambda a, b: (a + b) / 2
    try:
        yield
    finally:
        random.uniform = original
