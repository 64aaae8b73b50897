"""Helpers: sources of a secret or assertion that a test replaces, and a fake endpoint."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import httpx
import trio

from tests.http.endpoint import Endpoint, form_of
from trio_anon_session import Assertion, AssertionFile, Config, SecretFile

if TYPE_CHECKING:
    from pathlib import Path

    from trio_anon_session import AssertionRequest

FILES = ["secret file", "assertion file"]
CALLABLES = [
    "plain callable",
    "async callable",
    "callable that returns a coroutine",
    "plain provider",
    "async provider",
]
KINDS = [*FILES, *CALLABLES]


class Source:
    """A secret or an assertion that a test replaces.

    Args:
        kind: one of `KINDS`.
        folder: the folder of its file.
        value: the first text.

    Attributes:
        path: the path, if the source is a file.
        value: the text that a callable returns, or the exception that it raises.
        requests: the requests that a provider got.
        latency: seconds that an async callable takes.
    """

    def __init__(self, kind: str, folder: Path, value: Any = "first-secret") -> None:
        self.kind = kind
        self.is_assertion = "assertion" in kind or "provider" in kind
        self.path = folder / "source"
        self.requests: list[AssertionRequest] = []
        self.latency = 0.0
        self.value: Any = value
        self.put(value)

    @property
    def setting(self) -> str:
        """The setting that error messages name."""
        return "auth_method" if self.is_assertion else "client_secret"

    def put(self, value: Any) -> None:
        """Replace the text in one step."""
        self.value = value
        if self.kind in FILES:
            new = self.path.with_name("new")
            new.write_bytes(value.encode())
            new.replace(self.path)

    def settings(self) -> dict[str, Any]:
        """Return the settings of a config."""
        if self.kind in FILES:
            file = AssertionFile if self.is_assertion else SecretFile
            return {self.setting: file(os.fspath(self.path))}
        if self.is_assertion:
            give = self._provide if self.kind == "plain provider" else self._provide_async
            return {self.setting: Assertion(give)}
        kinds = {
            "plain callable": self._give,
            "async callable": self._give_async,
            "callable that returns a coroutine": lambda: self._give_async(),
        }
        return {self.setting: kinds[self.kind]}

    def config(self, **changes: Any) -> Config:
        """Return a config with this source."""
        return Config(**({"client_id": "id"} | self.settings() | changes))

    def _give(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    async def _give_async(self) -> Any:
        await trio.sleep(self.latency)
        return self._give()

    def _provide(self, request: AssertionRequest) -> Any:
        self.requests.append(request)
        return self._give()

    async def _provide_async(self, request: AssertionRequest) -> Any:
        self.requests.append(request)
        return await self._give_async()


class JumpingClock(trio.abc.Clock):
    """Real time, which a test can move forward. Under a ``MockClock`` there are no threads."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def start_clock(self) -> None:
        """Do nothing: the clock always runs."""

    def current_time(self) -> float:
        """Return Trio's time."""
        return time.perf_counter() + self._ahead

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the real seconds until a deadline."""
        return deadline - self.current_time()

    def jump(self, seconds: float) -> None:
        """Move the clock forward."""
        self._ahead += seconds


def shown_by(request: httpx.Request) -> str:
    """Return the secret or the assertion that a request contains."""
    form = dict(form_of(request))
    return form.get("client_secret") or form["client_assertion"]


def rejects(error: str = "invalid_client", **more: str) -> httpx.Response:
    """Return an answer that rejects the client."""
    return httpx.Response(400, json={"error": error, **more})


class Judge(Endpoint):
    """A token and revocation endpoint that accepts some secrets or assertions.

    Args:
        *accepted: the texts that it accepts.

    Attributes:
        accepted: the texts that it accepts.
        lifetime: seconds that its tokens live.
        latency: seconds until it answers.
        granted: the number of tokens.
        refused: the number of requests that it refused.
    """

    def __init__(self, *accepted: str, lifetime: float = 3600.0) -> None:
        super().__init__(self._judge)
        self.accepted = {*accepted}
        self.lifetime = lifetime
        self.latency = 0.0
        self.granted = 0
        self.refused = 0

    async def _judge(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(self.latency)
        if shown_by(request) not in self.accepted:
            self.refused += 1
            return rejects()
        self.granted += 1
        token = {"access_token": f"token-{self.granted}", "expires_in": self.lifetime}
        return httpx.Response(200, json=token)

    @property
    def shown(self) -> list[str]:
        """The secrets or assertions that it has seen, in order."""
        return [shown_by(request) for request in self.requests]
