"""``token``, ``revoke``, ``doctor`` and ``watch`` with a store that processes share."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from tests.ports import closed_port
from tests.stores.valkey import run_valkey
from trio_anon_session import Config, TokenInfo
from trio_anon_session._cli._store import STORE
from trio_anon_session._secrets import fingerprint
from trio_anon_session.stores import SQLiteStore, StoredToken
from trio_anon_session.stores._records import mark_of, name_of, token_record
from trio_anon_session.testing import Fault, FaultPlan

from .running import (
    COMPLETE,
    LIMIT,
    SECRET,
    Served,
    assert_failed,
    invoke,
    read_until,
    run_on_terminal,
    running,
)
from .test_doctor import verdicts
from .test_doctor_store import STEPS_WITH_STORE

if TYPE_CHECKING:
    from pathlib import Path

DOWN = "/nonexistent/tokens.db"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the path for a new store."""
    return tmp_path / "tokens.db"


def fill(place: Path, served: Served, *, age: float, lifetime: float = 100.0) -> str:
    """Put a token into the store in the name of another process, and return it."""

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
    """A second call within the token's lifetime prints the same token without a request."""
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
@pytest.mark.parametrize(("buffer", "is_new"), [(100, False), (250, True)])
def test_a_shared_token_near_its_end(
    served: Served, place: Path, buffer: int, is_new: bool
) -> None:
    """If the shared token ends within ``--expired-buffer``, a call gets a new one for all."""
    # If the token is still usable, no request begins, although the token is STALE.
    kept = fill(place, served, age=800.0, lifetime=1000.0)
    args = ["--store", place, "--expired-buffer", buffer, "--json"]
    first, second = (
        json.loads(invoke("token", *args, environ=served.environ).stdout) for _ in range(2)
    )
    assert first["access_token"] == second["access_token"]
    assert (first["access_token"] != kept) == is_new
    # `expires_in` of a token from another process is its remaining lifetime.
    assert is_new or 100 <= first["expires_in"] <= 200
    assert len(served.server.token_requests()) == is_new


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "server"])
def test_a_store_that_is_down(served: Served, kind: str) -> None:
    """If the store fails, the command gets its own token, and one line on stderr says so."""
    with closed_port() as port:
        store = DOWN if kind == "file" else f"redis://127.0.0.1:{port}"
        result = invoke("token", "--store", store, environ=served.environ)
    assert result.exit_code == 0
    assert result.stdout.split() == list(served.server.tokens)
    (line,) = result.stderr.splitlines()
    reason = f"{DOWN}: No such file" if kind == "file" else f"127.0.0.1:{port}: "
    assert line.startswith(f"trio-anon-session: the token store fails ({reason}")


@pytest.mark.slow
def test_a_store_and_an_endpoint_that_are_down(served: Served) -> None:
    """If the endpoint fails too, both are reported, and the exit code is the endpoint's."""
    served.server.faults = FaultPlan(token_then=Fault.server_error(503))
    args = ["--store", DOWN, "--max-retries", 0]
    result = invoke("token", *args, environ=served.environ)
    assert (result.exit_code, result.stdout) == (4, "")
    store, endpoint = result.stderr.splitlines()
    assert "the token store fails" in store
    assert "status 503" in endpoint


@pytest.mark.slow
def test_a_revoked_token_is_dropped_for_all(served: Served, place: Path) -> None:
    """No call that shares the store prints a revoked token again."""
    dead = invoke("token", "--store", place, environ=served.environ).stdout
    result = invoke("revoke", "--store", place, environ=served.environ, stdin=dead)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("; the processes that share it were notified\n")
    assert served.server.revocations == 1
    new = invoke("token", "--store", place, environ=served.environ).stdout
    assert new != dead
    assert [dead.strip(), new.strip()] == list(served.server.tokens)


