"""Databricks' ``Refreshable``."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from databricks.sdk.oauth import Refreshable, Token

from benchmarks.peers import SyncCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import Getter


class _Source(Refreshable):
    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(disable_async=False)
        self.endpoint = endpoint

    def refresh(self) -> Token:
        token = self.endpoint.grant_at_once()
        # This datetime has no time zone, as in the SDK's own token sources.
        expiry = datetime.now() + timedelta(seconds=self.endpoint.lifetime)
        return Token(token, token_type="bearer", expiry=expiry)


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    yield _Source(endpoint).token


SYNC = (SyncCache("Databricks Refreshable", _open),)
