"""What keeps secrets out of sight: scrubbing of text, fingerprints, and no pickles."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
_EXCERPT_LIMIT = 300
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def basic_credentials(client_id: str, client_secret: str) -> str:
    """Return the credentials of an HTTP Basic header.

    Id and secret are each form-encoded before they are joined (RFC 6749 §2.3.1);
    a space is ``%20``, which every form decoder reads, where ``+`` is not.
    """
    pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
    return base64.b64encode(pair.encode()).decode()


def fingerprint(token: str) -> str:
    """Return a short one-way mark by which people can tell two tokens apart in a log."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()[:8]


def _spellings(secret: str) -> Iterable[str]:
    """Yield the forms in which servers and libraries are known to echo a secret."""
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield html.escape(secret)
    yield secret


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return text from outside made fit to show: no secret, no control characters, not long.

    Args:
        text: what a server or a library said.
        secrets: what must not be seen in it, each in plain form.
    """
    spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    # The longest first: a spelling may be part of another.
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _CONTROLS.sub(" ", text).strip()
    return text if len(text) <= _EXCERPT_LIMIT else text[: _EXCERPT_LIMIT - 1] + "…"


class Unpicklable:
    """Refuse to pickle: a pickle would write a token or a secret down."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled: it would write a secret down. "
            "Make a new one from its settings instead."
        )


class UnpicklableValue(Unpicklable):
    """An unpicklable value that never changes, and so is its own copy."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
