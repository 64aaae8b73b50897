"""What is left of a session after its block, with an endpoint on a real socket that hangs."""

from __future__ import annotations

import gc
import json
import os
import re
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

from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    TokenState,
)
from trio_anon_session.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    Way = Literal["return", "exception", "cancellation", "interrupt"]
    While = Literal["granting", "refreshing", "revoking"]

pytestmark = pytest.mark.slow

OPEN_FILES = "/dev/fd"
TYPES_FROM = ("trio_anon_session.", "httpx.", "httpcore.", "h11.", "trio.Cancelled")
"""Of what type, by module, nothing may be left."""


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, also where it is ignored, as in a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Let garbage be collected when a test says so, and not by chance."""
    gc.disable()
    yield
    gc.enable()


def open_files() -> list[str]:
    """Return the numbers of the open files and sockets."""
    if not os.path.isdir(OPEN_FILES):
        pytest.skip(f"no {OPEN_FILES} here: open sockets cannot be counted")
    return sorted(os.listdir(OPEN_FILES))


def alive() -> Counter[str]:
    """Count the objects that a session and its connections are made of."""
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return Counter(name for name in names if name.startswith(TYPES_FROM))


class OwnError(Exception):
    """What a block raises; unlike Python's own, it can be referred to weakly."""


class Endpoint:
    """An endpoint whose answers the test gives by hand, on a connection for each request.

    Attributes:
        url: where it is.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._stream: trio.SocketStream | None = None
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

    async def read_request(self) -> None:
        """Wait for a request, and read it to its end."""
        if self._stream is None:
            self._stream = await self._listener.accept()
        said = b""
        while True:
            head, blank, body = said.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if blank and length is not None and len(body) == int(length[1]):
                return
            said += await self._stream.receive_some()

    async def grant(self) -> None:
        """Answer with a token that lives for an hour."""
        assert self._stream is not None
        answer = {"access_token": "token-1", "token_type": "bearer", "expires_in": 3600}
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        await self._stream.send_all(head.encode() + b"\r\n\r\n" + body)
        await self.see_end()

    async def see_end(self) -> None:
        """Wait until the other side closes the connection, and close it here."""
        assert self._stream is not None
        async with self._stream:
            assert await self._stream.receive_some() == b""
        self._stream = None


Remains = list["weakref.ref[Any]"]
"""What was there, for as long as something else keeps it."""


async def get(session: AnonymousSession, remains: Remains) -> None:
    """Get a token, or note the error."""
    try:
        await session.get_access_token()
    except AnonymousSessionError as error:
        remains.append(weakref.ref(error))


async def revoke(session: AnonymousSession, remains: Remains) -> None:
    """Revoke the token, or note the error."""
    try:
        await session.revoke_tokens()
    except AnonymousSessionError as error:
        remains.append(weakref.ref(error))


async def hang(
    session: AnonymousSession,
    endpoint: Endpoint,
    while_: While,
    crowd: trio.Nursery,
    remains: Remains,
) -> None:
    """Bring the session to where the endpoint hangs."""
    for _ in range(5):
        crowd.start_soon(get, session, remains)
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
        crowd.start_soon(revoke, session, remains)
        crowd.start_soon(revoke, session, remains)
    await endpoint.read_request()


def own_error(remains: Remains) -> OwnError:
    """Return an error that the frame which raises it does not hold."""
    error = OwnError()
    remains.append(weakref.ref(error))
    return error


async def use_and_leave(endpoint: Endpoint, while_: While, way: Way) -> Remains:
    """Use a session until the endpoint hangs, leave its block, and return what was there."""
    remains: Remains = []
    config = TokenServer().config(endpoint.url)
    async with trio.open_nursery() as crowd:
        with trio.CancelScope() as scope:
            try:
                async with AnonymousSession(config) as session:
                    remains.append(weakref.ref(session))
                    files = open_files()
                    await hang(session, endpoint, while_, crowd, remains)
                    # Both ends of a connection.
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
    """No task, socket, thread, warning or object of the session is there afterwards."""

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            endpoint = Endpoint(listener)
            gc.collect()
            files, threads, objects = open_files(), set(threading.enumerate()), alive()
            tasks = trio.lowlevel.current_statistics().tasks_living
            remains = await use_and_leave(endpoint, while_, way)
            await endpoint.see_end()
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            # A worker that an earlier test left idle may end at any moment.
            assert set(threading.enumerate()) <= threads
            assert open_files() == files
            # No circle either, that would wait for the collector.
            assert [what for ref in remains if (what := ref()) is not None] == []
            # httpx leaves some of those.
            gc.collect()
            assert alive() - objects == Counter()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        # Time goes on as usual, and the test may move it on.
        trio.run(main, clock=MockClock(rate=1.0))
    assert [str(warning.message) for warning in warned] == []
