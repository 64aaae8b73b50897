"""aiobotocore's ``AnyioRefreshableCredentials``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiobotocore.credentials import AnyioRefreshableCredentials

from benchmarks.peers import NO_CHECKPOINT, AsyncCache
from benchmarks.peers.botocore import EXPIRED, metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter


@asynccontextmanager
async def _open(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async def refresh() -> dict[str, str]:
        return metadata(endpoint, await endpoint.grant())

    credentials = AnyioRefreshableCredentials.create_from_metadata(EXPIRED, refresh, "benchmark")
    yield credentials.get_frozen_credentials


ON_TRIO = (AsyncCache("aiobotocore AnyioRefreshableCredentials", _open, NO_CHECKPOINT),)
