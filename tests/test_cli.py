"""The command: settings, exit codes, one line on stderr, and no secret anywhere."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from click.testing import CliRunner, Result

from trio_anon_session import __version__
from trio_anon_session._cli import cli
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer, open_loopback

from .ports import closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SECRET = "hush-hush+secret/0123456789"
LIMIT = 60.0
"""Seconds; what no subprocess of a test may outlive."""


def invoke(
    *args: object, environ: Mapping[str, str] | None = None, stdin: str | None = None
) -> Result:
    """Run the command in process."""
    return CliRunner().invoke(cli, [str(arg) for arg in args], env=environ, input=stdin)


def assert_failed(result: Result, code: int, *words: str) -> None:
    """Check that a command ended with this code, one line on stderr, and nothing else."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("trio-anon-session: ")
    for word in words:
        assert word in line
    assert SECRET not in result.output


def write_box_json(path: Path, client_id: str = "id", secret: str = SECRET) -> Path:
    """Write a settings file as Box's developer console does."""
    app = {"clientID": client_id, "clientSecret": secret}
    path.write_text(json.dumps({"boxAppSettings": app, "enterpriseID": "0"}))
    return path


class Served:
    """A token server on loopback, in a thread with a Trio run of its own."""

    def __init__(self) -> None:
        self.server = TokenServer(clients=[Client("id", SECRET)])
        self.url = ""

    @property
    def environ(self) -> dict[str, str]:
        """Return the variables that point a program at the server."""
        return {
            "BOX_API_ROOT_URL": self.url,
            "BOX_CLIENT_ID": "id",
            "BOX_CLIENT_SECRET": SECRET,
        }

    def forms(self) -> list[dict[str, str]]:
        """Return the forms of all token requests."""
        return [request.form for request in self.server.token_requests()]


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve while a test runs."""
    served = Served()
    ready: queue.SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]]
    ready = queue.SimpleQueue()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with open_loopback(served.server) as url:
                ready.put((url, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=[serve])
    thread.start()
    served.url, token, scope = ready.get(timeout=30)
    yield served
    token.run_sync_soon(scope.cancel)
    thread.join()


def run_python(*args: str, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run this Python to its end."""
    return subprocess.run(
        [sys.executable, *args],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@contextmanager
def running(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command beside the block, and end it with the block at the latest."""
    with subprocess.Popen(
        [sys.executable, "-m", "trio_anon_session", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # It also ends the reads of a process that says nothing.
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


# token: where settings come from


@pytest.mark.slow
def test_token_from_the_environment(served: Served) -> None:
    """With the variables set, the command prints one line: a token that the server takes."""
    result = invoke("token", environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    (token,) = result.stdout.splitlines()
    response = httpx.get(
        f"{served.url}/2.0/files/1", headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    assert response.status_code == 200
    assert SECRET not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_token_from_flags(served: Served, tmp_path: Path, source: str) -> None:
    """Everything can be said by flags; the secret comes from a file, or from stdin by ``-``."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    result = invoke(
        "token",
        *("--client-id", "id"),
        *("--client-secret-file", tmp_path / "secret" if source == "file" else "-"),
        *("--api-root-url", served.url),
        *("--scope", "item_read item_upload"),
        *("--box-subject-type", "enterprise", "--box-subject-id", "42"),
        stdin=f"{SECRET}\n" if source == "stdin" else None,
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.strip() in served.server.tokens
    (form,) = served.forms()
    assert form["scope"] == "item_read item_upload"
    assert (form["box_subject_type"], form["box_subject_id"]) == ("enterprise", "42")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_token_endpoint_and_method_can_be_chosen(served: Served, by: str) -> None:
    """Another token endpoint, and HTTP Basic, can be chosen by flag and by variable."""
    served.server.auth_methods = frozenset({"client_secret_basic"})
    settings = {
        "BOX_TOKEN_URL": f"{served.url}/oauth2/token",
        "BOX_AUTH_METHOD": "client_secret_basic",
    }
    environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": SECRET}
    flags = {"BOX_TOKEN_URL": "--token-url", "BOX_AUTH_METHOD": "--auth-method"}
    if by == "flag":
        args = [text for name, value in settings.items() for text in (flags[name], value)]
        result = invoke("token", *args, environ=environ)
    else:
        result = invoke("token", environ=environ | settings)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "client_secret" not in served.forms()[0]


@pytest.mark.slow
def test_token_from_the_settings_file_of_box(served: Served, tmp_path: Path) -> None:
    """``--box-json`` alone gives id and secret."""
    path = write_box_json(tmp_path / "box.json")
    result = invoke("token", "--box-json", path, "--api-root-url", served.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.strip() in served.server.tokens


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "variable", "file", "sent"),
    [
        ("by-flag", "by-variable", "by-file", "by-flag"),
        ("by-flag", None, "by-file", "by-flag"),
        ("by-flag", "by-variable", None, "by-flag"),
        (None, "by-variable", "by-file", "by-variable"),
        (None, "by-variable", None, "by-variable"),
        (None, None, "by-file", "by-file"),
        (None, "", "by-file", "by-file"),
    ],
)
def test_flags_before_environment_before_file(
    served: Served,
    tmp_path: Path,
    flag: str | None,
    variable: str | None,
    file: str | None,
    sent: str,
) -> None:
    """A flag wins over a variable, and a variable over the file: for the id and the secret."""
    served.server.clients = {sent: Client(sent, f"secret {sent}")}
    args: list[object] = ["--api-root-url", served.url]
    environ: dict[str, str] = {}
    if flag is not None:
        (tmp_path / "secret").write_text(f"secret {flag}")
        args += ["--client-id", flag, "--client-secret-file", tmp_path / "secret"]
    if variable is not None:
        environ["BOX_CLIENT_ID"] = variable
        environ["BOX_CLIENT_SECRET"] = f"secret {variable}" if variable else ""
    if file is not None:
        args += ["--box-json", write_box_json(tmp_path / "box.json", file, f"secret {file}")]
    result = invoke("token", *args, environ=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    assert served.forms()[0]["client_id"] == sent


# token: how it fails


@pytest.mark.parametrize(
    ("args", "environ", "named"),
    [
        ([], {}, "BOX_CLIENT_ID"),
        ([], {"BOX_CLIENT_ID": "id"}, "BOX_CLIENT_SECRET"),
        ([], {"BOX_CLIENT_SECRET": SECRET}, "BOX_CLIENT_ID"),
        ([], {"BOX_CLIENT_ID": "", "BOX_CLIENT_SECRET": SECRET}, "BOX_CLIENT_ID"),
        (["--client-id", "id"], {}, "BOX_CLIENT_SECRET"),
        (["--client-id", "id", "--client-secret-file", "-"], {}, "BOX_CLIENT_SECRET"),
    ],
)
def test_what_is_missing_is_named(args: list[str], environ: dict[str, str], named: str) -> None:
    """Without id or secret the exit code is 2, and the variable that would help is named."""
    assert_failed(invoke("token", *args, environ=environ, stdin=""), 2, named)


@pytest.mark.parametrize(
    ("args", "environ", "field"),
    [
        (["--api-root-url", "http://api.example"], {}, "api_root_url"),
        (["--token-url", "nonsense"], {}, "token_url"),
        (["--auth-method", "magic"], {}, "auth_method"),
        (["--box-subject-type", "enterprise"], {}, "box_subject_id"),
        ([], {"BOX_SUBJECT_TYPE": "planet", "BOX_SUBJECT_ID": "3"}, "box_subject_type"),
        ([], {"BOX_REVOKE_URL": "ftp://x"}, "revoke_url"),
        ([], {"BOX_SCOPE": " "}, "scope"),
    ],
)
def test_what_is_wrong_is_named(args: list[str], environ: dict[str, str], field: str) -> None:
    """A wrong setting, by flag or variable, is exit code 2 and named."""
    complete = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": SECRET, **environ}
    assert_failed(invoke("token", *args, environ=complete), 2, f"{field}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "boxAppSettings"),
        (json.dumps({"boxAppSettings": {"clientSecret": SECRET}}), "boxAppSettings.clientID"),
    ],
)
def test_a_wrong_settings_file_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    """A settings file that is missing or wrong is exit code 2, with its name."""
    path = tmp_path / "box.json"
    if text is not None:
        path.write_text(text)
    assert_failed(invoke("token", "--box-json", path), 2, "box.json", words)


def test_a_secret_file_that_is_no_text(tmp_path: Path) -> None:
    """A secret file that is not UTF-8 is exit code 2 and one line, not a traceback."""
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    result = invoke("token", "--client-id", "id", "--client-secret-file", tmp_path / "secret")
    assert_failed(result, 2)


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["--max-retries", "-1"],
        ["--client-secret-file", "/nonexistent/secret"],
        [f"--client-secret={SECRET}"],
        ["surplus"],
    ],
)
def test_a_wrong_command_line(args: list[str]) -> None:
    """A command line that does not parse is exit code 2, with nothing on stdout."""
    result = invoke("token", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
    assert SECRET not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["BOX_CLIENT_ID", "BOX_CLIENT_SECRET"])
