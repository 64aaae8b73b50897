"""Secrets and tokens that can be found in any encoding, and servers that echo them."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import attrs
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECRET_CORE = "Kx7canarySecretQ9"
TOKEN_CORE = "Vw3canaryTokenZ5"
CORES = (SECRET_CORE, TOKEN_CORE)
CLIENT_ID = "my app:é"


def in_base64(core: str) -> Iterable[str]:
    """Yield the base64 encodings of a text, for each position in the encoded bytes."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + core.encode()).decode()
        # The first and last characters also depend on the bytes around the text.
        yield encoded[(0, 2, 3)[shift] : (shift + len(core)) // 3 * 4]


# Encodings differ for the unusual characters at the beginning and end of a secret. The middle is
# the same in all of them, except in base64 and for upper and lower case.
TRACES = tuple(
    [core.lower() for core in CORES]
    + [trace.lower() for core in CORES for trace in in_base64(core)]
    + ["".join(f"%{byte:02x}" for byte in core.encode()) for core in CORES]
)


def leaks_in(text: str) -> list[str]:
    """Return the traces of secrets and tokens in a text."""
    lowered = text.lower()
    return [trace for trace in TRACES if trace in lowered]


def _basic(secret: str) -> str:
    return base64.b64encode(f"{CLIENT_ID}:{secret}".encode()).decode()


def _strict_basic(secret: str) -> str:
    pair = f"{quote(CLIENT_ID, safe='')}:{quote(secret, safe='')}"
    return base64.b64encode(pair.encode()).decode()


def _lower_hex(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), text)


def _go_json(text: str) -> str:
    said = json.dumps(text)[1:-1]
    return re.sub(r"[<>&'+]", lambda match: f"\\u{ord(match.group()):04X}", said)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "percent": lambda secret: quote(secret, safe=""),
    "percent, slashes kept": quote,
    "percent, lower case": lambda secret: _lower_hex(quote(secret, safe="")),
    "plus": quote_plus,
    "json": lambda secret: json.dumps(secret)[1:-1],
    "json, not ASCII": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "repr": lambda secret: repr(secret)[1:-1],
    "repr of bytes": lambda secret: repr(secret.encode())[2:-1],
    "html": html.escape,
    # Encodings of other languages and their frameworks.
    "html, Jinja's": lambda secret: (
        html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    ),
    "json, PHP's": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "json, Go's": _go_json,
    "percent twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "percent, all of it": lambda secret: "".join(f"%{byte:02X}" for byte in secret.encode()),
    "basic, URL-safe and bare": lambda secret: (
        _basic(secret).translate({43: "-", 47: "_"}).rstrip("=")
    ),
    "basic": _basic,
    "strict basic": _strict_basic,
}

PLACES = (
    "reason",
    "status line",
    "header",
    "header line",
    "Content-Type",
    "BOX-REQUEST-ID",
    "next to a header that is not UTF-8",
    "Set-Cookie",
    "Location",
    "WWW-Authenticate",
    "Retry-After",
    "Content-Encoding",
    "Transfer-Encoding",
    "chunk",
    "error",
    "error_description",
    "message",
    "request_id",
    "html",
    "broken JSON",
    "expires_in",
    "token_type",
    "scope",
    "extra",
    "trailing",
)
STATUSES = (200, 302, 400, 401, 403, 429, 500, 503)


@attrs.frozen
class Echo:
    """An answer that echoes the request.

    Attributes:
        place: where in the answer.
        spelling: the encoding of the echo.
        status: the status of the answer.
    """

    place: str
    spelling: str
    status: int

    def answer(self, said: str, token: str) -> bytes:
        """Return the bytes of an answer that echoes a text. With status 200, it grants a token.

        Args:
            said: the text to echo.
            token: the token to grant.
        """
        echoed = SPELLINGS[self.spelling](said)
        reason, headers = "Said", {"Content-Type": "application/json"}
        fields: dict[str, object] = {"error": "invalid_scope", "error_description": "no"}
        if self.status == 200:
            fields = {"access_token": token, "expires_in": 3600, "token_type": "bearer"}
        body: bytes | None = None
        match self.place:
            case "reason":
                reason = echoed
            case "header":
                headers["X-Echo"] = echoed
            case "header line" | "status line" | "trailing":
                pass
            case "next to a header that is not UTF-8":
                headers |= {"X-Other": "\udcff", "BOX-REQUEST-ID": echoed}
            case "chunk":
                headers["Transfer-Encoding"] = "chunked"
                body = f"{echoed}\r\n".encode()
            case "html":
                body = f"<html>{echoed}</html>".encode()
            case "broken JSON":
                body = f'{{"error": "{echoed}", "access_token": "{token}"'.encode()
            case "extra":
                fields["restricted_to"] = [{"echo": echoed}]
            case place if place in PLACES[PLACES.index("error") : PLACES.index("extra")]:
                fields[place] = echoed
            case place:
                headers[place] = echoed
        if body is None:
            body = json.dumps(fields).encode()
        if "Transfer-Encoding" not in headers:
            headers["Content-Length"] = str(len(body))
        start = echoed if self.place == "status line" else f"HTTP/1.1 {self.status} {reason}"
        lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
        if self.place == "header line":
            lines.append(echoed)
        lines += ["Connection: close", "", ""]
        # Control characters would end the line early.
        head = "\r\n".join(re.sub(r"[\x00-\x1f]", " ", line) for line in lines)
        trailing = echoed.encode() if self.place == "trailing" else b""
        return head.encode(errors="surrogateescape") + body + trailing


def good_answer(token: str) -> bytes:
    """Return an answer that grants a token and echoes nothing."""
    fields = {"access_token": token, "expires_in": 3600, "token_type": "bearer"}
    body = json.dumps(fields).encode()
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_ODD = st.one_of(
    st.sampled_from(["", "'\"", "100%25 ", "a+b=c&", "pässwörd-ünïcode", "\\x41\\", "<&>", "\t\n"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.just("x" * 500),
)

# Config refuses a secret that ends with a line end.
secrets = st.builds("{}{}{}".format, _ODD, st.just(SECRET_CORE), _ODD).map(
    lambda secret: secret.rstrip("\r\n")
)
_VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)
# Characters that a header can contain, and some that it cannot.
tokens = st.one_of(
    st.builds("{}{}{}".format, _VISIBLE | st.just("y" * 500), st.just(TOKEN_CORE), _VISIBLE),
    st.builds("{}{}{}".format, _ODD, st.just(TOKEN_CORE), _ODD),
)
echoes = st.builds(
    Echo,
    place=st.sampled_from(PLACES),
    spelling=st.sampled_from(sorted(SPELLINGS)),
    status=st.sampled_from(STATUSES),
)
