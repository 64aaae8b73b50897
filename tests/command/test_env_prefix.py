"""``--env-prefix``: which variables the command reads, and which ones its texts name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.http.endpoint import Endpoint, says
from tests.ports import closed_port
from trio_anon_session._cli._checks._issuer import check_issuer
from trio_anon_session._cli._flags import Source
from trio_anon_session._cli._settings import VARIABLES
from trio_anon_session.testing import Fault, FaultPlan

from .running import COMPLETE, SECRET, Served, assert_failed, invoke, running
from .test_check_issuer import DOCUMENT, ISSUER, SUPPORTED
from .test_serve import start_serving
from .ways import write_certificate, write_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIXES = ["ACME_", "MY_BOX_", ""]
"""In the second one, the default occurs again."""
COMMANDS = ["token", "watch", "revoke", "doctor"]
REFUSED = FaultPlan(token_then=Fault.refusal("invalid_client", "no"))
NO_REVOCATION = FaultPlan(revoke_then=Fault(status=404, body=b""))


def renamed(environ: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return the environment with this prefix. If it is not the usual one, those are wrong."""
    wrong = VARIABLES.values() if prefix != "BOX_" else ()
    return {
        **dict.fromkeys(wrong, "http://wrong.example"),
        **{name.replace("BOX_", prefix): str(value) for name, value in environ.items()},
    }


def plain(text: str, prefix: str) -> str:
    """Return a text without what differs between two runs."""
    text = re.sub(r"\d+\.\d+ s\b|(?<=token )[0-9a-f]+|\d+ s\b", "#", text)
    return re.sub(rf" --env-prefix ({re.escape(prefix)}|'')$", "", text, flags=re.MULTILINE)


def assert_same_but_for_the_prefix(prefix: str, environ: Mapping[str, Any], *args: object) -> str:
    """Check that the texts of a run name the variables of the prefix, and are else the same."""
    usual = invoke(*args, environ=renamed(environ, "BOX_"))
    other = invoke(*args, f"--env-prefix={prefix}", environ=renamed(environ, prefix))
    assert other.exit_code == usual.exit_code
    assert plain(other.output, prefix) == plain(usual.output, "-").replace("BOX_", prefix)
    assert SECRET not in other.output
    return usual.output


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_source_has_the_prefix(command: str, prefix: str) -> None:
    """``--show-config`` shows the values of the variables with this prefix, and their names."""
    environ = {**COMPLETE, "BOX_SCOPE": "a", "BOX_TOKEN_URL": "https://id.example/token"}
    said = assert_same_but_for_the_prefix(prefix, environ, command, "--show-config")
    assert said.count("environment BOX_") == len(environ)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("command", ["token", "watch", "doctor"])
@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "set BOX_CLIENT_ID"),
        ({"BOX_CLIENT_ID": "id"}, "set BOX_CLIENT_SECRET"),
        ({"BOX_CLIENT_ID": "id", "BOX_AUTH_METHOD": "private_key_jwt"}, "set BOX_CLIENT_KEY_FILE"),
        ({**COMPLETE, "BOX_SCOPE": "a  b"}, "(from environment BOX_SCOPE)"),
        ({**COMPLETE, "BOX_CLIENT_SECRET_FILE": "f"}, "BOX_CLIENT_SECRET and BOX_CLIENT_SECRET_F"),
        ({**COMPLETE, "BOX_CLIENT_KEY_FILE": "f"}, "(environment BOX_CLIENT_KEY_FILE)"),
        ({**COMPLETE, "BOX_CLIENT_KEY_ID": "k"}, "(set BOX_CLIENT_KEY_FILE, or use"),
    ],
)
def test_errors_of_the_configuration(
    command: str, prefix: str, environ: dict[str, str], words: str
) -> None:
    """Errors name the variables of the prefix."""
    # The wrong variables are missing here, so that their names do not hide what is missing.
    usual = invoke(command, environ=environ)
    names = {name.replace("BOX_", prefix): value for name, value in environ.items()}
    other = invoke(command, "--env-prefix", prefix, environ=names)
    assert usual.exit_code == other.exit_code == 2
    assert words in usual.output
    assert plain(other.output, prefix) == plain(usual.output, "-").replace("BOX_", prefix)


def test_the_certificate_without_its_key(tmp_path: Path) -> None:
    """The error about a missing key names the variable of the prefix."""
    certfile, _ = write_certificate(tmp_path)
    environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_CERT_FILE": certfile}
    for prefix in PREFIXES:
        names = {name.replace("BOX_", prefix): str(value) for name, value in environ.items()}
        result = invoke("token", "--env-prefix", prefix, environ=names)
        assert_failed(result, 2, f"{prefix}CLIENT_CERT_")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("faults", "words"), [(REFUSED, "BOX_AUTH_METHOD"), (NO_REVOCATION, "BOX_REVOKE_URL")]
)
def test_advice_about_a_server(served: Served, prefix: str, faults: FaultPlan, words: str) -> None:
    """Advice about an answer of the server names the variables of the prefix."""
    served.server.faults = faults
    assert words in assert_same_but_for_the_prefix(prefix, served.environ, "doctor")
    if faults is REFUSED:
        assert words in assert_same_but_for_the_prefix(prefix, served.environ, "token")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES)
