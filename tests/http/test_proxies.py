"""Tests of the manager's own client behind a proxy: where secrets go, and what errors show."""

from __future__ import annotations

import base64
import logging
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import attrs
import pytest
import trio
import trustme

from tests.helpers import traceback_with_locals
from tests.ports import closed_port
from tests.wire import Request, answer, listening, open_peer, read_request
from trio_anon_session import Config, TokenManager, TokenRequestError, TokenUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SECRET = "cl13nt-s3cr3t"
FORM = f"grant_type=client_credentials&client_id=id&client_secret={SECRET}".encode()
HOST = "api.example"
"""Only the proxy can resolve this host."""
CERTIFIED = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
AUTHORITY = trustme.CA(organization_name="tests", organization_unit_name="authority")
AUTHORITY.issue_cert(HOST, "127.0.0.1").configure_cert(CERTIFIED)


@attrs.define
class Proxy:
    """A forward proxy on loopback, which resolves every host to loopback.

    Attributes:
        port: its port.
        refusal: the answer to every request; None to forward requests.
        requests: the received requests.
        tunnelled: all bytes from the client through tunnels.
    """

    port: int
    refusal: bytes | None = None
    requests: list[Request] = attrs.field(factory=list)
    tunnelled: bytearray = attrs.field(factory=bytearray)

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve a connection."""
        async with stream:
            request = await read_request(stream)
            if request is None:
                return
            self.requests.append(request)
            if self.refusal is not None:
                await stream.send_all(self.refusal)
                return
            is_tunnel = request.method == "CONNECT"
            url = urlsplit(f"//{request.target}" if is_tunnel else request.target)
            assert url.port is not None
            async with await trio.open_tcp_stream("127.0.0.1", url.port) as other:
                if is_tunnel:
                    await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    first = f"{request.method} {url.path} HTTP/1.1\r\n".encode()
                    await other.send_all(first + request.raw.partition(b"\r\n")[2])
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, other, stream, None)
                    await self._copy(stream, other, self.tunnelled)
                    nursery.cancel_scope.cancel()

    async def _copy(
        self, source: trio.SocketStream, target: trio.SocketStream, kept: bytearray | None
    ) -> None:
        async for chunk in source:
            if kept is not None:
                kept += chunk
            await target.send_all(chunk)
        await target.send_eof()


@asynccontextmanager
async def open_proxy() -> AsyncIterator[Proxy]:
    """Open a proxy."""

    async def serve(stream: trio.SocketStream) -> None:
        await proxy.serve(stream)

    async with listening(serve) as port:
        proxy = Proxy(port)
        yield proxy


@pytest.fixture(autouse=True)
def _no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


async def grant_from(root: str) -> str:
    """Request a token through a manager's own client."""
    config = Config(client_id="id", client_secret=SECRET, api_root_url=root)
    async with TokenManager(config) as manager:
        return (await manager.get_tokens_client_credentials_grant()).access_token


async def failed_grant_from(root: str) -> TokenRequestError:
    """Return the error of a token request."""
    with pytest.raises(TokenRequestError) as caught:
        await grant_from(root)
    return caught.value


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
async def test_promise_21_https_goes_through_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """With https, the client opens a tunnel through the proxy, which sees nothing of the form."""
    async with open_peer(context=CERTIFIED) as peer, open_proxy() as proxy:
        monkeypatch.setenv(variable, f"http://{proxy.netloc}")
        assert await grant_from(f"https://{HOST}:{peer.port}") == "token-1"

        [request] = proxy.requests
        assert (request.method, request.target) == ("CONNECT", f"{HOST}:{peer.port}")
        assert request.body == b""
        assert SECRET.encode() not in request.raw
        # The tunnel begins with a TLS record of a handshake.
        assert proxy.tunnelled.startswith(b"\x16\x03")
        assert b"client_" not in proxy.tunnelled
        [arrived] = peer.requests
        assert (arrived.target, arrived.body) == ("/oauth2/token", FORM)
        assert "proxy-authorization" not in arrived.headers


@pytest.mark.parametrize(
    ("variable", "scheme"),
    [("HTTP_PROXY", ""), ("http_proxy", "http://"), ("ALL_PROXY", "http://")],
)
async def test_http_goes_through_a_proxy_on_loopback(
    monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    """Plain http, which is only for loopback, goes through a proxy on loopback."""
    async with open_peer() as peer, open_proxy() as proxy:
        monkeypatch.setenv(variable, f"{scheme}{proxy.netloc}")
        assert await grant_from(f"http://{peer.netloc}") == "token-1"

        [request] = proxy.requests
        assert request.method == "POST"
        assert request.target == f"http://{peer.netloc}/oauth2/token"
        assert request.body == FORM
        assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("variable", "proxy_url"),
    [
        ("HTTP_PROXY", "http://proxy.invalid:3128"),
        ("http_proxy", "https://user:hunter2@proxy.invalid"),
        ("ALL_PROXY", "proxy.invalid:3128"),
        ("all_proxy", "http://proxy.invalid:3128"),
    ],
)
async def test_promise_21_http_goes_through_no_proxy_elsewhere(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy_url: str
) -> None:
    """Plain http to loopback does not use a proxy on another host, which would see the secret."""
    monkeypatch.setenv(variable, proxy_url)
    async with open_peer() as peer:
        assert await grant_from(f"http://{peer.netloc}") == "token-1"
        assert len(peer.requests) == 1


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("variable", "no_proxy"), [("NO_PROXY", "other.example, 127.0.0.1"), ("no_proxy", "*")]
)
async def test_no_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str, no_proxy: str, scheme: str
) -> None:
    """NO_PROXY makes the client connect directly to the hosts that it lists."""
    context = CERTIFIED if scheme == "https" else None
    async with open_peer(context=context) as peer, open_proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.netloc}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.netloc}")
        monkeypatch.setenv(variable, no_proxy)
        assert await grant_from(f"{scheme}://{peer.netloc}") == "token-1"
        assert proxy.requests == []


