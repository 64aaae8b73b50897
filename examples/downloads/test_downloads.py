"""Tests of the downloader. They use real time, because they use the disk."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from downloads import AT_ONCE, CHUNK, Downloader, Link, Outcome
from shared_links import SharedFile, SharedLinks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_anon_session import AnonymousSession
    from trio_anon_session.testing import TokenServer

pytestmark = pytest.mark.anonymous_session(api_root_url="https://api.box.com", max_retries=0)

LINK = "https://app.box.com/s/"


@asynccontextmanager
async def open_client(
    session: AnonymousSession, links: SharedLinks
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client as main() does, which reaches only the fake."""
    root = session.config.api_root_url
    async with httpx.AsyncClient(transport=links, base_url=root, auth=session.auth()) as client:
        yield client


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_many_links_at_once(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path
) -> None:
    """All files are complete, have their own names, and need one token."""
    contents = {f"{LINK}{n}": os.urandom(CHUNK + n) for n in range(20)}
    files = {link: SharedFile("report.pdf", content) for link, content in contents.items()}
    links = SharedLinks(token_server, files)
    async with open_client(anonymous_session, links) as client:
        outcomes = await Downloader(client, tmp_path).download_all(map(Link, files))

    assert 1 < links.most_at_once <= AT_ONCE
    assert len(outcomes) == 20
    assert files_in(tmp_path) == {
        f"{n} report.pdf": content for n, content in enumerate(contents.values())
    }
    assert token_server.grants == 1


async def test_what_the_other_host_sees(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path
) -> None:
    """The host of the downloads gets neither the token nor the password."""
    links = SharedLinks(token_server, {LINK + "a": SharedFile("a", b"a", password="hush")})
    async with open_client(anonymous_session, links) as client:
        (outcome,) = await Downloader(client, tmp_path).download_all([Link(LINK + "a", "hush")])

    assert outcome.path is not None
    for headers in links.seen["api.box.com"]:
        assert "Authorization" in headers
        assert "hush" in headers["BoxApi"]
    (headers,) = links.seen["dl.boxcloud.com"]
    assert not {"authorization", "boxapi"} & headers.keys()


async def test_one_link_fails(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path
) -> None:
    """The other downloads continue, and each problem names its link."""
    files = {LINK + "good": SharedFile("good", b"good"), LINK + "locked": SharedFile("", b"", "?")}
    wanted = [Link(LINK + name) for name in ("gone", "locked", "a&b", "good")]
    async with open_client(anonymous_session, SharedLinks(token_server, files)) as client:
        outcomes = await Downloader(client, tmp_path).download_all(wanted)

    assert {outcome.link.url: outcome.problem for outcome in outcomes} == {
        LINK + "gone": "api.box.com answered 404",
        LINK + "locked": "api.box.com answered 404",
        LINK + "a&b": "this is no shared link",
        LINK + "good": None,
    }


async def test_it_goes_on_where_it_was_broken_off(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path
) -> None:
    """The second run requests only the rest, and the third run nothing."""
    content = os.urandom(3 * CHUNK)
    links = SharedLinks(token_server, {LINK: SharedFile("film", content, breaks_at=2 * CHUNK)})
    async with open_client(anonymous_session, links) as client:
        first = await Downloader(client, tmp_path).download_all([Link(LINK)])
        assert not (tmp_path / "0 film").exists()
        second = await Downloader(client, tmp_path).download_all([Link(LINK)])
        third = await Downloader(client, tmp_path).download_all([Link(LINK)])

    path = tmp_path / "0 film"
    assert first == [Outcome(Link(LINK), problem="the connection broke")]
    assert second == [Outcome(Link(LINK), path)]
    assert third == [Outcome(Link(LINK), path, was_there=True)]
    ranges = [headers.get("Range") for headers in links.seen["dl.boxcloud.com"]]
    assert ranges == [None, f"bytes={2 * CHUNK}-"]
    assert files_in(tmp_path) == {"0 film": content}


async def test_a_file_that_has_changed(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path
) -> None:
    """A part of an older version is not continued, but deleted."""
    file = SharedFile("film", b"old" * CHUNK)
    links = SharedLinks(token_server, {LINK: file})
    async with open_client(anonymous_session, links) as client:
        await Downloader(client, tmp_path).download_all([Link(LINK)])
        for file.content, file.breaks_at in [(b"newer", 2), (b"newest", None)]:
            (outcome,) = await Downloader(client, tmp_path).download_all([Link(LINK)])

    assert outcome.problem is None
    assert files_in(tmp_path) == {"0 film": b"newest"}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "x" * 1000])
async def test_a_name_that_leads_elsewhere(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path, name: str
) -> None:
    """The name of a file cannot change the folder in which it is stored."""
    folder = tmp_path / "folder"
    links = SharedLinks(token_server, {LINK: SharedFile(name, b"content")})
    async with open_client(anonymous_session, links) as client:
        (outcome,) = await Downloader(client, folder).download_all([Link(LINK)])

    assert outcome.path is not None
    assert files_in(folder) == {outcome.path.name: b"content"}


async def test_no_token(
    anonymous_session: AnonymousSession, token_server: TokenServer, tmp_path: Path
) -> None:
    """Every link has a problem, and nothing is raised."""
    token_server.clients.clear()
    links = SharedLinks(token_server, {LINK: SharedFile("a", b"a")})
    async with open_client(anonymous_session, links) as client:
        outcomes = await Downloader(client, tmp_path).download_all([Link(LINK), Link(LINK + "b")])

    assert len(outcomes) == 2
    for outcome in outcomes:
        assert outcome.problem is not None
        assert "rejected the client 'test-client'" in outcome.problem
