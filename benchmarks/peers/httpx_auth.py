"""httpx-auth's ``OAuth2ClientCredentials``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from httpx_auth import OAuth2, OAuth2ClientCredentials

from benchmarks.endpoint import URL
from benchmarks.peers import SyncCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import Getter


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=endpoint.form(endpoint.grant_at_once()))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        auth = OAuth2ClientCredentials(URL, "id", "secret", client=client)
        request = httpx.Request("GET", "https://api.example/")
        try:
            yield lambda: next(auth.auth_flow(request))
        finally:
            # All auths of a process share it.
            OAuth2.token_cache.clear()


SYNC = (SyncCache("httpx-auth OAuth2ClientCredentials", _open),)
