"""A FastAPI service that looks up files at Box: one session for all requests.

export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
hypercorn --worker-class trio fastapi_app:app

A failed lookup gets a 503 if there is no token, and a 502 if the API fails.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from upstream import answer_to, open_session

from trio_anon_session import AnonymousSessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from trio_anon_session import AnonymousSession


def create_app(
    open_session: Callable[[], AbstractAsyncContextManager[AnonymousSession]] = open_session,
    transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """Return the app; a test passes its own session and transport."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_session() as session,
            httpx.AsyncClient(
                base_url=session.config.api_root_url, auth=session.auth(), transport=transport
            ) as client,
        ):
            # Wrong credentials end the program here, before it accepts a request.
            await session.get_access_token()
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/files/{file_id}")
    async def look_up(file_id: str, request: Request) -> Any:
        response = await request.app.state.client.get(f"/2.0/files/{file_id}")
        return response.raise_for_status().json()

    @app.exception_handler(AnonymousSessionError)
    @app.exception_handler(httpx.HTTPError)
    async def report_failure(  # noqa: ASYNC124  # FastAPI runs a plain function in a thread
        _: Request, error: Any
    ) -> JSONResponse:
        status, headers = answer_to(error)
        return JSONResponse({"error": type(error).__name__}, status, headers)

    return app


app = create_app()
