"""What the server records: issued tokens, and the requests that it has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    import httpx

Verdict = Literal["good", "expired", "revoked", "unknown", "missing", "malformed"]


@attrs.define
class IssuedToken:
    """A token that the server has issued.

    Attributes:
        access_token: the token; not in the repr.
        client_id: id of the client that it was issued to.
        issued_at: time of the grant, on Trio's clock.
        lifetime: seconds for which the server accepts it.
        scope: granted scope; None for all scopes of the client.
        revoked_at: time of the revocation, on Trio's clock; None if not revoked.
        is_downscoped: whether it was issued by a token exchange.
    """

    access_token: str = attrs.field(repr=False)
    client_id: str
    issued_at: float
    lifetime: float
    scope: str | None = None
    revoked_at: float | None = None
    is_downscoped: bool = False

    def left_at(self, now: float) -> float:
        """Return the remaining lifetime at a time, in seconds."""
        return self.issued_at + self.lifetime - now

    def verdict_at(self, now: float) -> Verdict:
        """Return the verdict of the server on the token at a time."""
        if self.revoked_at is not None and now >= self.revoked_at:
            return "revoked"
        return "expired" if self.left_at(now) <= 0 else "good"


@attrs.frozen
class SeenRequest:
    """A recorded request to the token or revocation endpoint, with secrets masked.

    Attributes:
        at: time of arrival, on Trio's clock.
        path: path of the URL.
        fields: form fields in their order, including repeated ones.
        headers: headers; not in the repr.
        query: query of the URL.
    """

    at: float
    path: str
    fields: tuple[tuple[str, str], ...]
    headers: httpx.Headers = attrs.field(repr=False)
    query: str = ""

    @property
    def form(self) -> dict[str, str]:
        """Form fields by name."""
        return dict(self.fields)


@attrs.frozen
class Presented:
    """A recorded request to the protected resource, with the server's verdict on its token.

    Attributes:
        at: time of arrival, on Trio's clock.
        verdict: verdict of the server.
        access_token: the presented token, not in the repr; None without a bearer token.
    """

    at: float
    verdict: Verdict
    access_token: str | None = attrs.field(repr=False)
