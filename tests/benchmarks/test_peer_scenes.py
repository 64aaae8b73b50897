"""The scenes with peers: what this library does in them, and which peers are left out."""

from __future__ import annotations

import datetime
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from benchmarks import peers, scenes, versions, virtual_time
from benchmarks.by_hand import WITH_LOCK
from benchmarks.endpoint import OURS
from benchmarks.measure import Effort
from benchmarks.peers import AsyncCache, Kind
from benchmarks.scenes import cancelled, down, herd, hour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter

pytestmark = pytest.mark.nightly

NAMES = ("hit_sync", "hit_async", "herd", "down", "cancelled", "hour", "request")
LEAST = Effort(turns=1, calls=50, crowd=1_000)


def _require(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    file = folder / "requirements.txt"
    file.write_text(lines)
    monkeypatch.setattr(versions, "REQUIREMENTS", file)


def test_a_herd_causes_one_grant() -> None:
    """A thousand tasks that ask at the same moment cause one grant."""
    grants, _ = virtual_time.run(herd.call_at_once, OURS, 1_000)
    assert grants == 1


@pytest.mark.parametrize(
    ("cache", "sent", "shortest", "longest"),
    [
        # The pauses take 0.5 to 1.5 times 2 + 4 + 8 + 16 + 32 s, plus six answers.
        (OURS, 6, 31.3, 93.3),
        (down.OURS_AT_ONCE, 1, down.TAKES, down.TAKES),
        # A lock around the grant lets each caller send a request.
        (WITH_LOCK, 100, 100 * down.TAKES, 100 * down.TAKES),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_how_long_a_herd_waits_for_an_error(
    cache: AsyncCache, sent: int, shortest: float, longest: float
) -> None:
    """All callers of a session get the error of one round; with a lock, each sends a request."""
    requests, seconds = virtual_time.run(down.call_at_once, cache, 100)
    assert requests == sent
    assert shortest - 1e-6 <= seconds <= longest + 1e-6


def test_an_error_of_the_cache_propagates() -> None:
    """An error of the cache itself propagates from the scene."""

    async def break_down() -> None:
        raise ZeroDivisionError

    @asynccontextmanager
    async def open_broken(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
        yield break_down

    with pytest.RaisesGroup(ZeroDivisionError):
        virtual_time.run(down.call_at_once, AsyncCache("broken", open_broken), 1)


def test_a_cancelled_caller_does_not_cancel_the_request() -> None:
    """If the first caller is cancelled, the second one gets the token of the same request."""
    assert virtual_time.run(cancelled.cancel_first, OURS) == (1, 0.75)


def test_an_hour_of_short_tokens() -> None:
    """In an hour of tokens with a lifetime of 300 s, there are at most 25 token requests."""
    assert virtual_time.run(hour.call_steadily, OURS, hour.AN_HOUR) <= 25


def test_a_shortened_hour_has_no_limit() -> None:
    """A shortened hour has its length in its figure, and no limit."""
    (comparison,) = hour.run(LEAST)
    assert comparison.figure == "token requests in 1 min"
    assert [row.limit for row in comparison.rows if row.is_ours] == [None]


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_that_is_missing_is_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a peer is not installed, the row of the base says so, and the scene still runs."""
    for kind in ("ON_TRIO", "SYNC", "AWAITS_NOTHING", "ON_ASYNCIO", "REQUESTS"):
        monkeypatch.setattr(peers, kind, Kind(kind, ("no_such_peer",)))
    first, *_ = scenes.load(name).run(LEAST)
    (base,) = (row for row in first.rows if row.subject == first.base)
    assert "no-such-peer" in base.remark
    assert peers.remark([]) == ""


def test_a_peer_in_another_version_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that is installed in another version than the pinned one is left out."""
    _require(tmp_path, monkeypatch, "attrs==0.1")
    assert peers.load(Kind("ON_TRIO", ("attrs",))) == ([], ["attrs"])


def test_a_peer_that_cannot_be_imported_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a peer is installed as required, an error of its import propagates."""
    _require(tmp_path, monkeypatch, f"attrs=={versions.installed('attrs')}")
    with pytest.raises(ModuleNotFoundError, match=r"benchmarks\.peers\.attrs"):
        peers.load(Kind("ON_TRIO", ("attrs",)))


def test_requirements_name_exact_versions() -> None:
    """The requirements have all peers, and each line is a comment or an exact version."""
    lines = versions.REQUIREMENTS.read_text().splitlines()
    for line in filter(None, lines):
        assert re.fullmatch(r"#.*|[a-z0-9-]+==\d+(\.\d+)*( +# .*)?", line)
    names = {name.replace("-", "_") for name in versions.pinned()}
    kinds = (peers.ON_TRIO, peers.SYNC, peers.AWAITS_NOTHING, peers.ON_ASYNCIO)
    assert {file for kind in kinds for file in kind.files} <= names


def test_versions_name_installed_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``versions`` returns the installed packages of the requirements, and no others."""
    _require(tmp_path, monkeypatch, "attrs==0.1  # a reason\nno-such-peer==1.0")
    found = versions.versions()
    assert found["attrs"] == versions.installed("attrs")
    assert "no-such-peer" not in found


def test_other_clocks_follow_virtual_time() -> None:
    """During a run, ``time`` and ``datetime`` follow virtual time; then they are restored."""

    async def sleep() -> tuple[float, datetime.timedelta]:
        before, then = time.time(), datetime.datetime.now(datetime.UTC)
        await trio.sleep(1000.0)
        return time.time() - before, datetime.datetime.now(datetime.UTC) - then

    clock, kind = time.time, datetime.datetime
    seconds, delta = virtual_time.run(sleep)
    assert seconds == pytest.approx(1000.0)
    assert delta.total_seconds() == pytest.approx(1000.0)
    assert (time.time, datetime.datetime) == (clock, kind)
