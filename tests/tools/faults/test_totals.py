"""Limits of an attempt, a body, and the end of a session, whatever the server does."""

from __future__ import annotations

import gzip
import math
import tracemalloc
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import Getter, make_config
from tests.wire import listening
from tools.faults.places import open_in_process
from tools.faults.rows import (
    CONNECTION,
    FRAMING,
    GOOD_BODY,
    HEAD,
    MIB,
    ROWS,
    SLOWNESS,
    UNAVAILABLE,
    Row,
    answer,
)
from tools.faults.wire import CHUNK, Wire
from trio_anon_session import (
    AnonymousSession,
    SessionClosedError,
    TokenManager,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tools.faults.places import Place

REAL_TIME_LIMIT = 60.0
"""Seconds after which a test on sockets fails."""

rows = st.sampled_from([row for row in ROWS if "in process" in row.where])


def with_wire(wire: Wire) -> Row:
    """Return a row whose fault is only on the wire."""
    return Row("", UNAVAILABLE, wire=wire)


def with_fault(fault: Fault) -> Row:
    """Return a row whose fault is only in the answer."""
    return Row("", UNAVAILABLE, fault)


async def attempt(place: Place, *, limit: float = 30.0) -> str:
    """Make one attempt, which gets the fault, and return its token or its error."""
    await place.begin_attempt(is_faulty=True)
    manager = TokenManager(place.config({"request_timeout": limit}), http_client=place.client)
    try:
        return (await manager.get_tokens_client_credentials_grant()).access_token
    except TokenUnavailableError as error:
        return str(error)


WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD_BODY) + GOOD_BODY

delays = st.one_of(
    st.just(0.0), st.floats(0.0, 1.0), st.floats(0.0, 20.0), st.just(31.0), st.just(math.inf)
)


@st.composite
def drips(draw: st.DrawFn) -> tuple[tuple[float, bytes], ...]:
    """Draw interim answers and a good answer, cut anywhere, with any delay before each piece."""
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * draw(st.integers(0, 3))
    text = interim + WHOLE
    cuts = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
    return tuple((draw(delays), piece) for piece in pieces)


@given(drip=drips(), limit=st.sampled_from([0.5, 5.0, 30.0]))
@virtual_time
async def test_attempt_ends_within_its_limit(
    drip: tuple[tuple[float, bytes], ...], limit: float
) -> None:
    """An attempt ends with a complete answer in time, or at its limit."""
    takes = sum(delay for delay, _ in drip)
    async with open_in_process(with_wire(Wire(script=drip))) as place:
        began_at = trio.current_time()
        outcome = await attempt(place, limit=limit)
        took = trio.current_time() - began_at

    assert took == pytest.approx(min(takes, limit))
    if takes != pytest.approx(limit):
        assert (outcome == "replaced") is (takes < limit)


