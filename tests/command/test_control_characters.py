"""No output of the command has control characters that came from outside."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import pytest
import trio

import trio_anon_session._cli
from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import AnonymousSession, TokenRequestError
from trio_anon_session._cli import cli
from trio_anon_session._cli._fleet import Fleet
from trio_anon_session._cli._output import escaped
from trio_anon_session._cli._settings import SETTINGS
from trio_anon_session._cli._view import View
from trio_anon_session.stores import SharedTokenManager, StoreStatus
from trio_anon_session.testing import Fault, FaultPlan

from .running import COMPLETE, Served, drawn, invoke, write_box_json

if TYPE_CHECKING:
    from trio.testing import MockClock

CONTROLS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, (0x61C, 0x200E, 0x200F, 0x2028, 0x2029)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *map(chr, (0xD800, 0xDBFF, 0xDC00, 0xDC80, 0xDCFF, 0xDFFF)),
]
ALL = "a" + "b".join(CONTROLS) + "z"
"""Every control character, between letters."""
IN_ENVIRON = "".join(c for c in ALL if c != "\0" and not "\ud800" <= c <= "\udc7f" and c < "\udd00")
"""The part of it that a variable, an argument or a file name can contain."""
SHORT = "\x1b\x9b\u202e\udc9b2J"
"""One of each class. A long text may be shortened or hidden before it is printed."""
ATTACKS = [IN_ENVIRON, SHORT]
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=["all", "short"])


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own, because ``--store`` creates a file."""
    monkeypatch.chdir(tmp_path)


def assert_clean(text: str) -> None:
    """Check that a text has no control characters except ends of lines."""
    assert not set(text) & set(CONTROLS) - {"\n"}, ascii(text)


COMMANDS = cast("click.Group", cli).commands
SUBCOMMANDS = list(COMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_values_of_options(name: str) -> None:
    """No option shows the control characters of its value."""
    for param in COMMANDS[name].params:
        if not isinstance(param, click.Option) or param.is_flag:
            continue
        option = param.opts[0]
        arguments: list[str] = [name, option, SHORT]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            if name == "serve" and option != "--port":
                arguments += ["--port", str(taken.getsockname()[1])]
            elif option not in ("--seconds", "--every", "--workers", "--lifetime"):
                arguments += ["--show-config"]
            environ = {**COMPLETE, "BOX_TOKEN_URL": "http://127.0.0.1:1/"}
            result = invoke(*arguments, environ=environ)
        assert result.exception is None or isinstance(result.exception, SystemExit), option
        assert result.output, option
        assert_clean(result.output)


@each_attack
@pytest.mark.parametrize("name", ["", *SUBCOMMANDS])
def test_arguments(name: str, attack: str) -> None:
    """No subcommand shows the control characters of arguments that it does not know."""
    for more in ([attack], [f"--{attack}"], [f"-{attack}"], [f"--{attack}=1"]):
        result = invoke(*filter(None, [name]), *more)
        assert result.exit_code == 2
        assert_clean(result.output)


@each_attack
@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS] + ["store", "store_key"])
def test_variables(name: str, attack: str) -> None:
    """No variable is shown with its control characters."""
    # Each prefix with each attack, and each command with each attack.
    commands = {"BOX_": ["token", "--show-config"], "TRIO_ANON_SESSION_": ["doctor"]}
    if attack is SHORT:
        commands = dict(zip(commands, reversed(commands.values()), strict=True))
    for prefix, arguments in commands.items():
        environ = {
            **COMPLETE,
            "BOX_TOKEN_URL": "http://127.0.0.1:1/",
            f"{prefix}{name.upper().removeprefix('BOX_')}": attack,
        }
        result = invoke(*arguments, environ=environ)
        assert result.output
        assert_clean(result.output)


@each_attack
def test_the_settings_file(attack: str, tmp_path: Path) -> None:
    """Values in Box's settings file, and its name, are shown without control characters."""
    path = write_box_json(tmp_path / "box.json", client_id=attack)
    result = invoke("token", "--box-json", path, "--show-config", environ={})
    assert_clean(result.output)
    named = write_box_json(
        tmp_path
        / attack.replace("/", "").replace("\0", "")[-40:].encode("utf-8", "replace").decode()
    )
    assert_clean(invoke("token", "--box-json", named, "--show-config", environ={}).output)


FIELDS = ["error", "error_description", "scope", "token_type", "other"]


def said_with(status: int, *fields: str) -> Fault:
    """Return an answer in which these fields have all control characters."""
    answer = {"access_token": "token", "token_type": "bearer", "expires_in": 60}
    body = json.dumps(answer | dict.fromkeys(fields, ALL)).encode()
    return Fault(status=status, body=body)


