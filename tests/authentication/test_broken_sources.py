"""Tests of files and callables that provide no secret: the error, and the session after it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.authentication.kit import CALLABLES, FILES, KINDS, Judge, Source
from tests.helpers import make_config, run_virtually, traceback_with_locals
from tests.http.endpoint import CALLS, ask, grant, open_manager
from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    RevocationError,
    SecretFile,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

CANARY = "canary-of-a-secret"


# The error of an attempt


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _link(target: str) -> Callable[[Path], object]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "cannot be read: No such file or directory"),
    "directory": (_make_directory, "cannot be read: Is a directory"),
    "link to itself": (_link("source"), "cannot be read: Too many levels of symbolic links"),
    # Also root gets this error.
    "unreadable": (_link("/proc/self/mem"), "cannot be read: Input/output error"),
    "empty": (_write(b""), "is empty"),
    "one line end": (_write(b"\n"), "is empty"),
    "white space": (_write(b" \r\n\t\n"), "is empty"),
    "too large": (_write(b"x" * 65_537), "has more than 65536 bytes"),
    "Latin-1": (_write(f"{CANARY}é".encode("latin-1")), "is not UTF-8 text"),
    "UTF-16": (_write(CANARY.encode("utf-16")), "is not UTF-8 text"),
    "binary": (_write(bytes(range(256))), "is not UTF-8 text"),
    "NUL": (_write(f"{CANARY}\0".encode()), "is not UTF-8 text"),
}


async def failure_of(source: Source, call: str, break_it: Callable[[], object]) -> str:
    """Return the message of a request whose source was broken after a request succeeded."""
    judge = Judge("first-secret")
    async with open_manager(judge, source.config()) as manager:
        await ask(manager, call)
        break_it()
        expected = TokenUnavailableError if call == "grant" else RevocationError
        with pytest.raises(expected) as caught:
            await ask(manager, call)
        # Nothing was sent without credentials.
        assert judge.shown == ["first-secret"]
    assert caught.value.retryable
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert CANARY not in "".join(traceback_with_locals(caught.value))
    begin = "no token" if call == "grant" else "the token could not be revoked"
    return str(caught.value).removeprefix(f"{begin}: {source.setting}: ")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("bad", BAD_FILES)
async def test_a_bad_file_is_a_retryable_error_that_names_it(
    autojump_clock: MockClock, tmp_path: Path, kind: str, bad: str, call: str
) -> None:
    """If a file becomes unusable, the next attempt fails, and the message names the file."""
    source = Source(kind, tmp_path)
    spoil, problem = BAD_FILES[bad]
    said = await failure_of(source, call, lambda: spoil(source.path))
    assert said == f"the file {os.fspath(source.path)!r} {problem}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_a_file_without_permission_is_a_retryable_error(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A file that the process may not read makes the attempt fail."""
    source = Source("secret file", tmp_path)
    said = await failure_of(source, "grant", lambda: source.path.chmod(0))
    assert said.endswith("cannot be read: Permission denied")


async def test_a_path_that_cannot_be_encoded_is_a_retryable_error(
    autojump_clock: MockClock,
) -> None:
    """The message has the type of an error that does not come from the operating system."""
    config = Config(client_id="id", client_secret=SecretFile("/run/\ud800"))
    with pytest.raises(TokenUnavailableError) as caught:
        await grant(Judge(), config)
    assert str(caught.value).endswith("cannot be read: UnicodeEncodeError")


class _OtherText(str):
    """A str whose methods return another text."""

    __slots__ = ()

    def __str__(self) -> str:
        return CANARY

    def strip(self, chars: str | None = None, /) -> str:
        return CANARY


