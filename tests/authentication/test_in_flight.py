"""Tests of many concurrent requests with different secrets, which all answers echo."""

from __future__ import annotations

import random
from string import ascii_lowercase
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from tests.authentication.kit import shown_by
from tests.helpers import make_config
from tests.http.endpoint import CALLS, Endpoint, ask, open_manager
from trio_anon_session import TokenRequestError
from trio_anon_session._authentication import ClientAuthentication

if TYPE_CHECKING:
    from trio.testing import MockClock

MANY = 13
"""More requests than the number of secrets that are remembered."""


@pytest.mark.parametrize("call", CALLS)
async def test_the_secrets_of_all_requests_in_flight_are_hidden(
    autojump_clock: MockClock, call: str
) -> None:
    """Each answer's error hides the secret of its request, although later requests had others."""
    numbers = random.Random(0)
    sent: dict[str, int] = {}
    said: list[str] = []

    def give() -> str:
        # This would be shown as a harmless word if it were not known as a secret.
        return "".join(numbers.choices(ascii_lowercase, k=16))

    async def echo(request: httpx.Request) -> httpx.Response:
        secret = shown_by(request)
        sent[secret] = len(sent)
        await trio.sleep(1.0)
        fields = {"error": "invalid_request", "error_description": f"it was {secret}"}
        return httpx.Response(400, json=fields)

    async with open_manager(Endpoint(echo), make_config(client_secret=give)) as manager:

        async def attempt() -> None:
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager, call)
            said.append(str(caught.value.error_description))

        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                nursery.start_soon(attempt)
    assert said == ["it was ***"] * MANY
    assert len(sent) == MANY


def test_two_threads_remember_their_secrets() -> None:
    """A secret is remembered even if another thread remembers one at the same time."""
    client = ClientAuthentication()

    class Slow(str):
        """A text during whose use another thread remembers a secret."""

        __slots__ = ()

        def __len__(self) -> int:
            client._remember("wxyzwxyzwxyz")
            return super().__len__()

    client._remember(Slow("abcdabcdabcd"))
    for secret in ("wxyzwxyzwxyz", "abcdabcdabcd"):
        assert client.secrets().hide(f"got {secret} today") == "got *** today"
