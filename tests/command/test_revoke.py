"""``revoke``: how it reads the token, what it prints, and how it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_anon_session import ConfigError
from trio_anon_session._cli._tokens import read_token
from trio_anon_session.testing import Client, Fault, FaultPlan

from .running import COMPLETE, SECRET, Served, assert_failed, invoke, run_on_terminal, run_shell

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).filter(
    # The command reads texts with these beginnings as JSON or as a header.
    lambda text: text[0] not in '[{"-0123456789tfnNI' and not text.lower().startswith("author")
)

FORMS = ["{}", "{}\n", "Bearer {}", "authorization: bearer {}\r\n"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "--json", "--header"])
@pytest.mark.parametrize("way", ["stdin", "file"])
def test_a_token_that_was_printed(served: Served, tmp_path: Path, form: str, way: str) -> None:
    """``revoke`` accepts each format that ``token`` prints, from standard input or a file."""
    args = [form] if form else []
    printed = invoke("token", *args, environ=served.environ).stdout
    if way == "file":
        (tmp_path / "token").write_text(printed)
        result = invoke("revoke", "--token-file", tmp_path / "token", environ=served.environ)
    else:
        result = invoke("revoke", stdin=printed, environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    ((token, issued),) = served.server.tokens.items()
    assert issued.revoked_at is not None
    assert token not in result.stdout
    assert " is revoked, or is not a token of this client\n" in result.stdout


@pytest.mark.slow
def test_a_pipe(served: Served) -> None:
    """``token | revoke`` revokes the token that ``token`` prints."""
    ended = run_shell("$command token | $command revoke", served.environ)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert served.server.revocations == 1


@pytest.mark.slow
def test_a_temporary_failure_is_retried(served: Served) -> None:
    """After a temporary failure, the command retries once and prints no error."""
    served.server.faults = FaultPlan(revoke=[Fault.server_error(503, retry_after="0")])
    result = invoke("revoke", stdin="some-token", environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(served.server.revoke_requests()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (Fault.server_error(503), 4, "status 503"),
        (Fault.refusal("invalid_client", "no"), 3, "invalid_client"),
        (Fault.refusal("unsupported_token_type", "some-token"), 4, "unsupported_token_type"),
    ],
)
def test_a_revocation_that_fails(served: Served, fault: Fault, code: int, words: str) -> None:
    """A revocation that fails is an error whose message does not show the token."""
    served.server.faults = FaultPlan(revoke_then=fault)
    result = invoke("revoke", "--max-retries", 0, stdin="some-token", environ=served.environ)
    assert_failed(result, code, "could not be revoked", words)
    assert "some-token" not in result.output


@pytest.mark.slow
def test_a_token_of_another_client(served: Served) -> None:
    """For a token of another client, the command prints the same as for an unknown token."""
    served.server.clients["other"] = Client("other", SECRET)
    token = invoke("token", environ=served.environ).stdout
    result = invoke("revoke", "--client-id", "other", stdin=token, environ=served.environ)
    assert result.exit_code == 0
    assert "or is not a token of this client" in result.stdout
    assert served.server.revocations == 0
    assert token.strip() not in result.output


EMPTY_INPUT = ("token: the input is empty", "token | trio-anon-session revoke")


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        *[
            (stdin, EMPTY_INPUT)
            for stdin in (b"", b"\n", b"{}", b'{"access_token": 3}', b"Bearer ", b"Authorization:")
        ],
        *[
            (stdin, ("must be one token",))
            for stdin in (b"two tokens", b"one\ntwo", b"t\xff", "tökén".encode(), b"a\0b")
        ],
    ],
)
def test_input_that_is_not_a_token(stdin: bytes, words: tuple[str, ...]) -> None:
    """For input that is not one token, as when ``token`` failed, the exit code is 2."""
    assert_failed(invoke("revoke", stdin=stdin, environ=COMPLETE), 2, *words)


def test_a_token_as_an_argument() -> None:
    """A token as an argument is an error that does not repeat it and names standard input."""
    result = invoke("revoke", "some-token")
    assert_failed(result, 2, "other users of this machine", "token | trio-anon-session revoke")
    assert "some-token" not in result.output


def test_secret_and_token_by_standard_input() -> None:
    """Secret and token cannot both come from standard input."""
    args = ["--client-id", "id", "--client-secret-file", "-"]
    assert_failed(invoke("revoke", *args, stdin=SECRET), 2, "cannot both")


@pytest.mark.slow
def test_a_token_from_a_terminal() -> None:
    """If standard input is a terminal, the command exits with 2 instead of waiting for a token."""
    ended = run_on_terminal("revoke", environ=COMPLETE)
    assert ended.code == 2
    assert "the token must come from standard input" in ended.text


@given(TOKENS, st.sampled_from([*FORMS, '{{"access_token": "{}", "expires_in": 3600}}\n']))
def test_every_token_is_read(token: str, form: str) -> None:
    """A token is read in each of its forms, whatever characters it has."""
    in_json = json.dumps(token)[1:-1]
    text = form.format(in_json if form.startswith("{{") else token)
    assert read_token(text.encode()) == token


@given(st.binary())
def test_any_input(content: bytes) -> None:
    """Any input is read as a token that a header can contain, or raises ConfigError."""
    try:
        token = read_token(content)
    except ConfigError:
        return
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token