MUST_RETURN = "the callable must return a non-empty str"
BAD_RESULTS: dict[str, tuple[Any, str]] = {
    "None": (None, f"{MUST_RETURN}, not NoneType"),
    "int": (7, f"{MUST_RETURN}, not int"),
    "bytes": (CANARY.encode(), f"{MUST_RETURN}, not bytes"),
    "list": ([CANARY], f"{MUST_RETURN}, not list"),
    "empty": ("", f"{MUST_RETURN}, not an empty one"),
    "white space": (" \n", f"{MUST_RETURN}, not an empty one"),
    "empty subclass": (_OtherText(), f"{MUST_RETURN}, not an empty one"),
    "lone surrogate": (f"{CANARY}\ud800", f"{MUST_RETURN} that UTF-8 can encode"),
    "huge": (CANARY * 4_000, f"{MUST_RETURN} of at most 65536 characters"),
    "ValueError": (ValueError(CANARY), "the callable raised ValueError"),
    "OSError": (OSError(2, CANARY), "the callable raised FileNotFoundError"),
    "TimeoutError": (TimeoutError(), "the callable raised TimeoutError"),
    "group": (ExceptionGroup(CANARY, [OSError(CANARY)]), "the callable raised ExceptionGroup"),
    "StopIteration": (StopIteration(CANARY), "the callable raised "),
    "end of Trio": (trio.RunFinishedError(CANARY), "the callable raised RunFinishedError"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", CALLABLES)
@pytest.mark.parametrize("bad", BAD_RESULTS)
async def test_a_bad_callable_is_a_retryable_error_that_shows_no_secret(
    autojump_clock: MockClock, tmp_path: Path, kind: str, bad: str, call: str
) -> None:
    """If a callable raises or returns no valid text, the attempt fails, and no secret is shown."""
    source = Source(kind, tmp_path)
    result, problem = BAD_RESULTS[bad]
    said = await failure_of(source, call, lambda: source.put(result))
    assert said.startswith(problem)


async def test_a_subclass_of_str_is_sent_as_its_text(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The text of a str subclass is sent, whatever its methods return."""
    judge = Judge("text")
    await grant(judge, Source("plain callable", tmp_path, _OtherText("text")).config())
    assert judge.shown == ["text"]


async def test_generator_functions_are_no_sources(autojump_clock: MockClock) -> None:
    """A generator function is refused by the type of its result, which is not a str."""

    async def generate() -> Any:
        yield "secret"

    config = Config(client_id="id", client_secret=generate)
    with pytest.raises(TokenUnavailableError, match="non-empty str, not async_generator"):
        await grant(Judge(), config)


# Crashes


class _CrashError(BaseException):
    """A crash that is not an `Exception`."""


@pytest.mark.parametrize("crash", [_CrashError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("kind", CALLABLES)
async def test_a_crash_of_a_callable_ends_the_session(
    autojump_clock: MockClock, tmp_path: Path, kind: str, crash: type[BaseException]
) -> None:
    """A crash propagates unwrapped from the session's block, and waiting callers get an error."""
    source = Source(kind, tmp_path, crash())
    waiting: list[type[BaseException]] = []

    async def ask_for_token(session: AnonymousSession) -> None:
        try:
            await session.get_access_token()
        except AnonymousSessionError as error:
            waiting.append(type(error))

    async with trio.open_nursery() as nursery:
        with pytest.raises(crash):
            async with open_manager(Judge(), source.config()) as manager:
                async with AnonymousSession(manager.config, manager) as session:
                    nursery.start_soon(ask_for_token, session)
                    await trio.sleep_forever()
    assert waiting == [SessionClosedError]


GROUPS: dict[type[BaseException], str] = {
    trio.Cancelled: "no credentials within 3 s",
    ValueError: "the callable raised BaseExceptionGroup",
    _CrashError: "",
}


@pytest.mark.parametrize("error", GROUPS)
async def test_a_group_with_a_cancellation_shows_no_error_of_the_callable(
    autojump_clock: MockClock, error: type[BaseException]
) -> None:
    """If a nursery of the callable fails while it is cancelled, only a crash propagates."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if error is not trio.Cancelled:
                raise error(CANARY)

    async def give() -> str:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
        raise AssertionError

    config = Config(client_id="id", client_secret=give, request_timeout=3.0)
    with pytest.raises((TokenUnavailableError, BaseExceptionGroup)) as caught:
        await grant(Judge(), config)
    assert trio.current_time() == 3.0
    if isinstance(caught.value, BaseExceptionGroup):
        assert [type(each) for each in caught.value.exceptions] == [_CrashError]
    else:
        assert str(caught.value) == f"no token: client_secret: {GROUPS[error]}"
        assert CANARY not in "".join(traceback_with_locals(caught.value))
        assert caught.value.__cause__ is caught.value.__context__ is None


# Cancellation and time


@pytest.mark.parametrize("call", CALLS)
async def test_a_cancelled_call_reads_no_source(autojump_clock: MockClock, call: str) -> None:
    """A call that is already cancelled does not call a plain callable."""
    calls: list[str] = []

    def give() -> str:
        calls.append("secret")
        return "secret"

    async with open_manager(Judge(), make_config(client_secret=give)) as manager:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ask(manager, call)
    assert (scope.cancelled_caught, calls) == (True, [])


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["async callable", "async provider"])
async def test_a_cancelled_callable_leaves_nothing_behind(
    autojump_clock: MockClock, tmp_path: Path, kind: str, call: str
) -> None:
    """A cancellation while the callable runs propagates immediately, and a new call succeeds."""
    source = Source(kind, tmp_path)
    source.latency = 10.0
    judge = Judge("first-secret")
    async with open_manager(judge, source.config()) as manager:
        with trio.move_on_after(4.0) as scope:
            await ask(manager, call)
        assert (scope.cancelled_caught, trio.current_time(), judge.shown) == (True, 4.0, [])
        await ask(manager, call)
    assert (trio.current_time(), judge.shown) == (14.0, ["first-secret"])


@pytest.mark.parametrize("kind", ["async callable", "async provider"])
async def test_a_callable_that_hangs_is_an_error_that_names_the_setting(
    autojump_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    """Without credentials within request_timeout, the error names the setting."""
    source = Source(kind, tmp_path)
    source.latency = 1e6
    with pytest.raises(TokenUnavailableError) as caught:
        await grant(Judge(), source.config(request_timeout=7.0))
    assert trio.current_time() == 7.0
    assert str(caught.value) == f"no token: {source.setting}: no credentials within 7 s"


@pytest.mark.parametrize("value", ["first-secret", "", "other"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_request_is_a_checkpoint(
    autojump_clock: MockClock, tmp_path: Path, kind: str, call: str, value: str
) -> None:
    """A request runs a checkpoint, whether its source works, fails or is rejected."""
    source = Source(kind, tmp_path, value)
    async with open_manager(Judge("first-secret"), source.config()) as manager:
        with trio.testing.assert_checkpoints():
            try:
                await ask(manager, call)
            except TokenRequestError:
                assert value != "first-secret"


@pytest.mark.parametrize("text", ["secret", ""])
async def test_a_callable_without_checkpoints_is_enough(
    autojump_clock: MockClock, text: str
) -> None:
    """A request runs a checkpoint, even if an async callable runs none."""

    async def give() -> str:
        return text

    async with open_manager(Judge("secret"), make_config(client_secret=give)) as manager:
        with trio.testing.assert_checkpoints(), suppress(TokenUnavailableError):
            await ask(manager)


# The session goes on with the token it has

BREAKS = st.sampled_from(
    [(kind, bad) for kind in FILES for bad in BAD_FILES]
    + [(kind, bad) for kind in CALLABLES for bad in BAD_RESULTS]
)


@given(
    broken=BREAKS,
    breaks_at=st.floats(0.0, 2999.0),
    lasts=st.floats(0.0, 3500.0),
    rotates=st.booleans(),
)
def test_a_source_that_is_broken_for_a_while(
    tmp_path_factory: pytest.TempPathFactory,
    broken: tuple[str, str],
    breaks_at: float,
    lasts: float,
    rotates: bool,
) -> None:
    """Callers keep getting the token while the source is broken, and then the session refreshes."""
    kind, bad = broken
    # The session refreshes at 3000 s, retries at most 60 s apart, and callers get no token from
    # 3570 s on.
    repaired_at = min(breaks_at + lasts, 3500.0)
    source = Source(kind, tmp_path_factory.mktemp("source"))
    judge = Judge("first-secret")

    async def live() -> None:
        async with open_manager(judge, source.config(max_retry_interval=60.0)) as manager:
            async with AnonymousSession(manager.config, manager) as session:
                assert await session.get_access_token() == "token-1"
                await trio.sleep_until(breaks_at)
                if kind in FILES:
                    BAD_FILES[bad][0](source.path)
                else:
                    source.put(BAD_RESULTS[bad][0])
                while trio.current_time() < repaired_at:
                    assert await session.get_access_token() == "token-1"
                    await trio.sleep(min(50.0, max(1.0, repaired_at - trio.current_time())))
                if source.path.is_dir():
                    source.path.rmdir()
                text = "second-secret" if rotates else "first-secret"
                judge.accepted = {text}
                source.put(text)
                await trio.sleep_until(3600.0)
                assert await session.get_access_token() == "token-2"
        assert judge.refused == 0

    run_virtually(live)
