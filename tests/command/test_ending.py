"""How the command ends: help, exit codes, interrupts, closed outputs and missing extras."""

from __future__ import annotations

import base64
import math
import os
import re
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from trio_anon_session import (
    AnonymousSessionError,
    ConfigError,
    CredentialsRejectedError,
    RevocationError,
    TokenUnavailableError,
    __version__,
)
from trio_anon_session._cli import cli
from trio_anon_session._cli._ending import Program, exit_code_of
from trio_anon_session._cli._store import STORE_KEY
from trio_anon_session.testing import Fault, FaultPlan

from .running import (
    COMPLETE,
    Served,
    assert_failed,
    invoke,
    run_on_terminal,
    run_python,
    run_shell,
    run_without,
)

if TYPE_CHECKING:
    from pathlib import Path

INTERRUPT = b"\x03"
"""The character that a terminal sends for Ctrl-C."""
NAMES = ["demo", "doctor", "token", "watch", "revoke", "serve", "completion"]


def test_version() -> None:
    """``--version`` prints the package's version."""
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"trio-anon-session, version {__version__}\n")


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_has_help(name: str) -> None:
    """Each flag of each subcommand says what it does."""
    flags = [param for param in cli.commands[name].params if isinstance(param, click.Option)]
    assert [flag.name for flag in flags if not flag.help] == []


@pytest.mark.parametrize("name", [None, *NAMES])
def test_help_fits_a_terminal(name: str | None) -> None:
    """No line of the help is longer than 80 characters."""
    args = [name] if name is not None else []
    printed = invoke(*args, "--help", environ={"COLUMNS": "80"}).stdout
    assert [line for line in printed.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_help_lists_the_commands(args: list[str]) -> None:
    """The help has one sentence for each command, and is also printed without arguments."""
    result = invoke(*args)
    assert (result.exit_code, result.stderr) == (0, "")
    commands = result.stdout.partition("Commands:")[2]
    assert re.findall(r"^  (\w+) +\w.*\.$", commands, re.MULTILINE) == NAMES


@pytest.mark.slow
def test_the_package_runs_as_a_module() -> None:
    """``python -m trio_anon_session`` runs the command, and errors show the command's name."""
    ended = run_python("-m", "trio_anon_session", "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"trio-anon-session, version {__version__}\n"
    ended = run_python("-m", "trio_anon_session", "token")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("trio-anon-session: client_id: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", [["--version"], ["token"], ["doctor"]])
def test_unused_modules_are_not_imported(command: list[str]) -> None:
    """Commands without a panel or a server do not import the modules for these."""
    ended = run_python("-X", "importtime", "-m", "trio_anon_session", *command)
    assert "trio_anon_session._cli" in ended.stderr
    # rich is not listed, because httpx imports it for its own command.
    late = r"hypercorn|hypothesis|pytest|trio_anon_session\.(testing|_cli\._view)"
    assert not re.search(rf"\| +({late})\b", ended.stderr)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("scope", "wants another"), 2),
        (CredentialsRejectedError("no"), 3),
        (RevocationError("no", error="invalid_client"), 3),
        (RevocationError("no", status_code=401), 3),
        (RevocationError("no", status_code=503), 4),
        (TokenUnavailableError("no"), 4),
        (AnonymousSessionError("no"), 1),
    ],
)
def test_exit_code_of_an_error(error: AnonymousSessionError, code: int) -> None:
    """Each kind of error has an exit code."""
    assert exit_code_of(error) == code


def run_raising(error: BaseException) -> Result:
    """Run a command that raises."""

    @click.group(cls=Program)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"])


def test_an_error_is_printed_as_one_line() -> None:
    """An error message with a line break is printed as one line on stderr."""
    assert_failed(run_raising(ConfigError("scope", "wants\nanother")), 2, "scope: wants another")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()]), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
        (TokenUnavailableError("no answer"), 4, "trio-anon-session: no answer\n"),
    ],
)
def test_an_error_in_a_group(error: BaseException, code: int, printed: str) -> None:
    """An error in an exception group, as from a nursery, ends the run like the error itself."""
    result = run_raising(BaseExceptionGroup("", [error]))
    assert (result.exit_code, result.output) == (code, printed)


@pytest.mark.parametrize("error", [ValueError("a bug"), ExceptionGroup("", [ValueError("a bug")])])
def test_a_bug_is_not_hidden(error: Exception) -> None:
    """An unexpected error propagates unwrapped."""
    assert run_raising(error).exception is error


def test_within_another_program() -> None:
    """With ``standalone_mode=False``, the command raises click's own errors."""
    assert cli.main(["--version"], standalone_mode=False) == 0
    with pytest.raises(click.UsageError):
        cli.main(["--nonsense"], standalone_mode=False)


@pytest.mark.parametrize(
    ("name", "flag", "text"),
    [
        ("demo", "--seconds", "nan"),
        ("demo", "--lifetime", "inf"),
        ("watch", "--seconds", "inf"),
        ("watch", "--every", "nan"),
        ("serve", "--lifetime", "inf"),
    ],
)
def test_a_time_that_is_not_finite(name: str, flag: str, text: str) -> None:
    """For a time that is not finite, the exit code is 2, and the message names the flag."""
    assert_failed(invoke(name, flag, text), 2, flag, "finite number of seconds")


