"""The faults as plain data, one per row, and the expected outcome of each.

The tests assert the expected outcomes. The page is made from the measured ones.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, Literal

import attrs

from trio_anon_session.testing import Fault

from .wire import NO_WIRE, UNKNOWN_NAME, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "the token"
UNAVAILABLE = "`TokenUnavailableError`"
MALFORMED = "`MalformedTokenResponseError` 200"
REJECTED = "`CredentialsRejectedError`"
REFUSED = "`TokenRequestError`"

Where = Literal["in process", "real sockets"]
IN_PROCESS: tuple[Where, ...] = ("in process",)
ON_SOCKETS: tuple[Where, ...] = ("real sockets",)
BOTH = IN_PROCESS + ON_SOCKETS

MIB = 2**20


@attrs.frozen(eq=False)
class Row:
    """One fault.

    Attributes:
        name: what the server does, as on the page.
        held: what the waiting caller gets.
        recovered: when a session with a STALE token has a new token: seconds in virtual time.
        fault: what goes wrong with the answer.
        wire: what goes wrong below it.
        server: further settings of the `TokenServer`.
        attempts: how many requests the session makes for the waiting caller.
        hangs: whether each attempt ends only at its limit.
        says: a part of the error that only this fault causes, or the token.
        where: the kinds of place at which it runs.
    """

    name: str
    held: str
    recovered: float = attrs.field(kw_only=True)
    fault: Fault = attrs.field(factory=Fault)
    wire: Wire = attrs.field(default=NO_WIRE, kw_only=True)
    server: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    attempts: int = attrs.field(kw_only=True)
    hangs: bool = attrs.field(default=False, kw_only=True)
    says: str = attrs.field(default="", kw_only=True)
    where: tuple[Where, ...] = attrs.field(default=IN_PROCESS, kw_only=True)

    @recovered.default
    def _usual_end(self) -> float:
        # Two attempts fail, with pauses of 2 and 4 seconds after them.
        return 0.0 if self.held == TOKEN else 6.0

    @attempts.default
    def _usual_attempts(self) -> int:
        is_final = self.held == TOKEN or self.held.startswith((REJECTED, REFUSED))
        return 1 if is_final else 3


def token_answer(**fields: str | None) -> Fault:
    """Return a valid answer with some of its fields replaced by JSON text."""
    return Fault(fields=fields)


def answer(body: bytes, **headers: str) -> Fault:
    """Return an answer with status 200 and this body."""
    return Fault(
        body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def said(*pieces: bytes) -> Wire:
    """Return a server that sends this at any request, and closes the connection."""
    return Wire(script=tuple((0.0, piece) for piece in pieces))


def box_error(status: int, code: str) -> Fault:
    """Return an error in the shape of Box's API."""
    fields = {
        "type": "error",
        "status": status,
        "code": code,
        "message": "Words.",
        "request_id": "1",
    }
    return Fault(status=status, body=json.dumps(fields).encode())


GOOD_BODY = b'{"access_token": "replaced", "expires_in": 3600, "token_type": "bearer"}'
HTML = b"<html><head><title>Log in</title></head><body>Welcome to the hotel</body></html>"
BOMB = gzip.compress(bytes(32 * MIB), mtime=0)


