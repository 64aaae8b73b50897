"""Log records of the package. An error in the user's logging does not end a session."""

from __future__ import annotations

import contextlib
import logging

logger = logging.getLogger("trio_anon_session")


def log(level: int, message: str, *args: object) -> None:
    """Write a record to the logger ``trio_anon_session``.

    If the user's logging raises an ``Exception``, for example in a filter or a handler, it is
    ignored. This function often runs in a task of the session, and the exception would end the
    session. Other exceptions, such as ``KeyboardInterrupt``, propagate.
    """
    with contextlib.suppress(Exception):
        # With stacklevel=2, the record shows the line that calls this function.
        logger.log(level, message, *args, stacklevel=2)
