"""Let a raw RESP peer say what takes memory or time, and print the cost of each saying.

    python -m tools.hostile.resp

Exit code 1 if a saying takes more than the limits, or if a caller gets no token.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING

import attrs
import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session.stores import RedisStore, SharedTokenManager

from .measuring import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable

GREETING = b"%3\r\n$5\r\nproto\r\n:3\r\n$7\r\nversion\r\n$5\r\n6.0.0\r\n$2\r\nid\r\n:1\r\n"
MEMORY_LIMIT = 24 * 2**20
"""Bytes; the limit for the peers of a token endpoint, too."""
STALL_LIMIT = 0.05
"""Processor time of the longest step of a task in seconds."""
CHUNK = 2**16

SAYINGS: dict[str, tuple[bytes, bytes]] = {
    "a bulk string of 900 MB": (b"$900000000\r\n", b"x" * CHUNK),
    "a bulk string of 10**18 bytes": (b"$1" + b"0" * 18 + b"\r\n", b"x" * CHUNK),
    "a bulk string just below the limit": (b"$2097000\r\n", b"x" * CHUNK),
    "an endless line": (b"+", b"x" * CHUNK),
    "an endless error": (b"-", b"x" * CHUNK),
    "a long number": (b":", b"9" * CHUNK),
    "a long length": (b"*", b"9" * CHUNK),
    "an array of 10**9 numbers": (b"*1000000000\r\n", b":1\r\n" * (CHUNK // 4)),
    "an array of bulk strings": (b"*20000\r\n", b"$60000\r\n" + b"x" * 60000 + b"\r\n"),
    "an array of empty arrays": (b"*19999\r\n", b"*0\r\n" * (CHUNK // 4)),
    "arrays in arrays": (b"", b"*1\r\n" * (CHUNK // 4)),
    "arrays of two in arrays": (b"", b"*2\r\n" * (CHUNK // 4)),
    "a map of colliding keys": (
        b"%9999\r\n",
        b"".join(b":%d\r\n:1\r\n" % (nth * (2**61 - 1)) for nth in range(2000)),
    ),
    "a set of 10**6 members": (b"~1000000\r\n", b"".join(b":%d\r\n" % nth for nth in range(9000))),
    "a flood of small pushes": (b"", b">1\r\n+x\r\n" * (CHUNK // 8)),
    "a flood of large pushes": (b"", b">1\r\n$60000\r\n" + b"x" * 60000 + b"\r\n"),
    "a flood of empty pushes": (b"", b">0\r\n" * (CHUNK // 4)),
    "a flood of answers": (b"", b"+x\r\n" * (CHUNK // 4)),
    "a flood of attributes": (b"", b"|1\r\n+x\r\n+y\r\n" * (CHUNK // 12)),
}
"""For each saying, the bytes at its beginning, and the bytes that are then repeated."""
WHEN = ("at the greeting", "as an answer")
_MOST_CHUNKS = 2000


@attrs.frozen
class Cost:
    """The cost of a saying.

    Attributes:
        memory: peak memory in bytes.
        stall: processor time of the longest step in seconds.
        token: the token that the caller got.
        trouble: the problem that the manager reports afterwards.
    """

    memory: int
    stall: float
    token: str
    trouble: str | None


def hear(saying: str, when: str) -> Cost:
    """Get a token from a manager whose store is a server with this saying."""
    first, rest = SAYINGS[saying]
    steps = Steps()
    memory = 0

    async def speak(stream: trio.SocketStream) -> None:
        said: Iterable[bytes] = chain([first] if first else [], repeat(rest, _MOST_CHUNKS))
        async with stream:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.receive_some()
                if when == WHEN[1]:
                    await stream.send_all(GREETING)
                    await stream.receive_some()
                for chunk in said:
                    await stream.send_all(chunk)

    async def main() -> tuple[str, str | None]:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            await nursery.start(trio.serve_listeners, speak, listeners)
            port = listeners[0].socket.getsockname()[1]
            store = RedisStore(f"redis://127.0.0.1:{port}")
            async with SharedTokenManager(FakeTokenManager(make_config()), store) as manager:
                token = await manager.get_tokens_client_credentials_grant()
                trouble = manager.trouble
            nursery.cancel_scope.cancel()
        return token.access_token, trouble

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        trio.run(main)
        memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # Measure the time again, because tracing takes much of it.
    token, trouble = trio.run(main, instruments=[steps])
    return Cost(memory, steps.longest, token, trouble)


def main() -> int:
    """Run the program, and return its exit code."""
    is_bad = False
    # The first run imports modules, and a step may collect them.
    hear(next(iter(SAYINGS)), WHEN[0])
    gc.freeze()
    for saying in SAYINGS:
        for when in WHEN:
            cost = hear(saying, when)
            is_over = cost.memory > MEMORY_LIMIT or cost.stall > STALL_LIMIT or not cost.trouble
            is_bad |= is_over
            print(
                f"{saying:36} {when:16} {cost.memory / 2**20:8.1f} MiB "
                f"{cost.stall * 1000:7.1f} ms  {cost.trouble}{'  OVER' if is_over else ''}",
                flush=True,
            )
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
