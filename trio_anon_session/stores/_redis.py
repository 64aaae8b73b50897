"""`RedisStore`, for the processes of many machines, with Valkey or Redis."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import trio

from .._secrets import Unpicklable, async_without_locals, with_quiet_init
from . import _lua
from ._address import Address
from ._entry import KEPT_AFTERWARDS
from ._protocol import Look, StoredFailure, StoredToken, StoreError
from ._sealing import NO_KEY, MisplacedRecordError, Sealing, is_sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from ._coredis import Connections
    from ._sealing import Key

_MAX_TRIES = 12
"""Maximum number of tries of one request, at one server or several."""
_RETRY_PAUSE = 0.1
"""Seconds between two tries while a slot is moved. All pauses take less than `STORE_TIMEOUT`."""
_MAX_SERVERS = 32
"""Maximum number of remembered servers, including former servers of a cluster."""
TEST_AFTER = 5.0
"""Seconds without news after which the subscription is tested."""
TEST_MAX_AGE = 1.0
"""Maximum age in seconds of the connection that publishes the test message. An older connection may
still lead to a server to which the host name no longer points."""
_MAX_LATENESS = 1.0
"""Seconds by which the key of an encrypted token may outlive the end to which it is bound."""
_MISPLACED = StoredToken("", "", 0.0, 0.0)
"""Shown instead of a token whose record does not fit. No process uses it, and the next token
replaces it."""
_MAX_DURATION = 2.0**31
"""Maximum duration in seconds. No token lives longer."""


@with_quiet_init
class RedisStore(Unpicklable):
    """A store in a Valkey or Redis server, for the processes of many machines.

    Needs the extra ``redis``: ``pip install 'trio_anon_session[redis]'``.

    Without an encryption key, anyone with access to the server's memory, dumps or network can
    read the token. With a key, neither the server nor the network can.

    All keys and channels of a token begin with ``tas:`` and are in one slot of a cluster. For a
    cluster, the URL names one or more of its servers. The store finds the server that has the
    slot. While the cluster moves the slot, a request waits for at most a second.

    These commands create a server user with only the necessary rights:

    .. code-block:: text

        ACL SETUSER tas reset resetchannels on >PASSWORD ~tas:* &tas:*
        ACL SETUSER tas +eval +type +del +hget +hset +hdel +set +exists
        ACL SETUSER tas +pttl +pexpire +time +publish +subscribe +ping

    For a database other than 0, add ``+select``. For a ``client_name``, add ``+client|setname``.
    For a cluster, add ``+cluster|slots``, or name all of its servers in the URL: the store
    follows a redirect only to a server that the cluster's slot map lists.
    Without ``publish``, ``subscribe`` or the channels, the processes get no notifications. They
    poll the server two to four times a second instead.

    Args:
        url: ``valkey://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DB]``, ``valkeys://…`` for
            TLS, ``redis://…`` and ``rediss://…`` with the same meaning, or
            ``unix://[[USER]:PASSWORD@]/PATH[?db=DB]``. Percent-encode special characters in user
            and password. Options: ``db`` and ``client_name``; with TLS also ``ssl_ca_certs``, a
            file of certificate authorities that replaces the system's; ``ssl_certfile`` and
            ``ssl_keyfile``, the client certificate; ``ssl_check_hostname=false`` and
            ``ssl_cert_reqs=none``, which turn checks off.
        encryption_key: encrypts the records: 32 random bytes, the same in base64, or a list of
            such keys. The first key encrypts, and all keys decrypt. To change the key, first add
            the new key at the end of the list in all processes, then move it to the front.

    Raises:
        ConfigError: ``url`` or a key is invalid. The message shows no part of it.
        ImportError: the extra is not installed.
    """

    def __init__(self, url: str, *, encryption_key: Key | Sequence[Key] | None = None) -> None:
        self._addresses = Address.from_url(url)
        self._sealing: Sealing | None = None
        missing = None
        try:
            # Imported here, because most programs use no RedisStore.
            from . import _coredis

            if encryption_key is not None:
                self._sealing = Sealing(encryption_key)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in ("coredis", "cryptography"):
                raise
        if missing is not None:
            raise ImportError(
                f"RedisStore needs {missing}: pip install 'trio_anon_session[redis]'",
                name=missing,
            )
        self._server = _coredis
        # Each thread can have its own Trio run, and each run has its own connections.
        self._connections: WeakKeyDictionary[trio.lowlevel.TrioToken, Connections] = (
            WeakKeyDictionary()
        )
        # The servers, in the order in which the next request tries them. A cluster can add servers.
        self._servers = list(self._addresses)
        # The server that answered last, for each name.
        self._owners: dict[str, Address] = {}

    def __repr__(self) -> str:
        sealed = "" if self._sealing is None else ", sealed"
        return f"<RedisStore at {self._where}{sealed}>"

    @property
    def _where(self) -> str:
        return ",".join(map(str, self._addresses))

    async def open(self) -> None:
        """See :meth:`TokenStore.open`. An open store keeps connections between requests."""
        self._connections_here().open()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See :meth:`TokenStore.aclose`."""
        await self._connections_here().aclose()

    @async_without_locals
    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """See :meth:`TokenStore.look`."""
        marks = tuple(marks)
        answer: Any = await self._ask(_lua.LOOK, name, marks)
        try:
            # Unpacking a long text would take much memory.
            parts: Any = answer if isinstance(answer, list) else ()
            version, owner, lease, *others, dead, token_fence, ends, now = parts
            *token, failure_record, fence, failure_left = others
            leased_for = max(0.0, int(lease) / 1000)
            return Look(
                version=int(version),
                token=self._read_token(name, *token, fence=token_fence, ends=ends, now=int(now)),
                leased_for=leased_for,
                owner=_text(owner) if owner is not None and leased_for else None,
                failure=self._read_failure(name, failure_record, fence, failure_left),
                dead=frozenset(mark for mark, is_dead in zip(marks, dead, strict=True) if is_dead),
            )
        except (AttributeError, TypeError, ValueError):
            pass
        # Raised outside of the except block: the context would quote the answer.
        raise StoreError(f"{self._where}: sent an answer in an unknown format")

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """See :meth:`TokenStore.claim`."""
        fence = await self._ask(_lua.CLAIM, name, (), owner, seen, max(1, _milliseconds(seconds)))
        return fence if isinstance(fence, int) else None

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """See :meth:`TokenStore.renew`."""
        return await self._ask(_lua.RENEW, name, (), fence, max(1, _milliseconds(seconds))) == 1

    @async_without_locals
    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """See :meth:`TokenStore.put`."""
        # Round so that the token never seems to live longer.
        times = (
            repr(float(token.lifetime)),
            _milliseconds(token.lifetime),
            _milliseconds(token.age) + 1,
        )
        ends = ""
        if self._sealing is not None:
            # The record is bound to its end by the server's clock, so that no copy lives longer.
            now = await self._ask(_lua.TIME, name, ())
            if not isinstance(now, int):
                raise StoreError(f"{self._where}: sent an answer in an unknown format")
            ends = str(now + times[1] - times[2])
        facts = token.mark, times[0], str(fence), ends
        record = self._seal(token.record, name, "token", *facts)
        about = record, token.mark, *times, ends, _channel(name)
        return await self._ask(_lua.PUT, name, (token.mark,), fence, *about) == 1

    @async_without_locals
    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """See :meth:`TokenStore.release`."""
        left = _milliseconds(pause + KEPT_AFTERWARDS)
        record = () if failure is None else (self._seal(failure, name, "failure", str(fence)),)
        await self._ask(_lua.RELEASE, name, (), fence, left, _channel(name), *record)

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """See :meth:`TokenStore.drop`."""
        milliseconds = max(1, _milliseconds(seconds))
        await self._ask(_lua.DROP, name, (mark,), mark, milliseconds, _channel(name))

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """See :meth:`TokenStore.listen`. It uses a separate connection.

        A subscription can fail without an error: the user has no right to publish, the host name
        points to another server, or a router has dropped the connection. So the store tests it at
        the start, and after five seconds without news: a message that this process publishes on a
        new connection must arrive.
        """
        own = f"{_prefix(name)}heard:{token_hex(8)}"
        async with self._server.subscribe(self._servers, _channel(name), own) as wait_for_message:

            async def test_subscription() -> None:
                with trio.move_on_after(self._server.LISTEN_TIMEOUT) as limit:
                    await self._ask(_lua.PUBLISH, name, (), own, max_age=TEST_MAX_AGE)
                    await wait_for_message()
                if limit.cancelled_caught:
                    raise StoreError(f"{self._where}: published messages do not arrive")

            async def wait() -> None:
                with trio.move_on_after(TEST_AFTER) as limit:
                    await wait_for_message()
                if limit.cancelled_caught:
                    await test_subscription()

            await test_subscription()
            yield wait

    async def _ask(
        self,
        script: str,
        name: str,
        marks: Collection[str],
        *args: str | int,
        max_age: float = math.inf,
    ) -> object:
        parts = *_lua.KEYS, *(f"dead:{mark}" for mark in marks)
        keys = [f"{_prefix(name)}{part}" for part in parts]
        asked: set[Address] = set()
        address = self._owners.get(name, self._servers[0])
        tries = 0
        while True:
            tries += 1
            asked.add(address)
            try:
                return await self._ask_at(address, name, script, keys, args, max_age)
            except self._server.NotExecutedError as error:
                others = (each for each in self._servers if each not in asked)
                elsewhere = address if error.later else error.address or next(others, None)
                if elsewhere is None or tries == _MAX_TRIES:
                    raise
                pause = _RETRY_PAUSE if error.later else 0.0
            address = elsewhere
            await trio.sleep(pause)

    async def _ask_at(
        self,
        address: Address,
        name: str,
        script: str,
        keys: list[str],
        args: Sequence[str | int],
        max_age: float,
    ) -> object:
        has_answered = False
        try:
            answer = await self._connections_here().ask(address, script, keys, args, max_age)
            has_answered = True
            return answer
        finally:
            # The next request tries this server first after a success, and last after a failure.
            self._rank(address, is_first=has_answered)
            if has_answered:
                self._owners[name] = address
            else:
                self._owners.pop(name, None)

    def _connections_here(self) -> Connections:
        token = trio.lowlevel.current_trio_token()
        return self._connections.setdefault(token, self._server.Connections())

    def _rank(self, address: Address, *, is_first: bool) -> None:
        # Replace the list instead of changing it, because other threads may read it.
        others = [each for each in self._servers if each != address]
        if len(others) >= _MAX_SERVERS:
            others = [each for each in self._addresses if each != address]
        self._servers = [address, *others] if is_first else [*others, address]

    def _read_token(
        self,
        name: str,
        record: bytes | None,
        mark: bytes | None,
        lifetime: bytes | None,
        left: int,
        *,
        fence: bytes | None,
        ends: bytes | None,
        now: int,
    ) -> StoredToken | None:
        if record is None:
            return None
        opened = _text(record)
        if self._sealing is not None or is_sealed(opened):
            # A record in the format of an earlier version has no fence and no end: it is refused.
            facts = [_text(fact or b"") for fact in (mark, lifetime, fence, ends)]
            try:
                opened = self._open(opened, name, "token", *facts)
            except MisplacedRecordError:
                return _MISPLACED
            # Checked only now, because the end is authentic.
            left_of_end = int(facts[-1]) - now
            if not 0 <= left <= left_of_end + _MAX_LATENESS * 1000:
                return _MISPLACED
            left = min(left, left_of_end)
        if mark is None or lifetime is None or left <= 0:
            return None
        try:
            seconds = float(lifetime)
        except ValueError:
            return None
        # If the remaining time is longer than the lifetime, the server's clock was set back.
        if not left / 1000 <= seconds < math.inf:
            return None
        return StoredToken(opened, _text(mark), seconds, seconds - left / 1000)

    def _read_failure(
        self, name: str, record: bytes | None, fence: bytes | None, left: int
    ) -> StoredFailure | None:
        if record is None or fence is None or not fence.isdigit() or left <= 0:
            return None
        try:
            opened = self._open(_text(record), name, "failure", _text(fence))
        except MisplacedRecordError:
            return None
        return StoredFailure(opened, int(fence), max(0.0, left / 1000 - KEPT_AFTERWARDS))

    def _seal(self, record: str, *place: str) -> str:
        return record if self._sealing is None else self._sealing.seal(record, *place)

    def _open(self, record: str, *place: str) -> str:
        if self._sealing is not None:
            return self._sealing.open(record, *place)
        if is_sealed(record):
            # Do not treat the record as invalid. Otherwise, processes with and without the key
            # would overwrite each other's tokens again and again.
            raise StoreError(NO_KEY)
        return record


def _prefix(name: str) -> str:
    # In a cluster, only the text in braces determines the slot.
    return f"tas:{{{name}}}:"


def _channel(name: str) -> str:
    return f"{_prefix(name)}news"


def _text(found: bytes) -> str:
    return found.decode(errors="replace")


def _milliseconds(seconds: float) -> int:
    """Return whole milliseconds, rounded down."""
    return int(min(max(seconds, 0.0), _MAX_DURATION) * 1000)
