"""Faults as plain data: what the embedded server does wrong, and at which request."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

RATE_LIMIT_A = {
    "error": "temporarily_unavailable",
    "error_description": "The request was rate limited, try again later",
}
RATE_LIMIT_B = {
    "type": "error",
    "status": 429,
    "code": "rate_limit_exceeded",
    "help_url": "",
    "message": "Request rate limit exceeded, please try again later",
    "request_id": "abcdef123456",
}


def _pairs(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(value.items() if isinstance(value, Mapping) else value)


def _check_seconds(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name} must be a number of seconds ≥ 0, got {value!r}")


@attrs.frozen(kw_only=True)
class Fault:
    """Is what goes wrong with one request. Everything that is left out goes right.

    A request is judged, and a new token's life begins, when it has arrived: a delay
    makes the answer late, and the token older.

    Attributes:
        delay: seconds before the headers; infinity hangs.
        status: the answer's status; with one, nothing is granted, revoked or looked up.
        headers: join the answer's own, or replace those of the same name.
        body: the raw body; with one, too, nothing is granted.
        fields: of the JSON answer to a grant, each as JSON text, so that ``"NaN"`` and
            ``"1e400"`` can be said; None takes the field away.
        lifetime: seconds that the token of this grant really lives.
        prefix: raw bytes before the body, such as a byte order mark.
        keep: how many bytes of the body are sent at all.
        stall: seconds in the middle of the body; infinity hangs.
        cut: where the connection breaks. In process the client sees httpx's error for
            it. On a socket there is no way in ASGI to cut before the headers, and the
            client gets a bare 500 instead.
    """

    delay: float = attrs.field(default=0.0, validator=_check_seconds)
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    body: bytes | None = None
    fields: Mapping[str, str | None] = attrs.field(factory=dict, hash=False)
    lifetime: float | None = None
    prefix: bytes = b""
    keep: int | None = None
    stall: float = attrs.field(default=0.0, validator=_check_seconds)
    cut: Literal["before_headers", "after_headers"] | None = None

    @property
    def replaces_answer(self) -> bool:
        """Whether the request is not looked at."""
        return self.status is not None or self.body is not None

    @classmethod
    def hang(cls) -> Fault:
        """Never answer."""
        return cls(delay=math.inf)

    @classmethod
    def rate_limited(
        cls, retry_after: str | None = None, *, shape: Literal["A", "B"] = "B"
    ) -> Fault:
        """Answer 429 in OAuth's (A) or Box's (B) shape, with this ``Retry-After``."""
        return cls(
            status=429,
            headers={} if retry_after is None else {"Retry-After": retry_after},
            body=json.dumps(RATE_LIMIT_A if shape == "A" else RATE_LIMIT_B).encode(),
        )

    @classmethod
    def server_error(cls, status: int = 500, *, retry_after: str | None = None) -> Fault:
        """Answer with a page of HTML that says nothing."""
        headers = {"Content-Type": "text/html"}
        if retry_after is not None:
            headers["Retry-After"] = retry_after
        page = f"<html><head><title>{status}</title></head><body>Oops</body></html>"
        return cls(status=status, headers=headers, body=page.encode())

    @classmethod
    def refusal(cls, error: str, description: str = "", *, status: int = 400) -> Fault:
        """Answer with an error of OAuth (RFC 6749 §5.2)."""
        answer = {"error": error, "error_description": description}
        return cls(status=status, body=json.dumps(answer).encode())

    @classmethod
    def redirect(cls, location: str, *, status: int = 302) -> Fault:
        """Send the client elsewhere."""
        return cls(status=status, headers={"Location": location}, body=b"")


def _faults(value: Iterable[Fault | None]) -> tuple[Fault | None, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class FaultPlan:
    """Tells which requests go wrong, and how. Plain data.

    Attributes:
        token: the fault of the first request to the token endpoint, of the second, and
            so on; None is a good one.
        token_then: the fault of all token requests after those.
        revoke: the same for the revocation endpoint.
        revoke_then: the same for the revocation endpoint.
        resource: the same for the protected resource.
        resource_then: the same for the protected resource.
    """

    token: tuple[Fault | None, ...] = attrs.field(default=(), converter=_faults)
    token_then: Fault | None = None
    revoke: tuple[Fault | None, ...] = attrs.field(default=(), converter=_faults)
    revoke_then: Fault | None = None
    resource: tuple[Fault | None, ...] = attrs.field(default=(), converter=_faults)
    resource_then: Fault | None = None

    def fault_of(self, endpoint: Literal["token", "revoke", "resource"], nth: int) -> Fault:
        """Return the fault of the request number ``nth``, counted from 0, to an endpoint."""
        planned: tuple[Fault | None, ...] = getattr(self, endpoint)
        then: Fault | None = getattr(self, f"{endpoint}_then")
        return (planned[nth] if nth < len(planned) else then) or NO_FAULT


NO_FAULT = Fault()
