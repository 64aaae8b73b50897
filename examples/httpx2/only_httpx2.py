"""A program without httpx: all requests go over httpx2, and `import httpx` returns httpx2."""

import sys

import httpx2

httpx2.alias_httpx()

# These packages import httpx, so they come after the alias.
import trio  # noqa: E402  # as above

from trio_anon_session import AnonymousSession  # noqa: E402  # as above
from trio_anon_session.httpx2 import SessionAuth  # noqa: E402  # as above
from trio_anon_session.testing import TokenServer, open_loopback  # noqa: E402  # as above


async def main() -> None:
    """Send a request to the embedded server, and print which libraries are imported."""
    server = TokenServer()
    async with (
        open_loopback(server) as url,
        AnonymousSession(server.config(url)) as session,
        httpx2.AsyncClient(auth=SessionAuth(session), base_url=url) as client,
    ):
        response = await client.get("/2.0/files/1")
        print(response.status_code, response.json()["id"])
    libraries = {"httpx", "httpcore", "httpx2", "httpcore2"}
    print(*sorted(libraries & {module.__name__ for module in sys.modules.values()}))


if __name__ == "__main__":
    trio.run(main)
