"""A fake of Box's shared links for tests: a transport around the embedded token server.

As at Box, the API answers a request for the content of a file with a redirect to another host.
Anyone who has the URL of the redirect can download the file.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import attrs
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_anon_session.testing import TokenServer

DOWNLOADS = "https://dl.boxcloud.com"


@attrs.define
class SharedFile:
    """A file with a shared link.

    Attributes:
        name: its name.
        content: its content.
        password: the password of its link.
        breaks_at: number of bytes after which the connection of the next download breaks.
    """

    name: str
    content: bytes
    password: str | None = None
    breaks_at: int | None = None

    @property
    def sha1(self) -> str:
        """The checksum in the answer of the API."""
        return hashlib.sha1(self.content, usedforsecurity=False).hexdigest()


class SharedLinks(httpx.AsyncBaseTransport):
    """A transport that serves files by link. The host of the API requires a valid token.

    Args:
        tokens: knows which tokens are valid.
        files: the files by link.

    Attributes:
        seen: the headers of all requests by host.
        most_at_once: the largest number of downloads at the same time.
    """

    def __init__(self, tokens: TokenServer, files: dict[str, SharedFile]) -> None:
        self._api = httpx.ASGITransport(tokens)
        self._files = files
        self.seen: defaultdict[str, list[httpx.Headers]] = defaultdict(list)
        self.most_at_once = self._at_once = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the API, or as the host of the downloads."""
        self.seen[request.url.host].append(request.headers)
        links = list(self._files)
        if request.url.host == "dl.boxcloud.com":
            return self._serve(self._files[links[int(request.url.path[1:])]], request)
        verdict = await self._api.handle_async_request(request)
        if verdict.status_code != 200:
            return verdict
        shown = parse_qs(request.headers.get("BoxApi", ""))
        link = shown.get("shared_link", [""])[0]
        file = self._files.get(link)
        if file is None or shown.get("shared_link_password", [None])[0] != file.password:
            return httpx.Response(404)
        number = links.index(link)
        if request.url.path == "/2.0/shared_items":
            item = {"type": "file", "id": str(number), "name": file.name, "sha1": file.sha1}
            return httpx.Response(200, json=item)
        return httpx.Response(302, headers={"Location": f"{DOWNLOADS}/{number}"})

    def _serve(self, file: SharedFile, request: httpx.Request) -> httpx.Response:
        start = int(request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        if start and start >= len(file.content):
            return httpx.Response(416)
        end, file.breaks_at = file.breaks_at, None
        content = self._send(file.content[start:end], breaks=end is not None)
        return httpx.Response(206 if start else 200, content=content)

    async def _send(self, content: bytes, *, breaks: bool) -> AsyncIterator[bytes]:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        yield content
        self._at_once -= 1
        if breaks:
            raise httpx.ReadError("the connection broke")