CONNECTION = (
    Row(
        "Connection refused",
        UNAVAILABLE,
        wire=Wire(refuses=True),
        where=BOTH,
        says="ConnectError: ",
    ),
    Row(
        "Host name unknown",
        UNAVAILABLE,
        wire=Wire(name_is_unknown=True),
        where=ON_SOCKETS,
        says=UNKNOWN_NAME,
    ),
    Row(
        "Certificate of an unknown authority",
        UNAVAILABLE,
        wire=Wire(certificate="of an unknown authority"),
        where=ON_SOCKETS,
        says="certificate verify failed: unable to get local issuer certificate",
    ),
    Row(
        "Certificate for another name",
        UNAVAILABLE,
        wire=Wire(certificate="for another name"),
        where=ON_SOCKETS,
        says="certificate verify failed: IP address mismatch",
    ),
    Row(
        "Expired certificate",
        UNAVAILABLE,
        wire=Wire(certificate="of last year"),
        where=ON_SOCKETS,
        says="certificate verify failed: certificate has expired",
    ),
    Row(
        "Plain HTTP instead of TLS",
        UNAVAILABLE,
        wire=Wire(speaks_tls=False, script=((0.0, b"HTTP/1.1 400 Bad Request\r\n\r\n"),)),
        where=ON_SOCKETS,
        says="[SSL",
    ),
    Row(
        "Connection closed during the TLS handshake",
        UNAVAILABLE,
        wire=Wire(speaks_tls=False, script=()),
        where=ON_SOCKETS,
        says="ConnectError",
    ),
    Row(
        "Connection closed before the headers",
        UNAVAILABLE,
        Fault(cut="before_headers"),
        where=BOTH,
        says="Server disconnected",
    ),
    Row(
        "Connection closed after the headers",
        UNAVAILABLE,
        Fault(cut="after_headers"),
        where=BOTH,
        says="peer closed connection",
    ),
    Row(
        "Connection reset before the headers",
        UNAVAILABLE,
        wire=Wire(resets="before_headers"),
        where=ON_SOCKETS,
        says="ReadError",
    ),
    Row(
        "Connection reset after the headers",
        UNAVAILABLE,
        wire=Wire(resets="after_headers"),
        where=ON_SOCKETS,
        says="ReadError",
    ),
    Row(
        "Not HTTP",
        UNAVAILABLE,
        wire=said(b"220 mail.example ESMTP ready\r\n\r\n"),
        says="RemoteProtocolError: illegal status line",
        where=BOTH,
    ),
    Row(
        "Headers of 1 MiB",
        UNAVAILABLE,
        wire=said(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MIB),
        says="RemoteProtocolError",
        where=BOTH,
    ),
    Row(
        "Connections closed between token requests, without notice",
        TOKEN,
        wire=Wire(closes=True),
        where=BOTH,
    ),
    Row(
        "Server restarted on the same port before each token request",
        TOKEN,
        wire=Wire(restarts=True),
        where=BOTH,
    ),
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


FRAMING = (
    Row(
        "Chunked body, as Box sends it",
        TOKEN,
        wire=said(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            _chunk(GOOD_BODY[:20]),
            _chunk(GOOD_BODY[20:]),
            _chunk(b""),
        ),
        where=BOTH,
        says="replaced",
    ),
    Row(
        "Chunked body without its end",
        UNAVAILABLE,
        wire=said(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", _chunk(GOOD_BODY)),
        where=BOTH,
        says="RemoteProtocolError",
    ),
    Row(
        "Chunk length is not a number",
        UNAVAILABLE,
        wire=said(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"many\r\n"),
        says="RemoteProtocolError",
    ),
    Row(
        "Two `Content-Length` headers that differ",
        UNAVAILABLE,
        wire=said(HEAD + b"Content-Length: 9\r\nContent-Length: 7\r\n\r\n", GOOD_BODY),
        says="RemoteProtocolError",
    ),
    Row(
        "HTTP/1.0, body without a length",
        TOKEN,
        wire=said(b"HTTP/1.0 200 OK\r\n\r\n", GOOD_BODY),
        where=BOTH,
        says="replaced",
    ),
    Row(
        "Status 100 and 103 before the answer",
        TOKEN,
        wire=said(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
            HEAD + b"\r\n" + GOOD_BODY,
        ),
        says="replaced",
    ),
    Row(
        "Status 101, to another protocol",
        UNAVAILABLE,
        wire=said(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n" + GOOD_BODY),
    ),
)

# Each attempt may take 30 seconds, and two pauses follow: 30 + 2 + 30 + 4.
WELL_AFTER_HANGING = 66.0

SLOWNESS = (
    Row(
        "Accepts the connection, but not the TLS handshake",
        UNAVAILABLE,
        wire=Wire(speaks_tls=False),
        hangs=True,
        where=ON_SOCKETS,
        says="did not answer within",
    ),
    Row("Headers after 5 seconds", TOKEN, Fault(delay=5.0), recovered=5.0),
    Row("Pause of 5 seconds in the body", TOKEN, Fault(stall=5.0), recovered=5.0),
    Row(
        "Accepts the connection, and never answers",
        UNAVAILABLE,
        Fault.hang(),
        recovered=WELL_AFTER_HANGING,
        hangs=True,
        where=BOTH,
        says="did not answer within",
    ),
    Row(
        "Headers after 31 seconds",
        UNAVAILABLE,
        Fault(delay=31.0),
        recovered=WELL_AFTER_HANGING,
        hangs=True,
        where=BOTH,
        says="did not answer within",
    ),
    Row(
        "Headers and half of the body, then silence",
        UNAVAILABLE,
        Fault(stall=float("inf")),
        recovered=WELL_AFTER_HANGING,
        hangs=True,
        where=BOTH,
        says="did not answer within",
    ),
    Row(
        "One byte of the body per second",
        UNAVAILABLE,
        wire=Wire(drip=1.0),
        recovered=WELL_AFTER_HANGING,
        hangs=True,
        where=BOTH,
        says="did not answer within",
    ),
    Row(
        "One interim answer (102) per second",
        UNAVAILABLE,
        wire=Wire(script=((1.0, b"HTTP/1.1 102 Processing\r\n\r\n"),) * 1000),
        recovered=WELL_AFTER_HANGING,
        hangs=True,
        where=BOTH,
        says="did not answer within",
    ),
)

NOON, LATER = "Wed, 21 Oct 2026 12:00:00 GMT", "Wed, 21 Oct 2026 12:00:20 GMT"
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"

# The requested pause, in words and as a header; the server's `Date` if it matters; and after how
# many seconds the session has a new token. There are two such pauses, of at most a minute each,
# and requests are at least a second apart.
RETRY_AFTER: tuple[tuple[str, str | None, str | None, float], ...] = (
    ("no `Retry-After`", None, None, 6.0),
    ("`Retry-After: 7`", "7", None, 14.0),
    ("`Retry-After: 0`", "0", None, 2.0),
    ("`Retry-After: soon`", "soon", None, 6.0),
    ("`Retry-After: -5`", "-5", None, 6.0),
    ("`Retry-After` empty", "", None, 6.0),
    ("`Retry-After` of a year", "31536000", None, 120.0),
    ("`Retry-After` of 400 digits", "9" * 400, None, 120.0),
    ("`Retry-After` is 20 seconds after `Date`", LATER, NOON, 40.0),
    (
        "`Retry-After` is 20 seconds after `Date`, with a clock years behind",
        "Tue, 01 Jan 2002 00:00:20 GMT",
        "Tue, 01 Jan 2002 00:00:00 GMT",
        40.0,
    ),
    (
        "`Retry-After` is 20 seconds after `Date`, with a clock years ahead",
        "Thu, 01 Jan 2088 00:00:20 GMT",
        "Thu, 01 Jan 2088 00:00:00 GMT",
        40.0,
    ),
    ("`Retry-After` in the past", LONG_AGO, None, 2.0),
    ("`Retry-After` in the past, `Date` not a date", LONG_AGO, "yesterday", 2.0),
)


def _rate_limit(
    shape: Literal["A", "B"],
    words: str,
    retry_after: str | None,
    date: str | None,
    recovered: float,
) -> Row:
    fault = Fault.rate_limited(retry_after, shape=shape)
    if date is not None:
        fault = attrs.evolve(fault, headers=(*fault.headers, ("Date", date)))
    whose = "OAuth" if shape == "A" else "Box"
    code = "temporarily_unavailable" if shape == "A" else "rate_limit_exceeded"
    return Row(
        f"429 in {whose}'s format, {words}",
        f"{UNAVAILABLE} 429 `{code}`",
        fault,
        recovered=recovered,
        # The shapes differ only in the body, so one of them on sockets is enough.
        where=BOTH if shape == "B" else IN_PROCESS,
    )


RATE_LIMITS = (
    *(_rate_limit("B", *form) for form in RETRY_AFTER),
    *(_rate_limit("A", *form) for form in RETRY_AFTER),
    Row("429 in plain text", f"{UNAVAILABLE} 429", Fault(status=429, body=b"Slow down.")),
    Row(
        "Rate limit reported as 400 `invalid_request`",
        f"{REFUSED} 400 `invalid_request`",
        Fault.refusal("invalid_request", "You have exceeded the rate limit"),
    ),
)

SERVER_ERRORS = (
    Row("500 with a page of HTML", f"{UNAVAILABLE} 500", Fault.server_error(), where=BOTH),
    Row("502 with a page of HTML", f"{UNAVAILABLE} 502", Fault.server_error(502), where=BOTH),
    Row("503 with a page of HTML", f"{UNAVAILABLE} 503", Fault.server_error(503)),
    Row(
        "503, `Retry-After: 7`",
        f"{UNAVAILABLE} 503",
        Fault.server_error(503, retry_after="7"),
        recovered=14.0,
        where=BOTH,
    ),
    Row("504, empty", f"{UNAVAILABLE} 504", Fault(status=504, body=b"")),
    Row("408, empty", f"{UNAVAILABLE} 408", Fault(status=408, body=b"")),
    Row(
        "500 with Box's `internal_server_error`",
        f"{UNAVAILABLE} 500 `internal_server_error`",
        box_error(500, "internal_server_error"),
    ),
    Row(
        "503 with OAuth's `invalid_client`",
        f"{UNAVAILABLE} 503 `invalid_client`",
        Fault.refusal("invalid_client", status=503),
    ),
    Row(
        "400 with `temporarily_unavailable`",
        f"{UNAVAILABLE} 400 `temporarily_unavailable`",
        Fault.refusal("temporarily_unavailable"),
    ),
    Row("404 with a page of HTML", f"{REFUSED} 404", Fault.server_error(404)),
    Row("405, empty", f"{REFUSED} 405", Fault(status=405, body=b"")),
    Row(
        "302 to another origin; nothing is sent there",
        f"{REFUSED} 302",
        Fault.redirect("http://elsewhere.test/oauth2/token"),
        where=BOTH,
        says="redirects of token requests are never followed",
    ),
    Row("303 without a `Location`", f"{REFUSED} 303", Fault(status=303, body=b"")),
    Row(
        "302 with a `Location` that is not a URL",
        UNAVAILABLE,
        Fault.redirect("http://[::1/token"),
    ),
    Row(
        "307 to another origin; nothing is sent there",
        f"{REFUSED} 307",
        Fault.redirect("http://elsewhere.test/oauth2/token", status=307),
        where=BOTH,
        says="redirects of token requests are never followed",
    ),
)


def _refusal(status: int, code: str, kind: str) -> Row:
    return Row(
        f"{status} `{code}`", f"{kind} {status} `{code}`", Fault.refusal(code, status=status)
    )


BOX_ERRORS = (
    _refusal(400, "invalid_request", REFUSED),
    _refusal(400, "invalid_client", REJECTED),
    _refusal(401, "invalid_client", REJECTED),
    _refusal(400, "unauthorized_client", REJECTED),
    _refusal(400, "invalid_grant", REJECTED),
    _refusal(400, "invalid_resource", REFUSED),
    _refusal(400, "invalid_scope", REFUSED),
    _refusal(400, "invalid_token", REFUSED),
    _refusal(400, "unsupported_grant_type", REFUSED),
    _refusal(403, "access_denied", REJECTED),
    _refusal(403, "service_blocked", REJECTED),
    _refusal(403, "access_from_location_blocked", REJECTED),
    _refusal(403, "error_access_from_ip_not_allowed", REJECTED),
    _refusal(400, "account_deactivated", REFUSED),
    _refusal(400, "password_reset_required", REFUSED),
    _refusal(400, "terms_of_service_required", REFUSED),
    _refusal(400, "unauthorized_device", REFUSED),
    Row(
        "400 `invalid_grant` in Box's format",
        f"{REJECTED} 400 `invalid_grant`",
        box_error(400, "invalid_grant"),
    ),
    Row("401, empty", f"{REJECTED} 401", Fault(status=401, body=b"")),
    Row("403 with a page of HTML", f"{REJECTED} 403", Fault.server_error(403)),
)

BODIES = (
    Row("200, empty", MALFORMED, answer(b""), where=BOTH, says="the body is not a JSON object"),
    Row("204", "`MalformedTokenResponseError` 204", Fault(status=204, body=b"")),
    Row(
        "200 with a page of HTML",
        MALFORMED,
        answer(HTML, Content_Type="text/html"),
        where=BOTH,
        says="the body is not a JSON object",
    ),
    Row(
        "Truncated JSON",
        MALFORMED,
        Fault(keep=40),
        where=BOTH,
        says="the body is not a JSON object",
    ),
    Row("Byte order mark before the JSON", TOKEN, Fault(prefix=codecs.BOM_UTF8), where=BOTH),
    Row(
        "JSON in UTF-16",
        TOKEN,
        answer(GOOD_BODY.decode().encode("utf-16")),
        where=BOTH,
        says="replaced",
    ),
    Row("JSON as `text/plain`", TOKEN, Fault(headers={"Content-Type": "text/plain"}), where=BOTH),
    Row(
        "Form data instead of JSON",
        MALFORMED,
        answer(b"access_token=a&expires=3600", Content_Type="application/x-www-form-urlencoded"),
    ),
    Row(
        "JSON `null`", MALFORMED, answer(b"null"), where=BOTH, says="the body is not a JSON object"
    ),
    Row("JSON `[]`", MALFORMED, answer(b"[]"), where=BOTH, says="the body is not a JSON object"),
    Row("JSON `{}`", MALFORMED, answer(b"{}")),
    Row(
        "JSON 100,000 levels deep",
        MALFORMED,
        answer(b'{"access_token": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        where=BOTH,
        says="the body is not a JSON object",
    ),
    Row(
        "JSON with `access_token` twice; the last one counts",
        TOKEN,
        answer(GOOD_BODY[:-1] + b', "access_token": "last"}'),
        where=BOTH,
        says="last",
    ),
    Row(
        "200 with an OAuth error",
        f"{REJECTED} 200 `invalid_client`",
        Fault.refusal("invalid_client", status=200),
    ),
    Row(
        "200 with a temporary OAuth error",
        f"{UNAVAILABLE} 200 `temporarily_unavailable`",
        Fault.refusal("temporarily_unavailable", status=200),
    ),
    Row(
        "Body of 2 MiB",
        UNAVAILABLE,
        wire=Wire(padding=2 * MIB),
        says="sent more than 1048576 bytes",
    ),
    Row(
        "Body of 50 MB",
        UNAVAILABLE,
        wire=Wire(padding=50_000_000),
        where=BOTH,
        says="sent more than 1048576 bytes",
    ),
    Row(
        "gzip bomb, 32 MiB when decompressed",
        UNAVAILABLE,
        answer(BOMB, Content_Encoding="gzip"),
        where=BOTH,
        says="sent more than 1048576 bytes",
    ),
    Row(
        "gzip that was not requested",
        TOKEN,
        answer(gzip.compress(GOOD_BODY, mtime=0), Content_Encoding="gzip"),
        says="replaced",
    ),
    Row(
        "deflate that was not requested",
        TOKEN,
        answer(zlib.compress(GOOD_BODY), Content_Encoding="deflate"),
        says="replaced",
    ),
    Row(
        "`Content-Encoding: gzip`, but not compressed",
        UNAVAILABLE,
        answer(GOOD_BODY, Content_Encoding="gzip"),
        where=BOTH,
        says="sent a body that is not valid gzip",
    ),
    Row(
        "Truncated gzip",
        MALFORMED,
        answer(gzip.compress(GOOD_BODY, mtime=0)[:-30], Content_Encoding="gzip"),
    ),
    Row("Unknown `Content-Encoding`", MALFORMED, answer(b"\x0b\x02\x80", Content_Encoding="br")),
)

LIFETIMES = (
    Row("`expires_in` missing", TOKEN, token_answer(expires_in=None)),
    Row("`expires_in` `null`", TOKEN, token_answer(expires_in="null")),
    Row('`expires_in` `"3600"`', TOKEN, token_answer(expires_in='"3600"')),
    Row('`expires_in` `"an hour"`', MALFORMED, token_answer(expires_in='"an hour"')),
    Row(
        "`expires_in` `0`",
        MALFORMED,
        token_answer(expires_in="0"),
        says="not a positive, finite number",
    ),
    Row(
        "`expires_in` `-1`",
        MALFORMED,
        token_answer(expires_in="-1"),
        says="not a positive, finite number",
    ),
    Row("`expires_in` `3600.5`", TOKEN, token_answer(expires_in="3600.5")),
    Row(
        "`expires_in` `1e400`",
        MALFORMED,
        token_answer(expires_in="1e400"),
        says="not a positive, finite number",
    ),
    Row(
        "`expires_in` `NaN`",
        MALFORMED,
        token_answer(expires_in="NaN"),
        where=BOTH,
        says="not a positive, finite number",
    ),
    Row(
        "`expires_in` `true`",
        MALFORMED,
        token_answer(expires_in="true"),
        says="expires_in is of type bool",
    ),
    Row("`expires_in` of a million years", TOKEN, token_answer(expires_in="31556952000000")),
    Row(
        "`expires_in` is a number of 5,000 digits",
        MALFORMED,
        token_answer(expires_in="9" * 5000),
        where=BOTH,
        says="the body is not a JSON object",
    ),
    Row(
        "`expires_in` is a string of 5,000 digits",
        TOKEN,
        token_answer(expires_in=f'"{"9" * 5000}"'),
    ),
)

TOKENS = (
    Row("`token_type` `Bearer`", TOKEN, token_answer(token_type='"Bearer"')),
    Row("`token_type` missing", TOKEN, token_answer(token_type=None)),
    Row(
        "`token_type` `mac`",
        MALFORMED,
        token_answer(token_type='"mac"'),
        says="token_type is not bearer",
    ),
    Row(
        "`token_type` `DPoP`",
        MALFORMED,
        token_answer(token_type='"DPoP"'),
        says="token_type is not bearer",
    ),
    Row("`access_token` missing", MALFORMED, token_answer(access_token=None)),
    Row("`access_token` empty", MALFORMED, token_answer(access_token='""')),
    Row("`access_token` is a number", MALFORMED, token_answer(access_token="7")),
    Row(
        "Line break in the token",
        MALFORMED,
        token_answer(access_token='"a\\r\\nb"'),
        says="characters that are not valid in a header",
    ),
    Row(
        "Control character in the token",
        MALFORMED,
        token_answer(access_token='"a\\u0007b"'),
        says="characters that are not valid in a header",
    ),
    Row(
        "Non-ASCII letter in the token",
        MALFORMED,
        token_answer(access_token='"ä"'),
        says="characters that are not valid in a header",
    ),
    Row("Refresh token in the answer", TOKEN, token_answer(refresh_token='"unwanted"')),
    Row("The same token again, with its remaining lifetime", TOKEN, server={"reuses_tokens": True}),
    Row("New token that revokes the old one", TOKEN, server={"single_token": True}),
)

GROUPS: Mapping[str, tuple[Row, ...]] = {
    "Connections": CONNECTION,
    "Framing": FRAMING,
    "Slowness": SLOWNESS,
    "Rate limits": RATE_LIMITS,
    "Statuses": SERVER_ERRORS,
    "Errors of OAuth and Box": BOX_ERRORS,
    "Bodies": BODIES,
    "Lifetimes": LIFETIMES,
    "Tokens": TOKENS,
}
"""The rows, under the headings of the page."""

ROWS = tuple(row for rows in GROUPS.values() for row in rows)
