"""`RedisStore`: for the processes of many machines, over Valkey or Redis."""

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
from ._sealing import NO_KEY, Sealing, is_sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from ._coredis import Connections
    from ._sealing import Key

_TURNS = 12
"""Times that servers are asked, one after the other, where the keys are."""
_PAUSE = 0.1
"""Seconds between two of them while the keys are moved; together less than a question may take."""
_MANY = 32
"""Servers that are remembered; of those that a cluster has had, none is forgotten before."""
PROVE_AFTER = 5.0
"""Seconds without news after which a subscription has to be proved."""
PROVED_BY = 1.0
"""Seconds; what proves a subscription is published on a connection that is no older, since an older
one may lead to a server to which the host's name no longer leads."""
_LONGEST = 2.0**31
"""Seconds; nothing is kept for longer, and no token lives longer."""


@with_quiet_init
class RedisStore(Unpicklable):
    """Keeps tokens in a Valkey or Redis server, for the processes of many machines.

    Needs the extra ``redis``: ``pip install 'trio_anon_session[redis]'``.

    Without an encryption key, whoever can read the server's memory, its dumps or its network
    can read the token. With one, the server and what lies between see nothing of it.

    All keys and channels of a token begin with ``tas:`` and are in one slot of a cluster. Of a
    cluster, the URL names any server, or several, and the one that has the slot is found and
    asked. While the slot is moved to another one, a question waits for a second at the most.

    A user of the server who may do what is needed and nothing else is made by

    .. code-block:: text

        ACL SETUSER tas reset resetchannels on >PASSWORD ~tas:* &tas:*
        ACL SETUSER tas +eval +type +del +hget +hset +hdel +set +exists
        ACL SETUSER tas +pttl +pexpire +time +publish +subscribe +ping

    With another database than 0, it needs ``+select`` as well, and with a ``client_name``,
    ``+client|setname``. Without ``publish``, ``subscribe`` or the channels, the processes are
    not told of new and dropped tokens, and look for themselves twice a second.

    Args:
        url: ``valkey://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DB]``, ``valkeys://…`` for
            TLS, the same with ``redis``, or ``unix://[[USER]:PASSWORD@]/PATH[?db=DB]``. Special
            characters of user and password are percent-encoded. Options: ``db`` and
            ``client_name``; with TLS ``ssl_ca_certs``, a file of authorities in place of the
            system's; ``ssl_certfile`` and ``ssl_keyfile``, to be known by;
            ``ssl_check_hostname=false`` and ``ssl_cert_reqs=none``, to check less.
        encryption_key: seals what is kept: 32 random bytes, or the same as text in base64, or
            a list of those. The first seals, all open, so that a new key is put in front of
            the old one in all processes, after it was added behind it in all.

    Raises:
        ConfigError: the URL or a key is none; nothing of it is shown.
        ImportError: the extra is not installed.
    """

    def __init__(self, url: str, *, encryption_key: Key | Sequence[Key] | None = None) -> None:
        self._addresses = Address.from_url(url)
        self._sealing: Sealing | None = None
        missing = None
        try:
            # Not before a store is made: most programs have none.
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
        # By the run of Trio, of which there may be one in each thread.
        self._connections: WeakKeyDictionary[trio.lowlevel.TrioToken, Connections] = (
            WeakKeyDictionary()
        )
        # In the order in which they are to be asked, also those that a cluster has told of.
        self._servers = list(self._addresses)
        # By name, those that have answered.
        self._owners: dict[str, Address] = {}

    def __repr__(self) -> str:
        sealed = "" if self._sealing is None else ", sealed"
        return f"<RedisStore at {self._where}{sealed}>"

    @property
    def _where(self) -> str:
        return ",".join(map(str, self._addresses))

    async def open(self) -> None:
        """See :meth:`TokenStore.open`. Connections are kept from one question to the next."""
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
            version, owner, lease, *others, dead = answer
            *token, failure_record, fence, failure_left = others
            leased_for = max(0.0, int(lease) / 1000)
            return Look(
                version=int(version),
                token=self._read_token(name, *token),
                leased_for=leased_for,
                owner=_text(owner) if owner is not None and leased_for else None,
                failure=self._read_failure(name, failure_record, fence, failure_left),
                dead=frozenset(mark for mark, is_dead in zip(marks, dead, strict=True) if is_dead),
            )
        except (TypeError, ValueError):
            pass
        # Outside of the except block: the error quotes the answer.
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
        record = self._seal(token.record, name, "token")
        # Rounded in such a way that no token seems to live longer.
        times = (
            repr(float(token.lifetime)),
            _milliseconds(token.lifetime),
            _milliseconds(token.age) + 1,
        )
        about = record, token.mark, *times, _channel(name)
        return await self._ask(_lua.PUT, name, (token.mark,), fence, *about) == 1

    @async_without_locals
    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """See :meth:`TokenStore.release`."""
        left = _milliseconds(pause + KEPT_AFTERWARDS)
        record = () if failure is None else (self._seal(failure, name, "failure"),)
        await self._ask(_lua.RELEASE, name, (), fence, left, _channel(name), *record)

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """See :meth:`TokenStore.drop`."""
        milliseconds = max(1, _milliseconds(seconds))
        await self._ask(_lua.DROP, name, (mark,), mark, milliseconds, _channel(name))

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """See :meth:`TokenStore.listen`. It keeps a connection of its own.

        A subscription can bring no news without any error: the user may not publish, the host's
        name leads to another server, or a router has forgotten the connection. So it is tested when
        it begins, and after five seconds without news: what this process publishes on a new
        connection has to arrive on this one.
        """
        own = f"{_prefix(name)}heard:{token_hex(8)}"
        async with self._server.subscribe(self._servers, _channel(name), own) as wait_for_message:

            async def prove() -> None:
                with trio.move_on_after(self._server.LISTEN_TIMEOUT) as limit:
                    await self._ask(_lua.PUBLISH, name, (), own, max_age=PROVED_BY)
                    await wait_for_message()
                if limit.cancelled_caught:
                    raise StoreError(f"{self._where}: published messages do not arrive")

            async def wait() -> None:
                with trio.move_on_after(PROVE_AFTER) as limit:
                    await wait_for_message()
                if limit.cancelled_caught:
                    await prove()

            await prove()
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
        turns = 0
        while True:
            turns += 1
            asked.add(address)
            try:
                return await self._ask_at(address, name, script, keys, args, max_age)
            except self._server.TurnedAwayError as error:
                others = (each for each in self._servers if each not in asked)
                elsewhere = address if error.later else error.address or next(others, None)
                if elsewhere is None or turns == _TURNS:
                    raise
                pause = _PAUSE if error.later else 0.0
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
            # The next time it is asked before all others, or after them.
            self._rank(address, is_first=has_answered)
            if has_answered:
                self._owners[name] = address
            else:
                self._owners.pop(name, None)

    def _connections_here(self) -> Connections:
        token = trio.lowlevel.current_trio_token()
        return self._connections.setdefault(token, self._server.Connections())

    def _rank(self, address: Address, *, is_first: bool) -> None:
        # Made anew, for there may be other threads.
        others = [each for each in self._servers if each != address]
        if len(others) >= _MANY:
            others = [each for each in self._addresses if each != address]
        self._servers = [address, *others] if is_first else [*others, address]

    def _read_token(
        self, name: str, record: bytes | None, mark: bytes | None, lifetime: bytes | None, left: int
    ) -> StoredToken | None:
        if record is None or mark is None or lifetime is None or left <= 0:
            return None
        try:
            seconds = float(lifetime)
        except ValueError:
            return None
        # One that has more life left than it ever had is from before the clock was set back.
        if not left / 1000 <= seconds < math.inf:
            return None
        opened = self._open(_text(record), name, "token")
        return StoredToken(opened, _text(mark), seconds, seconds - left / 1000)

    def _read_failure(
        self, name: str, record: bytes | None, fence: bytes | None, left: int
    ) -> StoredFailure | None:
        if record is None or fence is None or not fence.isdigit() or left <= 0:
            return None
        opened = self._open(_text(record), name, "failure")
        return StoredFailure(opened, int(fence), max(0.0, left / 1000 - KEPT_AFTERWARDS))

    def _seal(self, record: str, name: str, purpose: str) -> str:
        return record if self._sealing is None else self._sealing.seal(record, name, purpose)

    def _open(self, record: str, name: str, purpose: str) -> str:
        if self._sealing is not None:
            return self._sealing.open(record, name, purpose)
        if is_sealed(record):
            # Taken for garbage, it would be overwritten by each who has no key, in turns with
            # those who have one.
            raise StoreError(NO_KEY)
        return record


def _prefix(name: str) -> str:
    # What stands in braces alone decides on the slot in a cluster.
    return f"tas:{{{name}}}:"


def _channel(name: str) -> str:
    return f"{_prefix(name)}news"


def _text(found: bytes) -> str:
    return found.decode(errors="replace")


def _milliseconds(seconds: float) -> int:
    """Return whole milliseconds, rounded down."""
    return int(min(max(seconds, 0.0), _LONGEST) * 1000)
