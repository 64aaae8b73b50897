"""Scrubbing of the log records that the HTTP libraries write during a token request.

httpx logs the reason phrase of the server, and at DEBUG httpcore logs the headers of each
response. If the server echoes the form there, the log would contain the secret or the new token.
httpx2 and httpcore2 log the same.
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

# The filter of a logger does not apply to the records of its child loggers.
_LOGGERS = (
    "httpx",
    "httpx2",
    *(
        f"{core}.{part}"
        for core in ("httpcore", "httpcore2")
        for part in ("connection", "http11", "http2", "proxy", "socks")
    ),
    "hpack.hpack",
    "hpack.table",
)
# These texts come from the server, but not from the body. httpx logs the reason phrase, httpcore
# logs headers and data that h11 could not parse, and hpack logs headers. The texts may contain a
# new token, or a part of a secret.
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
                # A record whose message cannot be formatted must not end the request.
                said = HIDDEN
            record.msg, record.args = "%s", (said,)
        return True


_SCRUBBING = _Scrubbing()


@contextmanager
def scrubbed_wire_logs(secrets: Secrets) -> Iterator[None]:
    """Scrub the records that the HTTP libraries log in this task during the block."""
    for name in _LOGGERS:
        # Adding the same filter again has no effect.
        logging.getLogger(name).addFilter(_SCRUBBING)
    token = _in_flight.set(secrets)
    try:
        yield
    finally:
        _in_flight.reset(token)
