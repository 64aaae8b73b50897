"""``--store``: which store it is, what is shared there, and what happens where there is none."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import attrs
import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.helpers import make_config, run_virtually
from tests.ports import closed_port
from tests.stores.valkey import run_valkey
from trio_anon_session import Config, TokenInfo
from trio_anon_session._cli._checks import check_store
from trio_anon_session._cli._flags import Source
from trio_anon_session._cli._store import STORE, STORE_KEY, Place, StoreSettings, resolve_store
from trio_anon_session._secrets import fingerprint
from trio_anon_session.stores import MemoryStore, SQLiteStore, StoredToken, StoreError
from trio_anon_session.stores._records import mark_of, name_of, token_record
from trio_anon_session.stores._sealing import NO_KEY, WRONG_KEYS
from trio_anon_session.testing import Fault, FaultPlan

from .running import (
    COMMAND,
    LIMIT,
    SECRET,
    Served,
    assert_failed,
    invoke,
    plain_environ,
    run_on_terminal,
    run_python,
    running,
)
from .test_doctor import STEPS, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from trio_anon_session.stores import Look

COMPLETE = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": SECRET}
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
DOWN = "/nonexistent/tokens.db"


# Which store it is


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tokens.db", Place("sqlite", "tokens.db")),
        ("./a:b", Place("sqlite", "a:b")),
        ("/var/lib/tokens", Place("sqlite", "/var/lib/tokens")),
        ("C:/tokens.db", Place("sqlite", "C:/tokens.db")),
        ("sqlite:tokens.db", Place("sqlite", "tokens.db")),
        ("SQLite:/var/lib/tokens", Place("sqlite", "/var/lib/tokens")),
        ("sqlite:///var/lib/tokens", Place("sqlite", "/var/lib/tokens")),
        ("sqlite:redis://x", Place("sqlite", "redis:/x")),
        ("sqlite:~/tokens.db", Place("sqlite", str(Path("~/tokens.db").expanduser()))),
        ("~nobody-of-this-name/x", Place("sqlite", "~nobody-of-this-name/x")),
        ("redis://localhost", Place("redis", "redis://localhost")),
        ("rediss://user:pass@[::1]:7000/3", Place("redis", "rediss://user:pass@[::1]:7000/3")),
        ("valkey://localhost", Place("redis", "valkey://localhost")),
        ("valkeys://a:1,b", Place("redis", "valkeys://a:1,b")),
        ("unix:///run/valkey.sock?db=2", Place("redis", "unix:///run/valkey.sock?db=2")),
    ],
)
def test_what_is_a_store(text: str, place: Place) -> None:
    """What has no scheme is a path; the others are told by theirs."""
    assert Place.read(text) == place


NO_STORES = [
    *("sqlite:", "sqlite://tokens.db", ":memory:", "sqlite::memory:"),
    *("redis:/localhost", "redis://", "rediss:localhost:6379", "localhost:6379"),
    *("http://localhost", "file:tokens.db", "postgresql://u:hush@h/d", "user:hush@host"),
    *("redis://host/hush", "redis://host?hush=1", "redis://host:hush", "redis://:hush"),
]


# An empty variable counts as missing, and none has a NUL in it.
@pytest.mark.parametrize("text", ["", "a\0b", *NO_STORES])
@pytest.mark.parametrize("command", ["token", "watch", "revoke"])
def test_what_is_no_store(text: str, command: str) -> None:
    """What is no store is exit code 2, named with where it comes from, and not shown."""
    result = invoke(command, "--store", text, environ=COMPLETE, stdin="some-token")
    assert_failed(result, 2, "store: ", "(from flag --store)")
    assert "hush" not in result.output


@pytest.mark.parametrize("text", NO_STORES)
def test_what_is_no_store_in_the_environment(text: str) -> None:
    """The same goes for the variable."""
    result = invoke("token", environ={**COMPLETE, STORE: text})
    assert_failed(result, 2, "store: ", f"(from environment {STORE})")
    assert "hush" not in result.output


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush@host",
        "redis://hush@host",
        "rediss://user:hush@host:1/2",
        "redis://:hu/hush@host",
        "redis://:hu?hush@host",
        "redis://host?password=hush",
        "redis://host?a=b&username=hush",
        "unix://:hush@/socket",
    ],
)
@pytest.mark.parametrize("command", ["token", "watch", "revoke", "doctor"])
def test_a_password_in_a_flag(url: str, command: str) -> None:
    """A password by the flag is refused, with the way that works, and is not repeated."""
    for more in ([], ["--show-config"]):
        result = invoke(command, "--store", url, *more, environ=COMPLETE, stdin="some-token")
        assert result.exit_code == 2
        assert "everybody on this machine" in result.output
        assert STORE in result.output
        assert "hush" not in result.output


def test_the_flag_before_the_variable() -> None:
    """The flag wins over the variable, and an empty variable counts as missing."""
    environ = {STORE: "by-variable", STORE_KEY: ""}
    by_flag = resolve_store("by-flag", None, environ)
    assert by_flag is not None
    assert (by_flag.place.where, by_flag.store.source) == ("by-flag", "flag --store")
    by_variable = resolve_store(None, None, environ)
    assert by_variable is not None
    assert (by_variable.place.where, by_variable.keys) == ("by-variable", None)
    assert resolve_store(None, None, {STORE: "", STORE_KEY: KEY}) is None


# The key


def test_keys_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    """One in each line, the file before the variable; blank lines and ends of line do not count."""
    path = tmp_path / "keys"
    path.write_bytes(f"{KEY}\r\n\n  {OTHER_KEY}\n".encode())
    environ = {STORE: "redis://host", STORE_KEY: f"{OTHER_KEY}\n{KEY}"}
    for file, keys in ((path, [KEY, OTHER_KEY]), (None, [OTHER_KEY, KEY])):
        settings = resolve_store(None, file, environ)
        assert settings is not None
        assert settings.keys is not None
        assert settings.keys.value == keys
        assert "sealed" in repr(settings.make())
        assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("content", "store", "words"),
    [
        (b"", "redis://host", "store_key: wants a key"),
        (b" \n", "redis://host", "store_key: wants a key"),
        (b"hush", "redis://host", "store_key: wants 32 random bytes"),
        (b"\xff\xfe", "redis://host", "store_key: wants 32 random bytes"),
        (KEY.encode() + b"\nhush", "redis://host", "store_key: wants 32 random bytes"),
        (KEY.encode(), "tokens.db", "store_key: is for Redis alone"),
        (KEY.encode(), None, "store: set TRIO_ANON_SESSION_STORE, or give --store"),
    ],
)
def test_a_key_that_is_none(tmp_path: Path, content: bytes, store: str | None, words: str) -> None:
    """What cannot seal anything is exit code 2, and not shown: nothing is shared unsealed."""
    (tmp_path / "keys").write_bytes(content)
    args = ["--store-key-file", tmp_path / "keys", *(["--store", store] if store else [])]
    result = invoke("token", *args, environ=COMPLETE)
    assert_failed(result, 2, words)
    assert "hush" not in result.output
    assert KEY not in result.output


def test_a_key_in_the_environment_that_is_none() -> None:
    """The same goes for the variable."""
    environ = {**COMPLETE, STORE: "redis://host", STORE_KEY: "hush"}
    result = invoke("token", environ=environ)
    assert_failed(result, 2, "store_key: wants 32", f"(from environment {STORE_KEY})")
    assert "hush" not in result.output


# What is shown of it


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("tokens.db", "sqlite:tokens.db"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("redis://user:hush@host:1/2", "redis://***@host:1/2"),
        ("rediss://host?client_name=hush", "rediss://host?***"),
        ("valkeys://:hush@host:1,[::1],other:2/3", "valkeys://***@host:1,[::1],other:2/3"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
    ],
)
def test_show_config(store: str, shown: str) -> None:
    """``--show-config`` shows where the store is, without what may be a secret."""
    environ = {**COMPLETE, STORE: store}
    result = invoke("token", "--show-config", environ=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    *_, row, key_row = result.stdout.splitlines()
    assert row.split(maxsplit=2) == ["store", shown, f"environment {STORE}"]
    assert key_row.split() == ["store_key", "-", "default"]
    assert "hush" not in result.output


def test_show_config_of_keys(tmp_path: Path) -> None:
    """Of keys there is to be seen how many there are, and where they come from."""
    (tmp_path / "keys").write_text(f"{KEY}\n{OTHER_KEY}\n")
    args = ["--store", "redis://host", "--store-key-file", tmp_path / "keys", "--show-config"]
    result = invoke("watch", *args, environ=COMPLETE)
    assert result.exit_code == 0
    row = result.stdout.splitlines()[-1]
    assert row.split() == ["store_key", "***", "***", "flag", "--store-key-file"]
    assert KEY not in result.stdout
    assert OTHER_KEY not in result.stdout


@given(
    password=st.text(st.characters(codec="utf-8", exclude_characters="\0")).map("Zq7{}Zq7".format),
    form=st.sampled_from(
        [
            *("redis://:{}@host/0", "redis://{}@host", "rediss://user:{}@host:1/2?db=3"),
            *("unix://:{}@/socket", "redis://host?password={}", "redis://:{}@", "redis://:{}"),
            *("redis:{}@host", "valkey://:{}@host", "redis://host/?x=:{}@", "redis://host:{}"),
            *("redis://host/{}", "redis://user:{}:{}@host", "unix://{}@host/socket"),
        ]
    ),
    encode=st.sampled_from([str, quote]),
    command=st.sampled_from(["token", "watch", "revoke", "doctor"]),
)
def test_show_config_never_shows_a_password(
    password: str, form: str, encode: Callable[[str], str], command: str
) -> None:
    """No part of a password is shown, however wrongly the URL around it is written."""
    # Where no host follows, what stands behind an @ is one, by the rules of URLs.
    assume(not (form.endswith("{}") and "@" in encode(password)))
    environ = {**COMPLETE, STORE: form.replace("{}", encode(password))}
    result = invoke(command, "--show-config", environ=environ)
    assert result.exit_code in (0, 2)
    assert re.search(rf"^store .*environment {STORE}$", result.stdout, re.MULTILINE)
    assert "Zq7" not in result.output


# token


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return where a store may be made."""
    return tmp_path / "tokens.db"


