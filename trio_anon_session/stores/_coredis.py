"""Where a Valkey or Redis server is asked, by way of coredis.

How this works
    A client of coredis opens a task group. What a block around it raises comes out in a group,
    and a connection that breaks cancels the block. So no client is open around anybody else's
    code: `ask` has one for a single question, and `subscribe` has one in a task of its own,
    which says by an event what came of it.

    What goes wrong becomes words of ours, outside of every ``except`` block: an error of
    coredis, and the frames that it holds, may show the password or what was to be kept.
"""

from __future__ import annotations

import logging
import re
from contextlib import aclosing, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import attrs
import coredis
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)
from coredis.exceptions import MovedError, RedisError
from coredis.pool import ConnectionPool
from coredis.retry import NoRetryPolicy

from .._nursery import end_nursery
from ._protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from coredis.patterns.pubsub import PubSub

    from ._address import Address

CONNECT_TIMEOUT = 1.0
"""Seconds for a connection to be made; for all else it is up to whoever asks."""
LISTEN_TIMEOUT = 2.0
"""Seconds for each answer on a connection that waits for news, which nobody else limits."""
IDLE = 5.0
"""Seconds without news, after which such a connection is tried out."""

_CODES = {
    "AskError": "ASK",
    "AuthenticationFailureError": "WRONGPASS",
    "AuthenticationRequiredError": "NOAUTH",
    "AuthorizationError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MovedError": "MOVED",
    "NoScriptError": "NOSCRIPT",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
    "UnknownCommandError": "ERR unknown command",
    "WrongTypeError": "WRONGTYPE",
}
"""The server's words for what coredis has classes for, and takes them off."""

_LOST = ("BrokenResourceError", "ClosedResourceError", "EndOfStream")


class ElsewhereError(Exception):
    """Tells that another server of a cluster has the keys.

    Attributes:
        address: where that is.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        super().__init__()


_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)


async def ask(
    address: Address, script: str, keys: Sequence[str], args: Sequence[str | int]
) -> object:
    """Run a script at the server, and return its answer as coredis has read it.

    A connection is made for it. A process asks a few times in a token's life, and one that is
    kept for that long has to be watched, and tried out, and made again by then.

    Raises:
        ElsewhereError: it says that another one has the keys.
        StoreError: there is no answer, or it is an error.
    """
    problem: str | None = None
    elsewhere: Address | None = None
    answer: object = None
    interrupt: BaseException | None = None
    try:
        with _unlogged():
            async with _open_client(address) as client:
                try:
                    answer = await client.eval(script, keys, args)
                except MovedError as error:
                    elsewhere = _moved(address, error)
                except Exception as error:
                    problem = _words_of(error)
    except Exception as error:
        problem = problem or _words_of(error)
    except BaseException as error:  # noqa: ASYNC103  # raised below, without its group and frames
        interrupt = _without_group(error)
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            # A frame and an exception that hold each other are left to the collector.
            del interrupt
    if problem is not None:
        # A cancellation that meets coredis while it greets the server comes out as an error.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise StoreError(f"{address}: {problem}")
    if elsewhere is not None:
        raise ElsewhereError(elsewhere)
    return answer


def _moved(address: Address, error: MovedError) -> Address:
    """Return where a server of a cluster says that the keys are."""
    # Without a host, it is the one that has said so.
    host = error.host or address.host or "127.0.0.1"
    return attrs.evolve(address, path=None, host=host, port=error.port)


@asynccontextmanager
async def subscribe(address: Address, channel: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hear what is published while the block lasts.

    The value, called and awaited, returns when there was something since the last time.

    Raises:
        StoreError: the server does not serve that; from the value: it does not any more.
    """
    news = _News()
    manager = trio.open_nursery(strict_exception_groups=True)
    nursery = await manager.__aenter__()
    try:
        nursery.start_soon(_hear, address, channel, news)
        await news.begun.wait()
        news.check()
        yield news.wait
    finally:
        # It is shielded, and all that it waits for has been cancelled.
        crash = await end_nursery(manager, nursery)  # noqa: ASYNC102
        if crash is not None:
            # An interrupt, which may come to any task.
            raise crash


