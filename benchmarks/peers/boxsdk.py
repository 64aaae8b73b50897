"""Box's own SDK, generation 10."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from box_sdk_gen import BoxCCGAuth, CCGConfig
from box_sdk_gen.schemas.access_token import AccessToken

from benchmarks.peers import SyncCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import Getter


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    auth = BoxCCGAuth(CCGConfig("id", "secret", enterprise_id="id"))
    auth.token_storage.store(
        AccessToken(access_token=endpoint.grant_at_once(), expires_in=int(endpoint.lifetime))
    )
    yield auth.retrieve_token


SYNC = (
    SyncCache(
        "Box 10 BoxCCGAuth", _open, "does not check expiry: a lower bound", checks_expiry=False
    ),
)
