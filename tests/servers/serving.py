"""The interface of an authorization server for the tests, and a function that serves it."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import attrs

from trio_anon_session import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LIFETIME = 60.0
"""Lifetime of the servers' tokens in seconds."""
SCOPES = ("files", "users")
"""The scopes that a client may request; the resource requires the first."""


class AuthorizationServer(Protocol):
    """A third-party authorization server, with its own clients and tokens.

    Attributes:
        name: its name, with versions.
        app: the app that is served.
        token_path: its token endpoint.
        revoke_path: its revocation endpoint.
        resource_path: a resource that requires a token with the scope ``files``.
        default_path: the same resource, with the server's default protection.
        default_refusal: the status of its answer to a revoked token.
        plus_is_a_space: whether it reads a ``+`` in Basic credentials as a space.
    """

    name: str
    app: WSGIApplication
    token_path: str
    revoke_path: str
    resource_path: str
    default_path: str
    default_refusal: int
    plus_is_a_space: bool

    def register(self, client_id: str, client_secret: str) -> None:
        """Register a client, with all `SCOPES`."""

    def let_time_pass(self, seconds: float) -> None:
        """Move only the server's clock."""

    def end_tokens(self) -> None:
        """Let every valid token expire, or revoke it."""


@attrs.define
class Served:
    """A server on a socket.

    Attributes:
        server: the server.
        root: its URL.
        answers: the path and the status of each answer, in order.
    """

    server: AuthorizationServer
    root: str
    answers: list[tuple[str, int]] = attrs.field(factory=list)

    def config(self, client_id: str, client_secret: str, **settings: Any) -> Config:
        """Return the config of a client."""
        return Config(
            client_id=client_id,
            client_secret=client_secret,
            api_root_url=self.root,
            token_url=self.root + self.server.token_path,
            revoke_url=self.root + self.server.revoke_path,
            **settings,
        )

    @property
    def resource(self) -> str:
        """The URL of the protected resource."""
        return self.root + self.server.resource_path

    def statuses(self, path: str) -> list[int]:
        """Return the statuses of the answers of one endpoint, in order."""
        return [status for answered, status in self.answers if answered == path]

    def watch(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, and note its answer."""
        # Read the whole body. If a socket is closed with unread data, the client may not get the
        # answer.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)

        def start(status: str, *args: Any) -> Any:
            self.answers.append((environ["PATH_INFO"], int(status[:3])))
            return start_response(status, *args)

        return self.server.app(environ, start)


class _Server(WSGIServer):
    # If the queue is full, a client retries its connection only after a second.
    request_queue_size = 100


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Write nothing to the terminal."""


@contextmanager
def serve(server: AuthorizationServer) -> Iterator[Served]:
    """Serve on a free loopback port during the block, one request after the other."""
    served = Served(server, "")
    http_server = make_server("127.0.0.1", 0, served.watch, _Server, _QuietHandler)
    served.root = f"http://127.0.0.1:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield served
    finally:
        http_server.shutdown()
        thread.join()
        http_server.server_close()
