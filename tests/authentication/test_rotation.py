"""Tests of secrets, assertions and keys that are replaced while callers use the session.

To add a kind of credential, add a row to `KINDS`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import run_virtually
from tests.http.endpoint import form_of, open_manager
from trio_anon_session import AnonymousSession, AssertionFile, Config, PrivateKeyJWT, SecretFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@attrs.frozen
class Kind:
    """A kind of credential that is in a file and is replaced.

    Attributes:
        settings: the settings of a config, from the path.
        content: the content of the file, from the number of the generation.
        generation: the number of the generation that a request proves, or None.
    """

    settings: Callable[[Path], dict[str, Any]]
    content: Callable[[int], bytes]
    generation: Callable[[httpx.Request], int | None]


def field(name: str) -> Callable[[httpx.Request], int | None]:
    """Return a function that reads the generation from a form field."""

    def read(request: httpx.Request) -> int | None:
        text = dict(form_of(request)).get(name, "")
        return int(text.removeprefix("text-")) if text.startswith("text-") else None

    return read


def line(generation: int) -> bytes:
    return b"text-%d\n" % generation


@functools.cache
def key(generation: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(generation: int) -> bytes:
    return key(generation).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signer(request: httpx.Request) -> int | None:
    """Return the generation of the key that signed the assertion of a request."""
    assertion = dict(form_of(request))["client_assertion"]
    for generation in range(1, 100):
        with contextlib.suppress(jwt.InvalidSignatureError):
            jwt.decode(
                assertion,
                key(generation).public_key(),
                algorithms=["ES256"],
                options={"verify_aud": False},
            )
            return generation
    return None


KINDS = {
    "secret": Kind(lambda path: {"client_secret": SecretFile(path)}, line, field("client_secret")),
    "assertion": Kind(
        lambda path: {"auth_method": AssertionFile(path)}, line, field("client_assertion")
    ),
    "key": Kind(
        lambda path: {"auth_method": PrivateKeyJWT.from_file(path, algorithm="ES256")}, pem, signer
    ),
}
LAGS = {
    "at the same moment": (0.0, 0.0),
    "old and new for a while": (0.0, 60.0),
    "the server knows the new one first": (-60.0, 60.0),
    "the server forgets the old one first": (60.0, 0.0),
}
"""Seconds until the file is replaced, and from then until the server forgets the old credential.

The first number is negative if the server accepts the new credential before that.
"""


class World(httpx.AsyncBaseTransport):
    """A token endpoint and a file with a credential that a test replaces.

    Args:
        kind: the kind of credential.
        path: the file.
        lifetime: seconds that tokens live.
        latency: seconds until the endpoint answers.

    Attributes:
        granted: the number of tokens.
        refused: the number of token requests that were refused.
        noticed: the errors and the expired tokens that callers got.
        served: the number of valid tokens that callers got.
    """

    def __init__(self, kind: Kind, path: Path, lifetime: float, latency: float) -> None:
        self._kind = kind
        self._path = path
        self._lifetime = lifetime
        self._latency = latency
        self._generation = 1
        self._accepted = {1}
        self._expires_at: dict[str, float] = {}
        self.granted = self.refused = self.served = 0
        self.noticed: list[str] = []
        self._next_request = trio.Event()
        self._write(1)

    def _write(self, generation: int) -> None:
        new = self._path.with_name("new")
        new.write_bytes(self._kind.content(generation))
        os.replace(new, self._path)

    def config(self, **settings: Any) -> Config:
        """Return a config whose credential is in the file."""
        return Config(**({"client_id": "id"} | self._kind.settings(self._path) | settings))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Grant a token to a client with a credential that is accepted when the server answers."""
        self._next_request.set()
        self._next_request = trio.Event()
        await trio.sleep(self._latency)
        if self._kind.generation(request) not in self._accepted:
            self.refused += 1
            return httpx.Response(401, json={"error": "invalid_client"})
        self.granted += 1
        token = f"token-{self.granted}"
        self._expires_at[token] = trio.current_time() + self._lifetime
        return httpx.Response(200, json={"access_token": token, "expires_in": self._lifetime})

    async def wait_for_request(self) -> None:
        """Wait until the next token request begins."""
        await self._next_request.wait()

    async def rotate(self, lag: str, scale: float = 1.0) -> None:
        """Replace the credential, in the order that `LAGS` describes."""
        file_after, forget_after = (scale * seconds for seconds in LAGS[lag])
        old, self._generation = self._generation, self._generation + 1
        new = self._generation
        if file_after < 0:
            self._accepted.add(new)
            await trio.sleep(-file_after)
            self._write(new)
        elif file_after > 0:
            self._accepted = {new}
            await trio.sleep(file_after)
            self._write(new)
        else:
            self._accepted.add(new)
            self._write(new)
        await trio.sleep(forget_after)
        self._accepted.discard(old)

    async def use(self, session: AnonymousSession, until: float, pause: float) -> None:
        """Get tokens until a time, and record errors and expired tokens."""
        while trio.current_time() < until:
            try:
                token = await session.get_access_token()
            except Exception as error:
                self.noticed.append(type(error).__name__)
            else:
                if trio.current_time() < self._expires_at[token]:
                    self.served += 1
                else:
                    self.noticed.append("an expired token")
            await trio.sleep(pause)


@given(
    pauses=st.lists(st.floats(61.0, 600.0), min_size=1, max_size=3),
    lag=st.sampled_from(sorted(LAGS)),
    waits=st.booleans(),
    latency=st.sampled_from([0.0, 0.5, 20.0]),
    kind=st.sampled_from(sorted(KINDS)),
    refresh=st.sampled_from(["eager", "on_request"]),
)
def test_no_caller_notices_a_rotation(
    tmp_path_factory: pytest.TempPathFactory,
    pauses: list[float],
    lag: str,
    waits: bool,
    latency: float,
    kind: str,
    refresh: str,
) -> None:
    """Callers get only valid tokens, whenever and in whatever order file and server change."""
    world = World(KINDS[kind], tmp_path_factory.getbasetemp() / "file", 600.0, latency)

    async def live() -> None:
        until = sum(pauses) + 700.0 * (1 + waits * len(pauses))
        async with open_manager(world, world.config(refresh=refresh)) as manager:
            async with AnonymousSession(manager.config, manager) as session:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(world.use, session, until, 23.0)
                    for pause in pauses:
                        await trio.sleep(pause)
                        if waits:
                            await world.wait_for_request()
                        await world.rotate(lag)

    run_virtually(live)
    assert world.noticed == []
    assert world.served > 30
    assert world.granted >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_callers_that_wait_for_the_first_token_get_it(tmp_path: Path, kind: str) -> None:
    """If the credential is replaced during the first request, all callers get a token.

    The first request is refused, and the second one succeeds immediately.
    """
    world = World(KINDS[kind], tmp_path / "file", 600.0, 1.0)

    async def live() -> None:
        async with open_manager(world, world.config()) as manager:
            async with AnonymousSession(manager.config, manager) as session:
                async with trio.open_nursery() as nursery:
                    for _ in range(1000):
                        nursery.start_soon(world.use, session, 0.5, 5.0)
                    await trio.sleep(0.5)
                    await world.rotate("at the same moment")
                    await trio.sleep(1.4)
                    assert world.served == 0
                    await trio.sleep(0.2)
                    assert world.served == 1000

    run_virtually(live)
    assert (world.noticed, world.refused, world.granted) == ([], 1, 1)
