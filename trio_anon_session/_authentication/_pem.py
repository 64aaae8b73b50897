"""The secret text in a private key in PEM format, for scrubbing."""

from __future__ import annotations

import re

# The headers belong to the old format of encrypted keys (RFC 1421 §4.6).
_AROUND = re.compile(rb"-----[^-\r\n]+-----|^[^\r\n]*:[^\r\n]*", re.MULTILINE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]+")


def key_text(block: bytes) -> str:
    """Return the base64 text of a private key, in one line.

    The words around it are left out, because error messages contain words such as "private key".
    Parsers accept indented lines and text in one line, so this function does, too.

    Args:
        block: one block of PEM text.
    """
    return b"".join(_BASE64.findall(_AROUND.sub(b"\n", block))).decode()
