"""Connections to a Valkey or Redis server, with coredis.

How this works
    A connection of coredis is a task; each ends with the other. We run it as a Trio system task. So
    its end cannot cancel a nursery of the caller, and one function can open the store and another
    close it. An error in the task ends the connection. A request that was waiting
    receives a `StoreError`.

    Each request uses its connection exclusively. While the store is open, the connection is kept
    for the next request, which then takes one round trip. After a cancellation or an error the
    connection is closed. So no request receives the answer to another one, and the host name is
    looked up again.

    Errors of coredis are replaced by a `StoreError`, raised outside of every ``except`` block. The
    original error and its frames could show the password or a record.
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

from ._answers import AnswerTooLargeError, LimitedStream
from ._protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from anyio.abc import ByteStream

    from ._address import Address

T = TypeVar("T")

CONNECT_TIMEOUT = 1.0
"""Time limit for connecting in seconds. The caller limits everything else."""
IDLE_TIMEOUT = 60
"""Seconds without a request, after which a connection is closed. A process sends a few requests in
a row and then none for most of a token's life, and routers forget idle connections."""
RENEW_AFTER = 10.0
"""Seconds after which a connection is replaced. The host name may point to another server by then,
and all processes must use the same server."""
LISTEN_TIMEOUT = 2.0
"""Time limit in seconds for each answer on a subscribed connection, which has no other limit."""
PING_AFTER = 5.0
"""Seconds without news, after which a subscribed connection is tested with a PING."""

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
"""Error codes of the server. coredis removes the code and raises one of these classes instead."""
_OTHER_CODES = ("BUSY", "DENIED", "EXECABORT", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM")
"""Error codes that coredis leaves in the text of the answer."""
_CODE = re.compile(
    rf"(?:^|: )-?({'|'.join({*_CODES.values(), *_OTHER_CODES} - {'ERR unknown command'})})\b"
)
"""A known code at its place in an error answer. An unknown first word could be a secret."""
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_:.-]{0,252}")
"""A host name or an IP address."""
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
_LOST_WORDS = "the connection was lost"

_RETRY_CODES = ("ASK", "TRYAGAIN")
"""Answers while a slot is moved. Neither server runs a script with several keys then."""
_OTHER_SERVER_CODES = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY")
"""Answers of a server that refuses the request. Another server may accept it."""

_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)


class NotExecutedError(StoreError):
    """Error of a server that has not run the request. The request can be sent again.

    Attributes:
        address: the server that has the keys, as named by a server of the cluster; None if
            unknown.
        later: whether to retry with the same server after a pause.
    """

    def __init__(self, words: str, address: Address | None = None, *, later: bool = False) -> None:
        self.address = address
        self.later = later
        super().__init__(words)


class Connections:
    """The connections of a store in one Trio run. An open store keeps one for each server."""

    def __init__(self) -> None:
        self._users = 0
        self._kept: dict[Address, _Connection] = {}

    def open(self) -> None:
        """Keep connections until `aclose` was called as often as this."""
        self._users += 1

    async def aclose(self) -> None:
        """Close the kept connections, if this is the last of the calls."""
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
        """Run a script at the server, and return its answer as decoded by coredis.

        Args:
            address: address of the server.
            script: the script.
            keys: keys of the script.
            args: arguments of the script.
            max_age: maximum age of the connection in seconds.

        Raises:
            NotExecutedError: the server has not run the script.
            StoreError: there was no answer, or the answer is an error.
        """
        words = script, len(keys), *keys, *args
        if address in self._kept:
            # Let the task of the connection notice if the server has closed it.
            for _ in range(2):
                await trio.lowlevel.checkpoint()
        kept = await self._take(address, max_age)
        if kept is not None:
            try:
                return await self._ask(kept, words)
            except NotExecutedError as error:
                if error.later or error.address is not None:
                    raise
            # The host name may point to another server by now, so connect again.
        return await self._ask(await _Connection.open(address, max_idle_time=IDLE_TIMEOUT), words)

    async def _take(self, address: Address, max_age: float) -> _Connection | None:
        """Return the kept connection if the request can use it, and close it if it is too old."""
        kept = self._kept.get(address)
        # If the connection is too old only for this request, keep it for other requests.
        if kept is None or max_age <= kept.age < RENEW_AFTER:
            return None
        del self._kept[address]
        if kept.age < RENEW_AFTER:
            return kept if kept.is_usable else None
        await kept.aclose()
        return None

    async def _keep(self, connection: _Connection) -> None:
        """Keep a connection. If the server then has two, close the older one."""
        other = self._kept.get(connection.address)
        if other is not None and other.age < connection.age:
            connection, other = other, connection
        self._kept[connection.address] = connection
        if other is not None:
            await other.aclose()

    async def _ask(self, connection: _Connection, words: Sequence[str | int]) -> object:
        is_well = False
        try:
            answer = await connection.evaluate(*words)
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
    """Subscribe to channels during the block, at the first server that answers.

    The value is an async function. It returns when a message has arrived since its last call.

    Raises:
        StoreError: the server refused the subscription. The function raises it if the
            subscription was lost.
    """
    for address in addresses:
        try:
            connection = await _Connection.open(address, stream_timeout=LISTEN_TIMEOUT)
            break
        except NotExecutedError:
            if address is addresses[-1]:
                raise
    try:
        await connection.subscribe(channels)
        yield connection.wait_for_news
    finally:
        await connection.aclose()  # noqa: ASYNC102  # shields itself