@pytest.mark.slow
def test_revoked_without_the_store(served: Served) -> None:
    """If the store fails, the token is still revoked; the output says who was not notified."""
    token = invoke("token", environ=served.environ).stdout
    result = invoke("revoke", "--store", DOWN, environ=served.environ, stdin=token)
    assert result.exit_code == 0
    assert served.server.revocations == 1
    assert result.stdout.endswith("; the processes that share it could not be notified\n")
    (line,) = result.stderr.splitlines()
    assert "the token store fails" in line


@pytest.mark.slow
def test_a_token_that_cannot_be_revoked_is_dropped(served: Served, place: Path) -> None:
    """If the server does not revoke the token, other processes still drop it."""
    token = invoke("token", "--store", place, environ=served.environ).stdout
    served.server.faults = FaultPlan(revoke_then=Fault.server_error(503))
    args = ["--store", place, "--max-retries", 0]
    assert_failed(invoke("revoke", *args, environ=served.environ, stdin=token), 4, "status 503")
    assert invoke("token", "--store", place, environ=served.environ).stdout != token


@pytest.mark.slow
def test_doctor_with_a_store(served: Served, place: Path) -> None:
    """The check tests the store, shows the shared token, and leaves it in the store."""
    token = fill(place, served, age=600.0, lifetime=1000.0)
    result = invoke("doctor", "--store", place, environ=served.environ)
    assert result.exit_code == 0
    assert verdicts(result.stdout) == dict.fromkeys(STEPS_WITH_STORE, "ok")
    assert re.search(
        rf"sqlite:{re.escape(str(place))} answered in \d\.\d\d s; "
        rf"it contains token {fingerprint(token)}, 6\d\d s old",
        result.stdout,
    )
    assert invoke("token", "--store", place, environ=served.environ).stdout.strip() == token


def test_revoke_on_exit_with_a_store() -> None:
    """``--revoke-on-exit`` with a store is an error, because all processes share the token."""
    args = ["--store", "tokens.db", "--revoke-on-exit"]
    assert_failed(invoke("watch", *args, environ=COMPLETE), 2, "all processes that share", "revoke")


@pytest.mark.slow
def test_watchers_of_one_store(served: Served, place: Path) -> None:
    """Of two processes that watch, one gets the token and the other takes it over."""
    environ = {**served.environ, STORE: str(place)}
    with running("watch", environ=environ) as one:
        own = read_until("+ token", one)
        with running("watch", environ=environ) as other:
            taken = read_until("+ token", other)
            other.send_signal(signal.SIGINT)
            rest, errors = other.communicate(timeout=LIMIT)
        one.send_signal(signal.SIGINT)
        one.communicate(timeout=LIMIT)
    (token,) = map(fingerprint, served.server.tokens)
    assert f"+ token {token} after " in own
    assert f"+ token {token} taken over from {socket.gethostname()}/{one.pid}, valid for" in taken
    assert (other.returncode, one.returncode, errors) == (0, 0, "")
    assert "0 grants, 1 taken over, 0 failures" in rest.splitlines()[-1]


@pytest.mark.slow
def test_watch_on_a_terminal(served: Served, place: Path) -> None:
    """On a terminal the panel shows the store and the session."""
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


@pytest.mark.slow
def test_a_token_shared_through_a_server(served: Served, tmp_path: Path) -> None:
    """With a key, the store server cannot read the token; no output shows the password."""
    key, new_key = (base64.b64encode(byte * 32).decode() for byte in (b"1", b"2"))
    (tmp_path / "keys").write_text(f"{key}\n")
    (tmp_path / "rotated").write_text(f"{new_key}\n{key}\n")
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
    assert f"it contains token {fingerprint(token)}" in doctor.stdout
    assert (wrong.exit_code, wrong.stdout.strip()) == (0, list(served.server.tokens)[-1])
    assert "the token store fails" in wrong.stderr
    assert "WRONGPASS" in wrong.stderr
    for result in (*printed, wrong):
        assert "hush" not in result.output.replace(SECRET, "")
        assert "hash" not in result.output
