"""``serve``: what it prints, how it ends, and how much memory it uses."""

from __future__ import annotations

import gc
import math
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from trio_anon_session._cli._scene import make_server as make_server_of_demo
from trio_anon_session._cli._serve import KEEP_TOKENS, make_server
from trio_anon_session.testing import Client, TokenServer, open_loopback
from trio_anon_session.testing import _requests as requests_module

from .running import COMMAND, LIMIT, invoke, read_until, run_on_terminal, run_python, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


def start_serving(process: subprocess.Popen[str]) -> str:
    """Return what ``serve`` prints at its start."""
    assert process.stdout is not None
    return "".join(process.stdout.readline() for _ in range(6))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_serve_until_a_signal(name: str) -> None:
    """``serve`` prints variables that point a program at it, and ends with 0 on a signal."""
    with running("serve", "--port", "0", "--client-id", "me", "--lifetime", "100") as process:
        environ = dict(re.findall(r"^  export (\w+)=(\S+)$", start_serving(process), re.MULTILINE))
        assert environ["BOX_CLIENT_ID"] == "me"
        result = invoke("token", environ=environ)
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=LIMIT)
    assert result.exit_code == 0, result.output
    assert (process.returncode, errors) == (0, "")
    assert rest == "1 grant, 0 revocations\n"


@pytest.mark.slow
def test_serve_says_what_to_do_while_it_runs() -> None:
    """While ``serve`` runs, it says that it is ready, where it listens, and what to run."""
    with running("serve", "--port", "0") as process:
        first, second, *exports, last = start_serving(process).splitlines()
        assert process.poll() is None
        url = re.search(r"is ready and listens on (http://127\.0\.0\.1:\d+)\.", first)
        assert url is not None, first
        assert httpx.get(f"{url[1]}/2.0/files/1", timeout=LIMIT).status_code == 401
    assert "Ctrl-C" in first
    assert second == "To use it, run in another terminal:"
    assert len(exports) == 3
    assert last == "  trio-anon-session token"


@pytest.mark.slow
def test_the_tutorial_shows_what_serve_prints() -> None:
    """The tutorial shows what ``serve`` prints, except for the port."""
    with running("serve", "--port", "0", stdin=subprocess.PIPE) as process:
        printed = start_serving(process) + read_until("Type ", process)
        printed = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", printed)
    indented = re.sub("^", "    ", printed, flags=re.MULTILINE).rstrip()
    assert f"    $ trio-anon-session serve\n{indented}\n\n" in TUTORIAL.read_text()


def statuses(url: str) -> list[int]:
    """Return the statuses of a token request, a revocation and a call of the resource."""
    resource = httpx.get(f"{url}/2.0/files/1", timeout=LIMIT)
    paths = ("/oauth2/token", "/oauth2/revoke")
    posted = [httpx.post(f"{url}{path}", data=GRANT, timeout=LIMIT) for path in paths]
    return [answer.status_code for answer in (*posted, resource)]


def type_line(process: subprocess.Popen[str], line: str) -> str:
    """Type a line into the console of ``serve``, and return its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline()


WORKS = [200, 200, 401]
FAILS = [503, 200, 401]
"""Statuses of the endpoints for tokens and revocations and of the resource, without a token."""


def url_in(printed: str) -> str:
    """Return the URL in what ``serve`` prints at its start."""
    found = re.search(r"^  export BOX_API_ROOT_URL=(\S+)$", printed, re.MULTILINE)
    assert found is not None, printed
    return found[1]


@pytest.mark.slow
def test_serve_with_the_token_endpoint_down() -> None:
    """With ``--token-down``, only the token endpoint fails."""
    with running("serve", "--port", "0", "--token-down") as process:
        url = url_in(start_serving(process))
        assert statuses(url) == FAILS
        said = read_until("token endpoint", process)
    assert said == "The token endpoint answers 503.\n"


@pytest.mark.slow
def test_serve_grants_only_some_scopes() -> None:
    """With ``--grant-scopes``, the server grants only these, and ``doctor`` warns."""
    with running("serve", "--port", "0", "--grant-scopes", "a b") as process:
        environ = dict(re.findall(r"^  export (\w+)=(\S+)$", start_serving(process), re.MULTILINE))
        same = invoke("doctor", "--scope", "b a", environ=environ)
        narrower = invoke("doctor", "--scope", "c a d", environ=environ)
        others = invoke("token", "--scope", "c", environ=environ)
    assert "no problems found" in same.stdout
    assert re.search(
        r"^warning  grant .*, scope 'a'; requested but not granted: 'c', 'd'$",
        narrower.stdout,
        re.MULTILINE,
    )
    assert "--scope" in narrower.stdout
    assert narrower.exit_code == 0
    assert "invalid_scope" in others.stderr


@pytest.mark.slow
def test_the_console_of_serve() -> None:
    """Lines on standard input end and begin the failure of the token endpoint."""
    with running("serve", "--port", "0", "--token-down", stdin=subprocess.PIPE) as process:
        url = url_in(start_serving(process))
        read_until("Type ", process)
        assert type_line(process, "token-up") == "The token endpoint works.\n"
        assert statuses(url) == WORKS
        assert type_line(process, "  token-down ") == "The token endpoint answers 503.\n"
        assert statuses(url) == FAILS
        assert "token-down or token-up" in type_line(process, "\x1b[31mdown" + "x" * 10_000)
        assert type_line(process, "\n" * 3 + "token-up") == "The token endpoint works.\n"
        assert process.stdin is not None
        process.stdin.close()
        # The end of the input does not end the server.
        assert statuses(url) == WORKS
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read().startswith("2 grants")
        assert process.wait(LIMIT) == 0


@pytest.mark.slow
def test_the_console_of_serve_on_a_terminal() -> None:
    """On a terminal, ``serve`` shows what can be typed, and Ctrl-C still ends it."""
    said = "The token endpoint answers 503."
    seen = run_on_terminal(
        "serve",
        "--port",
        "0",
        when=lambda text: "Type " in text,
        type_=b"token-down\n",
        then=(said, b"\x03"),
    )
    assert said in seen.text
    assert seen.code == 0
    assert seen.echoes


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["</dev/null", "<&-", f"<{TUTORIAL}"])
def test_serve_without_a_console(redirection: str) -> None:
    """Without a terminal or pipe on standard input, ``serve`` runs and reads nothing."""
    script = f"exec {' '.join(COMMAND)} serve --port 0 {redirection}"
    with subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert statuses(url_in(start_serving(process))) == WORKS
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (rest, errors) == ("1 grant, 0 revocations\n", "")
    assert process.returncode == 0


@pytest.mark.slow
def test_serve_on_a_port_in_use() -> None:
    """If the port is in use, the exit code is 1, and one line names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_python("-m", "trio_anon_session", "serve", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"trio-anon-session: port {port}: ")
    assert "in use" in line


