"""Records of the standard library's logging, written so that broken logging ends nothing."""

from __future__ import annotations

import contextlib
import logging

logger = logging.getLogger("trio_anon_session")


def log(level: int, message: str, *args: object) -> None:
    """Write a record to the logger ``trio_anon_session``.

    An ``Exception`` that the user's logging raises, such as a filter's or a handler's, is
    dropped: the caller is often one of the session's own tasks, and the session would end. What
    is no ``Exception``, such as ``KeyboardInterrupt``, propagates.
    """
    with contextlib.suppress(Exception):
        # The record names the line that calls this function.
        logger.log(level, message, *args, stacklevel=2)