async def test_http_variable_is_not_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY does not apply to https."""
    async with open_peer(context=CERTIFIED) as peer, open_proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.netloc}")
        error = await failed_grant_from(f"https://{peer.netloc}")
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert proxy.requests == []


# The proxy's credentials


@pytest.mark.parametrize("is_tunnel", [False, True], ids=["direct", "tunnel"])
@pytest.mark.parametrize(
    ("user", "password"), [("a b+%41", "/&=?#:;@'\"\\[]~"), ("é密", "😀")], ids=["ASCII", "others"]
)
async def test_credentials_arrive_decoded(
    monkeypatch: pytest.MonkeyPatch, user: str, password: str, is_tunnel: bool
) -> None:
    """The proxy gets the credentials of its URL decoded, and not as Authorization."""
    async with open_peer() as peer, open_proxy() as proxy:
        proxy.refusal = answer(503) if is_tunnel else None
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        monkeypatch.setenv("ALL_PROXY", f"http://{credentials}@{proxy.netloc}")
        if is_tunnel:
            await failed_grant_from(f"https://{HOST}:{peer.port}")
        else:
            await grant_from(f"http://{peer.netloc}")

        [request] = proxy.requests
        scheme, _, encoded = request.headers["proxy-authorization"].partition(" ")
        assert scheme == "Basic"
        assert base64.b64decode(encoded).decode() == f"{user}:{password}"
        assert "authorization" not in request.headers


PASSWORD = "hunter2+%/@"
BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
REFUSALS = {
    "407": answer(407, b"", proxy_authenticate='Basic realm="proxy"'),
    "502": answer(502, b"<html>bad gateway</html>"),
    "echo": f"HTTP/1.1 407 No user:{PASSWORD} ({BASIC})\r\nContent-Length: 0\r\n\r\n".encode(),
    "no HTTP": b"220 smtp.example ready\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("refusal", [*REFUSALS, "down"])
async def test_promise_21_credentials_of_a_proxy_are_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal: str, scheme: str
) -> None:
    """If a proxy refuses, answers nonsense or is down, errors and logs show no credentials."""
    caplog.set_level(logging.DEBUG)
    encoded = quote(PASSWORD, safe="")
    async with open_peer() as peer, open_proxy() as proxy:
        proxy.refusal = REFUSALS.get(refusal)
        with closed_port() as port:
            netloc = f"127.0.0.1:{port}" if refusal == "down" else proxy.netloc
            monkeypatch.setenv("ALL_PROXY", f"http://user:{encoded}@{netloc}")
            error = await failed_grant_from(f"{scheme}://{peer.netloc}")
        assert peer.requests == []
        assert (proxy.requests == []) is (refusal == "down")

    assert error.__cause__ is None
    assert error.__context__ is None
    shown = "".join([*traceback_with_locals(error), repr(vars(error)), caplog.text])
    assert not [form for form in (PASSWORD, encoded, BASIC, SECRET) if form in shown]
    # An answer to CONNECT is not an answer of the token endpoint. With plain http, the client
    # cannot distinguish the two.
    statuses = {"407": 407, "echo": 407, "502": 502}
    status = statuses.get(refusal) if scheme == "http" else None
    assert error.status_code == status
    assert error.retryable is (status != 407)


# Certificates


@pytest.mark.usefixtures("_trusted")
async def test_an_authority_of_the_environment_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority of SSL_CERT_FILE is trusted, for direct connections and for tunnels."""
    async with open_peer(context=CERTIFIED) as peer, open_proxy() as proxy:
        assert await grant_from(f"https://{peer.netloc}") == "token-1"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.netloc}")
        assert await grant_from(f"https://{HOST}:{peer.port}") == "token-1"
        assert len(peer.requests) == 2
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("tunnel", [False, True], ids=["direct", "tunnel"])
async def test_a_server_of_an_unknown_authority_gets_no_request(
    monkeypatch: pytest.MonkeyPatch, tunnel: bool
) -> None:
    """A server whose certificate no known authority has signed receives nothing."""
    async with open_peer(context=CERTIFIED) as peer, open_proxy() as proxy:
        if tunnel:
            monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.netloc}")
        error = await failed_grant_from(f"https://{HOST if tunnel else '127.0.0.1'}:{peer.port}")
        assert peer.requests == []
    assert type(error) is TokenUnavailableError
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


@pytest.mark.usefixtures("_trusted")
async def test_a_server_with_the_certificate_of_another_gets_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server whose certificate is valid for another host receives nothing."""
    async with open_peer(context=CERTIFIED) as peer, open_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.netloc}")
        error = await failed_grant_from(f"https://other.example:{peer.port}")
        assert peer.requests == []
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


async def test_a_missing_authority_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the file of SSL_CERT_FILE does not exist, the request fails, and nothing is sent."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    async with open_peer(context=CERTIFIED) as peer:
        error = await failed_grant_from(f"https://{peer.netloc}")
        assert peer.requests == []
    assert type(error) is TokenUnavailableError
    # In this case, httpx 0.27 trusts its own authorities.
    assert "SSL_CERT_FILE" in str(error) or "CERTIFICATE_VERIFY_FAILED" in str(error)
