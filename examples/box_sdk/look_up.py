"""A program of threads that looks up files with Box's official SDK.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
    python look_up.py 11111 22222

All threads share one token.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from box_sdk_gen import BaseUrls, BoxClient, BoxRetryStrategy, BoxSDKError, NetworkSession

from trio_anon_session import AnonymousSessionError, Config
from trio_anon_session.boxsdk import SessionAuthentication
from trio_anon_session.threads import SessionThread


def main(file_ids: list[str]) -> None:
    """Look up files, eight at the same time, and print their types and ids."""
    config = Config.from_env()
    settings = NetworkSession(
        base_urls=BaseUrls(base_url=config.api_root_url),
        # With five attempts, the SDK would repeat a request without permission for half a minute.
        retry_strategy=BoxRetryStrategy(max_attempts=2),
    )
    # The session closes first, and wakes the threads that wait for it.
    with ThreadPoolExecutor(8) as pool, SessionThread(config) as session:
        client = BoxClient(SessionAuthentication(session), network_session=settings)
        for file in pool.map(client.files.get_file_by_id, file_ids):
            print(file.type.value, file.id)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BoxSDKError as error:
        # An error of the session is also a BoxSDKError. The text of an error of the SDK contains
        # the whole request and response, and the message is one line.
        sys.exit(f"look_up.py: {error.message}")
    except AnonymousSessionError as error:
        sys.exit(f"look_up.py: {error}")
