"""How `TokenServer` reads a request: its path, method, form and size."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
import trio

from trio_anon_session.testing import Fault, FaultPlan, TokenServer
from trio_anon_session.testing._requests import DRAIN_LIMIT, DRAIN_TIME

from . import GRANT, ask_for_token, post, said, send, show

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from trio.testing import MockClock

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODY_LIMIT = 64 * 1024
FILE = "https://api.box.com/2.0/files/123"


@pytest.mark.parametrize("path", ["/", "/oauth2/token/", "/2.0", "/3.0/files/1"])
async def test_another_path_is_not_found(path: str, autojump_clock: MockClock) -> None:
    """A path that Box does not have answers 404, and the server records nothing."""
    server = TokenServer()

    answer = await post(server, path, data=GRANT)

    assert answer.status_code == 404
    assert (len(server.requests), len(server.presented), server.grants) == (0, 0, 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke"])
@pytest.mark.parametrize("planned", [None, Fault(status=500)])
async def test_only_post_is_allowed(
    path: str, method: str, planned: Fault | None, autojump_clock: MockClock
) -> None:
    """A method other than POST gets a 405, even if a fault is planned, and has no effect."""
    server = TokenServer(FaultPlan(token=[None, planned], revoke=[planned]))
    token = await ask_for_token(server)

    answer = await send(
        server, method, path, content=urlencode(GRANT | {"token": token}), headers=FORM
    )

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert (server.grants, server.revocations) == (1, 0)
    assert (await show(server, token)).status_code == 200


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke"])
@pytest.mark.parametrize(
    "request_body",
    [
        {"json": GRANT},
        {"files": {"file": b"contents"}, "data": GRANT},
        {"content": urlencode(GRANT)},
        {"content": urlencode(GRANT), "headers": {"Content-Type": "text/plain"}},
        {"content": b""},
        {"content": "client_id=é".encode(), "headers": FORM},
        {"content": b"client_id=%FF", "headers": FORM},
    ],
    ids=["json", "multipart", "no type", "text", "empty", "raw UTF-8", "no UTF-8"],
)
async def test_only_forms_are_read(
    path: str, request_body: dict[str, Any], autojump_clock: MockClock
) -> None:
    """A body that is not form-encoded is an invalid request."""
    server = TokenServer()

    answer = await post(server, path, **request_body)

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_request")
    assert server.grants == 0


@pytest.mark.parametrize("name", ["client_id", "anything"])
@pytest.mark.parametrize("again", ["test-client", "other"], ids=["same", "other"])
async def test_repeated_field_is_refused(name: str, again: str, autojump_clock: MockClock) -> None:
    """A repeated field makes the request invalid, even if both values are the same."""
    fields = urlencode({"anything": "test-client", **GRANT})

    answer = await post(TokenServer(), content=f"{fields}&{name}={again}", headers=FORM)

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/x-www-form-urlencoded; charset=utf-8", urlencode(GRANT)),
        ("Application/X-WWW-Form-Urlencoded", urlencode(GRANT)),
        (FORM["Content-Type"], f"{urlencode(GRANT)}&resource={quote(FILE)}&resource={quote(FILE)}"),
        (FORM["Content-Type"], f"client_id=&{urlencode(GRANT)}&client_id="),
    ],
    ids=["charset", "capitals", "more than one resource", "an empty field next to a full one"],
)
async def test_forms_that_are_read(kind: str, content: str, autojump_clock: MockClock) -> None:
    """The content type may have any spelling; resources may repeat; empty fields are ignored."""
    answer = await post(TokenServer(), content=content, headers={"Content-Type": kind})

    assert answer.status_code == 200


# The size of the body


@pytest.mark.parametrize("chunk", [1000, 10_000_000], ids=["in chunks", "in one piece"])
@pytest.mark.parametrize("excess", [0, 1, 1_000_000])
@pytest.mark.parametrize(
    ("path", "small"),
    [("/oauth2/token", 200), ("/oauth2/revoke", 200), ("/2.0/files/1", 401), ("/other", 404)],
)
async def test_body_size_is_capped_everywhere(
    path: str, small: int, excess: int, chunk: int, autojump_clock: MockClock
) -> None:
    """On each path, a body of 64 KiB is read; one byte more is refused and not recorded."""
    server = TokenServer()
    start = urlencode(GRANT) + "&padding="
    body = (start + "x" * (BODY_LIMIT + excess - len(start))).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for position in range(0, len(body), chunk):
            yield body[position : position + chunk]

    answer = await post(server, path, content=chunks(), headers=FORM)

    assert answer.status_code == (413 if excess else small)
    if excess:
        assert [request.fields for request in server.requests] in ([], [()])
        assert server.grants == 0
    if excess and path.startswith("/oauth2/"):
        assert said(answer)[0] == "invalid_request"


async def test_a_fault_has_priority_over_the_body_size(autojump_clock: MockClock) -> None:
    """A planned fault is the response even to a request whose body is too large."""
    down = Fault.server_error(503)
    server = TokenServer(FaultPlan(token=[down], resource=[down]))

    statuses = [
        (await post(server, path, content=b"x" * 10**6, headers=FORM)).status_code
        for path in ["/oauth2/token", "/2.0/files/1"] * 2
    ]

    assert statuses == [503, 503, 413, 413]


async def test_an_endless_body_is_refused(autojump_clock: MockClock) -> None:
    """The server reads a limited part of an endless body, keeps nothing of it, and answers 413."""
    given = 0
    answers: list[int] = []

    async def receive() -> dict[str, Any]:
        nonlocal given
        await trio.lowlevel.checkpoint()
        given += 2**20
        assert given < 10 * DRAIN_LIMIT
        return {"type": "http.request", "body": bytes(2**20), "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        answers.append(message.get("status", 0))

    scope = {"type": "http", "method": "POST", "path": "/oauth2/token"}
    tracemalloc.start()
    try:
        await TokenServer()(scope | {"query_string": b"", "headers": []}, receive, send)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answers == [413, 0]
    assert given <= DRAIN_LIMIT + 3 * 2**20
    # The server holds at most two pieces: the current one and the next one.
    assert peak < 3 * 2**20


async def test_a_slow_endless_body_is_refused(autojump_clock: MockClock) -> None:
    """The server waits ten seconds for the rest of a body that is too large, and answers 413."""

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * (BODY_LIMIT + 1)
        while True:
            await trio.sleep(1.0)
            yield b"x"

    with trio.fail_after(60.0):
        answer = await post(TokenServer(), content=body(), headers=FORM)

    assert answer.status_code == 413
    assert trio.current_time() == DRAIN_TIME


async def test_a_slow_small_body_is_read(autojump_clock: MockClock) -> None:
    """A body that is not too large may take 600 s to arrive."""

    async def body() -> AsyncIterator[bytes]:
        yield urlencode(GRANT).encode()
        await trio.sleep(600.0)
        yield b"&x=y"

    answer = await post(TokenServer(), content=body(), headers=FORM)

    assert answer.status_code == 200


async def test_websockets_are_refused() -> None:
    """The server refuses a WebSocket with NotImplementedError."""

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is to be received")

    async def send(message: object) -> None:
        raise AssertionError("nothing is to be sent")

    with pytest.raises(NotImplementedError, match="websocket"):
        await TokenServer()({"type": "websocket"}, receive, send)
