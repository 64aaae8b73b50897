"""Promises 21 and 22: nothing is shown, and nothing is sent where it does not belong."""

from __future__ import annotations

import base64
import copy
import io
import logging
import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import httpx
import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import run_virtually, traceback_with_locals
from tests.http.kit import auth_of
from trio_anon_session import (
    AnonymousSession,
    ConfigError,
    TokenManager,
    TokenRequestError,
)
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from types import ModuleType

SECRETS = st.one_of(
    st.sampled_from(["s3cr3t'\"quoted", "pässwörd-ünïcode", "100%25 sure+thing", "x" * 500]),
    # Marked, so that none is a word that stands in messages anyway.
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map("9z{}§7".format),
)
KINDS = st.sampled_from(["raw", "quoted", "plus", "lower", "basic", "html", "hang", "cut", "json"])


def _spellings(secret: str) -> set[str]:
    basic = base64.b64encode(f"test-client:{secret}".encode()).decode()
    strict = base64.b64encode(
        f"{quote('test-client', safe='')}:{quote(secret, safe='')}".encode()
    ).decode()
    return {secret, quote(secret, safe=""), quote_plus(secret), basic, strict}


def _echo(kind: str, secret: str) -> Fault:
    said = {
        "raw": secret,
        "quoted": quote(secret, safe=""),
        "plus": quote_plus(secret),
        "lower": quote(secret, safe="").lower(),
        "basic": base64.b64encode(f"test-client:{secret}".encode()).decode(),
    }
    if kind in said:
        return Fault.refusal("invalid_client", f"form was client_secret={said[kind]} (bad)")
    return {
        "html": Fault(status=500, body=f"<html>{secret}</html>".encode()),
        "hang": Fault.hang(),
        "cut": Fault(cut="after_headers"),
        "json": Fault(body=b'{"error":"' + secret.encode(errors="replace")),
    }[kind]


def _everything_about(error: BaseException) -> str:
    """Return all that an error can show: itself, its chain, its tracebacks with locals."""
    seen: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        seen += [str(one), repr(one), repr(vars(one)), repr(one.args)]
        seen += traceback_with_locals(one)
        todo += [one.__cause__, one.__context__]
    return "\n".join(seen)


# 21


@given(secret=SECRETS, kind=KINDS)
def test_promise_21_no_secret_in_anything_shown(secret: str, kind: str) -> None:
    """Servers that echo the form, faults of all kinds: nothing of ours shows the secret."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    loggers = [logging.getLogger(name) for name in ("trio_anon_session", "httpx", "httpcore")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    shown: list[str] = []

    async def main() -> None:
        server = TokenServer(
            FaultPlan(token=[_echo(kind, secret)], revoke_then=_echo(kind, secret)),
            clients=[Client(client_secret=secret)],
        )
        config = server.config()
        shown.append(repr(config))
        async with open_test_session(
            server, observers=[lambda event: shown.append(repr(event))], max_retries=0
        ) as session:
            try:
                await session.get_access_token()
            except TokenRequestError as error:
                shown.append(_everything_about(error))
            await trio.sleep(60.0)
            token = await session.exchange_token("x")
            shown.append(repr(token))
            shown.append(repr(session) + repr(session.statistics()) + repr(session.auth()))
            try:
                await session.revoke_tokens()
            except TokenRequestError as error:
                shown.append(_everything_about(error))
            shown.append(repr(session.statistics()) + repr(server.requests))
            assert token.access_token not in "\n".join([*shown, log.getvalue()])

    try:
        run_virtually(main)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
    everything = "\n".join([*shown, log.getvalue()])
    for spelling in _spellings(secret):
        assert spelling not in everything


async def test_promise_21_headers_that_echo_the_secret_are_not_shown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What is quoted of an answer's headers is scrubbed like its body."""
    headers = {"Content-Type": "text/test-secret", "BOX-REQUEST-ID": "r-test-secret"}
    server = TokenServer(FaultPlan(token=[Fault(status=500, headers=headers, body=b"x")]))
    async with open_test_session(server, max_retries=0) as session:
        with pytest.raises(TokenRequestError, match=r"status 500, \*\*\*, 1 bytes") as caught:
            await session.get_access_token()
        assert caught.value.request_id == "***"
        assert "test-secret" not in _everything_about(caught.value)


