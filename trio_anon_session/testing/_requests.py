"""How the server reads a request: its body, within limits, and its form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import trio

from ._answers import RefusedError

if TYPE_CHECKING:
    import httpx

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_LIMIT = 64 * 1024
"""Bytes. A request with a larger body is answered with 413."""
DRAIN_LIMIT = 16 * 1024 * 1024
"""Maximum bytes that are read of a too large body, so that its sender reads the response."""
DRAIN_TIME = 10.0
"""Maximum seconds for reading such a body."""


def read_form(headers: httpx.Headers, body: bytes | None) -> dict[str, str]:
    """Return the form fields of a request.

    Raises:
        RefusedError: the body is too large, or not form-encoded, or repeats a field.
    """
    if body is None:
        raise RefusedError("invalid_request", "The body is too large", 413)
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError("invalid_request", "The body is not form-encoded")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise RefusedError("invalid_request", "The body is not form-encoded") from None
    # RFC 6749 §3.2: empty parameters count as omitted, and repeated ones are invalid.
    pairs = [(name, value) for name, value in pairs if value]
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if any(name != "resource" for name in repeated):
        raise RefusedError("invalid_request", "A parameter is repeated")
    return dict(pairs)


async def read_body(receive: Receive) -> bytes | None:
    """Return the body of a request, or None if it exceeds the limit."""
    body = bytearray()
    while True:
        message = await receive()
        part = message.get("body", b"")
        if len(body) + len(part) > BODY_LIMIT:
            body.clear()
            if message.get("more_body", False):
                del message, part
                await _drain(receive)
            return None
        body += part
        if not message.get("more_body", False):
            return bytes(body)


async def _drain(receive: Receive) -> None:
    """Read and discard the rest of a request, up to a limit of size and time."""
    size = 0
    with trio.move_on_after(DRAIN_TIME):
        while size <= DRAIN_LIMIT:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                return
