"""What a session leaves behind after its block, while an endpoint on a real socket hangs."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import httpcore  # noqa: F401  # httpx imports it with the first client
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import make_config
from tests.wire import answer, read_request
from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    TokenState,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Way = Literal["return", "exception", "cancellation", "interrupt"]
    While = Literal["granting", "refreshing", "revoking"]

pytestmark = pytest.mark.slow

OPEN_FILES = "/dev/fd"
TYPES_FROM = ("trio_anon_session.", "httpx.", "httpcore.", "h11.", "trio.Cancelled")
"""Modules and types of which no object may be left."""


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Collect garbage only when a test does so."""
    gc.disable()
    yield
    gc.enable()


def open_files() -> list[str]:
    """Return the numbers of the open files and sockets."""
    if not os.path.isdir(OPEN_FILES):
        pytest.skip(f"no {OPEN_FILES} here: open sockets cannot be counted")
    return sorted(os.listdir(OPEN_FILES))


def alive() -> Counter[str]:
    """Count the objects of the types that a session and its connections consist of."""
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return Counter(name for name in names if name.startswith(TYPES_FROM))


class OwnError(Exception):
    """An exception for blocks which, unlike Python's own ones, supports weak references."""


class Endpoint:
    """An endpoint with a connection for each request, whose answers the test sends itself."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._stream: trio.SocketStream | None = None

    async def read_request(self) -> None:
        """Wait for a request, and read it to its end."""
        self._stream = await self._listener.accept()
        assert await read_request(self._stream) is not None

    async def grant(self) -> None:
        """Answer with a token whose lifetime is an hour."""
        assert self._stream is not None
        await self._stream.send_all(answer(connection="keep-alive"))
        await self.see_end()

    async def see_end(self) -> None:
        """Wait until the other side closes the connection, and close it here."""
        assert self._stream is not None
        async with self._stream:
            assert await self._stream.receive_some() == b""


Remains = list["weakref.ref[Any]"]
"""Weak references to objects of a session, which show whether something keeps them."""


async def note_error(call: Callable[[], Awaitable[object]], remains: Remains) -> None:
    """Call the function, and keep a weak reference to its error."""
    try:
        await call()
    except AnonymousSessionError as error:
        remains.append(weakref.ref(error))


async def hang(
    session: AnonymousSession,
    endpoint: Endpoint,
    while_: While,
    crowd: trio.Nursery,
    remains: Remains,
) -> None:
    """Use the session until a request waits for the endpoint, which hangs."""
    for _ in range(5):
        crowd.start_soon(note_error, session.get_access_token, remains)
    await endpoint.read_request()
    if while_ == "granting":
        return
    await endpoint.grant()
    await session.get_access_token()
    remains.append(weakref.ref(session.token_info))
    if while_ == "refreshing":
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(3000.0)
        await session.get_access_token()
        assert session.state is TokenState.STALE
    else:
        await wait_all_tasks_blocked()
        for _ in range(2):
            crowd.start_soon(note_error, session.revoke_tokens, remains)
    await endpoint.read_request()


def own_error(remains: Remains) -> OwnError:
    """Return an error to which the calling frame has no reference."""
    error = OwnError()
    remains.append(weakref.ref(error))
    return error


async def use_and_leave(endpoint: Endpoint, port: int, while_: While, way: Way) -> Remains:
    """Use a session until the endpoint hangs, leave its block, and return the references."""
    remains: Remains = []
    config = make_config(api_root_url=f"http://127.0.0.1:{port}")
    async with trio.open_nursery() as crowd:
        with trio.CancelScope() as scope:
            try:
                async with AnonymousSession(config) as session:
                    remains.append(weakref.ref(session))
                    files = open_files()
                    await hang(session, endpoint, while_, crowd, remains)
                    # The two new files are both ends of a connection.
                    assert len(open_files()) == len(files) + 2
                    match way:
                        case "exception":
                            raise own_error(remains)
                        case "interrupt":
                            signal.raise_signal(signal.SIGINT)
                        case "cancellation":
                            scope.cancel()
                            await trio.sleep_forever()
            except (OwnError, KeyboardInterrupt):
                pass
    return remains


@pytest.mark.parametrize("way", ["return", "exception", "cancellation", "interrupt"])
@pytest.mark.parametrize("while_", ["granting", "refreshing", "revoking"])
def test_nothing_survives_the_block(while_: While, way: Way) -> None:
    """After the block, no task, socket, thread, warning or object of the session is left."""

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            endpoint = Endpoint(listener)
            port = listener.socket.getsockname()[1]
            gc.collect()
            files, threads, objects = open_files(), set(threading.enumerate()), alive()
            tasks = trio.lowlevel.current_statistics().tasks_living
            remains = await use_and_leave(endpoint, port, while_, way)
            await endpoint.see_end()
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            # An idle worker thread of an earlier test may end at any moment.
            assert set(threading.enumerate()) <= threads
            assert open_files() == files
            # No reference cycle waits for the garbage collector.
            assert [what for ref in remains if (what := ref()) is not None] == []
            # httpx leaves some reference cycles, so collect them first.
            gc.collect()
            assert alive() - objects == Counter()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        # The clock runs in real time, and the test can move it forward.
        trio.run(main, clock=MockClock(rate=1.0))
    assert [str(warning.message) for warning in warned] == []