async def test_promise_21_a_token_that_a_revocation_echoes_is_not_shown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that quotes the token in its refusal is not quoted."""
    server = TokenServer()
    async with open_test_session(server, max_retries=0) as session:
        token = await session.get_access_token()
        server.faults = FaultPlan(revoke_then=Fault.refusal("invalid_request", f"no {token} here"))
        with pytest.raises(TokenRequestError) as caught:
            await session.revoke_tokens()
        assert token not in _everything_about(caught.value)


@pytest.mark.parametrize("dump", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_promise_21_sessions_and_managers_refuse_to_pickle(
    autojump_clock: trio.testing.MockClock, dump: object
) -> None:
    """Sessions and managers refuse with a message; values refuse pickles, and copy as they are."""
    assert callable(dump)
    server = TokenServer()
    manager = TokenManager(server.config())
    async with open_test_session(server) as session:
        token = await session.exchange_token("x")
        for thing in (session, manager, session.auth(), auth_of(httpx2, session)):
            with pytest.raises(TypeError, match="cannot be pickled"):
                dump(thing)
        for value in (token, server.config()):
            if dump is pickle.dumps:
                with pytest.raises(TypeError, match="cannot be pickled"):
                    dump(value)
            else:
                assert dump(value) is value


async def test_promise_21_redirects_are_not_followed_and_cookies_not_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A token request goes to the token endpoint alone, and leaves no cookie in any client."""
    server = TokenServer(FaultPlan(token=[Fault.redirect("http://localhost/2.0/x", status=307)]))
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
        # A host for which the server's cookies are valid.
        config = server.config("https://api.box.com")
        async with TokenManager(config, http_client=client) as manager:
            with pytest.raises(TokenRequestError, match="redirects"):
                await manager.get_tokens_client_credentials_grant()
            await manager.get_tokens_client_credentials_grant()
        assert not client.cookies.jar
        await client.post(config.token_url)
        assert client.cookies.jar
    assert [request.path for request in server.requests] == ["/oauth2/token"] * 3
    assert not server.presented


async def test_promise_21_a_body_is_read_with_a_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """More than 1 MiB is not an answer."""
    server = TokenServer(FaultPlan(token=[Fault(body=b" " * (2**20 + 1))]))
    async with open_test_session(server, max_retries=0) as session:
        with pytest.raises(TokenRequestError, match="more than 1048576 bytes"):
            await session.get_access_token()


# 22


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/2.0/x",
        "http://localhost.evil.example/2.0/x",
        "http://localhost:81/2.0/x",
        "https://localhost/2.0/x",
        "http://localhost@evil.example/2.0/x",
        "http://evil.example/?http://localhost/",
        "http://localhost./2.0/x",
        "http://127.0.0.1/2.0/x",
        "http://upload.box.com/",
        "http://localhostile/",
    ],
)
async def test_promise_22_no_token_for_other_origins(
    http: ModuleType, autojump_clock: trio.testing.MockClock, url: str
) -> None:
    """Whatever looks like the allowed origin and is not gets the request without the token."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return http.Response(200)

    async with (
        open_test_session() as session,
        http.AsyncClient(
            transport=http.MockTransport(answer), auth=auth_of(http, session)
        ) as client,
    ):
        await client.get(url)
        assert "Authorization" not in seen[-1].headers or not seen[-1].headers[
            "Authorization"
        ].startswith("Bearer")
        for allowed in (
            "http://localhost/2.0/x",
            "http://LOCALHOST:80/",
            "https://upload.box.com/",
        ):
            await client.get(allowed)
            assert seen[-1].headers["Authorization"].startswith("Bearer ")


async def test_promise_22_origins_that_are_named_are_the_only_ones(
    http: ModuleType,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A list of origins stands in place of the default ones."""
    seen: list[str | None] = []

    def answer(request: Any) -> Any:
        seen.append(request.headers.get("Authorization"))
        return http.Response(200)

    async with (
        open_test_session() as session,
        http.AsyncClient(
            transport=http.MockTransport(answer),
            auth=auth_of(http, session, ["https://files.example:8443"]),
        ) as client,
    ):
        for url in (
            "https://files.example:8443/x",
            "https://files.example/x",
            "http://localhost/2.0/x",
            "https://upload.box.com/",
        ):
            await client.get(url)
    assert [header is not None for header in seen] == [True, False, False, False]


@pytest.mark.parametrize(
    "origin",
    [
        "http://api.box.com",
        "https://api.box.com/2.0",
        "api.box.com",
        "",
        "ftp://x",
        "http://localhostile",
        7,
    ],
)
async def test_promise_22_an_origin_that_is_none_is_refused(
    http: ModuleType, autojump_clock: trio.testing.MockClock, origin: str
) -> None:
    """Plain http is for loopback, and an origin has no path."""
    async with open_test_session() as session:
        with pytest.raises(ConfigError, match="origins"):
            auth_of(http, session, [origin])


def test_promise_22_a_session_needs_no_auth_to_be_made() -> None:
    """A session can be made, and looked at, outside of any run."""
    session = AnonymousSession(TokenServer().config())
    assert repr(session)
