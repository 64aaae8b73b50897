"""The example of another server, with Authlib's server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.on_flask import AuthlibServer
from tests.servers.serving import Served, serve

from . import run_example

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SECRET = "hush+hush/0123456789"


@pytest.fixture
def served() -> Iterator[tuple[Served, Served]]:
    """Serve Authlib's token endpoint, and the API on another origin."""
    # The annotation is Any, because `AuthlibServer` has more attributes than the protocol, of other
    # types.
    server: Any = AuthlibServer()
    server.register("app", SECRET)
    with serve(server) as tokens, serve(server) as api:
        yield tokens, api


def environ_of(tokens: Served, api: Served) -> dict[str, str]:
    """Return the variables that the example needs."""
    return {
        "CLIENT_ID": "app",
        "CLIENT_SECRET": SECRET,
        "TOKEN_URL": tokens.root + tokens.server.token_path,
        "API_URL": api.resource,
        "SCOPE": "files",
        "AUDIENCE": "https://api.example.com",
    }


@pytest.mark.parametrize("revokes", [True, False])
def test_a_token_from_one_origin_for_another(served: tuple[Served, Served], revokes: bool) -> None:
    """The program gets a token, calls the API with it, and revokes it at ``REVOKE_URL``."""
    tokens, api = served
    environ = environ_of(*served)
    if revokes:
        environ["REVOKE_URL"] = tokens.root + tokens.server.revoke_path
    ended = run_example("other_server/other_server.py", environ=environ)
    assert ended.stderr == ""
    assert (ended.returncode, ended.stdout) == (0, "files\n")
    assert tokens.answers == [("/oauth/token", 200), ("/oauth/revoke", 200)][: 1 + revokes]
    assert api.answers == [("/files", 200)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"CLIENT_SECRET": "wrong"}, "the token endpoint rejected the client 'app'"),
        ({"SCOPE": "unheard-of"}, "invalid_scope"),
        # This token does not have the scope that the API requires.
        ({"SCOPE": "users"}, "403"),
        ({"TOKEN_URL": "http://auth.example.com/token"}, "token_url must be an https URL"),
        ({"TOKEN_URL": None}, "the environment variable TOKEN_URL must be set"),
    ],
)
def test_errors_of_the_example(
    served: tuple[Served, Served], changes: dict[str, str | None], problem: str
) -> None:
    """On an error, the program ends with one sentence that does not show the secret."""
    changed = environ_of(*served) | changes
    environ = {name: value for name, value in changed.items() if value is not None}
    ended = run_example("other_server/other_server.py", environ=environ)
    assert ended.returncode == 1
    assert problem in ended.stderr.splitlines()[-1]
    assert SECRET not in ended.stderr
