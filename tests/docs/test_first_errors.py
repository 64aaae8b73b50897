"""The first errors of a new user: a program, and the last line that it prints."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trustme

from tests.ports import closed_port
from tests.wire import Peer, answer, listening, read_request
from trio_anon_session.testing import TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    Environment = dict[str, str]
    Surroundings = Callable[[Path], AbstractAsyncContextManager[Environment]]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
CREDENTIALS = {"BOX_CLIENT_ID": "my-app", "BOX_CLIENT_SECRET": "the-secret"}

PROGRAM = """
import trio
from trio_anon_session import AnonymousSession, Config

async def main():
    config = Config.from_env().replace(max_retries=0)
    async with AnonymousSession(config) as session:
        print(await session.get_access_token())

trio.run(main)
"""
ON_ASYNCIO = PROGRAM.replace("import trio\n", "import asyncio\n").replace(
    "trio.run(main)", "asyncio.run(main())"
)
ON_ANYIO = PROGRAM.replace("import trio\n", "import anyio\n").replace("trio.run", "anyio.run")
NOT_ENTERED = PROGRAM.replace(
    "async with AnonymousSession(config) as session:", "session = AnonymousSession(config)"
).replace("        print", "    print")
ENTERED_TWICE = PROGRAM.replace("print(await session.get_access_token())", "pass") + (
    "\nsession = AnonymousSession(Config.from_env())"
    "\nasync def again():"
    "\n    for _ in range(2):"
    "\n        async with session: pass"
    "\ntrio.run(again)"
)
AFTER_THE_BLOCK = PROGRAM.replace("        print", "        pass\n    print")


WITHOUT_TOKEN = """
import os, sys
import httpx
import trio
from trio_anon_session import AnonymousSession, Config

async def main():
    async with AnonymousSession(Config.from_env()) as session:
        async with httpx.AsyncClient(auth=session.auth()) as client:
            response = await client.get(os.environ["API_URL"] + "/2.0/files/1")
            sys.exit(response.status_code == 401)

