"""``doctor --store``: what the check of the store finds, and what it advises."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NoReturn

import attrs
import pytest
import trio

from tests.helpers import make_config, run_virtually
from trio_anon_session._cli._checks._store import check_store
from trio_anon_session._cli._flags import Source
from trio_anon_session._cli._store import STORE_KEY, Place, StoreSettings
from trio_anon_session.stores import MemoryStore, StoreError
from trio_anon_session.stores._sealing import NO_KEY, WRONG_KEYS

from .running import COMPLETE, Served, invoke, run_without
from .test_doctor import LOCAL_STEPS, STEPS, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from trio_anon_session.stores import Look, StoredToken

STEPS_WITH_STORE = [*LOCAL_STEPS, "store", *STEPS[2:]]


def missing_directory(place: Path) -> str:
    place.parent.rmdir()
    return "No such file or directory"


def open_directory(place: Path) -> str:
    place.parent.chmod(0o777)
    return f"{place.parent} must not be writable by other users, got mode 777; run: chmod go-w "


def sticky_directory(place: Path) -> str:
    place.parent.chmod(0o1777)
    return f"{place.parent} must not be writable by other users, got mode 1777; keep the file in "


def planted_log(place: Path) -> str:
    os.mkfifo(f"{place}-wal")
    return f"{place}-wal must be a regular file, got a FIFO; delete it, or use another path"


def foreign_file(place: Path) -> str:
    place.touch(0o600)
    os.chown(place, 12345, 12345)
    return f"the owner of {place} must be user 0, got user 12345; delete the file, or use another"


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        missing_directory,
        open_directory,
        sticky_directory,
        planted_log,
        pytest.param(
            foreign_file,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
        ),
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_doctor_with_a_file_that_cannot_be_used(
    served: Served, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    """A file that cannot be used fails the check, with reason and advice; other checks run."""
    place = tmp_path / "folder" / "tokens.db"
    place.parent.mkdir(0o700)
    reason = spoil(place)
    result = invoke("doctor", "--store", f"sqlite:{place}", environ=served.environ)
    assert result.exit_code == 1
    found = verdicts(result.stdout)
    assert found == {**dict.fromkeys(STEPS_WITH_STORE, "ok"), "store": "failed"}
    assert f"sqlite:{place} cannot be used: {place}: {reason}" in result.stdout
    assert "-> Check that the directory exists, that only this user can write" in result.stdout


def test_doctor_with_a_wrong_store() -> None:
    """For a setting that names no store, the exit code is 2, and later checks are skipped."""
    skipped = dict.fromkeys(STEPS_WITH_STORE, "skipped")
    for environ, verdict in ({}, "failed"), (COMPLETE, "ok"):
        result = invoke("doctor", "--store", "localhost:6379", environ=environ)
        assert result.exit_code == 2
        store, credentials = ("skipped",) * 2 if verdict == "failed" else ("failed", "ok")
        expected = {"configuration": verdict, "credentials": credentials, "store": store}
        assert verdicts(result.stdout) == skipped | expected


@pytest.mark.slow
def test_doctor_without_the_extra(served: Served) -> None:
    """If the extra is missing, the check says how to install it, and the exit code is 2."""
    args = ("doctor", "--store", "redis://127.0.0.1:1")
    ended = run_without("coredis", *args, environ=served.environ)
    assert ended.returncode == 2
    assert verdicts(ended.stdout)["store"] == "failed"
    assert "coredis" in ended.stdout
    assert "pip install 'trio_anon_session[redis]'" in ended.stdout


def make_source(store: object) -> Source:
    """Return the settings of a command line with only this store."""
    return Source({}, (), None, None, {}, store=str(store))


class OddStore(MemoryStore):
    """A store that does one thing wrong."""

    def __init__(self, odd: str) -> None:
        super().__init__()
        self.odd = odd

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        seen = await super().look(name, marks)
        if seen.token is None:
            return seen
        match self.odd:
            case "loses":
                return attrs.evolve(seen, token=None)
            case "hurries":
                return attrs.evolve(seen, token=attrs.evolve(seen.token, age=40.0))
        return seen

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        return await super().put(name, fence + (self.odd == "refuses"), token)

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        if self.odd == "hangs":
            await trio.sleep_forever()
        return await super().claim(name, owner, seen, seconds)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ("refuses", "it refuses to keep a token"),
        ("loses", "it does not return the token that was put there"),
        ("hurries", r"its clock advanced by 30\.0 s in 0\.0 s"),
        ("hangs", r"no answer within 10 s"),
    ],
)
def test_doctor_with_a_store_that_fails_its_check(
    monkeypatch: pytest.MonkeyPatch, odd: str, words: str
) -> None:
    """A store that refuses or loses a token, has a wrong clock or hangs fails the check."""
    monkeypatch.setattr(StoreSettings, "make", lambda self: OddStore(odd))
    config = make_config(request_timeout=10.0)
    check = run_virtually(check_store, make_source("tokens.db"), config)
    assert check.verdict == "failed"
    assert re.fullmatch(f"sqlite:tokens.db cannot be used: {words}", check.found)


class SealedStore(MemoryStore):
    """A store with a token of another process that this process cannot decrypt."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.looks = 0

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        self.looks += 1
        # The first two looks find the token that the check itself has put into the store.
        if self.looks > 2:
            raise StoreError(self.words)
        return await super().look(name, marks)


@pytest.mark.parametrize("words", [NO_KEY, WRONG_KEYS])
def test_doctor_with_another_encryption_key(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """If the shared token cannot be decrypted, the advice is about the encryption key."""
    monkeypatch.setattr(StoreSettings, "make", lambda self: SealedStore(words))
    check = run_virtually(check_store, make_source("redis://127.0.0.1"), make_config())
    assert (check.verdict, check.found) == (
        "failed",
        f"redis://127.0.0.1 cannot be used: {words}",
    )
    assert check.advice is not None
    assert check.advice.startswith(f"Use the encryption key of the other processes ({STORE_KEY}")


class StoreWithoutNotifications(MemoryStore):
    """A store whose server does not permit this user to subscribe."""

    def listen(self, name: str) -> NoReturn:
        raise StoreError("answers NOPERM")


@pytest.mark.parametrize("host", ["127.0.0.1", "valkey.example"])
def test_doctor_with_a_store_without_notifications(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A store without notifications is a warning, in addition to one about a lack of TLS."""
    monkeypatch.setattr(StoreSettings, "make", lambda self: StoreWithoutNotifications())
    check = run_virtually(check_store, make_source(f"redis://{host}"), make_config())
    is_exposed = host == "valkey.example"
    exposure = "; the connection is not encrypted" if is_exposed else ""
    assert check.verdict == "warning"
    assert check.found.endswith(f"{exposure}; it sends no notifications: answers NOPERM")
    assert check.advice is not None
    assert ("for TLS." in check.advice) is is_exposed
    assert "publish and subscribe" in check.advice


@pytest.mark.parametrize(
    ("url", "is_exposed"),
    [
        ("redis://valkey.example", True),
        ("valkey://localhost,valkey.example", True),
        ("valkey://localhost,127.0.0.1:1", False),
        ("rediss://valkey.example", False),
        ("valkeys://valkey.example", False),
        ("unix:///run/valkey.sock", False),
    ],
)
def test_doctor_with_an_exposed_connection(url: str, is_exposed: bool) -> None:
    """A connection to another host without TLS counts as exposed."""
    assert (Place.read(url).exposure is not None) == is_exposed