def test_rejected_credentials(served: Served, wrong: str) -> None:
    """Credentials that the server does not take are exit code 3, after one request."""
    result = invoke("token", environ={**served.environ, wrong: "wrong"})
    assert_failed(result, 3, "rejected", "invalid_client")
    assert len(served.forms()) == 1


@pytest.mark.slow
def test_an_endpoint_that_is_not_reachable() -> None:
    """Where nobody listens, the exit code is 4, and the endpoint is named."""
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": SECRET, "BOX_API_ROOT_URL": url}
        result = invoke("token", "--max-retries", 0, environ=environ)
    assert_failed(result, 4, url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.server_error(503), "status 503"),
        (Fault.refusal("invalid_scope", "no\nsuch\nscope"), "no such scope"),
        (Fault(body=b"<html>"), "no token answer"),
        (Fault.redirect("https://elsewhere.example"), "redirects"),
    ],
)
def test_no_token_to_be_had(served: Served, fault: Fault, words: str) -> None:
    """Whatever the endpoint answers in place of a token is exit code 4, in one line."""
    served.server.faults = FaultPlan(token_then=fault)
    result = invoke("token", "--max-retries", 0, environ=served.environ)
    assert_failed(result, 4, words)
    assert len(served.forms()) <= 1
    assert len(served.server.token_requests()) == 1


