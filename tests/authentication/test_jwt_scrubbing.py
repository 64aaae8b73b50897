"""Tests that errors and logs hide assertions and keys that a server quotes."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.authentication.signing import CLIENT_ID, PASSWORD, assertion_in, pem_of
from tests.helpers import run_virtually, traceback_with_locals
from tests.http.endpoint import CALLS, Endpoint, ask, fails, open_manager, says
from trio_anon_session import AnonymousSession, Config, PrivateKeyJWT, TokenRequestError

if TYPE_CHECKING:
    import httpx
    import trio

SECRET = "s3cr3t, which is at least 32 bytes long"
METHODS: dict[str, Any] = {
    "key": PrivateKeyJWT(pem_of(password=PASSWORD), algorithm="ES256", password=PASSWORD),
    "callable": PrivateKeyJWT(lambda signing_input: signing_input[:200]),
    "secret": "client_secret_jwt",
}


def config_of(method: str) -> Config:
    return Config(
        client_id=CLIENT_ID,
        client_secret=SECRET if method == "secret" else None,
        auth_method=METHODS[method],
        max_retries=0,
    )


def everything(error: TokenRequestError) -> str:
    """Return all texts of an error, and its traceback with locals."""
    texts = [str(error), repr(error), repr(vars(error)), *traceback_with_locals(error)]
    return "\n".join(texts)


async def error_that_quotes(
    method: str, call: str, place: str, status: int, begin: float, length: int
) -> tuple[TokenRequestError, str, str]:
    """Return the error for an answer that quotes a part of the assertion, and both texts."""
    quoted: list[str] = []

    async def echoes(request: httpx.Request) -> httpx.Response:
        assertion = assertion_in(request)
        at = int(begin * (len(assertion) - length))
        quoted[:] = assertion[at : at + length], assertion
        body: dict[str, Any] = {"error": "invalid_request", "error_description": "bad"}
        headers: dict[str, str] = {}
        if place in body:
            body[place] = f"bad assertion: {quoted[0]}"
        else:
            headers[place] = quoted[0]
        return await says(status, body, headers)(request)

    async with open_manager(Endpoint(echoes), config_of(method)) as manager:
        with pytest.raises(TokenRequestError) as caught:
            await ask(manager, call)
    return caught.value, quoted[0], quoted[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from([*METHODS]),
    call=st.sampled_from(CALLS),
    place=st.sampled_from(["error", "error_description", "X-Request-Id", "Box-Request-Id"]),
    status=st.sampled_from([400, 401, 503]),
    begin=st.floats(0, 1),
    length=st.integers(16, 40),
)
def test_no_error_quotes_an_assertion(
    caplog: pytest.LogCaptureFixture,
    method: str,
    call: str,
    place: str,
    status: int,
    begin: float,
    length: int,
) -> None:
    """If the server quotes a part of the assertion, no error, traceback or log record shows it."""
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    error, excerpt, assertion = run_virtually(
        error_that_quotes, method, call, place, status, begin, length
    )
    shown = everything(error) + caplog.text
    # The comparison of `Secrets` leaves out these characters, and needs eight others.
    assume(length >= 24 or excerpt.isalnum())
    assert excerpt not in shown
    assert assertion[-40:] not in shown


@pytest.mark.parametrize("method", METHODS)
async def test_a_key_that_the_server_quotes_is_hidden(method: str) -> None:
    """Parts of a key, its password and the client secret are hidden in a server's text."""
    # Longer words with digits are hidden in any case, even if they are not known as secrets.
    parts = re.findall("[A-Za-z0-9]{16}", pem_of(password=PASSWORD).decode())
    known = {"key": [*parts, PASSWORD.split("/")[0]], "callable": [], "secret": [SECRET]}
    for text in known[method]:
        answer = says(400, {"error": "invalid_request", "error_description": f"got: {text} today"})
        async with open_manager(Endpoint(answer), config_of(method)) as manager:
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager)
        assert text not in everything(caught.value)
        assert "got: ***" in str(caught.value)


async def test_words_about_keys_are_shown() -> None:
    """The words of the lines around a PEM key are no secret, so errors show them."""
    text = "the private key of this client has ended"
    answer = says(400, {"error": "invalid_request", "error_description": text})
    async with open_manager(Endpoint(answer), config_of("key")) as manager:
        with pytest.raises(TokenRequestError, match=text):
            await ask(manager)


async def test_a_failed_attempt_shows_no_assertion(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the connection is lost, error and log show no part of the assertion."""
    caplog.set_level(logging.DEBUG)
    endpoint = Endpoint(fails(OSError("connection lost")))
    async with open_manager(endpoint, config_of("key")) as manager:
        async with AnonymousSession(manager.config, manager) as session:
            with pytest.raises(TokenRequestError) as caught:
                await session.get_access_token()
    shown = everything(caught.value) + caplog.text
    for request in endpoint.requests:
        header, claims, signature = assertion_in(request).split(".")
        assert not [part for part in (header, claims, signature) if part[:24] in shown]