def fill(place: Path, served: Served, *, age: float, lifetime: float = 100.0) -> str:
    """Put a token of the server's into a store, by another process, and return it."""

    async def put() -> str:
        config = Config.from_env(served.environ)
        store, name = SQLiteStore(place), name_of(config)
        info = TokenInfo.from_answer("kept", lifetime, trio.current_time(), config)
        fence = await store.claim(name, "elsewhere/1/2", (await store.look(name)).version, 5.0)
        assert fence is not None
        record = token_record(info, config, "elsewhere/1/2")
        token = StoredToken(record, mark_of("kept"), lifetime, age)
        assert await store.put(name, fence, token)
        return "kept"

    return trio.run(put)


@pytest.mark.slow
def test_a_second_call(served: Served, place: Path) -> None:
    """A second call within the token's life asks nobody, and prints the same token."""
    served.server.lifetime = 100.0
    first = invoke("token", "--store", place, environ=served.environ)
    assert (first.exit_code, first.stderr) == (0, "")
    second = invoke("token", "--json", environ={**served.environ, STORE: f"sqlite:{place}"})
    assert (second.exit_code, second.stderr) == (0, "")
    shown = json.loads(second.stdout)
    assert [shown["access_token"]] == first.stdout.split() == list(served.server.tokens)
    assert 60 <= shown["expires_in"] < 100
    assert len(served.server.token_requests()) == 1


