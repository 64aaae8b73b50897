"""Where a Valkey or Redis server is asked, by way of coredis.

How this works
    A connection of coredis is a task, and what ends the one ends the other. Here it is a system
    task of Trio: no block of anybody's is around it, which it could cancel, and a store is opened
    in one function and closed in another. Whatever such a task raises, it ends with, and what a
    question hears of it is a word of ours.

    A question has a connection for itself. While its store is open, the connection is kept for
    the next question, so that this takes one round trip. After a cancellation, or without a good
    answer, it is given up: so nobody gets the answer to another question, and where a host's
    name leads to is looked up again.

    What goes wrong becomes words of ours, outside of every ``except`` block: an error of
    coredis, and the frames that it holds, may show the password or what was to be kept.
"""

from __future__ import annotations

import logging
import re
import socket
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis import exceptions
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)

from ._protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ._address import Address

T = TypeVar("T")

CONNECT_TIMEOUT = 1.0
"""Seconds for a connection to be made; for all else it is up to whoever asks."""
KEPT = 60
"""Seconds without a question, after which a connection is closed: a process asks a few times in
a row, and then not for most of a token's life, and what lies between forgets connections."""
RENEW_AFTER = 10.0
"""Seconds after which a connection is replaced: the host's name may lead to another server by then,
and all processes have to ask the same server."""
LISTEN_TIMEOUT = 2.0
"""Seconds for each answer on a connection that waits for news, which nobody else limits."""
IDLE = 5.0
"""Seconds without news, after which such a connection is tried out."""

_CODES = {
    exceptions.AskError: "ASK",
    exceptions.AuthenticationFailureError: "WRONGPASS",
    exceptions.AuthenticationRequiredError: "NOAUTH",
    exceptions.AuthorizationError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoScriptError: "NOSCRIPT",
    exceptions.ProtocolError: "NOPROTO",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.UnknownCommandError: "ERR unknown command",
    exceptions.WrongTypeError: "WRONGTYPE",
}
"""The server's words for what coredis has classes for, and takes them off."""
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
_LOST_WORDS = "the connection was lost"

_LATER = ("ASK", "TRYAGAIN")
"""Answers while the keys are moved. A script with several is run by neither server then."""
_ELSEWHERE = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY")
"""Answers of a server that does nothing, where another one might."""

_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)


class TurnedAwayError(StoreError):
    """Tells that a server has done nothing of what it was asked, and that one may ask again.

    Attributes:
        address: where a server of a cluster says that the keys are; None if nobody says so.
        later: whether it is this server that is to be asked again, in a moment.
    """

    def __init__(self, words: str, address: Address | None = None, *, later: bool = False) -> None:
        self.address = address
        self.later = later
        super().__init__(words)


