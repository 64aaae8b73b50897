"""Gunicorn's settings: each worker opens its session, and closes it when it ends."""

from __future__ import annotations

from contextlib import ExitStack

workers = 2
threads = 8
opened = ExitStack()


def post_worker_init(worker: object) -> None:
    """Open the session in a worker. This runs after the fork, also with ``preload_app``."""
    # If this file imported the app, a reload with SIGHUP would keep the old code.
    from box_api import session

    opened.enter_context(session)


def worker_exit(server: object, worker: object) -> None:
    """Close the session of a worker that ends, so that no thread waits for a token."""
    opened.close()
