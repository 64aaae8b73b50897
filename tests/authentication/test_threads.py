"""Tests of files and plain callables in real time: they run in worker threads."""

from __future__ import annotations

import inspect
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.authentication.kit import KINDS, Judge, JumpingClock, Source
from tests.authentication.signing import pem_of
from tests.http.endpoint import Endpoint, ask, grant, open_manager, says
from trio_anon_session import (
    Assertion,
    Config,
    PrivateKeyJWT,
    SecretFile,
    TokenUnavailableError,
)
from trio_anon_session._config import secrets_of

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from trio_anon_session import AssertionRequest

TIME_LIMIT = 60.0
"""Seconds; even on a slow machine, no test takes as long."""


@pytest.fixture
def clock() -> JumpingClock:
    """Return a clock that runs in real time, and that a test can move past time limits."""
    return JumpingClock()


def working_threads() -> list[threading.Thread]:
    """Return the threads that read a file or call a callable."""
    # Trio names a thread after its function.
    return [one for one in threading.enumerate() if one.name.startswith("work from ")]


async def wait_working(count: int) -> None:
    """Wait until at least this many threads work."""
    with trio.fail_after(TIME_LIMIT):
        while len(working_threads()) < count:  # noqa: ASYNC110  # a thread sends no event
            await trio.sleep(0.001)


async def wait_idle(pipe: Path | None = None) -> None:
    """Wait until no thread works; open the named pipe for threads that wait for a writer."""
    with trio.fail_after(TIME_LIMIT):
        while working_threads():
            if pipe is not None:
                # A writer wakes only the readers that wait at that moment. If there are none, it
                # gets an error.
                with suppress(OSError):
                    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            await trio.sleep(0.001)


class Blocking:
    """A plain callable that blocks its thread until a test releases it.

    Attributes:
        threads: the threads in which it was called.
        coroutine: the coroutine that it returned.
    """

    def __init__(self, *, returns_coroutine: bool = False) -> None:
        self._started = threading.Event()
        self._released = threading.Event()
        self._ended = threading.Event()
        self._returns_coroutine = returns_coroutine
        self.threads: list[threading.Thread] = []
        self.coroutine: Coroutine[Any, Any, str] | None = None

    def __call__(self, *args: object) -> Any:
        self.threads.append(threading.current_thread())
        self._started.set()
        assert self._released.wait(TIME_LIMIT)
        try:
            if not self._returns_coroutine:
                return "first-secret"

            async def give() -> str:
                await trio.lowlevel.checkpoint()
                return "first-secret"

            self.coroutine = give()
            return self.coroutine
        finally:
            self._ended.set()

    async def wait_started(self) -> None:
        """Wait until the callable blocks."""
        assert await trio.to_thread.run_sync(self._started.wait, TIME_LIMIT)

    async def release(self) -> None:
        """Let the callable return, and wait until it has."""
        self._released.set()
        assert await trio.to_thread.run_sync(self._ended.wait, TIME_LIMIT)


def provide(give: Blocking) -> Any:
    """Return a provider that calls another callable."""

    def provider(request: AssertionRequest) -> Any:
        return give()

    return Assertion(provider)


@pytest.mark.parametrize("is_provider", [False, True])
async def test_a_plain_callable_blocks_only_its_thread(is_provider: bool) -> None:
    """While a plain callable blocks, other tasks run, and no request is sent."""
    give = Blocking()
    settings = {"auth_method": provide(give)} if is_provider else {"client_secret": give}
    judge = Judge("first-secret")
    with trio.fail_after(TIME_LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grant, judge, Config(client_id="id", **settings))
            await give.wait_started()
            assert judge.shown == []
            await give.release()
    assert judge.shown == ["first-secret"]
    assert give.threads != [threading.main_thread()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_every_source_works_in_real_time(tmp_path: Path, kind: str) -> None:
    """Each kind of source is read in real time, also a callable that returns a coroutine."""
    source = Source(kind, tmp_path)
    judge = Judge("first-secret", "second-secret")
    async with open_manager(judge, source.config()) as manager:
        await ask(manager)
        source.put("second-secret")
        await ask(manager)
    assert judge.shown == ["first-secret", "second-secret"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "file" not in kind])
