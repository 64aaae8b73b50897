"""Responses of the server, and the errors that end the checks of a request with one."""

from __future__ import annotations

import json

import attrs

_COOKIE = "box_visitor_id=0123456789; Path=/; Domain=.box.com; Secure; HttpOnly"

CHALLENGE = 'Basic realm="Service"'
"""The ``WWW-Authenticate`` header of each refusal of a client with status 401."""


@attrs.frozen
class Answer:
    """A response.

    Attributes:
        status: the status.
        body: the body.
        headers: the headers.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class RefusedError(Exception):
    """The error that ends the checks of a request with an OAuth error response."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        fields = {"error": error, "error_description": description}
        challenge = (("WWW-Authenticate", CHALLENGE),) if status == 401 else ()
        self.answer = json_answer(fields, status, challenge)


def json_answer(
    fields: object, status: int = 200, more_headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """Return a JSON response."""
    headers = (
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("Pragma", "no-cache"),
        ("Set-Cookie", _COOKIE),
    )
    return Answer(status, json.dumps(fields).encode(), headers + more_headers)
