"""A session for programs of threads: scripts, Flask, Django, Gunicorn.

::

    from trio_anon_session.threads import SessionThread

    with SessionThread(Config.from_env()) as session, httpx.Client(auth=session.auth()) as client:
        ...

====================  =======================================================
``_body``             a response body whose first bytes were read already
``_flow``             the auth flow, for httpx and httpx2
``_auth``             `SessionThreadAuth`, the ``httpx.Auth``
``_run``              a Trio run in its own thread, and calls into it
``_session_thread``   `SessionThread`: what other threads use
====================  =======================================================
"""

from ._auth import SessionThreadAuth
from ._session_thread import SessionThread

__all__ = ["SessionThread", "SessionThreadAuth"]
