"""Faults of the embedded server as plain data: what fails, and at which request."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

from ._answers import CHALLENGE
from ._problems import DESCRIPTIONS, AssertionProblem

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
    """The fault of one request. Attributes with their defaults change nothing.

    The server processes a request when it arrives, and the lifetime of a new token starts
    then. A delay makes the response late and the token older.

    Attributes:
        delay: seconds before the headers are sent; infinity never sends them.
        status: status of the response; if set, the server grants, revokes and looks up nothing.
        headers: additional headers, which replace headers of the same name.
        body: raw body; if set, the server grants, revokes and looks up nothing.
        fields: fields of the JSON token response, each as JSON text, so that ``"NaN"`` and
            ``"1e400"`` are possible; None removes the field.
        lifetime: actual lifetime of the granted token, in seconds.
        prefix: raw bytes before the body, such as a byte order mark.
        keep: number of bytes of the body that are sent.
        stall: seconds of a pause in the middle of the body; infinity never continues.
        cut: where the connection breaks. In process, the client gets httpx's error for
            it. ASGI cannot cut a socket before the headers, so the client gets an empty
            500 instead.
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
        """Whether the server sends this answer without processing the request."""
        return self.status is not None or self.body is not None

    @classmethod
    def hang(cls) -> Fault:
        """Return a fault that never answers."""
        return cls(delay=math.inf)

    @classmethod
    def rate_limited(
        cls, retry_after: str | None = None, *, shape: Literal["A", "B"] = "B"
    ) -> Fault:
        """Return a fault that answers 429 in OAuth's (A) or Box's (B) format."""
        return cls(
            status=429,
            headers={} if retry_after is None else {"Retry-After": retry_after},
            body=json.dumps(RATE_LIMIT_A if shape == "A" else RATE_LIMIT_B).encode(),
        )

    @classmethod
    def server_error(cls, status: int = 500, *, retry_after: str | None = None) -> Fault:
        """Return a fault that answers with a page of HTML without details.

        Raises:
            ValueError: ``status`` is not from 400 to 599.
        """
        if not 400 <= status <= 599:
            raise ValueError(f"status must be an error from 400 to 599, got {status!r}")
        headers = {"Content-Type": "text/html"}
        if retry_after is not None:
            headers["Retry-After"] = retry_after
        page = f"<html><head><title>{status}</title></head><body>Oops</body></html>"
        return cls(status=status, headers=headers, body=page.encode())

    @classmethod
    def refusal(cls, error: str, description: str = "", *, status: int = 400) -> Fault:
        """Return a fault that answers with an OAuth error (RFC 6749 §5.2)."""
        answer = {"error": error, "error_description": description}
        return cls(status=status, body=json.dumps(answer).encode())

    @classmethod
    def assertion_refused(cls, problem: AssertionProblem) -> Fault:
        """Return a fault that answers as :class:`TokenServer` does to a wrong assertion.

        Args:
            problem: the failed check: ``"type"`` (``client_assertion_type``), ``"malformed"``,
                ``"client"``, ``"algorithm"``, ``"unknown_key"``, ``"signature"``,
                ``"missing_claim"``, ``"issuer"``, ``"subject"``, ``"audience"``, ``"expired"``,
                ``"too_long"``, ``"from_the_future"`` or ``"replayed"``.

        Raises:
            ValueError: ``problem`` is another text.
        """
        if problem not in DESCRIPTIONS:
            raise ValueError(f"problem must be one of {', '.join(DESCRIPTIONS)}, got {problem!r}")
        refusal = cls.refusal("invalid_client", DESCRIPTIONS[problem], status=401)
        return attrs.evolve(refusal, headers={"WWW-Authenticate": CHALLENGE})

    @classmethod
    def redirect(cls, location: str, *, status: int = 302) -> Fault:
        """Return a fault that redirects the client."""
        return cls(status=status, headers={"Location": location}, body=b"")


def _faults(value: Iterable[Fault | None]) -> tuple[Fault | None, ...]:
    # The validator names the attribute that is not iterable.
    return tuple(value) if isinstance(value, Iterable) else value


def _check_faults(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    expected = f"{attribute.name} must be a list of Fault or None, such as [Fault.hang()]"
    if not isinstance(value, tuple):
        raise TypeError(f"{expected}, not {type(value).__name__}")
    for number, fault in enumerate(value):
        if not isinstance(fault, Fault | None):
            raise TypeError(f"{expected}; {attribute.name}[{number}] is {type(fault).__name__}")


def _check_fault(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Fault | None):
        raise TypeError(f"{attribute.name} must be a Fault or None, not {type(value).__name__}")


@attrs.frozen(kw_only=True)
class FaultPlan:
    """The faults of all requests, as plain data.

    Attributes:
        token: faults of the first, second, … request to the token endpoint; None is no fault.
        token_then: fault of all later token requests.
        revoke: like ``token``, for the revocation endpoint.
        revoke_then: like ``token_then``, for the revocation endpoint.
        resource: like ``token``, for the protected resource.
        resource_then: like ``token_then``, for the protected resource.
    """

    token: tuple[Fault | None, ...] = attrs.field(
        default=(), converter=_faults, validator=_check_faults
    )
    token_then: Fault | None = attrs.field(default=None, validator=_check_fault)
    revoke: tuple[Fault | None, ...] = attrs.field(
        default=(), converter=_faults, validator=_check_faults
    )
    revoke_then: Fault | None = attrs.field(default=None, validator=_check_fault)
    resource: tuple[Fault | None, ...] = attrs.field(
        default=(), converter=_faults, validator=_check_faults
    )
    resource_then: Fault | None = attrs.field(default=None, validator=_check_fault)

    def fault_of(self, endpoint: Literal["token", "revoke", "resource"], nth: int) -> Fault:
        """Return the fault of request number ``nth``, counted from 0, to an endpoint."""
        planned: tuple[Fault | None, ...] = getattr(self, endpoint)
        then: Fault | None = getattr(self, f"{endpoint}_then")
        return (planned[nth] if nth < len(planned) else then) or NO_FAULT


NO_FAULT = Fault()
