"""botocore's ``RefreshableCredentials``."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.credentials import RefreshableCredentials

from benchmarks.peers import SyncCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import Getter


def _metadata(token: str, expires_at: float) -> dict[str, str]:
    expiry = datetime.fromtimestamp(expires_at, UTC).isoformat()
    return {"access_key": "id", "secret_key": "secret", "token": token, "expiry_time": expiry}


EXPIRED = _metadata("token-0", 1.0)
"""A token to start with, which the credentials require."""


def metadata(endpoint: Endpoint, token: str) -> dict[str, str]:
    """Return a token in the format of botocore's refreshers."""
    return _metadata(token, time.time() + endpoint.lifetime)


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    def refresh() -> dict[str, str]:
        return metadata(endpoint, endpoint.grant_at_once())

    credentials = RefreshableCredentials.create_from_metadata(EXPIRED, refresh, "benchmark")
    yield credentials.get_frozen_credentials


SYNC = (SyncCache("botocore RefreshableCredentials", _open),)