@pytest.mark.slow
def test_a_passing_fault_is_retried(served: Served) -> None:
    """By default a fault that passes costs an attempt, and not a word."""
    served.server.faults = FaultPlan(token=[Fault.server_error(503, retry_after="0")])
    result = invoke("token", environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.strip() in served.server.tokens
    assert len(served.server.token_requests()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.refusal("invalid_client", f"not {SECRET}", status=401), 3),
        (Fault.refusal("invalid_scope", f"{httpx.QueryParams({'client_secret': SECRET})}"), 4),
        (Fault(status=500, body=SECRET.encode(), headers={"Content-Type": SECRET}), 4),
    ],
)
def test_a_server_that_echoes_the_secret(served: Served, fault: Fault, code: int) -> None:
    """A secret that the server sends back, raw or encoded, is not shown."""
    served.server.faults = FaultPlan(token_then=fault)
    result = invoke("token", "--max-retries", 0, environ=served.environ)
    assert_failed(result, code)
    assert str(httpx.QueryParams({"x": SECRET})).removeprefix("x=") not in result.output


# Help and version


def test_version() -> None:
    """``--version`` prints the package's version."""
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"trio-anon-session, version {__version__}\n")


@pytest.mark.parametrize("args", [["--help"], ["token", "--help"]])
def test_help_lists_the_exit_codes(args: list[str]) -> None:
    """The help says what each exit code means."""
    result = invoke(*args)
    assert result.exit_code == 0
    assert "Exit codes:" in result.stdout
    assert re.findall(r"^ +(\d)  \w", result.stdout, re.MULTILINE) == ["0", "1", "2", "3", "4"]


