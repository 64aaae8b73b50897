"""What the HTTP libraries log of a token request, made fit to show.

httpx logs a request with the reason that the server gave, and at DEBUG httpcore logs the
headers of each answer: a server that echoes the form there would have the secret written
down, or the new token.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ._secrets import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._secrets import Secrets

# A filter is asked for the records of its own logger alone, not for those of loggers below.
_LOGGERS = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
    "hpack.hpack",
    "hpack.table",
)
# What a server says beside its body, in the words of httpx (the reason), of httpcore (headers,
# and what h11 could not read), and of hpack (headers). There may be a token in it that nobody
# knows as yet, or half of a secret.
_SAID = (
    r"""(?s)(?P<before>"HTTP/[0-9.]+ [0-9]+|return_value=|exception=\w*ProtocolError\(|Decod).*"""
)

_in_flight: ContextVar[Secrets | None] = ContextVar("secrets_in_flight", default=None)


class _Scrubbing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        secrets = _in_flight.get()
        if secrets is not None:
            try:
                said = secrets.hide(re.sub(_SAID, rf"\g<before> {HIDDEN}", record.getMessage()))
            except Exception:
                # A record that cannot be read must not end the request of which it tells.
                said = HIDDEN
            record.msg, record.args = "%s", (said,)
        return True


_SCRUBBING = _Scrubbing()


@contextmanager
def scrubbed_wire_logs(secrets: Secrets) -> Iterator[None]:
    """Scrub what the HTTP libraries log in this task while the block lasts."""
    for name in _LOGGERS:
        # Has no effect where it is there already.
        logging.getLogger(name).addFilter(_SCRUBBING)
    token = _in_flight.set(secrets)
    try:
        yield
    finally:
        _in_flight.reset(token)
