"""The scenes of whole programs: what they send, import and count."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import httpx
import jwt
import pytest
import trio

import trio_anon_session
from benchmarks import peers, virtual_time
from benchmarks.endpoint import Endpoint
from benchmarks.logs import without_logs
from benchmarks.measure import Effort
from benchmarks.scenes import day, imports, request, timelines, token_requests
from trio_anon_session import Config, TokenManager
from trio_anon_session.testing import Fault, FaultPlan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.nightly

LEAST = Effort(turns=1, calls=200, crowd=1_000)


async def _ask(way: peers.AsyncCache) -> httpx.Response:
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(way.open(Endpoint()))
        await ask()
        response: httpx.Response = await ask()  # type: ignore[assignment]  # a request's getter
        return response


@pytest.mark.parametrize(
    ("way", "header"),
    [
        (request.OURS, "Bearer token-1"),
        (request.STATIC, "Bearer token-0"),
        (request.NO_AUTH, "None"),
        *[(way, "Bearer token-") for way in peers.load(peers.REQUESTS)[0]],
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_requests_carry_the_header(way: peers.AsyncCache, header: str) -> None:
    """Each way sends the Authorization header that its name states."""
    response = trio.run(_ask, way)
    assert response.status_code == 200
    assert response.request.url == peers.RESOURCE
    assert str(response.request.headers.get("Authorization")).startswith(header)


async def _form(name: str, folder: Path) -> dict[str, str]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return token_requests.answer(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        if name == token_requests.BASE:
            assert await token_requests.post(client) == "token-1"
        else:
            settings = token_requests.ways(folder)[name]
            config = Config(client_id="app", token_url=token_requests.URL, **settings)
            manager = TokenManager(config, http_client=client)
            token = await manager.get_tokens_client_credentials_grant()
            assert token.access_token == "token-1"
    (request,) = seen
    form = dict(parse_qsl(request.content.decode()))
    return {**form, "Authorization": request.headers.get("Authorization", "")}


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("client_secret_jwt, HS256", "HS256"),
        ("PrivateKeyJWT, RS256", "RS256"),
        ("PrivateKeyJWT, ES256", "ES256"),
    ],
)
def test_token_requests_are_signed_as_named(name: str, algorithm: str, tmp_path: Path) -> None:
    """The assertion has the algorithm in the row's name, and the secret is not sent."""
    form = trio.run(_form, name, tmp_path)
    assert jwt.get_unverified_header(form["client_assertion"])["alg"] == algorithm
    assert "client_secret" not in form


def test_other_token_requests_authenticate_as_named(tmp_path: Path) -> None:
    """The base sends the same form as this library; the other ways send their own credentials."""
    base = trio.run(_form, token_requests.BASE, tmp_path)
    assert trio.run(_form, "client_secret_post", tmp_path) == base
    basic = trio.run(_form, "client_secret_basic", tmp_path)
    assert basic["Authorization"].startswith("Basic ")
    assert "client_secret" not in basic
    assert trio.run(_form, "AssertionFile", tmp_path)["client_assertion"] == "a" * 1_000


@pytest.mark.slow
def test_the_import_is_of_this_package() -> None:
    """The scene imports the package of this checkout, and not ``rich``."""
    environ = imports.environ_with("")
    statements = (
        "import httpx, trio_anon_session as tas\n"
        f"assert tas.__file__ == {trio_anon_session.__file__!r}\n"
        "assert sys.modules['rich'] is None"
    )
    assert imports.import_afresh(statements, environ).modules > 100


@pytest.mark.slow
def test_a_session_and_its_auth_load_more_modules() -> None:
    """The row with a session and its auth loads more modules than the row of the import."""
    (comparison,) = imports.run(LEAST)
    ours, session, base = (int(row.remark.split()[0]) for row in comparison.rows)
    assert base < ours < session


def test_faults_hold_no_getter() -> None:
    """If every third request fails, no getter waits."""
    counts = virtual_time.run(day.let_pass, 1, day.plan(0.33, day.SEED))
    assert counts.held == 0
    assert counts.failures > 3
    assert 20 <= counts.requests - counts.failures <= 25


def test_held_getters_are_counted() -> None:
    """If no request is answered while a token is STALE, the waiting getters are counted."""
    hang = Fault.hang()
    counts = virtual_time.run(day.let_pass, 1, FaultPlan(token=[None, *[hang] * 4]))
    assert counts.held > 100


def test_number_of_calls_in_a_day() -> None:
    """The number of calls in the remark is more than the minimum of the day's plan."""
    (held, _) = day.run(LEAST)
    (row,) = held.rows
    called = int(row.remark.split()[0].replace(",", ""))
    near = 24 * 2 * day.A_SECOND
    assert called > near + 3_000 * day.SPARSE


def test_faults_are_drawn_by_a_seed() -> None:
    """A seed always gives the same plan, with about the requested number of faults."""
    assert day.plan(0.01, 1) == day.plan(0.01, 1) != day.plan(0.01, 2)
    assert 50 < sum(fault in day.FAULTS for fault in day.plan(0.01, 1).token) < 150


def test_timelines_differ_in_each_turn() -> None:
    """Each turn draws other timelines, which can be run and shown."""
    drawn = timelines.Drawn(count=2)
    drawn.draw()
    first = drawn.timelines
    drawn.draw()
    assert len(first) == len(drawn.timelines) == 2
    assert first != drawn.timelines
    with without_logs():
        drawn.run()
    drawn.show()
    assert len(drawn.outcomes) == 2


def test_logs_are_enabled_again() -> None:
    """After the block, also if it raises, the logs are enabled again."""
    logger = logging.getLogger("trio_anon_session")
    with pytest.raises(ZeroDivisionError), without_logs():
        assert not logger.isEnabledFor(logging.ERROR)
        raise ZeroDivisionError
    assert logger.isEnabledFor(logging.ERROR)
