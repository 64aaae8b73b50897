"""azure-identity's ``ClientSecretCredential``."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.identity.aio import ClientSecretCredential

from benchmarks.endpoint import EndpointDownError
from benchmarks.peers import NO_CHECKPOINT, AsyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from azure.core.rest import HttpRequest

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter


@attrs.frozen
class _Response:
    """The parts of a response that the pipeline reads."""

    request: HttpRequest
    content: str
    status_code: int = 200
    reason: str = "OK"
    content_type: str = "application/json"
    headers: dict[str, str] = attrs.field(factory=lambda: {"Content-Type": "application/json"})

    def text(self, encoding: str | None = None) -> str:
        return self.content


class _Transport(AsyncHttpTransport):
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def send(self, request: HttpRequest, **kwargs: object) -> _Response:
        try:
            token = await self.endpoint.grant()
        except EndpointDownError as error:
            # The pipeline retries only if the transport raises this error.
            raise ServiceRequestError("down") from error
        return _Response(request, json.dumps(self.endpoint.form(token)))

    async def sleep(self, duration: float) -> None:
        await trio.sleep(duration)

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()  # noqa: ASYNC102  # there is nothing that it could wait for


@asynccontextmanager
async def _open(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async with ClientSecretCredential(
        "tenant", "id", "secret", transport=_Transport(endpoint)
    ) as credential:
        yield lambda: credential.get_token_info("s/.default")


ON_TRIO = (AsyncCache("azure-identity ClientSecretCredential", _open, NO_CHECKPOINT),)
