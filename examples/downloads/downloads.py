"""Download files from Box shared links, several at the same time.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
    python downloads.py --folder shared https://app.box.com/s/abc https://app.box.com/s/def
    python downloads.py --folder shared --list links.txt

Each line of a list is a link. If the link has a password, it follows after a space. Files that
exist are not downloaded again, and interrupted downloads continue.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trio

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 4
CHUNK = 256 * 1024
"""Bytes of a file in memory."""


class DownloadError(Exception):
    """A file cannot be downloaded."""


@attrs.frozen
class Link:
    """A shared link, and its password."""

    url: str
    password: str | None = attrs.field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers with which the API finds the link."""
        # An ampersand would begin another field.
        if not re.fullmatch(r"https://[\x21-\x25\x27-\x7e]+", self.url):
            raise DownloadError("this is no shared link")
        value = f"shared_link={self.url}"
        if self.password is not None:
            value += f"&shared_link_password={self.password}"
        if not (value.isascii() and value.isprintable()):
            raise DownloadError("the password has characters that a header cannot contain")
        return {"BoxApi": value}


@attrs.frozen
class Outcome:
    """The result of a link: the file, or the problem."""

    link: Link
    path: Path | None = None
    problem: str | None = None
    was_there: bool = False


class Downloader:
    """A downloader of links into a folder.

    Args:
        client: a client for the API with the session's auth.
        folder: the folder for the files.
    """

    def __init__(self, client: httpx.AsyncClient, folder: Path) -> None:
        self._client = client
        self._folder = trio.Path(folder)
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        # Two links may lead to one file.
        self._locks: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    async def download_all(self, links: Iterable[Link]) -> list[Outcome]:
        """Download every link. If one fails, the others continue."""
        outcomes: list[Outcome] = []
        await self._folder.mkdir(parents=True, exist_ok=True)
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(self._download, link, outcomes)
        return outcomes

    async def _download(self, link: Link, outcomes: list[Outcome]) -> None:
        async with self._limiter:
            try:
                outcome = await self._try_to_download(link)
            # The session's own errors are httpx.HTTPErrors, too.
            except (DownloadError, httpx.HTTPError, OSError) as error:
                outcome = Outcome(link, problem=str(error) or type(error).__name__)
        outcomes.append(outcome)

    async def _try_to_download(self, link: Link) -> Outcome:
        response = await self._client.get("/2.0/shared_items", headers=link.headers)
        _check(response)
        item = _read_item(response)
        name = _file_name(item)
        target = self._folder / name
        sha1 = item.get("sha1")
        async with self._locks[name]:
            if await target.exists() and sha1 in (None, await _sha1_of(target)):
                return Outcome(link, Path(target), was_there=True)
            # Only a part of a file with the same SHA-1 may be continued.
            part = self._folder / f"{name}.{str(sha1)[:12]}.part"
            start = (await part.stat()).st_size if sha1 and await part.exists() else 0
            await self._fetch(link, item["id"], part, start)
            if sha1 is not None and await _sha1_of(part) != sha1:
                await part.unlink()
                raise DownloadError("the content does not have the SHA-1 that the API announced")
            # A rename is atomic, so that no other program sees half a file.
            await part.replace(target)
            for older in await self._folder.glob(f"{name}.*.part"):
                await older.unlink()
        return Outcome(link, Path(target))

    async def _fetch(self, link: Link, file_id: str, part: trio.Path, start: int) -> None:
        url = f"/2.0/files/{file_id}/content"
        bytes_wanted = {"Accept-Encoding": "identity"}
        if start:
            bytes_wanted["Range"] = f"bytes={start}-"
        async with AsyncExitStack() as stack:
            ask = self._client.stream("GET", url, headers=link.headers | bytes_wanted)
            response = await stack.enter_async_context(ask)
            if response.has_redirect_location:
                # httpx would send the BoxApi header to the other host too, with the password.
                # The other host needs only the URL, so this request has no auth.
                elsewhere = response.url.join(response.headers["Location"])
                if elsewhere.scheme != "https":
                    raise DownloadError("the API redirects to plain http")
                ask = self._client.stream("GET", elsewhere, headers=bytes_wanted, auth=None)
                response = await stack.enter_async_context(ask)
            if response.status_code == 416 and start:
                return  # The part is the whole file. The caller checks its SHA-1.
            _check(response)
            is_rest = response.status_code == 206
            async with await trio.open_file(part, "ab" if is_rest else "wb") as file:
                async for chunk in response.aiter_bytes(CHUNK):
                    await file.write(chunk)


def _check(response: httpx.Response) -> None:
    # Errors do not show the URL: with it, anyone can download the file.
    if response.status_code == 202:
        seconds = response.headers.get("Retry-After", "some")
        raise DownloadError(f"the file is not ready; try again in {seconds} s")
    if response.status_code not in (200, 206):
        raise DownloadError(f"{response.url.host} answered {response.status_code}")


def _read_item(response: httpx.Response) -> dict[str, Any]:
    try:
        item = response.json()
    except ValueError:
        item = None
    if not isinstance(item, dict) or not re.fullmatch(r"\w+", str(item.get("id"))):
        raise DownloadError("the answer of the API is not an item")
    if item.get("type") != "file":
        raise DownloadError(f"this is a {item.get('type')}, not a file")
    return item


def _file_name(item: dict[str, Any]) -> str:
    # The owner of the file chose the name, so it may be a path, hidden, or too long.
    name = re.sub(r"[^\w. -]+", "_", str(item.get("name", "")))[-50:]
    return f"{item['id']} {name}".strip()


async def _sha1_of(path: trio.Path) -> str:
    def read() -> str:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha1").hexdigest()

    return await trio.to_thread.run_sync(read)


async def main(links: Iterable[Link], folder: Path) -> int:
    """Download links, print the result of each, and return how many failed."""
    config = Config.from_env()
    async with (
        AnonymousSession(config) as session,
        httpx.AsyncClient(
            base_url=config.api_root_url, auth=session.auth(), timeout=30.0
        ) as client,
    ):
        outcomes = await Downloader(client, folder).download_all(links)
    for outcome in outcomes:
        if outcome.path is not None:
            print(outcome.link.url, "is", outcome.path)
        else:
            print(outcome.link.url, "failed:", outcome.problem, file=sys.stderr)
    return sum(outcome.problem is not None for outcome in outcomes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Download files from Box shared links.")
    parser.add_argument("links", nargs="*", metavar="LINK")
    # There is no option for a password: all users of the machine could read it.
    parser.add_argument("--list", type=argparse.FileType(), metavar="FILE", help="- is stdin")
    parser.add_argument("--folder", type=Path, default=Path())
    args = parser.parse_args()
    wanted = [Link(link) for link in args.links]
    if args.list:
        wanted += [Link(*line.strip().split(" ", 1)) for line in args.list if line.strip()]
    try:
        sys.exit(min(1, trio.run(main, wanted, args.folder)))
    except AnonymousSessionError as error:
        sys.exit(f"downloads.py: {error}")