@pytest.mark.slow
def test_what_is_left_is_what_is_left(served: Served, place: Path) -> None:
    """A token that somebody else got has what remains of its life; nothing is asked for."""
    token = fill(place, served, age=60.0)
    result = invoke("token", "--store", place, "--json", environ=served.environ)
    shown = json.loads(result.stdout)
    assert shown["access_token"] == token
    assert 20 <= shown["expires_in"] <= 40
    # Nor is one begun that would be broken off, though it is past its stale boundary.
    assert served.server.token_requests() == []


@pytest.mark.slow
@pytest.mark.parametrize(("buffer", "is_new"), [(10, False), (25, True)])
def test_the_end_of_its_life(served: Served, place: Path, buffer: int, is_new: bool) -> None:
    """Where the end is nearer than ``--expired-buffer``, there is a new token, for all."""
    kept = fill(place, served, age=80.0)
    args = ["--store", place, "--expired-buffer", buffer]
    tokens = {invoke("token", *args, environ=served.environ).stdout.strip() for _ in range(2)}
    assert (tokens != {kept}) == is_new
    assert len(tokens) == 1
    assert len(served.server.token_requests()) == is_new


@pytest.mark.slow
def test_many_at_once(served: Served, place: Path) -> None:
    """Many calls at once send one grant, and print the same token."""
    served.server.faults = FaultPlan(token_then=Fault(delay=0.5))
    calls = [
        subprocess.Popen(
            [*COMMAND, "token", "--store", str(place)],
            env=plain_environ(**served.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    ended = [call.communicate(timeout=LIMIT) for call in calls]
    assert {(call.returncode, errors) for call, (_, errors) in zip(calls, ended, strict=True)} == {
        (0, "")
    }
    assert [{printed.strip() for printed, _ in ended}] == [set(served.server.tokens)]
    assert len(served.server.token_requests()) == 1


@pytest.mark.slow
def test_another_client_has_another_token(served: Served, place: Path) -> None:
    """A token goes to those alone whose client, subject and scope it was got for."""
    tokens = {
        invoke("token", "--store", place, *args, environ=served.environ).stdout
        for args in ([], ["--scope", "item_read"], ["--param", "audience=x"], [])
    }
    assert len(tokens) == len(served.server.token_requests()) == 3


@pytest.mark.slow
def test_a_store_that_is_down(served: Served) -> None:
    """Without the store there is a token all the same, and one line that says so."""
    result = invoke("token", "--store", DOWN, environ=served.environ)
    assert result.exit_code == 0
    assert result.stdout.split() == list(served.server.tokens)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"trio-anon-session: the token store fails ({DOWN}: No such file")


@pytest.mark.slow
def test_a_store_and_an_endpoint_that_are_down(served: Served) -> None:
    """Where there is no token either, both are said, and the exit code is that of the token."""
    served.server.faults = FaultPlan(token_then=Fault.server_error(503))
    args = ["--store", DOWN, "--max-retries", 0]
    result = invoke("token", *args, environ=served.environ)
    assert (result.exit_code, result.stdout) == (4, "")
    store, endpoint = result.stderr.splitlines()
    assert "the token store fails" in store
    assert "status 503" in endpoint


@pytest.mark.slow
def test_what_another_process_was_told(served: Served, place: Path) -> None:
    """A failure is shared, too: who comes in its pause does not ask again."""
    served.server.faults = FaultPlan(token_then=Fault.rate_limited("60"))
    args = ["token", "--store", place, "--max-retries", 0]
    assert invoke(*args, environ=served.environ).exit_code == 4
    again = invoke(*args, environ=served.environ)
    assert_failed(again, 4, "the fleet's last attempt", "status 429")
    assert len(served.server.token_requests()) == 1


# revoke


@pytest.mark.slow
def test_a_token_that_is_revoked_for_all(served: Served, place: Path) -> None:
    """A revoked token is printed no more, and those who share it learn of that."""
    dead = invoke("token", "--store", place, environ=served.environ).stdout
    result = invoke("revoke", "--store", place, environ=served.environ, stdin=dead)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("; those who share it have been told\n")
    assert served.server.revocations == 1
    new = invoke("token", "--store", place, environ=served.environ).stdout
    assert new != dead
    assert [dead.strip(), new.strip()] == list(served.server.tokens)


@pytest.mark.slow
def test_revoked_without_the_store(served: Served) -> None:
    """Without the store the token is revoked all the same, and it is said who does not know."""
    token = invoke("token", environ=served.environ).stdout
    result = invoke("revoke", "--store", DOWN, environ=served.environ, stdin=token)
    assert result.exit_code == 0
    assert served.server.revocations == 1
    assert result.stdout.endswith("; those who share it have not been told\n")
    (line,) = result.stderr.splitlines()
    assert "the token store fails" in line


@pytest.mark.slow
def test_dropped_where_it_cannot_be_revoked(served: Served, place: Path) -> None:
    """Those who share it have been told, also where the server does not revoke it."""
    token = invoke("token", "--store", place, environ=served.environ).stdout
    served.server.faults = FaultPlan(revoke_then=Fault.server_error(503))
    args = ["--store", place, "--max-retries", 0]
    assert_failed(invoke("revoke", *args, environ=served.environ, stdin=token), 4, "status 503")
    assert invoke("token", "--store", place, environ=served.environ).stdout != token


# doctor


STEPS_WITH_STORE = [STEPS[0], "store", *STEPS[1:]]


@pytest.mark.slow
def test_doctor_with_a_store(served: Served, place: Path) -> None:
    """The store is tried out, what is there is told, and the shared token is left alone."""
    token = fill(place, served, age=60.0)
    result = invoke("doctor", "--store", place, environ=served.environ)
    assert result.exit_code == 0
    assert verdicts(result.stdout) == dict.fromkeys(STEPS_WITH_STORE, "ok")
    assert re.search(
        rf"sqlite:{re.escape(str(place))} answers, after \d\.\d\d s; "
        rf"it has token {fingerprint(token)}, 6\d s old",
        result.stdout,
    )
    assert invoke("token", "--store", place, environ=served.environ).stdout.strip() == token


@pytest.mark.slow
def test_doctor_with_a_store_that_is_down(served: Served) -> None:
    """A store that cannot be used has failed, and all else is looked at."""
    result = invoke("doctor", "--store", DOWN, environ=served.environ)
    assert result.exit_code == 1
    found = verdicts(result.stdout)
    assert found == {**dict.fromkeys(STEPS_WITH_STORE, "ok"), "store": "failed"}
    assert f"sqlite:{DOWN} cannot be used: {DOWN}: No such file" in result.stdout
    assert "-> Check that the directory exists" in result.stdout


def test_doctor_with_no_such_store() -> None:
    """What is no store has failed with the exit code of a configuration."""
    skipped = dict.fromkeys(STEPS_WITH_STORE, "skipped")
    result = invoke("doctor", "--store", "localhost:6379")
    assert result.exit_code == 2
    assert verdicts(result.stdout) == {**skipped, "configuration": "failed"}
    result = invoke("doctor", "--store", "localhost:6379", environ=COMPLETE)
    assert result.exit_code == 2
    assert verdicts(result.stdout) == {**skipped, "configuration": "ok", "store": "failed"}


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
def test_doctor_and_files_that_others_can_replace(
    served: Served, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    """A refusal of the store is a failure, with the reason, what to do, and the exit code 1."""
    place = tmp_path / "folder" / "tokens.db"
    place.parent.mkdir(0o700)
    said = spoil(place)
    result = invoke("doctor", "--store", f"sqlite:{place}", environ=served.environ)
    assert result.exit_code == 1
    found = verdicts(result.stdout)
    assert found == {**dict.fromkeys(STEPS_WITH_STORE, "ok"), "store": "failed"}
    assert f"sqlite:{place} cannot be used: {place}: {said}" in result.stdout
    assert "-> Check that the directory exists, that only this user can write" in result.stdout


def make_source(store: object) -> Source:
    """Return what a command line says that names a store, and nothing else."""
    return Source({}, (), None, None, {}, store=str(store))


class OddStore(MemoryStore):
    """Does what is asked, but for one thing."""

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
        ("refuses", "it takes nothing"),
        ("loses", "what was put there is not found there"),
        ("hurries", r"its clock has gone 30\.0 s on in 0\.0 s"),
        ("hangs", r"no answer within 10 s"),
    ],
)
def test_doctor_and_a_store_that_does_not_keep_its_word(
    monkeypatch: pytest.MonkeyPatch, odd: str, words: str
) -> None:
    """A store that loses things, or has no clock to speak of, is not one to be used."""
    monkeypatch.setattr(StoreSettings, "make", lambda self: OddStore(odd))
    config = make_config(request_timeout=10.0)
    check = run_virtually(check_store, make_source("tokens.db"), config)
    assert check.verdict == "failed"
    assert re.fullmatch(f"sqlite:tokens.db cannot be used: {words}", check.found)


class SealedStore(MemoryStore):
    """A store in which others keep what cannot be opened here."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.looks = 0

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        self.looks += 1
        # What is put there to try it out is found again.
        if self.looks > 2:
            raise StoreError(self.words)
        return await super().look(name, marks)


@pytest.mark.parametrize("words", [NO_KEY, WRONG_KEYS])
def test_doctor_and_a_store_that_others_seal(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """It is the key that has to be looked at, and neither host nor password."""
    monkeypatch.setattr(StoreSettings, "make", lambda self: SealedStore(words))
    check = run_virtually(check_store, make_source("redis://127.0.0.1"), make_config())
    assert (check.verdict, check.found) == (
        "failed",
        f"redis://127.0.0.1 cannot be used: {words}",
    )
    assert check.advice is not None
    assert check.advice.startswith(f"Give the key with which the others seal, in {STORE_KEY}")


class DeafStore(MemoryStore):
    """A store whose user may not subscribe."""

    def listen(self, name: str) -> NoReturn:
        raise StoreError("answers NOPERM")


@pytest.mark.parametrize("host", ["127.0.0.1", "valkey.example"])
def test_doctor_and_a_store_without_news(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A warning says so, after the warning that others can read along."""
    monkeypatch.setattr(StoreSettings, "make", lambda self: DeafStore())
    check = run_virtually(check_store, make_source(f"redis://{host}"), make_config())
    is_exposed = host == "valkey.example"
    exposure = "; what goes there can be read on the way" if is_exposed else ""
    assert check.verdict == "warning"
    assert check.found.endswith(f"{exposure}; it brings no news: answers NOPERM")
    assert check.advice is not None
    assert ("for TLS." in check.advice) is is_exposed
    assert "publish and subscribe" in check.advice


@pytest.mark.parametrize(
    ("url", "is_exposed"),
    [
        ("redis://valkey.example", True),
        ("valkey://valkey.example", True),
        ("valkey://localhost,valkey.example", True),
        ("valkey://localhost,127.0.0.1:1", False),
        ("rediss://valkey.example", False),
        ("valkeys://valkey.example", False),
        ("redis://127.0.0.1", False),
        ("redis://localhost", False),
        ("unix:///run/valkey.sock", False),
    ],
)
def test_doctor_and_who_reads_on_the_way(url: str, is_exposed: bool) -> None:
    """Without TLS, a server elsewhere is a warning."""
    assert (Place.read(url).exposure is not None) == is_exposed


# watch


def test_no_revocation_of_what_others_use() -> None:
    """``--revoke-on-exit`` would end the token of all: it is refused, with the way to do it."""
    args = ["--store", "tokens.db", "--revoke-on-exit"]
    assert_failed(invoke("watch", *args, environ=COMPLETE), 2, "all who share", "revoke")


@pytest.mark.slow
def test_watchers_of_one_store(served: Served, place: Path) -> None:
    """Of two who watch, one gets the token and the other takes it over."""
    environ = {**served.environ, STORE: str(place)}
    with running("watch", environ=environ) as one:
        assert one.stdout is not None
        while "+ token" not in (own := one.stdout.readline()):
            pass
        with running("watch", environ=environ) as other:
            assert other.stdout is not None
            while "+ token" not in (taken := other.stdout.readline()):
                pass
            other.send_signal(signal.SIGINT)
            rest, errors = other.communicate(timeout=LIMIT)
        one.send_signal(signal.SIGINT)
        one.communicate(timeout=LIMIT)
    (token,) = map(fingerprint, served.server.tokens)
    assert f"+ token {token} after " in own
    assert f"+ token {token} taken over from {socket.gethostname()}/{one.pid}, good for" in taken
    assert (other.returncode, one.returncode, errors) == (0, 0, "")
    assert "0 grants, 1 taken over, 0 failures" in rest.splitlines()[-1]


@pytest.mark.slow
def test_watch_on_a_terminal(served: Served, place: Path) -> None:
    """On a terminal the panel shows the store beside the session."""
    fill(place, served, age=10.0)
    ended = run_on_terminal(
        *("watch", "--store", str(place)),
        environ=served.environ,
        when=lambda text: "got by" in text and "taken over from" in text,
        type_=b"\x03",
    )
    assert ended.code == 0, ended.text
    for words in ("shared token", fingerprint("kept"), "got by elsewhere/1", "lease", "free"):
        assert words in ended.text


# Redis


@pytest.mark.slow
def test_a_token_shared_by_way_of_a_server(served: Served, tmp_path: Path) -> None:
    """With a key the server sees nothing of the token; the password is shown nowhere."""
    (tmp_path / "keys").write_text(f"{KEY}\n")
    (tmp_path / "rotated").write_text(f"{OTHER_KEY}\n{KEY}\n")
    with run_valkey(tmp_path, "--requirepass", "hush") as valkey:
        url = valkey.url.replace("://", "://:hush@")
        environ = {**served.environ, STORE: url}
        printed = [
            invoke(command, "--store-key-file", tmp_path / keys, environ=environ)
            for command, keys in (("token", "keys"), ("token", "rotated"), ("doctor", "keys"))
        ]
        with valkey.connect() as connection:
            connection.do("AUTH", "hush")
            keys = connection.do("KEYS", "*")
            held = b"".join(connection.do("DUMP", key) for key in keys)
        wrong = invoke("token", environ={**environ, STORE: url.replace("hush", "hash")})
    first, second, doctor = printed
    assert [result.exit_code for result in printed] == [0, 0, 0]
    assert first.stdout == second.stdout
    token = first.stdout.strip()
    assert keys
    assert token.encode() not in held
    assert f"it has token {fingerprint(token)}" in doctor.stdout
    assert (wrong.exit_code, wrong.stdout.strip()) == (0, list(served.server.tokens)[-1])
    assert "the token store fails" in wrong.stderr
    assert "WRONGPASS" in wrong.stderr
    for result in (*printed, wrong):
        assert "hush" not in result.output.replace(SECRET, "")
        assert "hash" not in result.output


@pytest.mark.slow
def test_nobody_listens(served: Served) -> None:
    """A server that is not there costs the sharing, and neither the token nor any time."""
    with closed_port() as port:
        result = invoke("token", "--store", f"redis://127.0.0.1:{port}", environ=served.environ)
    assert result.exit_code == 0
    assert result.stdout.split() == list(served.server.tokens)
    (line,) = result.stderr.splitlines()
    assert f"the token store fails (127.0.0.1:{port}: " in line


_WITHOUT = """
import sys

missing = sys.argv.pop(1)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
from trio_anon_session.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["coredis", "cryptography"])
@pytest.mark.parametrize("command", ["token", "doctor"])
def test_a_missing_extra(served: Served, missing: str, command: str) -> None:
    """Without what the extra brings, the command says how to get it."""
    environ = {**served.environ, STORE: "redis://127.0.0.1:1", STORE_KEY: KEY}
    ended = run_python("-c", _WITHOUT, missing, command, environ=environ)
    assert ended.returncode == 1
    assert missing in ended.stdout + ended.stderr
    if command == "token":
        (line,) = ended.stderr.splitlines()
        assert line.endswith("pip install 'trio_anon_session[cli,redis]'")
    else:
        assert verdicts(ended.stdout)["store"] == "failed"
        assert "pip install 'trio_anon_session[redis]'" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["coredis", "cryptography"])
def test_sqlite_needs_no_extra(served: Served, place: Path, missing: str) -> None:
    """A file of this machine needs nothing but the command's own extra."""
    environ = {**served.environ, STORE: str(place)}
    ended = run_python("-c", _WITHOUT, missing, "token", environ=environ)
    assert (ended.returncode, ended.stderr) == (0, "")