def test_help_lists_shared_flags_last() -> None:
    """The help of a command lists its own flags, and then those that commands share."""
    own, _, common = invoke("token", "--help").stdout.partition("Configuration:")
    assert "--header" in own
    assert "--client-id" not in own.partition("Options:")[2]
    assert "--show-config" in common


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["token"], 130),
        (["doctor"], 130),
        (["watch"], 4),
        (["revoke", "--token-file", "token"], 130),
    ],
)
def test_an_interrupt_while_the_endpoint_hangs(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, args: list[str], code: int
) -> None:
    """Ctrl-C ends each command immediately and without a traceback, though the endpoint hangs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("some-token")
    hangs = Fault(delay=math.inf)
    served.server.faults = FaultPlan(token_then=hangs, revoke_then=hangs)
    ended = run_on_terminal(
        *args,
        environ=served.environ,
        when=lambda text: len(served.server.requests) > 0,
        type_=INTERRUPT,
    )
    assert "Traceback" not in ended.text
    assert (ended.code, ended.echoes) == (code, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["demo"], "FRESH"),
        (["token", "--client-id", "id", "--client-secret-file", "-"], "secret: "),
    ],
)
def test_an_interrupt_restores_the_terminal(args: list[str], words: str) -> None:
    """Ctrl-C ends the demonstration and a prompt, and restores echo and cursor."""
    ended = run_on_terminal(
        *args, when=lambda text: words in text, type_=INTERRUPT, at_prompt=words == "secret: "
    )
    assert "Traceback" not in ended.text
    assert (ended.code, ended.echoes) == (130, True)
    assert ended.text.rfind("\x1b[?25h") >= ended.text.rfind("\x1b[?25l")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["token", "--help", "doctor", "demo", "watch"])
def test_a_reader_that_has_gone(served: Served, script: str) -> None:
    """If the pipe for the output has no reader, the command exits with 1 and prints nothing."""
    # The reader of the pipe ends before the command starts.
    ended = run_shell(f"exec 3> >(:); wait $!; $command {script} >&3 3>&-", served.environ)
    assert (ended.stdout, ended.stderr) == ("", "")
    assert ended.returncode == 1


@pytest.mark.slow
def test_standard_output_that_is_closed(served: Served) -> None:
    """If standard output is closed, the command reports it and sends no token request."""
    ended = run_shell("$command token >&-", served.environ)
    assert ended.returncode == 1
    assert ended.stderr.startswith("trio-anon-session: standard output is closed")
    assert served.forms() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "revoke",
        "token --client-secret-file -",
        "revoke --token-file /dev/null --client-secret-file -",
    ],
)
def test_standard_input_that_is_closed(script: str) -> None:
    """If a command needs standard input and it is closed, one line on stderr says so."""
    ended = run_shell(f"$command {script} <&-", COMPLETE)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert "standard input" in line


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device on this system")
def test_standard_output_that_is_full(served: Served) -> None:
    """If the output cannot be written because the disk is full, one line on stderr says so."""
    ended = run_shell("$command token > /dev/full", served.environ)
    assert ended.returncode == 1
    assert ended.stderr == (
        "trio-anon-session: the output cannot be written: No space left on device\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environ", "command"),
    [({"NO_COLOR": "1"}, "doctor"), ({"TERM": "dumb"}, "watch")],
)
def test_no_colours(served: Served, environ: dict[str, str], command: str) -> None:
    """With ``NO_COLOR``, and on a dumb terminal, the command writes no colours."""
    ended = run_on_terminal(
        command,
        environ=served.environ | environ,
        when=lambda text: command == "watch" and "+ token" in text,
        type_=INTERRUPT,
    )
    assert ended.code == 0
    assert not re.search(
        r"\x1b\[[0-9;]*m", ended.text.replace("\x1b[0m", "").replace("\x1b[1m", "")
    )


@pytest.mark.slow
def test_colours_on_a_terminal(served: Served) -> None:
    """``doctor`` writes colours on a terminal, and none elsewhere."""
    assert "\x1b[32mok" in run_on_terminal("doctor", environ=served.environ).text
    assert "\x1b" not in invoke("doctor", environ=served.environ).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "command", "extra", "code"),
    [
        ("click", ["token"], "cli", 1),
        ("rich", ["demo", "--seconds", "1"], "cli", 1),
        ("rich", ["watch"], "cli", 1),
        ("hypercorn", ["demo", "--seconds", "1"], "cli", 1),
        ("hypercorn", ["serve", "--port", "0"], "cli", 1),
        ("coredis", ["token", "--store", "redis://127.0.0.1:1"], "redis", 2),
        ("cryptography", ["token", "--store", "redis://127.0.0.1:1"], "redis", 2),
        ("coredis", ["watch", "--store", "redis://127.0.0.1:1"], "redis", 2),
    ],
)
def test_a_missing_extra(missing: str, command: list[str], extra: str, code: int) -> None:
    """If a package of an extra is missing, one line on stderr says how to install the extra."""
    key = base64.b64encode(bytes(range(32))).decode()
    ended = run_without(missing, *command, environ={**COMPLETE, STORE_KEY: key})
    assert (ended.returncode, ended.stdout) == (code, "")
    (line,) = ended.stderr.splitlines()
    assert f"needs {missing}: pip install 'trio_anon_session[{extra}]'" in line
    # The store is a setting, so the message says where it comes from.
    assert ("store: " in line and "(from flag --store)" in line) == (extra == "redis")


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["coredis", "cryptography"])
def test_sqlite_needs_no_extra(served: Served, tmp_path: Path, missing: str) -> None:
    """A store in a file needs only the command's own extra."""
    args = ("token", "--store", str(tmp_path / "tokens.db"))
    ended = run_without(missing, *args, environ=served.environ)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_another_missing_module_is_no_missing_extra() -> None:
    """A broken installation is not mistaken for a missing extra."""
    ended = run_without("trio_anon_session._cli._demo", "--version")
    assert ended.returncode == 1
    assert "pip install" not in ended.stderr
    assert "No module named 'trio_anon_session._cli._demo'" in ended.stderr
