"""The web services, served by hypercorn's Trio workers as on the page."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.ports import served_in_thread
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

from . import LIMIT
from .serving import environ_of, hypercorn, wait_for_url

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SECRET = "hush+hush/0123456789"


@pytest.mark.parametrize("app", ["fastapi_app:app", "quart_app:app"])
def test_a_signal_lets_requests_finish(app: str) -> None:
    """On SIGTERM, the service answers the running request, and ends with exit code 0."""
    server = TokenServer(FaultPlan(resource_then=Fault(delay=0.5)))
    with (
        served_in_thread(server) as url,
        hypercorn(app, environ=environ_of(server, url)) as process,
        httpx.Client(trust_env=False, base_url=wait_for_url(process), timeout=LIMIT) as user,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(user.get, "/files/11")
        while not server.presented:
            pass
        process.send_signal(signal.SIGTERM)
        assert answer.result(LIMIT).json() == {"type": "file", "id": "11"}
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert server.grants == 1


@pytest.mark.parametrize("app", ["fastapi_app:app", "quart_app:app"])
def test_wrong_credentials(app: str) -> None:
    """With wrong credentials, the service ends with an error that does not show the secret."""
    server = TokenServer()
    with served_in_thread(server) as url:
        environ = environ_of(server, url) | {"BOX_CLIENT_SECRET": SECRET}
        with hypercorn(app, environ=environ) as process:
            _, said = process.communicate(timeout=LIMIT)
    # Hypercorn 0.18 returns 0 although the worker has failed.
    assert process.returncode in (0, 1)
    assert "the token endpoint rejected the client 'test-client'" in said
    assert SECRET not in said
    assert len(server.requests) == 1


def test_workers_share_a_token(tmp_path: Path) -> None:
    """With ``TOKEN_STORE``, two workers request one token."""
    server = TokenServer()
    with served_in_thread(server) as url:
        environ = environ_of(server, url) | {"TOKEN_STORE": str(tmp_path / "tokens.db")}
        with hypercorn("fastapi_app:app", "--workers", "2", environ=environ) as process:
            assert wait_for_url(process) == wait_for_url(process)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert server.grants == 1
