"""A program of threads, one of which runs Trio for the session.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
    python thread_program.py 11111 22222

The other threads use only `SessionThread`.
"""

from __future__ import annotations

import math
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import trio
from blocking_api import look_up

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config, SessionClosedError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from trio_anon_session import SessionStatistics


class SessionThread:
    """A session in its own thread, for all other threads.

    Args:
        config: the config of the session.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._ready: Future[trio.lowlevel.TrioToken] = Future()

    def __enter__(self) -> Self:
        self._run = self._executor.submit(trio.run, self._keep_open)
        either: list[Future[Any]] = [self._ready, self._run]
        wait(either, return_when=FIRST_COMPLETED)
        if not self._ready.done():
            self._executor.shutdown()
            self._run.result()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # If the session has failed, the run is over. Its result has the exception.
        with suppress(trio.RunFinishedError):
            self._ready.result().run_sync_soon(self._stop.set)
        self._executor.shutdown()
        self._run.result()

    def open_session(self) -> AbstractAsyncContextManager[AnonymousSession]:
        """Return the session to enter with ``async with``; called in the session's thread."""
        return AnonymousSession(self._config)

    async def _keep_open(self) -> None:
        self._stop, self._is_open, self._calls = trio.Event(), True, 0
        self._nobody_calls = trio.Event()
        try:
            async with self.open_session() as self._session:
                self._ready.set_result(trio.lowlevel.current_trio_token())
                await self._stop.wait()
        finally:
            self._is_open = False
            # The session wakes waiting callers. The run must last until they have their error.
            with trio.CancelScope(shield=True):
                while self._calls:
                    self._nobody_calls = trio.Event()
                    await self._nobody_calls.wait()

    def get_access_token(self, timeout: float | None = None) -> str:
        """Return a token that is valid now, in any thread except the session's.

        Args:
            timeout: seconds after which a ``TimeoutError`` is raised.

        Raises:
            TokenRequestError: the session raised it.
            SessionClosedError: the block has been left.
        """
        with suppress(trio.RunFinishedError):
            limit = math.inf if timeout is None else timeout
            token = trio.from_thread.run(self._get, limit, trio_token=self._ready.result())
            if token is None:
                raise TimeoutError(f"no token within {timeout} s")
            return token
        raise SessionClosedError

    async def _get(self, limit: float) -> str | None:
        # Before any checkpoint: a run that ends cancels calls from other threads.
        if not self._is_open:
            raise SessionClosedError
        self._calls += 1
        try:
            with trio.move_on_after(limit):
                return await self._session.get_access_token()
            return None
        finally:
            self._calls -= 1
            if not self._calls:
                self._nobody_calls.set()

    def invalidate(self, access_token: str) -> None:
        """Report a token that the API refused; does nothing after the block has been left."""
        with suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(
                self._session.invalidate, access_token, trio_token=self._ready.result()
            )

    def statistics(self) -> SessionStatistics:
        """Return the statistics of the session, in any thread."""
        return self._session.statistics()


def main(file_ids: list[str]) -> None:
    """Look up files, eight at the same time, and print what the API knows about them."""
    config = Config.from_env()
    # The session closes first, and wakes the threads that wait for it.
    with ThreadPoolExecutor(8) as pool, SessionThread(config) as session:

        def look_up_one(file_id: str) -> object:
            url = f"{config.api_root_url}/2.0/files/{file_id}"
            return look_up(url, session.get_access_token, session.invalidate)

        for answer in pool.map(look_up_one, file_ids):
            print(answer)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AnonymousSessionError as error:
        sys.exit(f"thread_program.py: {error}")