async def test_a_callable_that_fails_in_a_thread_is_a_retryable_error(
    tmp_path: Path, kind: str
) -> None:
    """An error in the worker thread is an error of the attempt that names only its type."""
    source = Source(kind, tmp_path, ValueError("hush"))
    with pytest.raises(TokenUnavailableError) as caught:
        await grant(Judge(), source.config())
    said = f"no token: {source.setting}: the callable raised ValueError"
    assert str(caught.value) == said
    source.put(SystemExit())
    with pytest.raises(SystemExit):
        await grant(Judge(), source.config())


@pytest.mark.slow
@pytest.mark.parametrize("is_cancelled", [False, True], ids=["timeout", "cancelled"])
@pytest.mark.parametrize("returns_coroutine", [False, True])
async def test_a_callable_that_returns_late_is_ignored(
    clock: JumpingClock, is_cancelled: bool, returns_coroutine: bool
) -> None:
    """The caller does not wait for the thread, and a late coroutine is closed, not awaited."""
    give = Blocking(returns_coroutine=returns_coroutine)
    config = Config(client_id="id", client_secret=give, request_timeout=TIME_LIMIT)
    judge = Judge("first-secret")

    async def attempt(scope: trio.CancelScope) -> None:
        with scope:
            with pytest.raises(TokenUnavailableError, match="client_secret: no credentials within"):
                await grant(judge, config)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, scope)
        await give.wait_started()
        if is_cancelled:
            scope.cancel()
        else:
            clock.jump(TIME_LIMIT)
    assert scope.cancelled_caught is is_cancelled
    await give.release()
    if returns_coroutine:
        assert give.coroutine is not None
        with trio.fail_after(TIME_LIMIT):
            # The thread closes it after the callable has returned.
            while inspect.getcoroutinestate(give.coroutine) != inspect.CORO_CLOSED:  # noqa: ASYNC110  # a coroutine has no event
                await trio.sleep(0.001)
    # A secret that was never used is not remembered.
    assert judge.shown == []
    assert repr(secrets_of(config)) == "<0 secrets>"
    await wait_idle()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["secret file", "assertion file"])
async def test_a_pipe_without_a_writer_is_a_timeout(
    clock: JumpingClock, tmp_path: Path, kind: str
) -> None:
    """A named pipe without a writer makes the attempt fail within request_timeout."""
    source = Source(kind, tmp_path)
    source.path.unlink()
    os.mkfifo(source.path)

    async def attempt() -> None:
        with pytest.raises(TokenUnavailableError) as caught:
            await grant(Judge(), source.config(request_timeout=TIME_LIMIT))
        assert str(caught.value) == f"no token: {source.setting}: no credentials within 60 s"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        await wait_working(1)
        clock.jump(TIME_LIMIT)
    await wait_idle(source.path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["secret file", "assertion file"])
async def test_a_pipe_with_a_writer_is_read(tmp_path: Path, kind: str) -> None:
    """A named pipe with a writer can provide the secret or assertion."""
    source = Source(kind, tmp_path)
    source.path.unlink()
    os.mkfifo(source.path)
    judge = Judge("of-the-pipe")
    with trio.fail_after(TIME_LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.Path(source.path).write_text, "of-the-pipe\n")
            await grant(judge, source.config())
    assert judge.shown == ["of-the-pipe"]