class Connections:
    """Those of a store in one run of Trio: while it is open, one is kept for each server."""

    def __init__(self) -> None:
        self._users = 0
        self._kept: dict[Address, _Connection] = {}

    def open(self) -> None:
        """Keep connections from now on, until this was closed as often."""
        self._users += 1

    async def aclose(self) -> None:
        """Close what is kept, if nobody else has opened this."""
        self._users -= 1
        while self._kept and not self._users:
            await self._kept.popitem()[1].aclose()
        await trio.lowlevel.checkpoint()

    async def ask(
        self,
        address: Address,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        max_age: float,
    ) -> object:
        """Run a script at the server, and return its answer as coredis has read it.

        Args:
            address: the server's.
            script: the script.
            keys: its keys.
            args: its arguments.
            max_age: seconds since the connection that is used was made, at most.

        Raises:
            TurnedAwayError: it has done nothing.
            StoreError: there is no answer, or it is an error.
        """
        words = script, len(keys), *keys, *args
        if address in self._kept:
            # A server that has hung up, maybe while this process was stopped, is heard by then.
            for _ in range(2):
                await trio.lowlevel.checkpoint()
        kept = await self._take(address, max_age)
        if kept is not None:
            try:
                return await self._ask(kept, words)
            except TurnedAwayError as error:
                if error.later or error.address is not None:
                    raise
            # By its name, another server may be there by now.
        return await self._ask(await _Connection.open(address, max_idle_time=KEPT), words)

    async def _take(self, address: Address, max_age: float) -> _Connection | None:
        """Return the connection that is kept, if it may be used for a question."""
        kept = self._kept.get(address)
        # One that only this question cannot use is for others, while this one makes its own.
        if kept is None or max_age <= kept.age < RENEW_AFTER:
            return None
        del self._kept[address]
        if kept.age < RENEW_AFTER:
            return kept if kept.is_usable else None
        await kept.aclose()
        return None

    async def _keep(self, connection: _Connection) -> None:
        """Keep a connection. If there are two then, close the older one."""
        other = self._kept.get(connection.address)
        if other is not None and other.age < connection.age:
            connection, other = other, connection
        self._kept[connection.address] = connection
        if other is not None:
            await other.aclose()

    async def _ask(self, connection: _Connection, words: Sequence[str | int]) -> object:
        is_well = False
        try:
            answer = await connection.ask(b"EVAL", *words)
            is_well = self._users > 0
        finally:
            if not is_well:
                await connection.aclose()  # noqa: ASYNC102  # shields itself
        if is_well:
            await self._keep(connection)
        return answer


