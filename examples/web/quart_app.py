"""The same service with Quart-Trio.

export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
hypercorn --worker-class trio quart_app:app

A failed lookup gets a 503 if there is no token, and a 502 if the API fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import trio
from quart_trio import QuartTrio
from upstream import answer_to, open_session

from trio_anon_session import AnonymousSessionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from trio_anon_session import AnonymousSession


def create_app(
    open_session: Callable[[], AbstractAsyncContextManager[AnonymousSession]] = open_session,
    transport: httpx.AsyncBaseTransport | None = None,
) -> QuartTrio:
    """Return the app; a test passes its own session and transport."""
    app = QuartTrio(__name__)
    client: httpx.AsyncClient
    stopping = trio.Event()

    @app.before_serving
    async def start() -> None:
        # A task of its own: Trio can then close the session in order, however the service ends.
        await app.nursery.start(keep_open)

    async def keep_open(  # noqa: ASYNC114  # started only above, with start()
        task_status: trio.TaskStatus[None],
    ) -> None:
        nonlocal client
        async with (
            open_session() as session,
            httpx.AsyncClient(
                base_url=session.config.api_root_url, auth=session.auth(), transport=transport
            ) as client,
        ):
            # Wrong credentials end the program here, before it accepts a request.
            await session.get_access_token()
            task_status.started()
            await stopping.wait()

    @app.after_serving
    async def stop() -> None:  # noqa: ASYNC124  # Quart runs a plain function in a thread
        stopping.set()

    @app.get("/files/<file_id>")
    async def look_up(file_id: str) -> Any:
        response = await client.get(f"/2.0/files/{file_id}")
        return response.raise_for_status().json()

    @app.errorhandler(AnonymousSessionError)
    @app.errorhandler(httpx.HTTPError)
    async def report_failure(  # noqa: ASYNC124  # as in stop()
        error: Any,
    ) -> tuple[dict[str, str], int, dict[str, str]]:
        return {"error": type(error).__name__}, *answer_to(error)

    return app


app = create_app()
