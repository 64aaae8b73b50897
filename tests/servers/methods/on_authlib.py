"""Authlib's server, with Flask, with JWT client authentication (RFC 7523) and metadata (RFC 8414).

Required settings:

- The method of a client with an assertion is called ``client_assertion_jwt``, whether the secret
  or a private key has signed it. So the program decides, by the key that it returns.
- Authlib does not compare the ``client_id`` of the form with that of the assertion.
- The audiences: the issuer and the token endpoint.
- The program itself refuses a replayed ``jti``.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from flask import Flask, Response, jsonify
from joserfc.jwk import KeySet, OctKey

from .peers import LIFETIME, SCOPE

if TYPE_CHECKING:
    from tests.servers.serving import Served

METHODS = ("client_secret_post", "client_secret_basic", "client_secret_jwt", "private_key_jwt")
_ASSERTION: str = JWTBearerClientAssertion.CLIENT_AUTH_METHOD
_AUTHLIBS_METHODS = ("client_secret_basic", "client_secret_post", _ASSERTION)


class _Client(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, client_id: str, metadata: dict[str, Any]) -> None:
        self.client_id = client_id
        self.metadata = metadata

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str | None:
        return SCOPE if scope == SCOPE else None

    def check_client_secret(self, client_secret: str) -> bool:
        registered: str | None = self.metadata.get("client_secret")
        return client_secret == registered

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        registered: str = self.metadata["token_endpoint_auth_method"]
        return method == (_ASSERTION if registered.endswith("_jwt") else registered)

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Token(TokenMixin):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, server: AuthlibServer, client_id: str, token: dict[str, Any]) -> None:
        self._server = server
        self._client_id = client_id
        self._scope: str = token["scope"]
        self._expires_at: float = server.now + token["expires_in"]
        self.revoked = False

    def check_client(self, client: _Client) -> bool:
        return client.client_id == self._client_id

    def get_scope(self) -> str:
        return self._scope

    def is_expired(self) -> bool:
        return self._server.now >= self._expires_at

    def is_revoked(self) -> bool:
        return self.revoked


class AuthlibServer:
    """Authlib's server, with clients and tokens in memory.

    Attributes:
        now: the time by which tokens expire.
        served: the server on its socket; set while it runs.
    """

    name = f"Authlib {version('authlib')} on Flask {version('flask')}"
    token_path = "/oauth/token"
    revoke_path = "/oauth/revoke"
    served: Served

    def __init__(self) -> None:
        os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
        self.now = 0.0
        self._clients: dict[str, _Client] = {}
        self._tokens: dict[str, _Token] = {}
        self._used: set[str] = set()
        self.app = self._make_app()

    @property
    def issuer(self) -> str:
        """The issuer identifier."""
        return self.served.root

    def root_for(self, method: str) -> str:
        """Return the root URL."""
        return self.served.root

    def register(self, client_id: str, metadata: dict[str, Any]) -> None:
        """Register a client, or replace it."""
        self._clients[client_id] = _Client(client_id, metadata)

    def move_clock(self, seconds: float) -> None:
        """Move the clock by which tokens expire."""
        self.now += seconds

    def answers(self) -> list[tuple[str, int]]:
        """Return path and status of each answer."""
        return self.served.answers

    def reset(self) -> None:
        """Forget the answers."""
        self.served.answers.clear()

    def _metadata(self) -> dict[str, Any]:
        metadata = AuthorizationServerMetadata(
            issuer=self.issuer,
            token_endpoint=self.issuer + self.token_path,
            token_endpoint_auth_methods_supported=list(METHODS),
            token_endpoint_auth_signing_alg_values_supported=["HS256", "ES256", "RS256"],
            revocation_endpoint=self.issuer + self.revoke_path,
            grant_types_supported=["client_credentials"],
            response_types_supported=["none"],
            scopes_supported=[SCOPE],
        )
        metadata.validate()
        return dict(metadata)

    def _make_app(self) -> Flask:
        server, clients, tokens, used = self, self._clients, self._tokens, self._used
        app = Flask(__name__)
        app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": int(LIFETIME)}
        app.config["OAUTH2_SCOPES_SUPPORTED"] = [SCOPE]

        def save_token(token: dict[str, Any], request: Any) -> None:
            tokens[token["access_token"]] = _Token(self, request.client.client_id, token)

        class Grant(ClientCredentialsGrant):  # type: ignore[misc]  # Authlib has no types
            TOKEN_ENDPOINT_AUTH_METHODS = _AUTHLIBS_METHODS

        class Assertion(JWTBearerClientAssertion):  # type: ignore[misc]  # as above
            def get_audiences(self) -> list[str]:
                return [server.issuer, server.issuer + server.token_path]

            def validate_jti(self, claims: dict[str, Any], jti: str) -> bool:
                is_new = jti not in used
                used.add(jti)
                return is_new

            def resolve_client_public_key(self, client: _Client) -> KeySet | OctKey:
                if client.metadata["token_endpoint_auth_method"] == "private_key_jwt":
                    return KeySet.import_key_set(client.metadata["jwks"])
                return OctKey.import_key(client.metadata["client_secret"])

        class Revocation(RevocationEndpoint):  # type: ignore[misc]  # as above
            CLIENT_AUTH_METHODS = _AUTHLIBS_METHODS

            def query_token(self, token_string: str, token_type_hint: str) -> _Token | None:
                return tokens.get(token_string)

            def revoke_token(self, token: _Token, request: object) -> None:
                token.revoked = True

        class Validator(BearerTokenValidator):  # type: ignore[misc]  # as above
            def authenticate_token(self, token_string: str) -> _Token | None:
                return tokens.get(token_string)

        authorization = AuthorizationServer(app, clients.get, save_token)
        authorization.register_client_auth_method(_ASSERTION, Assertion())
        authorization.register_grant(Grant)
        authorization.register_endpoint(Revocation)
        protector = ResourceProtector()
        protector.register_token_validator(Validator())

        @app.get("/.well-known/oauth-authorization-server")
        def metadata() -> Response:
            return jsonify(self._metadata())

        @app.post(self.token_path)
        def issue() -> Response:
            answer: Response = authorization.create_token_response()
            return answer

        @app.post(self.revoke_path)
        def revoke() -> Response:
            answer: Response = authorization.create_endpoint_response("revocation")
            return answer

        @app.get("/files")
        @protector(SCOPE)  # type: ignore[untyped-decorator]  # Authlib has no types
        def files() -> str:
            return "files"

        return app