class _News:
    """Is what one task hears and another waits for."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self._told = trio.Event()
        self._problem: str | None = None

    def tell(self) -> None:
        self._told.set()

    def end(self, problem: str) -> None:
        """Have everybody told from now on that nothing more will be heard."""
        self._problem = problem
        self._told.set()
        self.begun.set()

    def check(self) -> None:
        if self._problem is not None:
            raise StoreError(self._problem)

    async def wait(self) -> None:
        await self._told.wait()
        self.check()
        self._told = trio.Event()


async def _hear(address: Address, channel: str, news: _News) -> None:
    """Tell of what is published, and at last why there is no more."""
    problem = "the subscription ended"
    interrupt: BaseException | None = None
    try:
        with _unlogged():
            async with (
                _open_client(address, stream_timeout=LISTEN_TIMEOUT) as client,
                client.pubsub(
                    ignore_subscribe_messages=True,
                    retry_policy=NoRetryPolicy(),
                    subscription_timeout=LISTEN_TIMEOUT,
                    max_idle_seconds=IDLE,
                ) as pubsub,
            ):
                await _begin(pubsub, channel)
                news.begun.set()
                async for _message in pubsub:
                    news.tell()
    except Exception as error:
        problem = _words_of(error)
    except BaseException as error:  # noqa: ASYNC103  # raised below, without its group and frames
        interrupt = _without_group(error)
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            del interrupt
    news.end(f"{address}: {problem}")


async def _begin(pubsub: PubSub[bytes], channel: str) -> None:
    """Subscribe to a channel, or raise what the server says to that."""
    refusal: RedisError | None = None

    async def watch() -> None:
        nonlocal refusal
        # To coredis an error is no answer to a subscription, and it waits on.
        async with aclosing(pubsub.connection.streamed_messages) as messages:
            async for message in messages:
                if isinstance(message, RedisError):
                    refusal = message
                    nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await pubsub.subscribe(channel)
        nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal


def _open_client(address: Address, **settings: Any) -> coredis.Redis[bytes]:
    """Return a client to be entered, which tries nothing twice."""
    location: TCPLocation | UnixDomainSocketLocation
    kind: type[BaseConnection]
    if address.path is not None:
        location, kind = UnixDomainSocketLocation(address.path), _UnixConnection
    else:
        location, kind = TCPLocation(address.host, address.port), _TCPConnection
    pool: ConnectionPool[Any] = ConnectionPool(
        connection_class=kind,
        location=location,
        max_connections=1,
        connect_timeout=CONNECT_TIMEOUT,
        username=address.username,
        password=address.password,
        client_name=address.client_name,
        db=address.db,
        ssl_context=address.tls,
        **settings,
    )
    # Whether a proxy's version is one that coredis can read is no concern of the user's.
    return coredis.Redis(connection_pool=pool, retry_policy=NoRetryPolicy(), verify_version=False)


class _Closing(BaseConnection):
    """Closes its buffers also where there was no connection: coredis leaves them open then."""

    async def run(self, **kwargs: Any) -> None:
        try:
            await super().run(**kwargs)
        except RedisError as error:
            # Some versions of Trio take its cause off, on the way to the task that waits.
            error.add_note(_words_of(error))
            raise
        finally:
            for buffer in vars(self).values():
                if isinstance(buffer, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    buffer.close()


class _TCPConnection(_Closing, TCPConnection):
    pass


class _UnixConnection(_Closing, UnixDomainSocketConnection):
    pass


# What goes wrong


def _words_of(error: BaseException) -> str:
    """Return what went wrong in words that show no secret.

    An answer's code alone: some servers quote in an error what they were sent.
    """
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            break
    notes = getattr(error, "__notes__", None)
    if notes:
        return str(notes[0])
    name = type(error).__name__
    if name in _LOST:
        return "the connection was lost"
    if name == "gaierror":
        return "the host's name cannot be looked up"
    if name in _CODES:
        return f"answers {_CODES[name]}"
    if name == "ResponseError":
        return f"answers {_code_in(str(error))}"
    # Of OpenSSL, about the certificate.
    said = getattr(error, "verify_message", None)
    return f"cannot be asked ({name}{f', {said}' if said else ''})"


def _code_in(answer: str) -> str:
    """Return the code of an error for which coredis has no class."""
    # A script's user lacks a right; in the words of Redis 6, and of those after it.
    if "can't run this command" in answer or answer.startswith("ACL failure"):
        return "NOPERM"
    # Redis 6 says where in a script it was first.
    code = re.match(r"[A-Z]{3,}\b", answer) or re.search(r"(?<=: )-?[A-Z]{3,}\b", answer)
    return code.group().removeprefix("-") if code else "ERR"


def _without_group(error: BaseException) -> BaseException:
    """Return a cancellation or an interrupt as itself, without groups and frames.

    Those hold the password, and what was sent.
    """
    leaves, todo = [], [error]
    while todo:
        each = todo.pop()
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions
        elif not isinstance(each, Exception):
            leaves.append(each)
    # An interrupt, if there is one: a cancellation comes again.
    leaves.sort(key=lambda leaf: isinstance(leaf, trio.Cancelled))
    bare = leaves[0]
    bare.__cause__ = bare.__context__ = bare.__traceback__ = None
    return bare


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _is_ours.get()


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep quiet what coredis logs of connections made in the block.

    It logs each that fails, at ERROR and with a traceback; here it is said once.
    """
    # Has no effect where it is there already.
    logging.getLogger("coredis").addFilter(_is_not_ours)
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)