MIB = 2**20
KIB = 2**10
CLIENT = Client()
GRANT = {
    "grant_type": "client_credentials",
    "client_id": CLIENT.client_id,
    "client_secret": CLIENT.client_secret,
}
EXCHANGE = GRANT | {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
}
SERVERS: list[Callable[[], TokenServer]] = [
    lambda: make_server(CLIENT, 3600.0),
    lambda: make_server_of_demo(3600.0),
]
"""The servers of the commands, to which any program on the machine can send requests."""


def kept_bytes(server: TokenServer) -> int:
    """Return the size of all objects that a server keeps."""
    seen: dict[int, int] = {}
    todo: list[object] = [vars(server)]
    while todo:
        one = todo.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen[id(one)] = sys.getsizeof(one)
            todo += gc.get_referents(one)
    return sum(seen.values())


def client_of(server: TokenServer) -> httpx.AsyncClient:
    """Return a client of a server in process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://localhost")


async def grant(client: httpx.AsyncClient, scope: str) -> None:
    """Request a token and exchange it."""
    answer = await client.post("/oauth2/token", data=GRANT | {"scope": scope})
    form = EXCHANGE | {"scope": scope, "subject_token": answer.json()["access_token"]}
    assert (await client.post("/oauth2/token", data=form)).status_code == 200


async def attack(client: httpx.AsyncClient, number: int) -> None:
    """Send large requests: many fields, and long headers, queries, tokens, paths and bodies."""
    mark = f"{number:08}"
    fields = {str(each): mark for each in range(1_000)}
    headers = {f"x-{each}-{mark}": "v" * 8 for each in range(500)}
    headers["authorization"] = f"Bearer {mark * 2_000}"
    for path in ("/oauth2/token", "/oauth2/revoke", f"/2.0/{mark * 2_000}", f"/{mark * 2_000}"):
        await client.post(path, data=fields, headers=headers, params={"a": mark * 2_000})
        await client.post(path, content=mark * 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("make", SERVERS, ids=["serve", "demo"])
async def test_hostile_requests_leave_nothing_behind(
    make: Callable[[], TokenServer], autojump_clock: MockClock
) -> None:
    """More hostile requests do not increase what a server of a command keeps."""
    server = make()
    async with client_of(server) as client:
        await attack(client, 0)
        before = kept_bytes(server)
        for number in range(1, 6):
            await attack(client, number)
    assert kept_bytes(server) - before < 1 * KIB


@pytest.mark.slow
@pytest.mark.parametrize("make", SERVERS, ids=["serve", "demo"])
async def test_the_most_that_a_server_keeps(
    make: Callable[[], TokenServer], autojump_clock: MockClock
) -> None:
    """A server keeps less than 20 MiB, however many tokens with the longest scopes it grants."""
    server = make()
    # One wide character makes Python store four bytes for each character of the string.
    widest = "a" * 4092 + "\N{GRINNING FACE}"
    async with client_of(server) as client:
        for _ in range(KEEP_TOKENS // 2 + 10):
            await grant(client, widest)
        assert len(server.tokens) == KEEP_TOKENS
        most = kept_bytes(server)
        assert most < 20 * MIB
        for _ in range(50):
            await grant(client, widest)
    assert kept_bytes(server) <= most + 1 * KIB


@pytest.mark.slow
async def test_a_body_without_end_on_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never stops sending gets 413, and the server closes the connection."""
    monkeypatch.setattr(requests_module, "DRAIN_LIMIT", 256 * KIB)
    monkeypatch.setattr(requests_module, "DRAIN_TIME", math.inf)
    piece = b"%x\r\n%s\r\n" % (16 * KIB, b"x" * 16 * KIB)
    async with open_loopback(make_server(CLIENT, None)) as url:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        answer = b""
        with trio.fail_after(20.0):
            async with stream, trio.open_nursery() as nursery:

                async def send_endlessly() -> None:
                    head = b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked"
                    try:
                        await stream.send_all(head + b"\r\n\r\n")
                        while True:
                            await stream.send_all(piece)
                    except trio.BrokenResourceError:
                        pass

                nursery.start_soon(send_endlessly)
                answer = await stream.receive_some(64 * KIB)
    assert answer.startswith(b"HTTP/1.1 413")