MANY = 101
"""More than the connections that an httpx client may have."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        row
        for row in (*CONNECTION, *FRAMING, *SLOWNESS)
        if "in process" in row.where and row.held == UNAVAILABLE
    ],
    ids=lambda row: row.name,
)
async def test_failures_use_up_no_connections(row: Row, autojump_clock: MockClock) -> None:
    """After 101 failed attempts, the next one still gets a connection."""
    async with open_in_process(row) as place:
        for _ in range(MANY):
            await attempt(place)
        await place.begin_attempt(is_faulty=False)
        await TokenManager(
            place.config({}), http_client=place.client
        ).get_tokens_client_credentials_grant()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(("size", "is_taken"), [(MIB, True), (MIB + 1, False)])
async def test_body_of_1_mib_is_the_largest(
    packing: str, size: int, is_taken: bool, autojump_clock: MockClock
) -> None:
    """A body of 1 MiB when unpacked is read, and one byte more is refused."""
    body = PACKINGS[packing](GOOD_BODY.ljust(size))
    async with open_in_process(with_fault(answer(body, Content_Encoding=packing))) as place:
        outcome = await attempt(place)

    assert outcome == "replaced" if is_taken else "sent more than 1048576 bytes" in outcome


@pytest.mark.parametrize("is_bomb", [False, True])
async def test_a_body_that_is_too_large_is_not_read_further(
    is_bomb: bool, autojump_clock: MockClock
) -> None:
    """Of a body of 50 MB, the session reads only as far as the limit."""
    fault = Fault()
    if is_bomb:
        fault = answer(gzip.compress(bytes(2 * MIB)), Content_Encoding="gzip")
    row = attrs.evolve(with_fault(fault), wire=Wire(padding=50_000_000))
    async with open_in_process(row) as place:
        outcome = await attempt(place)

        assert "sent more than 1048576 bytes" in outcome
        assert place.wire.bytes_sent <= (0 if is_bomb else MIB) + 2 * CHUNK


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
async def test_bomb_is_not_unpacked(packing: str, autojump_clock: MockClock) -> None:
    """A compressed body of 16 MiB is refused without being unpacked in memory."""
    body = PACKINGS[packing](bytes(16 * MIB))
    async with open_in_process(with_fault(answer(body, Content_Encoding=packing))) as place:
        tracemalloc.start()
        try:
            outcome = await attempt(place)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert "sent more than 1048576 bytes" in outcome
    assert peak < 8 * MIB


@given(
    row=rows,
    after=st.floats(0.0, 100.0),
    leaving=st.sampled_from(["return", "exception", "cancellation"]),
    is_stale=st.booleans(),
    shutdown_timeout=st.none() | st.floats(0.1, 100.0),
)
@virtual_time
async def test_leaving_is_limited_by_the_revocation(
    row: Row, after: float, leaving: str, is_stale: bool, shutdown_timeout: float | None
) -> None:
    """Leaving a block takes no time, or at most ``shutdown_timeout`` to revoke the token."""
    getter = Getter()
    settings: dict[str, Any] = {"stale_buffer": 1800.0}
    if shutdown_timeout is not None:
        settings |= {"revoke_on_exit": True, "shutdown_timeout": shutdown_timeout}
    async with open_in_process(row) as place:
        config = place.config(settings)
        manager = TokenManager(config, http_client=place.client)
        await place.begin_attempt(is_faulty=not is_stale)
        left_at = math.nan
        async with trio.open_nursery() as nursery:
            with suppress(ZeroDivisionError), trio.CancelScope() as scope:
                async with AnonymousSession(config, manager) as session:
                    if is_stale:
                        await session.get_access_token()
                        await place.begin_attempt(is_faulty=True)
                        await trio.sleep(1800.0)
                    nursery.start_soon(getter.run, session)
                    await trio.sleep(after)
                    left_at = trio.current_time()
                    if leaving == "exception":
                        raise ZeroDivisionError
                    if leaving == "cancellation":
                        scope.cancel()
                        await trio.sleep_forever()
        took = trio.current_time() - left_at
    if shutdown_timeout is None:
        assert took == 0.0
    else:
        assert took <= shutdown_timeout + 1e-6
    assert getter.token or isinstance(getter.error, SessionClosedError | TokenRequestError)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["http", "https", "proxy"])
async def test_no_socket_survives_an_endpoint_that_hangs(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving the block closes the connection to an endpoint that hangs, also in a handshake."""
    began, ended = trio.Event(), trio.Event()

    async def say_nothing(stream: trio.SocketStream) -> None:
        said = await stream.receive_some()
        if said.startswith(b"CONNECT "):
            await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
            await stream.receive_some()
        began.set()
        while await stream.receive_some():
            pass
        ended.set()

    with trio.fail_after(REAL_TIME_LIMIT):
        async with listening(say_nothing) as port, trio.open_nursery() as nursery:
            root_url = f"{way}://127.0.0.1:{port}"
            if way == "proxy":
                monkeypatch.setenv("HTTPS_PROXY", root_url.replace("proxy", "http"))
                root_url = "https://token.invalid"
            # The timeout is longer than the test may take, so only leaving the block can end the
            # attempt.
            config = make_config(api_root_url=root_url, request_timeout=2 * REAL_TIME_LIMIT)
            async with AnonymousSession(config) as session:
                nursery.start_soon(Getter().run, session)
                await began.wait()
            await ended.wait()
