"""`TokenServer`: a token endpoint that behaves like Box, for tests.

The behaviour follows Box's API description and reports of its users. Where those say
nothing, the order of the checks follows the OAuth servers that use the same error texts.
The server validates tokens against its own records, on Trio's clock.
"""

from __future__ import annotations

import json
import math
import random
import string
import time
from collections import Counter, deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import attrs
import httpx
import trio

from .._config import Config
from .._secrets import HIDDEN
from ._answers import Answer, RefusedError, json_answer
from ._client_auth import DEFAULT_METHODS, ON_SOCKET, Attempt, Authenticator, checked_methods
from ._clients import CLIENT_CREDENTIALS, TOKEN_EXCHANGE, Client
from ._faults import NO_FAULT, Fault, FaultPlan
from ._problems import ClientRefusedError
from ._records import IssuedToken, Presented, SeenRequest, Verdict
from ._requests import Receive, Scope, Send, read_body, read_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

SCOPE_LIMIT = 4096
"""Bytes. A longer scope is refused, because each issued token stores its scope."""
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
_GRANT_TYPES = frozenset({CLIENT_CREDENTIALS, "authorization_code", "refresh_token", "password"})
_MASKED = frozenset(
    {
        "client_secret",
        "client_assertion",
        "token",
        "subject_token",
        "actor_token",
        "assertion",
        "refresh_token",
    }
)
_ALPHANUMERICS = string.ascii_letters + string.digits

_Endpoint = Literal["token", "revoke", "resource"]


