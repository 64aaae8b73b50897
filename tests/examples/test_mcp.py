"""The MCP client and the MCP server, on sockets as on the page."""

from __future__ import annotations

import signal

import pytest

from tests.ports import served_in_thread
from trio_anon_session.testing import TokenServer

from . import LIMIT, run_example
from .serving import environ_of, hypercorn, wait_for_url

pytestmark = pytest.mark.slow


def test_client_and_server() -> None:
    """The client prints the results of its calls, and client and server request one token each."""
    server = TokenServer()
    with served_in_thread(server) as url:
        environ = environ_of(server, url)
        with hypercorn("mcp_server:app", environ=environ | {"MCP_CALLERS": "me"}) as process:
            tool = f"{wait_for_url(process)}/mcp"
            ended = run_example("mcp/mcp_client.py", tool, 11, 22, environ=environ)
            assert ended.stderr == ""
            assert ended.stdout == (
                "11 {'type': 'file', 'id': '11'}\n22 {'type': 'file', 'id': '22'}\n"
            )
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert server.grants == 2


def test_wrong_credentials() -> None:
    """The client ends with one sentence before it connects to the server."""
    server = TokenServer()
    with served_in_thread(server) as url:
        environ = environ_of(server, url) | {"BOX_CLIENT_SECRET": "wrong"}
        ended = run_example("mcp/mcp_client.py", f"{url}/mcp", 11, environ=environ)
    assert ended.returncode == 1
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("mcp_client.py: the token endpoint rejected the client 'test-client'")
