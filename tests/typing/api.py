"""Every public name as a user's type checker sees it. Never run, only checked.

A line marked ``type: ignore`` is a wrong use that must be refused: the checkers complain
of a mark that is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import httpx
import httpx2
import trio
from box_sdk_gen import AccessToken, BoxClient, NetworkSession
from trio.testing import MockClock

import trio_anon_session as tas
from trio_anon_session import testing
from trio_anon_session.boxsdk import SessionAuthentication
from trio_anon_session.httpx2 import SessionAuth
from trio_anon_session.httpx2 import SessionThreadAuth as SessionThreadAuth2
from trio_anon_session.otel import OpenTelemetryObserver
from trio_anon_session.threads import SessionThread, SessionThreadAuth

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


def observe(event: tas.Event) -> None:
    match event:
        case tas.Granted(fingerprint=fingerprint, lifetime=lifetime):
            assert_type(fingerprint, str)
            assert_type(lifetime, float)
        case tas.RefreshFailed(retry_in=retry_in, status_code=status_code, kind=kind):
            assert_type(retry_in, float)
            assert_type(status_code, int | None)
            assert_type(kind, str)
            event.retry_in = 0.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        case tas.Revoked(error=error):
            assert_type(error, str | None)
        case tas.StateChanged(new=new):
            assert_type(new, tas.TokenState)
        case tas.Invalidated() | tas.Closed():
            pass


observer: tas.Observer = observe
telemetry: tas.Observer = OpenTelemetryObserver(attributes={"part": "uploads"})


def strategy(attempt: int, error: tas.TokenRequestError) -> float | None:
    assert_type(error.retry_after, float | None)
    assert_type(error.next_step, str | None)
    return None if error.status_code == 503 else attempt * 1.0


def make_config() -> tas.Config:
    config = tas.Config(client_id="id", client_secret="secret", retry_strategy=strategy)
    tas.Config("id", "secret")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    config.client_id = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(config.token_url, str)
    assert_type(config.stale_buffer, float)
    assert_type(config.replace(stale_buffer=1.0), tas.Config)
    assert_type(tas.Config.from_env({}), tas.Config)
    with_certificate = tas.MutualTLS("client.pem", Path("client.key"), "password")
    tas.Config(client_id="id", auth_method=with_certificate)
    httpx.AsyncClient(verify=with_certificate.ssl_context())
    tas.MutualTLS(b"client.pem")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(tas.Config.from_box_json("settings.json"), tas.Config)
    return config


def sign(signing_input: bytes) -> bytes:
    return signing_input


async def sign_later(signing_input: bytes) -> bytes:
    return signing_input


def make_keys() -> list[tas.PrivateKeyJWT]:
    tas.PrivateKeyJWT(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tas.PrivateKeyJWT.from_file("k.pem", lifetimes=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    keys = [
        tas.PrivateKeyJWT("pem", algorithm="ES256", key_id="k", audience="https://id.example"),
        tas.PrivateKeyJWT(b"pem", lifetime=30, clock_skew=5.0, password="p"),
        tas.PrivateKeyJWT(sign, headers={"typ": "JWT"}, claims={"nbf": 1, "list": ["a"]}),
        tas.PrivateKeyJWT(sign_later),
        tas.PrivateKeyJWT.from_file("k.pem", algorithm="PS256", password=b"p"),
    ]
    tas.Config(client_id="id", auth_method=keys[0], issuer="https://id.example")
    tas.Config(client_id="id", client_secret="s", auth_method="client_secret_jwt")
    tas.Config(client_id="id", auth_method="private_key_jwt")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return keys


async def ask_vault(request: tas.AssertionRequest) -> str:
    assert_type(request.attempt, int)
    assert_type(request.issuer, str | None)
    return f"{request.client_id} at {request.token_url}"


async def ask_keyring() -> str:
    return "secret"


def make_authentications() -> Iterable[tas.Config]:
    file = tas.SecretFile("secret.txt")
    for secret in (file, lambda: "secret", ask_keyring, lambda: ask_keyring()):
        yield tas.Config(client_id="id", client_secret=secret)
    tas.Config(client_id="id", client_secret=b"secret")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for method in (
        tas.AssertionFile("/var/run/secrets/token"),
        tas.AssertionFile(file.path),
        tas.Assertion(ask_vault),
        tas.Assertion(lambda request: request.client_id),
    ):
        yield tas.Config(client_id="id", auth_method=method)
    tas.AssertionFile(b"token")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tas.Assertion(ask_keyring)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class MyManager:
    async def get_tokens_client_credentials_grant(
        self, options: tas.TokenRequestOptions | None = None
    ) -> tas.TokenInfo:
        return tas.TokenInfo.from_answer("t", 3600.0, trio.current_time(), make_config())

    async def revoke_tokens(
        self, token: str, options: tas.TokenRequestOptions | None = None
    ) -> None: ...


source: tas.TokenSource = MyManager()


async def use_session() -> str:
    async with tas.AnonymousSession(make_config(), MyManager(), observers=[observe]) as session:
        assert_type(await session.get_access_token(), str)
        assert_type(await session.get_access_token(tas.TokenRequestOptions(ip="::1")), str)
        assert_type(session.get_access_token_nowait(), str)
        assert_type(await session.exchange_token("item_read", resource="https://x"), tas.TokenInfo)
        assert_type(await session.exchange_token(["item_read"]), tas.TokenInfo)
        await session.revoke_tokens()
        session.invalidate("token")
        session.invalidate(b"token")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(session.state, tas.TokenState)
        assert_type(session.token_info, tas.TokenInfo | None)
        assert_type(session.statistics(), tas.SessionStatistics)
        assert_type(session.statistics().expires_in, float | None)
        assert_type(session.states, tas.StateView)
        assert_type(await session.states.wait_value(tas.TokenState.FRESH), tas.TokenState)
        assert_type(
            session.states.transitions(), AsyncIterator[tuple[tas.TokenState, tas.TokenState]]
        )
        assert_type(session.auth(), tas.SessionAuth)
        assert_type(session.config, tas.Config)
        async with httpx.AsyncClient(auth=tas.SessionAuth(session, origins=["https://x"])):
            # A type checker accepts this return without another one after the block, because a
            # session swallows no exception.
            return await session.get_access_token()


async def discover_config() -> tas.Config:
    assert_type(tas.Config.from_env({}, prefix="ACME_"), tas.Config)
    tas.Config.from_env({}, "ACME_")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    config = await tas.Config.discover("https://id", client_id="id", client_secret="secret")
    assert_type(config, tas.Config)
    await tas.Config.discover("https://id")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with httpx.AsyncClient() as client:
        return await tas.Config.discover("https://id", client_id="id", http_client=client)


async def use_httpx2(session: tas.AnonymousSession) -> None:
    auth = SessionAuth(session, origins=["https://files.example"])
    SessionAuth(session, ["https://x"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with httpx2.AsyncClient(auth=auth) as client:
        await tas.Config.discover("https://id", client_id="id", http_client=client)
        tas.TokenManager(make_config(), http_client=client)
        tas.TokenManager(make_config(), http_client=httpx2.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(await client.get("https://files.example/a"), httpx2.Response)
        await client.get("https://x", auth=session.auth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await client.get("https://x", auth=SessionAuth(session))


def use_box_sdk() -> None:
    with SessionThread(make_config()) as session:
        auth = SessionAuthentication(session, replacement_interval=10)
        SessionAuthentication(session, 10.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert_type(auth.retrieve_authorization_header(), str)
        assert_type(auth.retrieve_token(), AccessToken)
        assert_type(auth.refresh_token(network_session=NetworkSession()), AccessToken)
        BoxClient(auth)


async def use_telemetry(meters: MeterProvider, tracers: TracerProvider) -> None:
    observer = OpenTelemetryObserver(meters, tracers)
    OpenTelemetryObserver(tracers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with tas.AnonymousSession(make_config(), observers=[observer, observe]) as session:
        observer.watch(session)


def open_manager(config: tas.Config) -> tas.TokenManager:
    return tas.TokenManager(config)


def use_threads() -> None:
    observers: Iterable[tas.Observer] = [observe]
    thread = SessionThread(make_config(), open_manager, observers=observers, name="session")
    with thread as session, httpx.Client(auth=session.auth(["https://a.example"], timeout=1.0)):
        assert_type(session, SessionThread)
        assert_type(session.get_access_token(timeout=1.0), str)
        session.invalidate("token")
        session.revoke_tokens(timeout=None)
        assert_type(session.state, tas.TokenState)
        assert_type(session.statistics(), tas.SessionStatistics)
        assert_type(session.config, tas.Config)
        assert_type(session.auth(), SessionThreadAuth)
        httpx2.Client(auth=SessionThreadAuth2(session, origins=None, timeout=None))
        httpx.Client(auth=SessionThreadAuth(session))
    SessionThread(make_config(), tas.TokenManager(make_config()))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SessionThreadAuth(tas.AnonymousSession(make_config()))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def use_manager(client: httpx.AsyncClient) -> bool:
    async with tas.TokenManager(make_config(), http_client=client) as manager:
        token = await manager.get_tokens_client_credentials_grant()
        await manager.revoke_tokens(token.access_token)
        return manager.is_access_token_valid(token, buffer=60.0)


def catch(error: tas.AnonymousSessionError) -> Iterable[str | None]:
    if isinstance(error, tas.ConfigError):
        assert_type(error.field, str)
        value_error: ValueError = error
        yield str(value_error)
    elif isinstance(error, tas.CredentialsRejectedError | tas.MalformedTokenResponseError):
        request_error: httpx.RequestError = error
        yield str(request_error)
    elif isinstance(error, tas.TokenUnavailableError | tas.RevocationError):
        yield error.request_id
    elif isinstance(error, tas.SessionClosedError):
        closed: trio.ClosedResourceError = error
        yield str(closed)


PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----"


async def use_testing() -> None:
    plan = testing.FaultPlan(token=[None, testing.Fault.hang()], token_then=testing.Fault())
    server = testing.TokenServer(plan, clients=[testing.Client()], lifetime=60.0)
    async with testing.open_test_session(server, stale_buffer=1.0) as session:
        assert_type(session, tas.AnonymousSession)
    async with testing.open_loopback(server, port=0, ssl_context=None) as url:
        assert_type(url, str)
    issuer = testing.TrustedIssuer("issuer", "subject", "audience", PUBLIC_KEY)
    client = testing.Client("app", keys={"1": PUBLIC_KEY}, assertions=[issuer, "text"])
    assert_type(client.client_secret, str | None)
    assert_type(testing.Client(keys=[PUBLIC_KEY], assertions=issuer), testing.Client)
    assert_type(testing.Fault.assertion_refused("audience"), testing.Fault)
    assert_type(server.live_tokens(), list[testing.IssuedToken])
    for request in server.requests:
        assert_type(request, testing.SeenRequest)
    for shown in server.presented:
        assert_type(shown, testing.Presented)


trio.run(use_session, clock=MockClock())
assert_type(tas.__version__, str)
