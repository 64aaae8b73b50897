"""``token``: what it prints, where its settings come from, and how it fails."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import httpx
import pytest

from tests.ports import closed_port
from trio_anon_session.testing import Fault, FaultPlan

from .running import (
    COMPLETE,
    SECRET,
    Served,
    assert_failed,
    invoke,
    run_on_terminal,
    write_box_json,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "shown"), [({}, {}), ({"scope": '"item_read"'}, {"scope": "item_read"})]
)
def test_token_as_json(served: Served, fields: dict[str, str], shown: dict[str, str]) -> None:
    """``--json`` prints one line of JSON: the token, its seconds left, and the scope if any."""
    served.server.lifetime = 100.0
    served.server.faults = FaultPlan(token_then=Fault(fields=fields))
    result = invoke("token", "--json", environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert answer.pop("access_token") in served.server.tokens
    # `expires_in` is in whole seconds, rounded down, so the token is valid for at least this time.
    assert 90 <= answer.pop("expires_in") < 100
    assert answer == {"token_type": "bearer"} | shown


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "before"), [([], "Authorization: Bearer "), (["--header"], "")])
def test_token_from_the_environment(served: Served, flag: list[str], before: str) -> None:
    """The command prints one line: a token or, with ``--header``, a header for curl's ``-H``."""
    result = invoke("token", *flag, environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    name, _, value = f"{before}{line}".partition(": ")
    response = httpx.get(f"{served.url}/2.0/files/1", headers={name: value}, timeout=30)
    assert (name, response.status_code) == ("Authorization", 200)
    assert SECRET not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "stdin", "box"])
def test_token_from_flags(served: Served, tmp_path: Path, source: str) -> None:
    """All settings can be flags; the secret comes from a file, from stdin or from Box's file."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    write_box_json(tmp_path / "box.json")
    credentials: dict[str, list[object]] = {
        "file": ["--client-id", "id", "--client-secret-file", tmp_path / "secret"],
        "stdin": ["--client-id", "id", "--client-secret-file", "-"],
        "box": ["--box-json", tmp_path / "box.json"],
    }
    result = invoke(
        "token",
        *credentials[source],
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
    url, method = f"{served.url}/oauth2/token", "client_secret_basic"
    if by == "flag":
        args = ["--token-url", url, "--auth-method", method]
        result = invoke("token", *args, environ=COMPLETE)
    else:
        environ = {**COMPLETE, "BOX_TOKEN_URL": url, "BOX_AUTH_METHOD": method}
        result = invoke("token", environ=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "client_secret" not in served.forms()[0]


@pytest.mark.slow
def test_a_secret_that_is_typed(served: Served) -> None:
    """``--client-secret-file -`` asks on a terminal, and does not show what is typed."""
    ended = run_on_terminal(
        *("token", "--client-id", "id", "--client-secret-file", "-"),
        environ={"BOX_API_ROOT_URL": served.url},
        when=lambda text: text.endswith("secret: "),
        type_=f"{SECRET}\n".encode(),
        at_prompt=True,
    )
    assert (ended.code, SECRET in ended.text, ended.echoes) == (0, False, True)
    assert ended.text.split()[-1] in served.server.tokens


@pytest.mark.parametrize(
    ("args", "environ", "named"),
    [
        ([], {"BOX_CLIENT_ID": "id"}, "BOX_CLIENT_SECRET"),
        ([], {"BOX_CLIENT_ID": "", "BOX_CLIENT_SECRET": SECRET}, "BOX_CLIENT_ID"),
        (["--client-id", "id", "--client-secret-file", "-"], {}, "client_secret: "),
        # This file is not UTF-8.
        (["--client-id", "id", "--client-secret-file", "secret"], {}, "client_secret: "),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    args: list[str],
    environ: dict[str, str],
    named: str,
) -> None:
    """Without id or secret the exit code is 2, and the message names what to set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    assert_failed(invoke("token", *args, environ=environ, stdin=""), 2, named)


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


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["--max-retries", "-1"],
        ["--client-secret-file", "/nonexistent/secret"],
        [f"--client-secret={SECRET}"],
        ["surplus"],
        [SECRET],
        ["--json", "--header"],
    ],
)
def test_a_wrong_command_line(args: list[str]) -> None:
    """A command line that does not parse is exit code 2, in one line that names the help."""
    assert_failed(invoke("token", *args), 2, "see 'trio-anon-session token --help'")


@pytest.mark.slow
def test_an_endpoint_that_is_not_reachable() -> None:
    """If the connection is refused, the exit code is 4, and the message names the endpoint."""
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        environ = {**COMPLETE, "BOX_API_ROOT_URL": url}
        result = invoke("token", "--max-retries", 0, environ=environ)
    assert_failed(result, 4, url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (Fault.server_error(503), 4, "status 503"),
        (Fault.refusal("invalid_scope", "no\nsuch\nscope"), 4, "no such scope"),
        (Fault(body=b"<html>"), 4, "valid token response"),
        (Fault.redirect("https://elsewhere.example"), 4, "redirects"),
        # These servers echo the secret, raw or encoded.
        (Fault.refusal("invalid_client", f"not {SECRET}", status=401), 3, "invalid_client"),
        (Fault.refusal("invalid_scope", f"client_secret={quote_plus(SECRET)}"), 4, "invalid_scope"),
        (Fault(status=500, body=SECRET.encode(), headers={"Content-Type": SECRET}), 4, "500"),
    ],
)
def test_an_answer_without_a_token(served: Served, fault: Fault, code: int, words: str) -> None:
    """An answer without a token is one line on stderr, without the secret, and an exit code."""
    served.server.faults = FaultPlan(token_then=fault)
    result = invoke("token", "--max-retries", 0, environ=served.environ)
    assert_failed(result, code, words)
    assert quote_plus(SECRET) not in result.output
    assert len(served.server.token_requests()) == 1


@pytest.mark.slow
def test_a_temporary_failure_is_retried(served: Served) -> None:
    """By default, the command retries after a temporary failure, and prints no error."""
    served.server.faults = FaultPlan(token=[Fault.server_error(503, retry_after="0")])
    result = invoke("token", environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.strip() in served.server.tokens
    assert len(served.server.token_requests()) == 2


@pytest.mark.slow
def test_a_temporary_failure_on_a_terminal(served: Served) -> None:
    """On a terminal, the command prints a line for a failed attempt, and then the token."""
    served.server.faults = FaultPlan(token=[Fault.server_error(503)])
    ended = run_on_terminal("token", "--retry-interval", "0.1", environ=served.environ)
    assert ended.code == 0
    told, token = ended.text.splitlines()
    assert re.match(r"trio-anon-session: attempt 1 failed, retry in [01]\.\d s: ", told)
    assert "status 503" in told
    assert [token] == list(served.server.tokens)
