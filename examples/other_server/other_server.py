"""Call an API whose tokens come from an OAuth 2.0 server that is not Box's.

export CLIENT_ID=... CLIENT_SECRET=...
export TOKEN_URL=https://auth.example.com/oauth/token
export API_URL=https://api.example.com/files
export SCOPE=files AUDIENCE=https://api.example.com  # if the server needs them
export REVOKE_URL=https://auth.example.com/oauth/revoke  # to revoke the token at the end
python other_server.py
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import httpx
import trio

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_config(environ: Mapping[str, str]) -> Config:
    """Return the config that the environment describes."""
    audience, revoke_url = environ.get("AUDIENCE"), environ.get("REVOKE_URL")
    return Config(
        client_id=environ["CLIENT_ID"],
        client_secret=environ["CLIENT_SECRET"],
        # The default is Box's API.
        api_root_url=origin_of(environ["API_URL"]),
        token_url=environ["TOKEN_URL"],
        revoke_url=revoke_url,
        revoke_on_exit=revoke_url is not None,
        auth_method="client_secret_basic",
        scope=environ.get("SCOPE"),
        extra_params={"audience": audience} if audience else {},
    )


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL."""
    return str(httpx.URL(url).copy_with(raw_path=b"/", fragment=None)).rstrip("/")


async def call(session: AnonymousSession, url: str) -> str:
    """Return the answer of the API."""
    # The client sends the token only to this API.
    auth = session.auth(origins=[origin_of(url)])
    async with httpx.AsyncClient(auth=auth) as client:
        response = await client.get(url)
        return response.raise_for_status().text


async def main() -> None:
    """Call the API once, and print its answer."""
    async with AnonymousSession(read_config(os.environ)) as session:
        print(await call(session, os.environ["API_URL"]))


if __name__ == "__main__":
    try:
        trio.run(main)
    except KeyError as error:
        sys.exit(f"other_server.py: the environment variable {error.args[0]} must be set")
    except (AnonymousSessionError, httpx.HTTPError) as error:
        sys.exit(f"other_server.py: {error}")
