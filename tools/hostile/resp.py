"""Let a raw RESP peer say what no server says, and print what each saying costs a session.

    python -m tools.hostile.resp

Exit code 1 if a caller got no token, the store was not marked as failing, or a limit was exceeded.
Memory and steps are measured in runs of their own, and steps in processor time of Trio's thread,
without that of the peer's thread.
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs
import trio

from tests.helpers import FakeTokenManager, make_config
from tests.stores.answering import GREETING
from trio_anon_session import AnonymousSession
from trio_anon_session.stores import RedisStore, SharedTokenManager

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_LIMIT = 16 * 2**20
"""Bytes that a session may take at most."""
STALL_LIMIT = 0.05
"""Seconds that a step of a task may take at most."""
_PIECE = 65_536
_SECONDS = 30.0
"""Time limit of one run."""

SAYINGS: dict[str, tuple[bytes, bytes]] = {
    "one bulk string": (b"$1073741824\r\n", b"x" * _PIECE),
    "a bulk string in a push": (b">1\r\n$1073741824\r\n", b"x" * _PIECE),
    "a verbatim string": (b"=1073741824\r\ntxt:", b"x" * _PIECE),
    "a line without end": (b"+", b"x" * _PIECE),
    "an error without end": (b"-", b"x" * _PIECE),
    "a number without end": (b":", b"9" * _PIECE),
    "numbers of many digits": (b"*2147483647\r\n", (b":" + b"9" * 4000 + b"\r\n") * 16),
    "an array without end": (b"*2147483647\r\n", b":1\r\n" * (_PIECE // 4)),
    "an array of empty arrays": (b"*2147483647\r\n", b"*0\r\n" * (_PIECE // 4)),
    "a map without end": (b"%2147483647\r\n", b"".join(b":%d\r\n" % n for n in range(9000))),
    "a set without end": (b"~2147483647\r\n", b"".join(b":%d\r\n" % n for n in range(9000))),
    "deep arrays": (b"", b"*1\r\n" * (_PIECE // 4)),
    "deep arrays of two": (b"", b"*2\r\n" * (_PIECE // 4)),
    "deep maps": (b"", b"%1\r\n:1\r\n" * (_PIECE // 8)),
    "pushes": (b"", b">2\r\n+a\r\n+b\r\n" * (_PIECE // 13)),
    "empty pushes": (b"", b">0\r\n" * (_PIECE // 4)),
    "answers without a request": (b"", b"+OK\r\n" * (_PIECE // 5)),
    "errors without a request": (b"", b"-ERR no\r\n" * (_PIECE // 9)),
    "nulls": (b"", b"_\r\n" * (_PIECE // 3)),
    "single bytes": (b"$1073741824\r\n", b"x"),
}
"""For each saying, its beginning, and what the peer repeats after it."""


@attrs.frozen
class Outcome:
    """What happened to a caller.

    Attributes:
        is_served: whether it got a token by a direct request.
        trouble: the problem with the store, as logged.
    """

    is_served: bool
    trouble: str | None


class _Steps(trio.abc.Instrument):
    longest = 0.0
    _began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self._began)


@contextmanager
def open_peer(saying: str, *, is_greeting: bool) -> Iterator[int]:
    """Run a peer in a thread while the block lasts; the value is its port.

    Args:
        saying: what it says.
        is_greeting: whether it says it in answer to HELLO, and not to the first request.
    """
    start, then = SAYINGS[saying]
    is_over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(_PIECE)
            if not is_greeting:
                client.sendall(GREETING)
                client.recv(_PIECE)
            client.sendall(start)
            while not is_over.is_set():
                client.sendall(then)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(_SECONDS)
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        is_over.set()
        listener.shutdown(socket.SHUT_RDWR)


def use_store(saying: str, *instruments: trio.abc.Instrument, is_greeting: bool) -> Outcome:
    """Use a store whose server says this, in a Trio run of its own."""

    async def main(port: int) -> Outcome:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        source = FakeTokenManager(make_config())
        with trio.fail_after(_SECONDS):
            async with (
                SharedTokenManager(source, store) as manager,
                AnonymousSession(source.config, manager) as session,
            ):
                token = await session.get_access_token()
                return Outcome(token == "token-1", manager.trouble)

    with open_peer(saying, is_greeting=is_greeting) as port:
        return trio.run(main, port, instruments=instruments)


def memory_of(saying: str, *, is_greeting: bool) -> tuple[int, Outcome]:
    """Return the most bytes that were allocated, and the outcome."""
    # The first run imports modules.
    use_store("nulls", is_greeting=True)
    tracemalloc.start()
    try:
        outcome = use_store(saying, is_greeting=is_greeting)
        return tracemalloc.get_traced_memory()[1], outcome
    finally:
        tracemalloc.stop()


def longest_step_of(saying: str, *, is_greeting: bool) -> float:
    """Return the longest step of a task, in seconds of processor time."""
    steps = _Steps()
    use_store(saying, steps, is_greeting=is_greeting)
    return steps.longest


def main() -> int:
    """Run the program, and return its exit code."""
    logging.getLogger("trio_anon_session").addHandler(logging.NullHandler())
    # A step must not contain the time to collect the modules that this program imports.
    gc.freeze()
    is_well = True
    print(f"{'the peer says':28} {'in answer to':12} {'memory':>10} {'longest step':>14}")
    for saying in SAYINGS:
        for is_greeting in (True, False):
            memory, outcome = memory_of(saying, is_greeting=is_greeting)
            step = longest_step_of(saying, is_greeting=is_greeting)
            problems = [
                *(["no token"] if not outcome.is_served else []),
                *(["no trouble"] if outcome.trouble is None else []),
                *(["memory"] if memory > MEMORY_LIMIT else []),
                *(["stall"] if step > STALL_LIMIT else []),
            ]
            is_well = is_well and not problems
            asked = "HELLO" if is_greeting else "EVAL"
            figures = f"{memory / 2**20:6.1f} MiB {step * 1e3:11.1f} ms"
            print(f"{saying:28} {asked:12} {figures} {', '.join(problems)}", flush=True)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
