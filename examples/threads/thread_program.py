"""A program of threads, which calls the API with a synchronous httpx client.

export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
python thread_program.py 11111 22222
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

from trio_anon_session import AnonymousSessionError, Config
from trio_anon_session.threads import SessionThread


def main(file_ids: list[str]) -> None:
    """Look up files, eight at the same time, and print what the API knows about them."""
    config = Config.from_env()
    # The session closes before the pool, so an error does not wait for threads without a token.
    with (
        ThreadPoolExecutor(8) as pool,
        SessionThread(config) as session,
        httpx.Client(base_url=config.api_root_url, auth=session.auth()) as client,
    ):

        def look_up(file_id: str) -> object:
            return client.get(f"/2.0/files/{file_id}").raise_for_status().json()

        for answer in pool.map(look_up, file_ids):
            print(answer)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AnonymousSessionError as error:
        sys.exit(f"thread_program.py: {error}")