trio.run(main)
"""


@asynccontextmanager
async def token_server(folder: Path) -> AsyncIterator[Environment]:
    """Serve a token server that knows another secret."""
    async with open_loopback(TokenServer()) as url:
        yield CREDENTIALS | {"BOX_API_ROOT_URL": url, "BOX_CLIENT_ID": "test-client"}


@asynccontextmanager
async def other_server(folder: Path) -> AsyncIterator[Environment]:
    """Set the token endpoint only."""
    yield CREDENTIALS | {"BOX_TOKEN_URL": "https://login.example/token", "API_URL": "unused"}


@asynccontextmanager
async def other_origin(folder: Path) -> AsyncIterator[Environment]:
    """Serve an API under another host name than that of the API root."""
    server = TokenServer()
    async with open_loopback(server) as url:
        root = url.replace("127.0.0.1", "localhost")
        yield CREDENTIALS | {"BOX_API_ROOT_URL": root, "API_URL": url}
    assert (server.grants, len(server.presented)) == (0, 1)


@asynccontextmanager
async def box(folder: Path, code: str, description: str) -> AsyncIterator[Environment]:
    """Answer for https://api.box.com, as a proxy that has its own certificate."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.box.com").configure_cert(context)
    body = f'{{"error":"{code}","error_description":"{description}"}}'.encode()
    peer = Peer(0, [answer(400, body, content_type="application/json")])

    async def serve(stream: trio.SocketStream) -> None:
        request = await read_request(stream)
        assert request is not None
        assert request.target == "api.box.com:443"
        await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        await peer.serve(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with listening(serve) as port:
        yield CREDENTIALS | {
            "HTTPS_PROXY": f"http://127.0.0.1:{port}",
            "SSL_CERT_FILE": str(folder / "authority.pem"),
        }
    # The program has sent its request through the proxy.
    assert peer.requests


@asynccontextmanager
async def variables(
    folder: Path, environment: Mapping[str, str] = {}
) -> AsyncIterator[Environment]:
    """Set these variables, and serve nothing."""
    yield {**environment}


credentials = partial(variables, environment=CREDENTIALS)


@asynccontextmanager
async def closed(folder: Path) -> AsyncIterator[Environment]:
    """Name a port on which nothing listens."""
    with closed_port() as port:
        yield CREDENTIALS | {"BOX_API_ROOT_URL": f"http://127.0.0.1:{port}"}


@asynccontextmanager
async def unknown_authority(folder: Path) -> AsyncIterator[Environment]:
    """Serve with a certificate of an authority that is not trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.SSLStream(stream, context, server_side=True) as secured:
            await secured.do_handshake()

    async with listening(serve) as port:
        yield CREDENTIALS | {"BOX_API_ROOT_URL": f"https://localhost:{port}"}


@attrs.frozen
class Case:
    """A program and where it runs; the page's section of that title shows what it prints."""

    title: str
    program: str = PROGRAM
    around: Surroundings = credentials


CASES = [
    Case("A variable is missing", around=variables),
    Case("The secret is wrong", around=token_server),
    *[
        Case(f"Box refuses the grant: {code}", around=partial(box, code=code, description=said))
        for code, said in (
            ("invalid_client", "The client credentials are invalid"),
            ("unauthorized_client", "The grant type is unauthorized for this client_id"),
        )
    ],
    # This host does not exist (RFC 6761 §6.4).
    Case(
        "No network: the name is not found",
        around=partial(
            variables,
            environment=CREDENTIALS | {"BOX_API_ROOT_URL": "https://api.box.invalid"},
        ),
    ),
    Case("No network: the connection is refused", around=closed),
    Case("No network: the certificate is not trusted", around=unknown_authority),
    Case("On asyncio", ON_ASYNCIO),
    Case("On asyncio", ON_ANYIO),
    Case("Without async with", NOT_ENTERED),
    Case("Opened twice", ENTERED_TWICE),
    Case("After the block", AFTER_THE_BLOCK),
    Case("Only token_url is set", WITHOUT_TOKEN, other_server),
    Case("The API answers 401, and the request had no token", WITHOUT_TOKEN, other_origin),
]


def shown_on_page() -> dict[str, list[str]]:
    """Return the lines that each section of the page shows, by its title."""
    sections = PAGE.read_text().split("\n## ")[1:]
    return {
        title: re.findall(r"^    (.*)$", section, re.MULTILINE)
        for title, _, section in (section.partition("\n") for section in sections)
    }


async def lines_of(case: Case, folder: Path) -> list[str]:
    """Run a program as a user does, and return the lines that it prints on stderr."""
    file = folder / "program.py"
    file.write_text(case.program)
    async with case.around(folder) as environment:
        with trio.fail_after(240.0):
            done = await trio.run_process(
                [sys.executable, file],
                # The machine's SSL_CERT_FILE must not affect the program. Coverage needs other
                # variables.
                env={name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
                | environment,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                capture_stderr=True,
                check=False,
            )
    assert done.returncode == 1
    stderr = done.stderr.decode()
    assert CREDENTIALS["BOX_CLIENT_SECRET"] not in stderr
    return stderr.strip().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[f"{n} {case.title}" for n, case in enumerate(CASES)])
async def test_first_error(case: Case, tmp_path: Path) -> None:
    """The last line that the program prints is the one on the page."""
    [shown] = shown_on_page()[case.title]
    parts = map(re.escape, shown.split("..."))
    lines = await lines_of(case, tmp_path)
    first, printed = lines[0], lines[-1]
    assert re.fullmatch(".*".join(parts), printed), printed
    if "endpoint rejected" in printed or "the request to" in printed:
        # Python prints this log record, although the program has not configured logging.
        assert "token request failed, next attempt in " in first
        assert first.endswith(printed.removeprefix("trio_anon_session."))


def test_each_error_of_the_page_has_a_program() -> None:
    """Every section of the page that shows an error has a program in this file."""
    assert {title for title, lines in shown_on_page().items() if lines} == {
        case.title for case in CASES
    }