def raw(status: int) -> Fault:
    """Return an answer whose body and headers are control characters."""
    headers = {"X-Request-Id": "\x9b2J", "WWW-Authenticate": "Bearer error=\x9b2J"}
    return Fault(status=status, body=ALL.encode("utf-8", "surrogatepass"), headers=headers)


# Each field with a grant and with one failure, and all fields with each status.
ANSWERS = {
    **{f"200 with {field}": said_with(200, field) for field in FIELDS},
    **{
        f"{status} with {field}": said_with(status, field)
        for status, field in zip((400, 401, 503, 400, 401), FIELDS, strict=True)
    },
    **{f"{status} with all": said_with(status, *FIELDS) for status in (400, 401, 503)},
    **{f"{status}, raw": raw(status) for status in (200, 400, 401, 503)},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_of_the_server(served: Served, answer: str) -> None:
    """What a server says is shown without its control characters."""
    fault = ANSWERS[answer]
    served.server.faults = FaultPlan(token_then=fault, revoke_then=fault, resource_then=fault)
    url = f"{served.url}/2.0/files/1"
    for arguments in (
        ["token", "--max-retries", "0"],
        ["token", "--max-retries", "0", "--json"],
        ["token", "--max-retries", "0", "--header"],
        ["doctor", "--scope", "a b", "--url", url],
        ["doctor", "--json"],
        ["revoke", "--max-retries", "0"],
        ["watch", "--seconds", "0.05"],
    ):
        result = invoke(*arguments, environ=served.environ, stdin="token")
        assert result.output
        assert_clean(result.output)
        if "--json" in arguments and result.stdout:
            json.loads(result.stdout)


class Foreign:
    """A token manager whose store contains control characters everywhere."""

    owner = "me"
    trouble = ALL

    def __init__(self) -> None:
        self.seen: list[StoreStatus] = []

    async def look_at_store(self) -> StoreStatus:
        """Return what a hostile process wrote into the store."""
        await trio.lowlevel.checkpoint()
        self.seen.append(
            StoreStatus(
                fingerprint=ALL + "12"[len(self.seen) % 2],
                granted_by=ALL,
                lifetime=3600.0,
                leased_by=f"{ALL}{len(self.seen)}",
                leased_for=60.0,
                failure=ALL,
                failures=len(self.seen),
                pause=60.0,
            )
        )
        return self.seen[-1]


async def test_the_view(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    """The panel and the lines of ``watch`` show no control characters of errors and stores."""
    manager = FakeTokenManager(make_config())
    manager.outcomes = [TokenRequestError(ALL, retryable=True)]
    foreign = Foreign()
    fleet = Fleet(cast("SharedTokenManager", foreign), ALL)
    view = View(trio.current_time(), 5.0, shows_trouble=True, fleet=fleet)
    view.say(ALL)
    async with AnonymousSession(manager.config, manager, observers=[view.observe]) as session:
        view.session = session
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.follow, view.say)
            await session.get_access_token()
            await trio.sleep(2.0)
            nursery.cancel_scope.cancel()
        panel = drawn(view, 100)
        await view._print(cast("Any", None))
    assert len(foreign.seen) > 2
    assert_clean(panel)
    assert_clean(capsys.readouterr().out)


def test_escaped() -> None:
    """Each control character is shown as an escape, and other characters stay."""
    kept = "é 漢字 👩\N{ZERO WIDTH JOINER}💻 \\x1b \N{NO-BREAK SPACE}"
    for attack in (ALL, *CONTROLS):
        seen = escaped(kept + attack)
        assert seen.startswith(kept)
        assert not set(seen) & set(CONTROLS)
        assert seen.encode()


def test_only_one_module_prints() -> None:
    """No other module of the command writes to the terminal, except the panel of rich."""
    folder = Path(trio_anon_session._cli.__file__).parent
    writes = re.compile(r"click\.s?echo|\bprint\(|sys\.std(out|err)\.write|\bText\(")
    found = {
        (path.name, call[0])
        for path in folder.rglob("*.py")
        for call in writes.finditer(path.read_text())
    }
    assert found == {("_output.py", "click.echo"), ("_view.py", "Text(")}


@pytest.mark.parametrize("option", ["--client-id", "--client-secret"])
@each_attack
def test_serve_refuses_a_client_with_control_characters(option: str, attack: str) -> None:
    """``serve`` would print a variable that differs from the client, so it refuses the value."""
    result = invoke("serve", option, attack, "--port", "0")
    assert result.exit_code == 2
    assert f"'{option}': must not have control characters" in result.stderr
