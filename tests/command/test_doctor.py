"""``doctor``: all checks in their order, what is printed, and the exit code."""

from __future__ import annotations

import json
import re

import pytest

from tests.ports import closed_port
from trio_anon_session.testing import Fault, FaultPlan

from .running import COMPLETE, SECRET, Served, invoke, run_on_terminal

LOCAL_STEPS = ["configuration", "credentials"]
STEPS = [*LOCAL_STEPS, "name", "connection", "grant", "lifetime", "clock", "revocation"]
STEPS_WITH_URL = [*LOCAL_STEPS, "origin", *STEPS[2:7], "resource", "revocation", "revoked token"]


def verdicts(output: str) -> dict[str, str]:
    """Return the verdicts in what was printed, by check."""
    lines = [line for line in output.splitlines() if line[:1].strip() and "  " in line]
    return {line[9:23].strip(): line[:9].strip() for line in lines}


@pytest.mark.slow
def test_no_problems(served: Served) -> None:
    """If no check finds a problem, each one prints ok, and the token is revoked at the end."""
    result = invoke("doctor", environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    assert verdicts(result.stdout) == dict.fromkeys(STEPS, "ok")
    assert result.stdout.endswith("no problems found\n")
    assert served.server.revocations == 1
    assert not [text for text in (*served.server.tokens, SECRET) if text in result.output]


@pytest.mark.slow
def test_with_a_url_to_call(served: Served) -> None:
    """With ``--url``, the command calls the URL with the token, before and after its revocation."""
    result = invoke("doctor", "--url", f"{served.url}/2.0/files/1", environ=served.environ)
    assert result.exit_code == 0
    assert list(verdicts(result.stdout)) == STEPS_WITH_URL
    assert [presented.verdict for presented in served.server.presented] == ["good", "revoked"]


@pytest.mark.slow
def test_as_json(served: Served) -> None:
    """``--json`` prints one line of JSON with all checks and the exit code."""
    served.server.faults = FaultPlan(token_then=Fault.refusal("invalid_client", "no"))
    result = invoke("doctor", "--json", environ=served.environ)
    (line,) = result.stdout.splitlines()
    shown = json.loads(line)
    assert shown["exit_code"] == result.exit_code == 3
    by_name = {check["name"]: check for check in shown["checks"]}
    assert list(by_name) == [*STEPS[:5], "clock", "lifetime", "revocation"]
    assert by_name["grant"]["verdict"] == "failed"
    assert "client_secret" in by_name["grant"]["advice"]
    assert by_name["revocation"] == {
        "name": "revocation",
        "verdict": "skipped",
        "found": "there is no token",
        "advice": None,
    }


@pytest.mark.slow
def test_on_a_terminal(served: Served) -> None:
    """On a terminal, a long line breaks between words, and its continuation is indented."""
    environ = {**served.environ, "BOX_CLIENT_ID": "nobody", "NO_COLOR": "1"}
    ended = run_on_terminal("doctor", environ=environ)
    lines = ended.text.splitlines()
    assert ended.code == 3
    assert max(map(len, lines)) <= 100
    advice = [number for number, line in enumerate(lines) if line.startswith(f"{'':<23} -> Check")]
    assert len(advice) == 1
    assert re.match(r" {27}\w", lines[advice[0] + 1])
    assert re.match(r" {24}\w", lines[advice[0] - 1])


def test_nothing_is_configured() -> None:
    """Without a configuration, all other checks are skipped, and the output says what to set."""
    result = invoke("doctor")
    assert (result.exit_code, result.stderr) == (2, "")
    assert verdicts(result.stdout) == {**dict.fromkeys(STEPS, "skipped"), "configuration": "failed"}
    assert "BOX_CLIENT_ID" in result.stdout
    assert "BOX_CLIENT_SECRET" in result.stdout
    assert "--show-config" in result.stdout
    assert result.stdout.endswith("1 failed\n")


@pytest.mark.slow
def test_no_connection() -> None:
    """Without a connection the command requests no token, and says what to check."""
    with closed_port() as port:
        environ = {**COMPLETE, "BOX_API_ROOT_URL": f"http://127.0.0.1:{port}"}
        result = invoke("doctor", environ=environ)
    assert result.exit_code == 4
    found = verdicts(result.stdout)
    assert (found["name"], found["connection"], found["grant"]) == ("ok", "failed", "skipped")
    assert "-> No server listens there" in result.stdout


@pytest.mark.slow
def test_warnings_are_no_failures(served: Served) -> None:
    """A lifetime that the buffers do not fit is a warning, and the exit code is 0."""
    served.server.lifetime = 30.0
    result = invoke("doctor", environ=served.environ)
    assert result.exit_code == 0
    assert verdicts(result.stdout)["lifetime"] == "warning"
    assert result.stdout.endswith("1 warning\n")


@pytest.mark.slow
def test_a_resource_that_refuses(served: Served) -> None:
    """If the URL refuses the token, ``doctor`` still revokes it and skips the call after that."""
    result = invoke("doctor", "--url", f"{served.url}/2.0/forbidden", environ=served.environ)
    assert result.exit_code == 1
    found = verdicts(result.stdout)
    assert (found["resource"], found["revocation"]) == ("failed", "ok")
    assert found["revoked token"] == "skipped"
    assert served.server.revocations == 1