class _Connection:
    """A connection, which runs in its own task."""

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
        """Return an open connection. The caller must close it.

        Raises:
            NotExecutedError: the connection failed.
        """
        self = cls(address, settings)
        trio.lowlevel.spawn_system_task(self._run)
        try:
            await self._begun.wait()
        except BaseException:
            await self.aclose()  # noqa: ASYNC102  # shields itself
            raise
        if self._problem is not None:
            raise NotExecutedError(self._problem)
        return self

    async def aclose(self) -> None:
        """Close the connection, also if this is cancelled. This never waits for the server."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    @property
    def age(self) -> float:
        """Seconds since the connection was opened."""
        return trio.current_time() - self._made_at

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open."""
        return self._inner.usable

    def started(self, _value: None = None) -> None:
        """Record that the connection is open. coredis calls this."""
        self._begun.set()

    async def _run(self) -> None:
        """Open the connection, then read and write until it is closed or lost."""
        # Adding the same filter again has no effect.
        logging.getLogger("coredis").addFilter(_is_not_ours)
        # This changes only the context of this task.
        _is_ours.set(True)
        try:
            with self._scope:
                await self._inner.run(task_status=self)
        except Exception as error:
            self._problem = f"{self.address}: {_words_of(error)}"
        finally:
            # coredis leaves these open if the connection failed.
            for buffer in vars(self._inner).values():
                if isinstance(buffer, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    buffer.close()
            self._begun.set()
            self._ended.set()

    async def ask(self, command: bytes, *args: str | int) -> object:
        """Return the answer to a command.

        Raises:
            StoreError: there was no answer, or the answer is an error.
        """
        return await self._with_safe_errors(lambda: self._inner.create_request(command, *args))

    async def evaluate(self, *words: str | int) -> object:
        """Return the answer of a script.

        If the server redirects the request, ask it for the slot map of its cluster. The host in a
        redirect could be any word, and following it sends that word to name servers.

        Raises:
            NotExecutedError: the server has not run the script. If the error has an address, the
                slot map lists it.
            StoreError: there was no answer, or the answer is an error.
        """
        try:
            return await self.ask(b"EVAL", *words)
        except NotExecutedError as error:
            if error.address is None:
                raise
            moved, there = str(error), error.address
        try:
            is_listed = _is_listed(await self.ask(b"CLUSTER", "SLOTS"), there, self.address)
        except StoreError as error:
            why = str(error).removeprefix(f"{self.address}: ")
            moved += f", and its slot map cannot be read: {why}"
        else:
            if is_listed:
                raise NotExecutedError(moved, there)
            moved += ", to a server that its slot map does not list"
        # Raised outside of the except blocks, so that it has no context.
        raise NotExecutedError(moved)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to channels."""

        async def ask() -> None:
            # After a success, the server confirms SUBSCRIBE with a pushed message, and sends no
            # answer. So send a PING too, whose answer completes the request.
            answer = self._inner.create_request(b"SUBSCRIBE", *channels)
            self._inner.send_command(b"PING")
            await answer
            await self._wait_for_message()

        await self._with_safe_errors(ask)

    async def wait_for_news(self) -> None:
        """Return when a message has arrived since the last call."""
        await self._with_safe_errors(self._wait_for_message)

    async def _wait_for_message(self) -> None:
        while True:
            with trio.move_on_after(PING_AFTER):
                async with aclosing(self._inner.push_messages) as messages:
                    async for _ in messages:
                        # All messages that have arrived count as one.
                        if self._inner.reusable:
                            return
            await self._inner.create_request(b"PING")

    async def _with_safe_errors(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call, or raise a `StoreError` without secrets."""
        try:
            return await call()
        except Exception as error:
            failure = _failure_of(error, self.address)
        try:
            raise failure
        finally:
            # Break the reference cycle between this frame and the exception.
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
        return _LimitedSocket(UnixDomainSocketLocation(address.path), **settings)
    return _LimitedTCP(TCPLocation(address.host, address.port), **settings)


class _LimitedTCP(TCPConnection):
    async def _connect(self) -> ByteStream:
        return LimitedStream(await super()._connect(), lambda: _count_unread(self))


class _LimitedSocket(UnixDomainSocketConnection):
    async def _connect(self) -> ByteStream:
        return LimitedStream(await super()._connect(), lambda: _count_unread(self))


def _count_unread(connection: BaseConnection) -> int:
    """Return the number of messages that no task has read, and of answers to no request."""
    buffers = connection._push_message_buffer_in, connection._streamed_message_buffer_in
    return sum(buffer.statistics().current_buffer_used for buffer in buffers)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    """Filter out the log records of coredis about our connections.

    coredis logs each failed connection at ERROR with a traceback. The manager logs it once.
    """
    return not _is_ours.get()


# Errors


def _failure_of(error: BaseException, address: Address) -> StoreError:
    """Return the error for a request on an open connection."""
    error = _root_of(error)
    code = _code_of(error)
    is_lost = type(error) is exceptions.ConnectionError
    words = f"{address}: {_LOST_WORDS if is_lost else _words_of(error)}"
    if isinstance(error, exceptions.MovedError):
        # If the answer has no host, it means the server that sent it.
        host = error.host or _host_of(address)
        there = attrs.evolve(address, path=None, host=host, port=error.port)
        return NotExecutedError(words, there)
    if code in _RETRY_CODES:
        return NotExecutedError(words, later=True)
    return NotExecutedError(words) if code in _OTHER_SERVER_CODES else StoreError(words)


def _host_of(address: Address) -> str:
    return address.host or "127.0.0.1"


def _is_listed(slot_map: object, there: Address, here: Address) -> bool:
    """Return whether an answer to CLUSTER SLOTS lists a server, and the host can be looked up."""
    host, password = there.host, there.password
    # A shorter password can be a part of a host name by chance.
    is_quote = password is not None and len(password) >= 8 and password.lower() in host.lower()
    if not _HOST.fullmatch(host) or is_quote or not isinstance(slot_map, list):
        return False
    for entry in slot_map:
        # An entry has the first and the last slot, and then servers: host, port and more.
        for server in entry[2:] if isinstance(entry, list) else ():
            if not isinstance(server, list) or len(server) < 2 or server[1] != there.port:
                continue
            # Without a host it means the server that sent the answer.
            listed = server[0] or _host_of(here).encode()
            if isinstance(listed, bytes) and listed.decode(errors="replace") == host:
                return True
    return False


def _words_of(error: BaseException) -> str:
    """Return the description of an error, without secrets.

    Of an error answer it shows only the code, because some servers quote the request.
    """
    error = _root_of(error)
    code = _code_of(error)
    if code is not None:
        return f"answers {code}"
    if isinstance(error, _LOST):
        return _LOST_WORDS
    if isinstance(error, AnswerTooLargeError):
        return "sent an answer that is too large"
    if isinstance(error, socket.gaierror):
        return "the host's name cannot be looked up"
    # If OpenSSL rejected a certificate, this is its reason.
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
    """Return the code of an error answer; None for any other error."""
    kind = type(error)
    if kind is not exceptions.ResponseError:
        return _CODES.get(kind)
    # coredis has no class for this code.
    answer = str(error)
    # Redis 6 and later versions send these texts if the user has no permission to run the script.
    if "can't run this command" in answer or answer.startswith("ACL failure"):
        return "NOPERM"
    # Redis 6 begins the text with the position in the script.
    code = _CODE.search(answer)
    return code[1] if code else "ERR"