def test_advice_of_the_other_checks(served: Served, prefix: str) -> None:
    """So does the advice about a scope, an origin, a name, a connection and a scheme."""
    unknown = {**COMPLETE, "BOX_API_ROOT_URL": "https://unknown.invalid"}
    http = {**served.environ, "BOX_API_ROOT_URL": served.url.replace("http:", "https:")}
    args = ("doctor", "--url", "https://other.invalid")
    with closed_port() as port:
        unreachable = {**COMPLETE, "BOX_API_ROOT_URL": f"http://127.0.0.1:{port}"}
        for environ in (unreachable, unknown, http):
            assert "BOX_TOKEN_URL" in assert_same_but_for_the_prefix(prefix, environ, "doctor")
        said = assert_same_but_for_the_prefix(prefix, unreachable, *args)
    assert "(--api-root-url, BOX_API_ROOT_URL)" in said


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES)
def test_advice_about_a_narrower_scope(served: Served, prefix: str) -> None:
    """So does the advice about a scope that the server did not grant."""
    served.server.faults = FaultPlan(token_then=Fault(fields={"scope": '"a"'}))
    environ = {**served.environ, "BOX_SCOPE": "a b"}
    assert "BOX_SCOPE)" in assert_same_but_for_the_prefix(prefix, environ, "doctor")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", PREFIXES)
def test_advice_about_a_key(served: Served, tmp_path: Path, prefix: str) -> None:
    """So does the advice about a key that the server rejects."""
    served.server.faults = REFUSED
    key = write_key(tmp_path)
    environ = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_KEY_FILE": key, "BOX_API_ROOT_URL": served.url}
    said = [
        invoke(
            "doctor",
            f"--env-prefix={each}",
            environ={name.replace("BOX_", each): str(value) for name, value in environ.items()},
        ).output
        for each in ("BOX_", prefix)
    ]
    assert "(BOX_CLIENT_KEY_ID)" in said[0]
    assert plain(said[1], "-") == plain(said[0].replace("BOX_", prefix), "-")


async def test_advice_about_an_issuer() -> None:
    """So does the advice about a method that the issuer does not list."""
    flags = {"client_id": "id", "client_secret": SECRET, "issuer": ISSUER}
    settings = Source(flags, (), None, None, {}, prefix="ACME_").settings()
    answer = says(body=DOCUMENT | {SUPPORTED: ["private_key_jwt"]})
    async with httpx.AsyncClient(transport=Endpoint(answer)) as client:
        check, _ = await check_issuer(settings, settings.config(), client)
    assert check.advice is not None
    assert "--client-key-file (ACME_CLIENT_KEY_FILE)" in check.advice


@pytest.mark.parametrize(
    ("environ", "has_box"),
    [
        ({}, True),
        ({"BOX_TOKEN_URL": "https://account.box.com/token"}, True),
        ({"BOX_API_ROOT_URL": "https://api.example"}, False),
        ({"BOX_TOKEN_URL": "https://id.example/token"}, False),
        ({"BOX_ISSUER": "https://id.example"}, False),
        ({"BOX_TOKEN_URL": "http://["}, False),
    ],
)
def test_box_is_named_only_for_its_server(environ: dict[str, str], has_box: bool) -> None:
    """If another server is configured, an error does not advise to use a file from Box."""
    for given in ({}, {"BOX_CLIENT_ID": "id"}):
        result = invoke("token", environ=environ | given)
        assert result.exit_code == 2
        assert ("--box-json" in result.stderr) == has_box


@pytest.mark.parametrize("command", [*COMMANDS, "serve"])
def test_a_prefix_without_an_underscore(command: str) -> None:
    """It is refused, as by `Config.from_env`."""
    result = invoke(command, "--env-prefix", "ACME", environ=COMPLETE)
    words = "must end with '_', such as 'BOX_', or be empty, got 'ACME'"
    assert_failed(result, 2, "'--env-prefix'", words)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """The help names the variables of the prefix before it."""
    usual = invoke(command, "--help").stdout
    assert "--env-prefix PREFIX" in usual
    assert "BOX_CLIENT_ID" in usual
    other = invoke(command, "--env-prefix", "ACME_", "--help").stdout
    assert "ACME_CLIENT_ID" in other
    assert "BOX_CLIENT" not in other


@pytest.mark.slow
def test_serve_prints_the_variables_of_the_prefix() -> None:
    """``serve`` prints variables and a command that fit together."""
    with running("serve", "--port", "0", "--env-prefix", "ACME_") as process:
        said = start_serving(process)
        environ = dict(re.findall(r"^  export (\w+)=(\S+)$", said, re.MULTILINE))
        assert list(environ) == ["ACME_API_ROOT_URL", "ACME_CLIENT_ID", "ACME_CLIENT_SECRET"]
        (args,) = re.findall(r"^  trio-anon-session (.*)$", said, re.MULTILINE)
        result = invoke(*args.split(), environ=environ)
    assert result.exit_code == 0, result.output
