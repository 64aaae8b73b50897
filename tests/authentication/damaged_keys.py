"""Damaged private keys: every kind that is accepted, and drawn ways to damage it."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.serialization import PrivateFormat
from hypothesis import strategies as st

from tests.authentication.signing import FITTING, PASSWORD, pem_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Key(NamedTuple):
    """A key in PEM format, its algorithm, and its password."""

    pem: bytes
    algorithm: str
    password: str | None


def _keys() -> dict[str, Key]:
    keys = {}
    forms = {"PKCS8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL}
    for kind, (algorithm, *_) in FITTING.items():
        for name, form in forms.items():
            for password in (None, PASSWORD):
                if name == "traditional" and kind.startswith("Ed"):
                    continue
                pem = pem_of(kind, password=password, form=form)
                is_encrypted = "" if password is None else ", encrypted"
                keys[f"{kind}, {name}{is_encrypted}"] = Key(pem, algorithm, password)
    return keys


KEYS = _keys()
_INTEGER, _SEQUENCE = 0x02, 0x30
_COUNTS = [0, 1, 2**7, 2**15, 2**31 - 1, 2**63, 2**200]


@st.composite
def damaged(draw: st.DrawFn, pem: bytes) -> bytes:
    """Draw a damaged text of a key: its lines, its headers, or the structure in its base64."""
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from([_line, _header, _byte, _integer, _cut]))
        pem = how(draw, pem)
    return pem


def _line(draw: st.DrawFn, pem: bytes) -> bytes:
    """Remove, repeat or replace a line."""
    lines = pem.splitlines(keepends=True)
    if not lines:
        return pem
    at = draw(st.integers(0, len(lines) - 1))
    other = draw(st.sampled_from([b"", lines[at] * 2, b"\xff\n", b"=\n", b"-----\n", b"\0"]))
    return b"".join([*lines[:at], other, *lines[at + 1 :]])


def _header(draw: st.DrawFn, pem: bytes) -> bytes:
    """Replace the initialization vector or the cipher of the old format of encrypted keys."""
    vector = draw(st.binary(max_size=20)).hex().upper().encode()
    cipher = draw(st.sampled_from([b"AES-256-CBC", b"AES-128-CBC", b"DES-EDE3-CBC", b"X"]))
    return re.sub(rb"DEK-Info: .*", b"DEK-Info: " + cipher + b"," + vector, pem)


def _byte(draw: st.DrawFn, pem: bytes) -> bytes:
    """Replace, insert or remove bytes of the structure, mostly at its beginning."""
    head, der, tail = _split(pem)
    at = draw(st.integers(0, min(len(der), 80)) | st.integers(0, len(der)))
    removed = draw(st.integers(0, 2))
    return _joined(head, der[:at] + draw(st.binary(max_size=2)) + der[at + removed :], tail)


def _integer(draw: st.DrawFn, pem: bytes) -> bytes:
    """Replace an integer of the structure, such as a version or a count of iterations."""
    head, der, tail = _split(pem)
    values = _values_in(der)
    integers = [*_integers_in(values)]
    if not integers:
        return pem
    value = draw(st.sampled_from(_COUNTS))
    draw(st.sampled_from(integers))[1] = value.to_bytes(value.bit_length() // 8 + 1)
    return _joined(head, _encoded(values), tail)


def _values_in(der: bytes) -> list[list[Any]]:
    """Return the values of a structure: tag and content, which of a sequence is values."""
    values: list[list[Any]] = []
    at = 0
    while at + 2 <= len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length > 0x7F:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size])
            at += size
        content: Any = der[at : at + length]
        values.append([tag, _values_in(content) if tag == _SEQUENCE else content])
        at += length
    return values


def _integers_in(values: list[list[Any]]) -> Iterator[list[Any]]:
    for value in values:
        if value[0] == _INTEGER:
            yield value
        elif value[0] == _SEQUENCE:
            yield from _integers_in(value[1])


def _encoded(values: list[list[Any]]) -> bytes:
    """Return the structure with these values."""
    der = b""
    for tag, content in values:
        inner = _encoded(content) if tag == _SEQUENCE else content
        size = len(inner).to_bytes((len(inner).bit_length() + 7) // 8)
        length = bytes([len(inner)]) if len(inner) < 0x80 else bytes([0x80 | len(size)]) + size
        der += bytes([tag]) + length + inner
    return der


def _cut(draw: st.DrawFn, pem: bytes) -> bytes:
    """Cut the structure, and sometimes the text."""
    head, der, tail = _split(pem)
    at = draw(st.integers(0, len(der)))
    return draw(st.sampled_from([_joined(head, der[:at], tail), pem[: len(head) + at]]))


def _split(pem: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what is before the structure of a key, the structure, and what is after it."""
    body = re.search(rb"(?:(?<=KEY-----\n)|(?<=\n\n))[A-Za-z0-9+/=\n]+", pem)
    if body is None:
        return pem, b"", b""
    text = re.sub(rb"[^A-Za-z0-9+/]", b"", body[0])
    text = text[: len(text) - (len(text) % 4 == 1)]
    return pem[: body.start()], base64.b64decode(text + b"=" * (-len(text) % 4)), pem[body.end() :]


def _joined(head: bytes, der: bytes, tail: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return head + b"\n".join([*lines, b""]) + tail
