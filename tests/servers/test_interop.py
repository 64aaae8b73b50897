"""A session with third-party servers: grant, use, expiry, revocation and errors.

Sockets are real; the tests move the session's clock and the server's. `on_flask` and `on_django`
list the required settings of each server.

Servers decode Basic credentials differently: RFC 6749 §2.3.1 requires form-encoding, in which
a space is ``+``, but most servers decode only percent-encoding. A session sends ``%20``, which both
accept.
"""

from __future__ import annotations

import base64
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import attrs
import httpx
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    TokenManager,
    TokenRequestError,
    TokenState,
)

from .serving import LIFETIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_anon_session import Config

    from .serving import Served

pytestmark = pytest.mark.slow

METHODS = ["client_secret_post", "client_secret_basic"]
ODD = " p@ss:: w/ö'rd\"+%41%zz&=;#?<\\>!密😀 "
# Every client needs its own name, because all tests use the same servers.
_numbers = itertools.count(1)


def register(served: Served, client_id: str = "id", secret: str = ODD) -> tuple[str, str]:
    """Register a new client, with an unusual secret."""
    client_id = f"{client_id} {next(_numbers)}"
    served.server.register(client_id, secret)
    return client_id, secret


@attrs.frozen
class Program:
    """A session, a client with its auth, and the clocks of session and server."""

    served: Served
    session: AnonymousSession
    client: httpx.AsyncClient
    clock: MockClock

    async def use(self, **request: Any) -> httpx.Response:
        """Request the protected resource."""
        return await self.client.post(self.served.resource, **request)

    async def use_with(self, token: str) -> int:
        """Return the resource's status for a token, without the session."""
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.client.get(self.served.resource, headers=headers, auth=None)
        return answer.status_code

    def let_time_pass(self, seconds: float, *, at_server: bool = True) -> None:
        """Move the clocks."""
        if at_server:
            self.served.server.let_time_pass(seconds)
        self.clock.jump(seconds)

    def granted(self) -> int:
        """Return how many token requests were answered since the program began."""
        return len(self.served.statuses(self.served.server.token_path))


@asynccontextmanager
async def open_program(
    served: Served, clock: MockClock, config: Config | None = None, **settings: Any
) -> AsyncIterator[Program]:
    """Open a session, on real sockets, and a client that uses it."""
    config = config or served.config(*register(served), **settings)
    served.answers.clear()
    async with (
        TokenManager(config) as manager,
        AnonymousSession(config, manager) as session,
        httpx.AsyncClient(auth=session.auth()) as client,
    ):
        yield Program(served, session, client, clock)


# Grant and use


@pytest.mark.parametrize("method", METHODS)
async def test_grant_and_use(served: Served, mock_clock: MockClock, method: str) -> None:
    """Both methods send an unusual ID and secret correctly, and the resource accepts the token."""
    config = served.config(*register(served, ODD), auth_method=method)
    async with open_program(served, mock_clock, config) as program:
        answers = [await program.use(), await program.use()]
        token_info = program.session.token_info

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "files")] * 2
    assert program.granted() == 1
    assert token_info is not None
    assert (token_info.lifetime, token_info.scope) == (LIFETIME, "files")
    assert token_info.token_type.lower() == "bearer"


# The texts have no NUL, because not every database accepts it. Percent signs often precede digits.
# `Config` refuses a line end at the end.
_texts = st.text(
    st.sampled_from("%:+ &=\"'\\/4af1é密😀\n")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
).filter(lambda text: not text.endswith(("\n", "\r")))


@given(client_id=_texts, client_secret=_texts, method=st.sampled_from(METHODS))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_credentials(served: Served, client_id: str, client_secret: str, method: str) -> None:
    """Both methods send any client ID and any secret unchanged."""
    config = served.config(*register(served, client_id, client_secret), auth_method=method)

    async def main() -> None:
        async with open_program(served, clock, config) as program:
            await program.session.get_access_token()

    clock = MockClock()
    trio.run(main, clock=clock)


async def test_wider_scope(served: Served, mock_clock: MockClock) -> None:
    """The server grants the scopes of the config, and the token's information names them."""
    async with open_program(served, mock_clock, scope="files users") as program:
        token_info = await program.session.exchange_token("files")
        assert await program.use_with(token_info.access_token) == 200
    assert sorted((token_info.scope or "").split()) == ["files", "users"]


async def test_spelling_of_a_space_in_basic(served: Served) -> None:
    """Every server reads a space as %20; only those that decode a form read it as +."""
    client_id, client_secret = register(served, "two words", "two words")
    statuses = []
    async with httpx.AsyncClient() as client:
        for encode in (lambda text: quote(text, safe=""), quote_plus):
            pair = f"{encode(client_id)}:{encode(client_secret)}".encode()
            answer = await client.post(
                served.root + served.server.token_path,
                data={"grant_type": "client_credentials"},
                headers={"Authorization": f"Basic {base64.b64encode(pair).decode()}"},
            )
            statuses.append(answer.status_code)
    assert statuses == [200, 200 if served.server.plus_is_a_space else 401]


# Expiry


