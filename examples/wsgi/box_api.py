"""The session of a process, and the client that its threads share. Importing this opens nothing."""

from __future__ import annotations

import httpx

from trio_anon_session import Config
from trio_anon_session.threads import SessionThread

config = Config.from_env().replace(revoke_on_exit=True)
session = SessionThread(config)
api = httpx.Client(base_url=config.api_root_url, auth=session.auth(timeout=10.0))
