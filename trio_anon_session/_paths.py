"""Paths of files with a secret, key or assertion. By mistake, a path may be the content itself."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ._errors import ConfigError

_PEM_OR_JWT = re.compile(r"-----BEGIN |^\s*eyJ[\w-]*\.[\w-]+\.[\w-]*\s*$", re.ASCII)
# The base64 text of a key or certificate in DER: a sequence whose length has two or three bytes, or
# one byte, and then the version follows.
_KEY = re.compile(r"\s*M(I[E-L]|[A-H][\w+/-]CAQ)[\w+/-]{40,}[\w+/=\s-]*", re.ASCII)
_ORDINARY = re.compile(r"[A-Za-z._@ -]{1,40}|[\w.@ -]{1,16}")
"""Names of files and folders. A secret is longer, or has other characters."""
_BASE64 = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9+/=]{20,}", re.ASCII)
"""A text in base64 may have a slash in each place, so that all of its parts are short."""


def checked_path(name: str, path: object) -> Path:
    """Return a path.

    Raises:
        TypeError: it is not a path.
        ConfigError: no file can have this path.
    """
    kind = type(path).__name__
    text: Any = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, not {kind}")
    if not text or "\0" in text:
        raise ConfigError(name, "must be a non-empty path without NUL characters")
    if _PEM_OR_JWT.search(text) or _KEY.fullmatch(text):
        raise ConfigError(name, "must be a path, got the content of a file: a key or a JWT")
    return Path(text)


def shown(path: str | os.PathLike[str]) -> str:
    """Return the repr of a path, for messages.

    If there is no such file, the path may be a secret. Then its last parts are shown only if all of
    them look like names.
    """
    text = os.fspath(path)
    parts = Path(text).parts
    known = 0
    while known < len(parts) and os.path.exists(os.path.join(*parts[: known + 1])):
        known += 1
    is_ordinary = all(_ORDINARY.fullmatch(part) for part in parts[known:])
    if is_ordinary and not _BASE64.fullmatch("/".join(parts[known:])):
        return repr(text)
    return repr(os.path.join(*parts[:known], "***"))