@asynccontextmanager
async def subscribe(
    addresses: Sequence[Address], *channels: str
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hear what is published while the block lasts, from the first server that is there.

    The value, called and awaited, returns when there was something since the last time.

    Raises:
        StoreError: the server does not serve that; from the value: it does not any more.
    """
    for address in addresses:
        try:
            connection = await _Connection.open(address, stream_timeout=LISTEN_TIMEOUT)
            break
        except TurnedAwayError:
            if address is addresses[-1]:
                raise
    try:
        await connection.subscribe(channels)
        yield connection.wait_for_news
    finally:
        await connection.aclose()  # noqa: ASYNC102  # shields itself


class _Connection:
    """Is a connection in a task of its own."""

    def __init__(self, address: Address, settings: dict[str, Any]) -> None:
        self.address = address
        self._inner = _connection_to(address, settings)
        self._scope = trio.CancelScope()
        self._begun = trio.Event()
        self._ended = trio.Event()
        self._problem: str | None = None
        self._made_at = trio.current_time()

    @classmethod
    async def open(cls, address: Address, **settings: Any) -> _Connection:
        """Return one that has been made, and is to be closed.

        Raises:
            TurnedAwayError: it cannot be made.
        """
        self = cls(address, settings)
        trio.lowlevel.spawn_system_task(self._run)
        try:
            await self._begun.wait()
        except BaseException:
            await self.aclose()  # noqa: ASYNC102  # shields itself
            raise
        if self._problem is not None:
            raise TurnedAwayError(self._problem)
        return self

    async def aclose(self) -> None:
        """Close it, which takes but a moment, also when this is cancelled."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return trio.current_time() - self._made_at

    @property
    def is_usable(self) -> bool:
        """Whether it has been made, and not been lost."""
        return self._inner.usable

    def started(self, _value: None = None) -> None:
        """Hear from coredis that it has been made."""
        self._begun.set()

    async def _run(self) -> None:
        """Make it, and read and write until it is closed or lost."""
        # Has no effect where it is there already.
        logging.getLogger("coredis").addFilter(_is_not_ours)
        # In the task's own context.
        _is_ours.set(True)
        try:
            with self._scope:
                await self._inner.run(task_status=self)
        except Exception as error:
            self._problem = f"{self.address}: {_words_of(error)}"
        finally:
            # Where there was no connection, coredis leaves them open.
            for buffer in vars(self._inner).values():
                if isinstance(buffer, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    buffer.close()
            self._begun.set()
            self._ended.set()

    async def ask(self, command: bytes, *args: str | int) -> object:
        """Return the answer to a command.

        Raises:
            StoreError: there is none, or it is an error.
        """
        return await self._in_words(lambda: self._inner.create_request(command, *args))

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Have the server tell of what is published."""

        async def ask() -> None:
            # It is answered by a message, as if there were news, and with an error alone by an
            # answer. So the answer to what follows is taken for its own.
            answer = self._inner.create_request(b"SUBSCRIBE", *channels)
            self._inner.send_command(b"PING")
            await answer
            await self._hear()

        await self._in_words(ask)

    async def wait_for_news(self) -> None:
        """Return when there was a message since the last time."""
        await self._in_words(self._hear)

    async def _hear(self) -> None:
        while True:
            with trio.move_on_after(IDLE):
                async with aclosing(self._inner.push_messages) as messages:
                    async for _ in messages:
                        # All that have come are one piece of news.
                        if self._inner.reusable:
                            return
            await self._inner.create_request(b"PING")

    async def _in_words(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what comes of a call, or raise what goes wrong in words of ours."""
        try:
            return await call()
        except Exception as error:
            failure = _failure_of(error, self.address)
        try:
            raise failure
        finally:
            # A frame and an exception that hold each other are left to the collector.
            del failure


def _connection_to(address: Address, settings: dict[str, Any]) -> BaseConnection:
    settings = {
        **settings,
        "connect_timeout": CONNECT_TIMEOUT,
        "username": address.username,
        "password": address.password,
        "client_name": address.client_name,
        "db": address.db,
        "ssl_context": address.tls,
    }
    if address.path is not None:
        return UnixDomainSocketConnection(UnixDomainSocketLocation(address.path), **settings)
    return TCPConnection(TCPLocation(address.host, address.port), **settings)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    """Keep quiet what coredis logs of our connections.

    It logs each that fails, at ERROR and with a traceback; here it is said once.
    """
    return not _is_ours.get()


# What goes wrong


def _failure_of(error: BaseException, address: Address) -> StoreError:
    """Return what went wrong with a connection that had been made."""
    error = _root_of(error)
    code = _code_of(error)
    is_lost = type(error) is exceptions.ConnectionError
    words = f"{address}: {_LOST_WORDS if is_lost else _words_of(error)}"
    if isinstance(error, exceptions.MovedError):
        # Without a host, it is the one that has said so.
        host = error.host or address.host or "127.0.0.1"
        there = attrs.evolve(address, path=None, host=host, port=error.port)
        return TurnedAwayError(words, there)
    if code in _LATER:
        return TurnedAwayError(words, later=True)
    return TurnedAwayError(words) if code in _ELSEWHERE else StoreError(words)


def _words_of(error: BaseException) -> str:
    """Return what went wrong in words that show no secret.

    An answer's code alone: some servers quote in an error what they were sent.
    """
    error = _root_of(error)
    code = _code_of(error)
    if code is not None:
        return f"answers {code}"
    if isinstance(error, _LOST):
        return _LOST_WORDS
    if isinstance(error, socket.gaierror):
        return "the host's name cannot be looked up"
    # Of OpenSSL, about the certificate.
    said = getattr(error, "verify_message", None)
    return f"the request failed ({type(error).__name__}{f', {said}' if said else ''})"


def _root_of(error: BaseException) -> BaseException:
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def _code_of(error: BaseException) -> str | None:
    """Return the code of an error that a server has answered."""
    kind = type(error)
    if kind is not exceptions.ResponseError:
        return _CODES.get(kind)
    # One for which coredis has no class.
    answer = str(error)
    # A script's user lacks a right; in the words of Redis 6, and of those after it.
    if "can't run this command" in answer or answer.startswith("ACL failure"):
        return "NOPERM"
    # Redis 6 says where in a script it was first.
    code = re.match(r"[A-Z]{3,}\b", answer) or re.search(r"(?<=: )-?[A-Z]{3,}\b", answer)
    return code.group().removeprefix("-") if code else "ERR"