def test_help_lists_the_commands() -> None:
    """Each command has a line of help, and a help of its own."""
    commands = invoke("--help").stdout.partition("Commands:")[2]
    for name in ("demo", "serve", "token"):
        assert re.search(rf"^  {name} +\w", commands, re.MULTILINE)
        assert invoke(name, "--help").exit_code == 0


@pytest.mark.slow
def test_the_package_runs_as_a_module() -> None:
    """``python -m trio_anon_session`` is the command, under the command's name."""
    ended = run_python("-m", "trio_anon_session", "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"trio-anon-session, version {__version__}\n"
    ended = run_python("-m", "trio_anon_session", "token")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("trio-anon-session: client_id: ")
    assert ended.stderr.count("\n") == 1


# serve


def start_serving(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read what ``serve`` says at its start, and return the variables in it."""
    assert process.stdout is not None
    first, *exports = [process.stdout.readline() for _ in range(4)]
    assert re.fullmatch(r"Serving on http://127\.0\.0\.1:\d+; Ctrl-C ends it\. .*\n", first)
    matches = [re.fullmatch(r"  export (\w+)=(\S+)\n", line) for line in exports]
    environ = {match[1]: match[2] for match in matches if match is not None}
    assert set(environ) == {"BOX_API_ROOT_URL", "BOX_CLIENT_ID", "BOX_CLIENT_SECRET"}
    assert environ["BOX_API_ROOT_URL"] in first
    return environ


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_serve_until_a_signal(name: str) -> None:
    """``serve`` prints what points a program at it, serves, and ends with 0 on a signal."""
    with running("serve", "--port", "0", "--client-id", "me", "--lifetime", "100") as process:
        environ = start_serving(process)
        assert environ["BOX_CLIENT_ID"] == "me"
        result = invoke("token", environ=environ)
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=LIMIT)
    assert result.exit_code == 0, result.output
    assert process.returncode == 0
    assert errors == ""
    assert rest == "1 grants, 0 revocations\n"


@pytest.mark.slow
def test_serve_on_a_port_in_use() -> None:
    """A port that is taken is exit code 1, and one line that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_python("-m", "trio_anon_session", "serve", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"trio-anon-session: port {port}: ")
    assert "in use" in line


# demo


@pytest.mark.parametrize(("is_good", "code"), [(True, 0), (False, 1)])
def test_demo_ends_with_what_came_out(
    monkeypatch: pytest.MonkeyPatch, is_good: bool, code: int
) -> None:
    """The demonstration gets the flags, and its outcome is the exit code."""
    asked: list[tuple[Any, ...]] = []

    async def run_demo(*args: object) -> bool:
        asked.append(args)
        return is_good

    monkeypatch.setattr("trio_anon_session._cli.run_demo", run_demo)
    result = invoke("demo", "--seconds", 3, "--workers", 5, "--lifetime", 1.5)
    assert result.exit_code == code
    assert asked == [(3.0, 5, 1.5)]


# Extras

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
@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["demo", "--seconds", "1"]])
@pytest.mark.parametrize("missing", ["click", "rich", "hypercorn"])
def test_a_missing_extra_is_one_line(missing: str, command: list[str]) -> None:
    """Without what the extra brings, the command says in one line how to get it."""
    ended = run_python("-c", _WITHOUT, missing, *command)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert missing in line
    assert "pip install 'trio_anon_session[cli]'" in line


@pytest.mark.slow
def test_another_missing_module_is_no_missing_extra() -> None:
    """A broken installation is not mistaken for a missing extra."""
    ended = run_python("-c", _WITHOUT, "trio_anon_session._demo", "--version")
    assert ended.returncode == 1
    assert "pip install" not in ended.stderr
    assert "No module named 'trio_anon_session._demo'" in ended.stderr