class TokenServer:
    """An ASGI app that grants, revokes and checks tokens as Box does.

    In process and in virtual time, use it with ``httpx.ASGITransport``, as
    :func:`open_test_session` does. Use :func:`open_loopback` for a loopback socket.

    Paths: ``/oauth2/token``, ``/oauth2/revoke``, and a protected resource at every path
    under ``/2.0/``. ``/2.0/forbidden`` answers 401 to a valid token, as for a missing permission.

    Args:
        faults: faults of the server. You can replace them at any time; the new plan starts
            at its first fault.
        clients: registered clients.
        lifetime: lifetime of tokens in seconds; by default random from 3600 to 4250, as at Box.
        resource_latency: seconds until the protected resource answers.
        auth_methods: the allowed authentication methods, by their names in RFC 8414. By default
            ``client_secret_post``, as at Box, ``private_key_jwt`` for a client that has keys or
            assertions, and ``tls_client_auth`` for a client that has a certificate. The server
            also knows ``client_secret_basic`` and ``client_secret_jwt``.
        revoke_unknown: status of the response to the revocation of an unknown token: 200
            (RFC 7009 §2.2), or 400 with ``invalid_token``.
        reuses_tokens: answer a token request with the client's valid token and its remaining
            lifetime, if there is one.
        single_token: a new token revokes the client's older ones.
        issuer: the server's issuer identifier (RFC 8414). The audience of an assertion must be
            this issuer or the URL of the token endpoint.
        seed: seed of random tokens and lifetimes.
        keep: number of requests, and of presented tokens, that are kept; None keeps all.
        keep_tokens: number of issued tokens that are kept; by default ``keep``. Older tokens
            become unknown.

    An assertion that a client signs must have the client id as ``iss`` and ``sub``, and an ``aud``
    that is the issuer or the URL of the token endpoint. Its ``exp`` must be at most five minutes
    ahead, and ``iat`` and ``nbf`` at most one minute. Its ``jti`` must be new. These times are on
    the wall clock, in virtual time too. If a check fails, the server answers 401 with
    ``invalid_client``, and ``error_description`` names the check. Needs the extra ``jwt``.

    A request body may have 64 KiB. A larger one is answered with 413 and is not kept.

    Attributes:
        requests: recorded requests to the token and revocation endpoints.
        presented: recorded requests to the protected resource, with verdicts.
        tokens: all issued tokens.
        grants: number of tokens issued, counting each reuse.
        revocations: number of tokens revoked by their client.
        in_flight: number of token requests in progress.
        most_in_flight: maximum of ``in_flight``.
        verdicts: number of times that each verdict was given.
    """

    def __init__(
        self,
        faults: FaultPlan | None = None,
        *,
        clients: Iterable[Client] = (Client(),),
        lifetime: float | None = None,
        resource_latency: float = 0.0,
        auth_methods: Iterable[str] = DEFAULT_METHODS,
        revoke_unknown: Literal[200, 400] = 200,
        reuses_tokens: bool = False,
        single_token: bool = False,
        issuer: str | None = None,
        seed: int = 0,
        keep: int | None = None,
        keep_tokens: int | None = None,
    ) -> None:
        if faults is not None and not isinstance(faults, FaultPlan):
            raise TypeError(f"faults must be a FaultPlan or None, not {type(faults).__name__}")
        if lifetime is not None and (isinstance(lifetime, str) or not lifetime >= 0):
            raise ValueError(f"lifetime must be a number of seconds ≥ 0, got {lifetime!r}")
        self.faults = faults or FaultPlan()
        self.clients = {client.client_id: client for client in clients}
        self.lifetime = lifetime
        self.resource_latency = resource_latency
        self.auth_methods = checked_methods(auth_methods)
        self.revoke_unknown = revoke_unknown
        self.reuses_tokens = reuses_tokens
        self.single_token = single_token
        self.issuer = issuer
        self.requests: deque[SeenRequest] = deque(maxlen=keep)
        self.presented: deque[Presented] = deque(maxlen=keep)
        self.tokens: dict[str, IssuedToken] = {}
        self.grants = 0
        self.revocations = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.verdicts: Counter[Verdict] = Counter()
        self._keep_tokens = keep if keep_tokens is None else keep_tokens
        self._random = random.Random(seed)
        self._date_offset: float | None = None
        self._authenticator = Authenticator()

    @property
    def faults(self) -> FaultPlan:
        """The faults of the server."""
        return self._faults

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._faults = plan
        self._counts: Counter[_Endpoint] = Counter()

    def config(self, root_url: str = "http://localhost", **changes: Any) -> Config:
        """Return a config for the first client, with its secret if it has one.

        For a client without a secret, set ``auth_method`` to an object, such as a
        ``PrivateKeyJWT``. The config has no secret then.

        Args:
            root_url: root URL of the server.
            **changes: other settings.
        """
        client = next(iter(self.clients.values()))
        settings: dict[str, Any] = {
            "client_id": client.client_id,
            "api_root_url": root_url,
            "issuer": self.issuer,
        }
        if client.client_secret is not None and isinstance(changes.get("auth_method", ""), str):
            settings["client_secret"] = client.client_secret
        return Config(**(settings | changes))

    def live_tokens(self) -> list[IssuedToken]:
        """Return the tokens that are valid now."""
        now = trio.current_time()
        return [token for token in self.tokens.values() if token.verdict_at(now) == "good"]

    def token_requests(self) -> list[SeenRequest]:
        """Return the recorded requests to the token endpoint."""
        return [request for request in self.requests if request.path == "/oauth2/token"]

    def revoke_requests(self) -> list[SeenRequest]:
        """Return the recorded requests to the revocation endpoint."""
        return [request for request in self.requests if request.path == "/oauth2/revoke"]

    def revoke(self, access_token: str) -> None:
        """Revoke a token at the server, as an administrator would."""
        self.tokens[access_token].revoked_at = trio.current_time()

    def revoke_all(self) -> None:
        """Revoke all tokens at the server."""
        for token in self.live_tokens():
            self.revoke(token.access_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"the ASGI scope type must be 'http', got {scope['type']!r}")
        # The body is read first, because an unread request leaves a generator open.
        body = await read_body(receive)
        path: str = scope["path"]
        if path == "/oauth2/token":
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                await self._answer("token", scope, body, send)
            finally:
                self.in_flight -= 1
        elif path == "/oauth2/revoke":
            await self._answer("revoke", scope, body, send)
        elif path.startswith("/2.0/"):
            await self._answer("resource", scope, body, send)
        else:
            await self._send(Answer(404 if body is not None else 413), NO_FAULT, scope, send)

    async def _answer(
        self, endpoint: _Endpoint, scope: Scope, body: bytes | None, send: Send
    ) -> None:
        fault = self._faults.fault_of(endpoint, self._counts[endpoint])
        self._counts[endpoint] += 1
        headers = httpx.Headers(scope["headers"])
        delay = fault.delay
        if endpoint == "resource":
            delay += self.resource_latency
            answer = _replaced(fault) or self._look_up(scope["path"], headers)
            if body is None and not fault.replaces_answer:
                answer = Answer(413)
        else:
            answer = self._judge(endpoint, scope, headers, body, fault)
        await trio.sleep(delay)
        await self._send(answer, fault, scope, send)

    def _judge(
        self,
        endpoint: Literal["token", "revoke"],
        scope: Scope,
        headers: httpx.Headers,
        body: bytes | None,
        fault: Fault,
    ) -> Answer:
        fields = parse_qsl((body or b"").decode("latin-1"), keep_blank_values=True)
        fields = [(name, value) for name, value in fields if value]
        self.requests.append(
            SeenRequest(
                at=trio.current_time(),
                path=scope["path"],
                fields=tuple((n, HIDDEN if n in _MASKED else v) for n, v in fields),
                headers=headers,
                query=scope["query_string"].decode("latin-1"),
            )
        )
        if scope["method"] != "POST":
            return Answer(405, headers=(("Allow", "POST"),))
        replaced = _replaced(fault)
        if replaced is not None:
            return replaced
        try:
            form = read_form(headers, body)
            attempt = Attempt(form, headers, scope)
            if endpoint == "token":
                return self._grant(attempt, fault)
            return self._revoke(attempt)
        except RefusedError as refused:
            return refused.answer

    def _grant(self, attempt: Attempt, fault: Fault) -> Answer:
        form = attempt.form
        grant_type = form.get("grant_type", "")
        if grant_type not in _GRANT_TYPES and not _has(grant_type, "scheme"):
            raise RefusedError(
                "invalid_request", "Invalid grant_type parameter or parameter missing"
            )
        client = self._authenticate(attempt)
        if grant_type not in client.grants:
            raise RefusedError(
                "unauthorized_client", "The grant type is unauthorized for this client_id"
            )
        if grant_type == TOKEN_EXCHANGE:
            return self._exchange(form, client)
        self._check_subject(form, client)
        scope = form.get("scope")
        if client.scopes is not None and scope and not client.scopes.issuperset(scope.split()):
            raise RefusedError("invalid_scope", "An unsupported scope was requested.")
        _check_length(scope)
        lifetime = fault.lifetime if fault.lifetime is not None else self.lifetime
        if lifetime is None:
            lifetime = float(self._random.randint(3600, 4250))
        now = trio.current_time()
        token = self._issue(client, now, lifetime, _granted(scope, client))
        # For a reused token, send the remaining lifetime in whole seconds.
        left = token.lifetime if token.issued_at == now else math.floor(token.left_at(now))
        fields: dict[str, Any] = {
            "access_token": token.access_token,
            "expires_in": int(left) if left == int(left) else left,
            "restricted_to": [],
            "token_type": "bearer",
        }
        if token.scope is not None and token.scope != scope:
            fields["scope"] = token.scope
        return _with_fields(json_answer(fields), fault)

    def _authenticate(self, attempt: Attempt) -> Client:
        return self._authenticator.authenticate(
            attempt, self.clients, self.auth_methods, self.issuer
        )

    def _check_subject(self, form: Mapping[str, str], client: Client) -> None:
        subject_type = form.get("box_subject_type")
        subject_id = form.get("box_subject_id")
        if subject_type is None and subject_id is None:
            return
        if subject_type not in client.subject_types:
            raise RefusedError(
                "unauthorized_client",
                'The "box_subject_type" value is unauthorized for this client_id',
            )
        if subject_id is None or (
            client.subject_ids is not None and subject_id not in client.subject_ids
        ):
            raise RefusedError("invalid_grant", "Grant credentials are invalid")

    def _issue(self, client: Client, now: float, lifetime: float, scope: str | None) -> IssuedToken:
        self.grants += 1
        if self.reuses_tokens or self.single_token:
            mine = [token for token in self.live_tokens() if token.client_id == client.client_id]
            # A token with less than a second left would have expires_in 0.
            alive = [t for t in mine if t.left_at(now) >= 1 and not t.is_downscoped]
            if self.reuses_tokens and alive:
                return alive[-1]
            for token in mine if self.single_token else ():
                token.revoked_at = now
        text = "".join(self._random.choices(_ALPHANUMERICS, k=32))
        return self._enter(IssuedToken(text, client.client_id, now, lifetime, scope))

    def _enter(self, token: IssuedToken) -> IssuedToken:
        self.tokens[token.access_token] = token
        if self._keep_tokens is not None and len(self.tokens) > self._keep_tokens:
            del self.tokens[next(iter(self.tokens))]
        return token

    def _exchange(self, form: Mapping[str, str], client: Client) -> Answer:
        now = trio.current_time()
        parent = self.tokens.get(form.get("subject_token", ""))
        if form.get("subject_token_type") != ACCESS_TOKEN_TYPE:
            raise RefusedError("invalid_request", "The subject_token_type is invalid")
        if parent is None or parent.verdict_at(now) != "good":
            raise RefusedError("invalid_grant", "The subject token is invalid")
        resource = form.get("resource")
        if resource is not None and not _has(resource, "netloc"):
            raise RefusedError("invalid_resource", "The target resource is invalid.")
        left = parent.left_at(now)
        text = "1!" + "".join(self._random.choices(_ALPHANUMERICS, k=96))
        scope = form.get("scope")
        _check_length(scope)
        granted = _granted(scope, client) if scope else scope
        self.grants += 1
        self._enter(IssuedToken(text, client.client_id, now, left, granted, is_downscoped=True))
        path, _, item_id = (resource or "").rpartition("/")
        item = {"type": "folder" if path.endswith("/folders") else "file", "id": item_id}
        fields: dict[str, Any] = {
            "access_token": text,
            "expires_in": int(left),
            "token_type": "bearer",
            "issued_token_type": ACCESS_TOKEN_TYPE,
            "restricted_to": [
                {"scope": word, "object": item} for word in (granted or "").split() if resource
            ],
        }
        if granted != scope:
            fields["scope"] = granted
        return json_answer(fields)

    def _revoke(self, attempt: Attempt) -> Answer:
        form = attempt.form
        try:
            client = self._authenticate(attempt)
        except ClientRefusedError:
            raise
        except RefusedError:
            raise RefusedError("invalid_request", "The client is invalid") from None
        token = self.tokens.get(form.get("token", ""))
        now = trio.current_time()
        is_mine = token is not None and token.client_id == client.client_id
        if token is None or token.verdict_at(now) != "good" or not is_mine:
            # RFC 7009 §2.1: a client cannot revoke the token of another client.
            if self.revoke_unknown == 400 or (token is not None and not is_mine):
                raise RefusedError("invalid_token", "The supplied token is invalid")
            return Answer(200)
        token.revoked_at = now
        self.revocations += 1
        return Answer(200)

    def _look_up(self, path: str, headers: httpx.Headers) -> Answer:
        header = headers.get("Authorization")
        scheme, _, text = (header or "").partition(" ")
        now = trio.current_time()
        token = self.tokens.get(text)
        verdict: Verdict
        if header is None:
            verdict = "missing"
        elif scheme.lower() != "bearer" or not text:
            verdict = "malformed"
        else:
            verdict = token.verdict_at(now) if token is not None else "unknown"
        self.presented.append(Presented(now, verdict, text or None))
        self.verdicts[verdict] += 1
        realm = 'Bearer realm="Service"'
        if verdict == "good":
            if path == "/2.0/forbidden":
                error = {"type": "error", "status": 401, "code": "unauthorized"}
                return Answer(
                    401,
                    json.dumps(error).encode(),
                    (("Content-Type", "application/json"), ("WWW-Authenticate", realm)),
                )
            item = {"type": "file", "id": path.rpartition("/")[2]}
            return Answer(200, json.dumps(item).encode(), (("Content-Type", "application/json"),))
        if verdict == "missing":
            return Answer(401, headers=(("WWW-Authenticate", realm),))
        if verdict == "malformed":
            realm += ', error="invalid_request", error_description="Malformed auth header"'
            return Answer(400, headers=(("WWW-Authenticate", realm),))
        realm += (
            ', error="invalid_token", error_description="The access token provided is invalid."'
        )
        return Answer(401, headers=(("WWW-Authenticate", realm),))

    async def _send(self, answer: Answer, fault: Fault, scope: Scope, send: Send) -> None:
        on_socket = scope.get(ON_SOCKET, False)
        if fault.cut == "before_headers":
            if on_socket:
                return
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        body = fault.prefix + answer.body
        headers = httpx.Headers({"Date": self._date(), "Content-Length": str(len(body))})
        headers.update(answer.headers)
        for name, value in fault.headers:
            headers[name] = value
        if fault.keep is not None:
            body = body[: fault.keep]
            headers["Content-Length"] = str(len(body))
        if fault.cut == "after_headers" and not on_socket:
            raise httpx.RemoteProtocolError("peer closed connection without complete body")
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(n.lower().encode(), v.encode()) for n, v in headers.items()],
            }
        )
        half = len(body) // 2
        if fault.cut == "after_headers":
            # Fewer bytes than Content-Length, after which the server closes the connection.
            await send(_body(body[:half], more=True))
            return
        if fault.stall:
            await send(_body(body[:half], more=True))
            await trio.sleep(fault.stall)
            body = body[half:]
        await send(_body(body, more=False))

    def _date(self) -> str:
        # The wall clock at the first response, moved by virtual time.
        now = trio.current_time()
        if self._date_offset is None:
            self._date_offset = time.time() - now
        return formatdate(self._date_offset + now, usegmt=True)


