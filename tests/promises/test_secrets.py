"""Promises 21 and 22: secrets are not shown, and tokens are not sent to other origins.

`tests/tools/leaks/test_leaks.py` searches for secrets in all output.
`tests/http/test_origins.py` tests random URLs and redirects.
"""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.http.kit import Recorder, auth_of, client_of
from trio_anon_session import TokenManager, TokenRequestError
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import trio


@pytest.mark.parametrize("dump", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_promise_21_sessions_and_managers_refuse_to_pickle(
    autojump_clock: trio.testing.MockClock, dump: Callable[[object], object]
) -> None:
    """Pickling raises a TypeError; copying does so for sessions, and returns values unchanged."""
    server = TokenServer()
    manager = TokenManager(server.config())
    async with open_test_session(server) as session:
        token = await session.exchange_token("x")
        for thing in (session, manager, session.auth(), auth_of(httpx2, session)):
            with pytest.raises(TypeError, match="cannot pickle"):
                dump(thing)
        for value in (token, server.config()):
            if dump is pickle.dumps:
                with pytest.raises(TypeError, match="cannot pickle"):
                    dump(value)
            else:
                assert dump(value) is value


async def test_promise_21_a_body_is_read_with_a_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An answer of more than 1 MiB raises an error."""
    server = TokenServer(FaultPlan(token=[Fault(body=b" " * (2**20 + 1))]))
    async with open_test_session(server, max_retries=0) as session:
        with pytest.raises(TokenRequestError, match="more than 1048576 bytes"):
            await session.get_access_token()


@pytest.mark.parametrize(
    ("origins", "allowed", "others"),
    [
        (
            None,
            ["http://localhost/2.0/x", "http://LOCALHOST:80/"],
            [
                "https://evil.example/2.0/x",
                "https://upload.box.com/",
                "http://localhost:81/2.0/x",
                "https://localhost/2.0/x",
                "http://127.0.0.1/2.0/x",
                "http://upload.box.com/",
            ],
        ),
        (
            ["https://files.example:8443"],
            ["https://files.example:8443/x"],
            ["https://files.example/x", "http://localhost/2.0/x", "https://upload.box.com/"],
        ),
    ],
    ids=["default", "named"],
)
async def test_promise_22_no_token_for_other_origins(
    http: ModuleType,
    autojump_clock: trio.testing.MockClock,
    origins: list[str] | None,
    allowed: list[str],
    others: list[str],
) -> None:
    """The token is sent only to the origin of the API root, or to the origins that are passed."""
    transport = Recorder(http)
    async with (
        open_test_session() as session,
        client_of(http, auth_of(http, session, origins), transport) as client,
    ):
        for url in allowed + others:
            await client.get(url)
    has_token = [header is not None for header in transport.tokens]
    assert has_token == [True] * len(allowed) + [False] * len(others)
