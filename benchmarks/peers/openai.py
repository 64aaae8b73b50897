"""OpenAI's workload identity auth."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from openai.auth._workload import _WorkloadIdentityAuth

from benchmarks.peers import SyncCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import Getter


class _Auth(_WorkloadIdentityAuth):
    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(
            workload_identity={
                "type": "x509",
                "identity_provider_id": "id",
                "service_account_id": "id",
            }
        )
        self.endpoint = endpoint

    def _fetch_token_from_exchange(self) -> dict[str, object]:
        return self.endpoint.form(self.endpoint.grant_at_once())


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    yield _Auth(endpoint).get_token


SYNC = (SyncCache("OpenAI workload identity auth", _open),)