def _body(body: bytes, *, more: bool) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _has(url: str, part: Literal["scheme", "netloc"]) -> bool:
    # urlsplit() raises ValueError for unbalanced brackets.
    try:
        return bool(getattr(urlsplit(url), part))
    except ValueError:
        return False


def _replaced(fault: Fault) -> Answer | None:
    if not fault.replaces_answer:
        return None
    given = json_answer({})
    return Answer(fault.status or 200, fault.body if fault.body is not None else b"", given.headers)


def _with_fields(answer: Answer, fault: Fault) -> Answer:
    """Return a JSON answer with fields replaced by raw JSON text."""
    if not fault.fields:
        return answer
    texts = {name: json.dumps(value) for name, value in json.loads(answer.body).items()}
    for name, text in fault.fields.items():
        if text is None:
            texts.pop(name, None)
        else:
            texts[name] = text
    pairs = ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items())
    return attrs.evolve(answer, body=f"{{{pairs}}}".encode())


def _granted(scope: str | None, client: Client) -> str | None:
    """Return the scope that a client gets when it requests this one."""
    if client.granted_scopes is None:
        return scope
    if not scope:
        # RFC 6749 §3.3: without a requested scope, the server grants its default.
        return " ".join(sorted(client.granted_scopes)) or None
    words = [word for word in scope.split() if word in client.granted_scopes]
    if not words:
        raise RefusedError("invalid_scope", "An unsupported scope was requested.")
    return " ".join(words)


def _check_length(scope: str | None) -> None:
    if scope is not None and len(scope.encode(errors="replace")) > SCOPE_LIMIT:
        raise RefusedError("invalid_scope", "The scope is too long.")


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
