"""Private keys and certificates in PEM text (RFC 7468), before any parser reads them."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_EDGE = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----")
# The headers belong to the old format of encrypted keys (RFC 1421 §4.6).
_AROUND = re.compile(rb"-----[^-\r\n]+-----|^[^\r\n]*:[^\r\n]*", re.MULTILINE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]+")

_MOST_BYTES = 8192
"""An RSA key of 8192 bits has 6,400. It is parsed in 5 s, and signs in 40 ms."""
_MOST_ITERATIONS = 10_000_000
"""PBKDF2 takes 2 s for them; OpenSSL uses 2,048."""
_MOST_SCRYPT = 2**21
"""The product of the parameters N, r and p (RFC 7914): 256 MiB; OpenSSL uses 2**17."""
_SCRYPT = bytes.fromhex("2b06010401da47040b")
"""The object identifier 1.3.6.1.4.1.11591.4.11, encoded."""


def blocks(pem: bytes, label: bytes) -> Iterator[bytes]:
    """Yield each block of a PEM text whose label ends with this one, in linear time."""
    begin: re.Match[bytes] | None = None
    for edge in _EDGE.finditer(pem):
        if edge[1] == b"BEGIN":
            begin = edge
        elif begin is not None and begin[2] == edge[2]:
            if edge[2].endswith(label):
                yield pem[begin.start() : edge.end()]
            begin = None


def key_text(block: bytes) -> str:
    """Return the base64 text of a private key, in one line.

    The words around it are left out, because error messages contain words such as "private key".
    Parsers accept indented lines and text in one line, so this function does, too.

    Args:
        block: one block of PEM text.
    """
    return b"".join(_BASE64.findall(_AROUND.sub(b"\n", block))).decode()


def why_too_costly(block: bytes) -> str | None:
    """Return what a private key must be for a parser to need seconds at most, or None.

    A password is derived as often as the key itself says (RFC 8018): possibly for hours, or with
    all memory.
    """
    if len(block) > _MOST_BYTES:
        return f"must have at most {_MOST_BYTES} bytes (RSA: 8192 bits), got {len(block)} bytes"
    if b"ENCRYPTED PRIVATE KEY" not in block:
        return None
    text = key_text(block).replace("=", "")
    text = text[: len(text) - (len(text) % 4 == 1)]
    der = base64.b64decode(text + "=" * (-len(text) % 4))
    counts = [*_integers(der)]
    if _SCRYPT in der[:60]:
        n, r, p = [*counts, 1, 1, 1][:3]
        if n * r * p > _MOST_SCRYPT:
            return f"must be encrypted with N·r·p of at most {_MOST_SCRYPT} for scrypt"
    elif max(counts, default=0) > _MOST_ITERATIONS:
        return f"must be encrypted with at most {_MOST_ITERATIONS} iterations of PBKDF2"
    return None


def _integers(der: bytes) -> Iterator[int]:
    """Yield the integers of a structure in DER (X.690), also those in its sequences."""
    at = 0
    while at + 2 <= len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length > 0x7F:
            size = length - 0x80
            length = int.from_bytes(der[at : at + size])
            at += size
        if tag == 0x02:
            yield int.from_bytes(der[at : at + length])
        if tag != 0x30:
            at += length
