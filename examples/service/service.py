"""A service that watches files at Box: one session, many workers.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
    python service.py 11111 22222 --every 60 --health-port 8765

The service looks up each file every minute, and logs which have changed. SIGTERM or SIGINT ends
it: running lookups get five seconds to finish, and a second signal ends it immediately.
``/live`` and ``/ready`` on the health port answer the probes of a supervisor.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import attrs
import httpx
import trio
from trio_util import move_on_when

from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    Event,
    RefreshFailed,
    SessionStatistics,
    StateChanged,
    TokenState,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

WORKERS = 10
LIMIT = 20.0
"""Seconds for one lookup, including the wait for a token."""
GRACE = 5.0
"""Seconds that running lookups get after the signal."""
REPORT_EVERY = 60.0

logger = logging.getLogger("service")


@attrs.define
class Figures:
    """The number of lookups that succeeded and failed."""

    looked_up: int = 0
    failed: int = 0


async def main(file_ids: Sequence[str], every: float, health_port: int) -> None:
    """Open session and client, and run the service until a signal comes."""
    config = Config.from_env().replace(revoke_on_exit=True)
    figures, stop = Figures(), trio.Event()
    async with (
        AnonymousSession(config, observers=[notify_on_call]) as session,
        open_client(session) as client,
    ):
        # Wrong credentials end the program here, before the first lookup.
        await session.get_access_token()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_on_signal, signals, stop, nursery.cancel_scope)
                answer = partial(answer_probe, session)
                serve = partial(trio.serve_tcp, answer, health_port, host="127.0.0.1")
                listeners = await nursery.start(serve)
                port = listeners[0].socket.getsockname()[1]
                logger.info("watching %d files; health on port %d", len(file_ids), port)
                nursery.start_soon(report, session, figures)
                await watch(client, file_ids, stop, figures, every=every)
                nursery.cancel_scope.cancel()
    logger.info("stopped; %d lookups, %d failed", figures.looked_up, figures.failed)


def open_client(
    session: AnonymousSession, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Return the client that all workers share."""
    return httpx.AsyncClient(
        base_url=session.config.api_root_url,
        auth=session.auth(),
        limits=httpx.Limits(max_connections=WORKERS),
        timeout=LIMIT,
        transport=transport,
    )


async def watch(
    client: httpx.AsyncClient,
    file_ids: Sequence[str],
    stop: trio.Event,
    figures: Figures,
    *,
    every: float,
    workers: int = WORKERS,
) -> None:
    """Look up every file, again and again, until ``stop`` is set.

    Args:
        client: a client for the API.
        file_ids: the ids of the files.
        stop: the event that ends the loop.
        figures: counts the lookups.
        every: seconds from one round to the next.
        workers: number of lookups at the same time.
    """
    etags: dict[str, str | None] = {}
    send, receive = trio.open_memory_channel[str](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hand_out, send, file_ids, every, stop)
        for _ in range(workers):
            nursery.start_soon(_work, receive.clone(), client, etags, figures)
        receive.close()
        await stop.wait()
        nursery.cancel_scope.deadline = trio.current_time() + GRACE


async def _hand_out(
    send: trio.MemorySendChannel[str], file_ids: Sequence[str], every: float, stop: trio.Event
) -> None:
    async with send, move_on_when(stop.wait):
        while True:
            next_round = trio.current_time() + every
            for file_id in file_ids:
                await send.send(file_id)
            await trio.sleep_until(next_round)


async def _work(
    receive: trio.MemoryReceiveChannel[str],
    client: httpx.AsyncClient,
    etags: dict[str, str | None],
    figures: Figures,
) -> None:
    async with receive:
        async for file_id in receive:
            try:
                # The timeouts of httpx limit each phase of a request, but not their sum.
                with trio.fail_after(LIMIT):
                    response = await client.get(f"/2.0/files/{file_id}")
                etag = response.raise_for_status().json().get("etag")
            # The session's errors are httpx.HTTPErrors. ValueError: the answer is not JSON.
            except (httpx.HTTPError, trio.TooSlowError, ValueError) as error:
                figures.failed += 1
                logger.warning("file %s: in the next round (%s)", file_id, type(error).__name__)
                continue
            figures.looked_up += 1
            if etags.setdefault(file_id, etag) != etag:
                logger.info("file %s has changed", file_id)
                etags[file_id] = etag


async def stop_on_signal(
    signals: AsyncIterator[int], stop: trio.Event, scope: trio.CancelScope
) -> None:
    """Set ``stop`` at the first signal, and cancel everything at the second."""
    async for _ in signals:
        if stop.is_set():
            scope.cancel()
        stop.set()


def notify_on_call(event: Event) -> None:
    """Log the events that need a person; the session's own log has the others."""
    match event:
        case RefreshFailed(retryable=False):
            logger.critical("retrying does not help: %s", event.error)
        case StateChanged(old=TokenState.STALE, new=TokenState.EXPIRED):
            logger.critical("the token has expired: lookups wait for a new one")


async def report(session: AnonymousSession, figures: Figures) -> None:
    """Log the state of the service once a minute."""
    while True:
        seen = session.statistics()
        logger.info(
            "token %s, %.0f s left; %d grants, %d failures; %d lookups, %d failed",
            seen.state.name,
            seen.expires_in or 0.0,
            seen.grants,
            seen.failures,
            figures.looked_up,
            figures.failed,
        )
        await trio.sleep(REPORT_EVERY)


def is_ready(seen: SessionStatistics) -> bool:
    """Return whether requests can succeed now. A parked session without a token is ready."""
    has_token = seen.state in (TokenState.FRESH, TokenState.STALE)
    return has_token or seen.consecutive_failures == 0


async def answer_probe(session: AnonymousSession, stream: trio.abc.Stream) -> None:
    """Answer one HTTP request with 200, or ``/ready`` with 503 if the service is not ready."""
    with trio.move_on_after(5.0):
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request and len(request) < 8192:
                received = await stream.receive_some()
                if not received:
                    return
                request += received
            seen = session.statistics()
            is_well = is_ready(seen) or not request.startswith(b"GET /ready ")
            body = json.dumps(seen.as_dict()).encode()
            status = b"200 OK" if is_well else b"503 Service Unavailable"
            await stream.send_all(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                b"Connection: close\r\n\r\n%b" % (status, len(body), body)
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Watch files at Box.")
    parser.add_argument("file_ids", nargs="+", metavar="FILE_ID")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two rounds")
    parser.add_argument("--health-port", type=int, default=0, help="on loopback; 0: a free one")
    args = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # httpx logs one line for each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        trio.run(main, args.file_ids, args.every, args.health_port)
    except AnonymousSessionError as error:
        sys.exit(f"service.py: {error}")