async def test_a_file_without_end_is_too_large(tmp_path: Path) -> None:
    """A session reads at most 64 KiB and one byte of a file, and does not wait for its end."""
    source = Source("secret file", tmp_path)
    source.path.unlink()
    os.mkfifo(source.path)
    has_read = threading.Event()

    def write() -> None:
        with source.path.open("wb", buffering=0) as pipe:
            pipe.write(b"x" * 65_537)
            assert has_read.wait(TIME_LIMIT)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, write)
        with pytest.raises(TokenUnavailableError, match="has more than 65536 bytes"):
            await grant(Judge(), source.config(request_timeout=TIME_LIMIT / 2))
        has_read.set()


class Hanging:
    """A source that hangs until a test repairs it.

    Args:
        kind: one of `Hanging.KINDS`.
        folder: the folder of its file.

    Attributes:
        settings: the settings of a config with this source.
        pipe: if the source is a file, the named pipe that was in its place.
    """

    KINDS = ("plain callable", "plain provider", "signer", "secret file", "key file")

    def __init__(self, kind: str, folder: Path) -> None:
        self._repaired = threading.Event()
        self._path = folder / "source"
        self.pipe: Path | None = None
        self.settings: dict[str, Any]
        if kind.endswith("file"):
            self._path.write_bytes(pem_of())
            self.pipe = folder / "pipe"
        match kind:
            case "secret file":
                self.settings = {"client_secret": SecretFile(self._path)}
            case "key file":
                self.settings = {"auth_method": PrivateKeyJWT.from_file(self._path)}
            case "signer":
                self.settings = {"auth_method": PrivateKeyJWT(self._give)}
            case "plain provider":
                self.settings = {"auth_method": Assertion(self._give)}
            case _:
                self.settings = {"client_secret": self._give}
        if self.pipe is not None:
            os.mkfifo(self.pipe)
            self._path.unlink()
            os.link(self.pipe, self._path)

    def _give(self, *args: object) -> Any:
        is_signer = bool(args) and isinstance(args[0], bytes)
        assert self._repaired.wait(TIME_LIMIT)
        return b"signature" if is_signer else "first-secret"

    def repair(self) -> None:
        """Let further calls return, or put a good file in place of the named pipe."""
        self._repaired.set()
        if self.pipe is not None:
            new = self._path.with_name("new")
            new.write_bytes(pem_of())
            new.replace(self._path)


@pytest.mark.parametrize("attempts", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", Hanging.KINDS)
async def test_a_source_that_hangs(
    clock: JumpingClock, tmp_path: Path, kind: str, attempts: int
) -> None:
    """A source that hangs blocks few threads, stops no other, and is used when it works again."""
    hanging = Hanging(kind, tmp_path)
    config = Config(client_id="id", request_timeout=TIME_LIMIT, **hanging.settings)
    limiter = trio.to_thread.current_default_thread_limiter()
    started_at = clock.current_time()
    for _ in range(attempts):
        busy = len(working_threads())
        async with trio.open_nursery() as nursery:

            async def attempt(scope: trio.CancelScope) -> None:
                with pytest.raises(
                    TokenUnavailableError, match=r"calls hang|no credentials within"
                ):
                    await grant(Endpoint(says()), config)
                scope.cancel()

            nursery.start_soon(attempt, nursery.cancel_scope)
            # Without a thread that begins to hang, the attempt fails immediately.
            with trio.CancelScope():
                await wait_working(busy + 1)
            clock.jump(TIME_LIMIT)
            await trio.sleep_forever()
    assert len(working_threads()) <= 12
    assert limiter.borrowed_tokens == 0
    judge = Judge("first-secret")
    await grant(judge, Source("plain callable", tmp_path).config(request_timeout=TIME_LIMIT))
    assert judge.granted == 1
    hanging.repair()
    clock.jump((clock.current_time() - started_at) / 4)
    endpoint = Endpoint(says())
    # The threads that read the pipe still hang. Calls that have returned must not count with them.
    for _ in range(6):
        await grant(endpoint, config)
    assert len(endpoint.requests) == 6
    await wait_idle(hanging.pipe)
