"""Authlib's server, with Flask.

Required settings:

- Authlib refuses plain http unless ``AUTHLIB_INSECURE_TRANSPORT`` is in the environment.
- A lifetime of 60 seconds; by default, it is ten days for client credentials.
- The grant must list ``client_secret_basic`` and ``client_secret_post``. Otherwise Authlib refuses
  the latter. The revocation endpoint allows both by default.
- The program stores clients and tokens, here in two dicts. The token object decides whether it has
  expired, so the tests can move its clock.

A protected resource answers 401: with ``error="invalid_token"`` for an invalid token, and with
``error="missing_authorization"``, which is in no RFC, for a missing one.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from flask import Flask, Response

from .serving import LIFETIME, SCOPES


class _Client(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id = client_id
        self._secret = client_secret

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str | None:
        # Return None for a scope that is not allowed.
        wanted = (scope or SCOPES[0]).split()
        return " ".join(wanted) if set(wanted) <= set(SCOPES) else None

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self._secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Token(TokenMixin):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, server: AuthlibServer, client: _Client, scope: str, life: float) -> None:
        self._server = server
        self._client = client
        self._scope = scope
        self._expires_at = server.now + life
        self.revoked = False

    def check_client(self, client: _Client) -> bool:
        return client is self._client

    def get_scope(self) -> str:
        return self._scope

    def is_expired(self) -> bool:
        return self._server.now >= self._expires_at

    def is_revoked(self) -> bool:
        return self.revoked


class AuthlibServer:
    """Authlib's server, with clients and tokens in memory."""

    name = f"Authlib {version('authlib')} on Flask {version('flask')}"
    token_path = "/oauth/token"
    revoke_path = "/oauth/revoke"
    resource_path = "/files"
    default_path = resource_path
    default_refusal = 401
    # Authlib decodes only percent-encoding, although RFC 6749 §2.3.1 requires form-encoding.
    plus_is_a_space = False

    def __init__(self) -> None:
        os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
        self.now = 0.0
        self._clients: dict[str, _Client] = {}
        self._tokens: dict[str, _Token] = {}
        self.app = self._make_app()

    def register(self, client_id: str, client_secret: str) -> None:
        """Register a client."""
        self._clients[client_id] = _Client(client_id, client_secret)

    def let_time_pass(self, seconds: float) -> None:
        """Move the clock by which tokens expire."""
        self.now += seconds

    def end_tokens(self) -> None:
        """Revoke all tokens."""
        for token in self._tokens.values():
            token.revoked = True

    def _make_app(self) -> Flask:
        app = Flask(__name__)
        app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": int(LIFETIME)}
        app.config["OAUTH2_SCOPES_SUPPORTED"] = list(SCOPES)
        clients, tokens = self._clients, self._tokens

        def save_token(token: dict[str, Any], request: Any) -> None:
            tokens[token["access_token"]] = _Token(
                self, request.client, token["scope"], token["expires_in"]
            )

        class Grant(ClientCredentialsGrant):  # type: ignore[misc]  # Authlib has no types
            TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

        class Revocation(RevocationEndpoint):  # type: ignore[misc]  # Authlib has no types
            CLIENT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

            def query_token(self, token_string: str, token_type_hint: str) -> _Token | None:
                return tokens.get(token_string)

            def revoke_token(self, token: _Token, request: object) -> None:
                token.revoked = True

        class Validator(BearerTokenValidator):  # type: ignore[misc]  # Authlib has no types
            def authenticate_token(self, token_string: str) -> _Token | None:
                return tokens.get(token_string)

        authorization = AuthorizationServer(app, clients.get, save_token)
        authorization.register_grant(Grant)
        authorization.register_endpoint(Revocation)
        protector = ResourceProtector()
        protector.register_token_validator(Validator())

        @app.post(self.token_path)
        def issue() -> Response:
            answer: Response = authorization.create_token_response()
            return answer

        @app.post(self.revoke_path)
        def revoke() -> Response:
            answer: Response = authorization.create_endpoint_response("revocation")
            return answer

        @app.route(self.resource_path, methods=["GET", "POST"])
        @protector("files")  # type: ignore[untyped-decorator]  # Authlib has no types
        def files() -> str:
            return "files"

        return app