async def test_expiry(served: Served, mock_clock: MockClock) -> None:
    """The server accepts a STALE token, and when it has expired, requests have the next one."""
    async with open_program(served, mock_clock) as program:
        first = await program.session.get_access_token()
        program.let_time_pass(LIFETIME / 2 + 1.0)
        assert program.session.get_access_token_nowait() == first
        assert await program.use_with(first) == 200
        await program.session.states.wait_value(TokenState.FRESH)
        second = program.session.get_access_token_nowait()
        assert second != first

        program.let_time_pass(LIFETIME / 2 - 1.0)
        answer = await program.use()

        assert await program.use_with(first) == 401
        assert await program.use_with(second) == 200
        assert (answer.status_code, answer.history) == (200, [])
        assert program.session.statistics().invalidations == 0
        assert program.granted() == 2


# Invalid tokens


async def test_token_ended_by_the_server(served: Served, mock_clock: MockClock) -> None:
    """If the server has ended the token, the request is sent again with a new one and its body."""
    async with open_program(served, mock_clock) as program:
        await program.use()
        program.let_time_pass(5.0, at_server=False)
        served.server.end_tokens()
        served.answers.clear()

        answer = await program.use(content=b"body")

        assert answer.status_code == 200
        assert [before.status_code for before in answer.history] == [401]
        assert served.answers == [
            (served.server.resource_path, 401),
            (served.server.token_path, 200),
            (served.server.resource_path, 200),
        ]
        assert answer.request.content == b"body"
        assert program.session.statistics().invalidations == 1


async def test_missing_permission_keeps_the_token(served: Served, mock_clock: MockClock) -> None:
    """If the resource refuses a token without the scope with 403, the session keeps the token."""
    async with open_program(served, mock_clock, scope="users") as program:
        answer = await program.use()

        assert answer.status_code == 403
        assert program.session.state is TokenState.FRESH
        assert program.granted() == 1


async def test_refusal_by_default(served: Served, mock_clock: MockClock) -> None:
    """With a server that answers a revoked token with a bare 403, the session keeps the token."""
    path, refusal = served.server.default_path, served.server.default_refusal
    async with open_program(served, mock_clock) as program:
        await program.session.get_access_token()
        program.let_time_pass(5.0, at_server=False)
        served.server.end_tokens()

        await program.client.get(served.root + path)

        assert served.statuses(path) == ([401, 200] if refusal == 401 else [refusal])
        assert program.granted() == (2 if refusal == 401 else 1)


# Revocation


@pytest.mark.parametrize("method", METHODS)
async def test_revoke(served: Served, mock_clock: MockClock, method: str) -> None:
    """The server refuses a token after the session has revoked it, and the session gets another."""
    async with open_program(served, mock_clock, auth_method=method) as program:
        token = await program.session.get_access_token()
        await program.session.revoke_tokens()

        assert program.session.state is TokenState.EMPTY
        assert await program.use_with(token) == 401
        assert served.statuses(served.server.revoke_path) == [200]
        program.let_time_pass(5.0)
        assert (await program.use()).status_code == 200
        assert program.granted() == 2


@pytest.mark.parametrize("method", METHODS)
async def test_revoke_unknown_token(served: Served, mock_clock: MockClock, method: str) -> None:
    """A token that the server does not know counts as revoked (RFC 7009 §2.2)."""
    config = served.config(*register(served), auth_method=method)
    async with TokenManager(config) as manager:
        await manager.revoke_tokens("never-heard-of")


# Refusals


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", ["id", "secret"])
async def test_wrong_credentials(
    served: Served, mock_clock: MockClock, wrong: str, method: str
) -> None:
    """The server rejects a wrong id or secret at the first attempt."""
    client_id, client_secret = register(served)
    config = served.config(
        client_id + ("x" if wrong == "id" else ""),
        client_secret + ("x" if wrong == "secret" else ""),
        auth_method=method,
    )
    async with open_program(served, mock_clock, config) as program:
        with pytest.raises(CredentialsRejectedError) as caught:
            await program.session.get_access_token()

    assert caught.value.error == "invalid_client"
    assert caught.value.status_code in (400, 401)
    assert (caught.value.attempts, program.granted()) == (1, 1)
    assert client_secret + "x" not in str(caught.value)


async def test_unknown_scope(served: Served, mock_clock: MockClock) -> None:
    """An unknown scope is a TokenRequestError, and not a rejection of the credentials."""
    async with open_program(served, mock_clock, scope="secrets") as program:
        with pytest.raises(TokenRequestError) as caught:
            await program.session.get_access_token()

    assert type(caught.value) is TokenRequestError
    assert (caught.value.error, caught.value.retryable) == ("invalid_scope", False)
    assert caught.value.attempts == 1


async def test_revocation_with_a_wrong_secret(served: Served, mock_clock: MockClock) -> None:
    """A revocation with a wrong secret is an error, and the token stays valid."""
    client_id, client_secret = register(served)
    async with open_program(served, mock_clock, served.config(client_id, client_secret)) as program:
        token = await program.session.get_access_token()
        async with TokenManager(served.config(client_id, "wrong")) as manager:
            with pytest.raises(TokenRequestError, match="could not be revoked") as caught:
                await manager.revoke_tokens(token)
        assert caught.value.error == "invalid_client"
        assert await program.use_with(token) == 200
