"""``doctor``'s check of an issuer's metadata, and commands that find the endpoints there."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.http.endpoint import Endpoint, fails, says
from tests.ports import closed_port, served_in_thread
from trio_anon_session._cli._checks._issuer import check_issuer
from trio_anon_session.testing import Client, TokenServer

from .running import LIMIT, SECRET, assert_failed, invoke, read_until, running, source
from .test_doctor import verdicts
from .ways import public_pem_of, write_certificate, write_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio_anon_session import Config
    from trio_anon_session._cli._checks import Check

ISSUER = "https://id.example"
TOKEN_URL = f"{ISSUER}/token"
DOCUMENT = {
    "issuer": ISSUER,
    "token_endpoint": TOKEN_URL,
    "revocation_endpoint": f"{ISSUER}/revoke",
}
SUPPORTED = "token_endpoint_auth_methods_supported"
SECRET_FLAGS = {"client_id": "id", "client_secret": SECRET}


async def check(answer: Any, **flags: Any) -> tuple[Check, Config | None]:
    """Check an issuer whose server gives this answer."""
    settings = source(**{"issuer": ISSUER} | flags).settings()
    async with httpx.AsyncClient(transport=Endpoint(answer)) as client:
        return await check_issuer(settings, settings.config(), client)


async def test_metadata_that_fits() -> None:
    """The check shows the methods that the server lists, and finds the endpoints."""
    listed = {SUPPORTED: ["client_secret_post", "private_key_jwt", "xyzzy"]}
    found, config = await check(says(body=DOCUMENT | listed), **SECRET_FLAGS)
    assert (found.verdict, found.advice) == ("ok", None)
    assert found.found == (
        f"the metadata of {ISSUER} is valid; it lists 'client_secret_post' and 'private_key_jwt'"
    )
    assert config is not None
    assert (config.token_url, config.revoke_url) == (TOKEN_URL, f"{ISSUER}/revoke")


async def test_the_revocation_endpoint_may_be_set() -> None:
    """A ``revoke_url`` that is set has priority over the metadata."""
    own = "https://own.example/revoke"
    _, config = await check(says(body=DOCUMENT), **SECRET_FLAGS, revoke_url=own)
    assert config is not None
    assert config.revoke_url == own


async def test_the_endpoint_for_certificates(tmp_path: Path) -> None:
    """A client with a certificate uses the endpoints for certificates (RFC 8705 §5)."""
    certfile, keyfile = write_certificate(tmp_path)
    flags = {"client_id": "id", "client_cert_file": certfile, "client_cert_key_file": keyfile}
    aliases = {"mtls_endpoint_aliases": {"token_endpoint": "https://mtls.example/token"}}
    _, config = await check(says(body=DOCUMENT | aliases), **flags)
    assert config is not None
    assert config.token_url == "https://mtls.example/token"


@pytest.mark.parametrize(
    ("listed", "advice"),
    [
        (["private_key_jwt"], "private_key_jwt: --client-key-file (BOX_CLIENT_KEY_FILE) or "),
        (["tls_client_auth"], "tls_client_auth: --client-cert-file (BOX_CLIENT_CERT_FILE)."),
        (["self_signed_tls_client_auth"], "--client-cert-file (BOX_CLIENT_CERT_FILE)."),
        (
            ["client_secret_basic", "none"],
            "client_secret_basic: --auth-method client_secret_basic (BOX_AUTH_METHOD), with a ",
        ),
        (["client_secret_jwt"], "--auth-method client_secret_jwt"),
        (["xyzzy"], "The command supports no method of this server."),
        ([], "The command supports no method of this server."),
    ],
)
@pytest.mark.parametrize("is_set", [False, True])
async def test_a_method_that_is_not_listed(listed: list[str], advice: str, is_set: bool) -> None:
    """The advice names the flags of each method that the server lists."""
    flags = SECRET_FLAGS | ({"token_url": TOKEN_URL} if is_set else {})
    found, config = await check(says(body=DOCUMENT | {SUPPORTED: listed}), **flags)
    assert (found.verdict, found.exit_code) == ("warning" if is_set else "failed", 2)
    assert (config is None) != is_set
    assert "must be a method that the server lists, got 'client_secret_post'" in found.found
    assert advice in (found.advice or "")
    assert "xyzzy" not in f"{found.found} {found.advice}"


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (says(404), 2, "or set --token-url or BOX_TOKEN_URL (from flag --issuer)"),
        (says(body=DOCUMENT | {"issuer": "https://other.example"}), 2, "has 'https://other"),
        (says(body={"issuer": ISSUER}), 2, "token_endpoint"),
        (says(body=DOCUMENT | {"issuer": SECRET}), 2, "has a str that is no issuer"),
        (says(503), 4, "status 503"),
        (fails(httpx.ConnectError("no")), 4, "no metadata of the authorization server"),
    ],
)
async def test_metadata_that_cannot_be_used(answer: Any, code: int, words: str) -> None:
    """Wrong or missing metadata is a failure, or a warning if ``token_url`` is set."""
    found, config = await check(answer, **SECRET_FLAGS)
    assert (found.verdict, found.exit_code, config) == ("failed", code, None)
    assert words in found.found
    assert SECRET not in found.found
    found, config = await check(answer, **SECRET_FLAGS, token_url=TOKEN_URL)
    assert found.verdict == "warning"
    assert config is not None


async def test_another_token_endpoint() -> None:
    """A ``token_url`` that differs from the metadata is a warning, and is still used."""
    own = "https://own.example/token"
    found, config = await check(says(body=DOCUMENT), **SECRET_FLAGS, token_url=own)
    assert found.verdict == "warning"
    assert f"its token endpoint is {TOKEN_URL}, not {own}" in found.found
    assert "Remove token_url" in (found.advice or "")
    assert config is not None
    assert config.token_url == own
    found, _ = await check(says(body=DOCUMENT), **SECRET_FLAGS, token_url=TOKEN_URL)
    assert found.verdict == "ok"


class WithMetadata(TokenServer):
    """A token server on loopback that publishes metadata.

    Attributes:
        listed: the methods of clients that the metadata lists, or None for no list.
    """

    listed: list[str] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or not scope["path"].startswith("/.well-known/"):
            await super().__call__(scope, receive, send)
            return
        host = dict(scope["headers"])[b"host"].decode()
        self.issuer = f"http://{host}"
        document: dict[str, Any] = {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/oauth2/token",
            "revocation_endpoint": f"{self.issuer}/oauth2/revoke",
        }
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.listed is not None:
            document[SUPPORTED] = self.listed
        body = json.dumps(document).encode()
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def issuer() -> Iterator[tuple[WithMetadata, str]]:
    """Serve metadata and tokens while a test runs."""
    server = WithMetadata(clients=[Client("id", keys={"k1": public_pem_of()})])
    with served_in_thread(server) as url:
        yield server, url


def key_environ(folder: Path, url: str) -> dict[str, str]:
    """Return the variables of a client with a key, at this issuer."""
    return {
        "BOX_CLIENT_ID": "id",
        "BOX_CLIENT_KEY_FILE": str(write_key(folder)),
        "BOX_CLIENT_KEY_ALGORITHM": "ES256",
        "BOX_CLIENT_KEY_ID": "k1",
        "BOX_ISSUER": url,
    }


@pytest.mark.slow
def test_commands_find_the_endpoints(issuer: tuple[WithMetadata, str], tmp_path: Path) -> None:
    """With an issuer and without ``token_url``, all commands use the endpoints of the metadata."""
    server, url = issuer
    environ = key_environ(tmp_path, url)
    token = invoke("token", environ=environ)
    assert (token.exit_code, token.stderr) == (0, "")
    assert token.stdout.strip() in server.tokens
    revoked = invoke("revoke", environ=environ, stdin=token.stdout)
    assert (revoked.exit_code, server.revocations) == (0, 1)
    with running("watch", environ=environ) as process:
        read_until("+ token", process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    result = invoke("doctor", environ=environ)
    assert result.exit_code == 0
    assert list(verdicts(result.stdout))[:4] == ["configuration", "credentials", "issuer", "name"]
    assert set(verdicts(result.stdout).values()) == {"ok"}
    assert f"no subject, issuer {url}\n" in result.stdout


@pytest.mark.slow
def test_commands_refuse_a_method_that_is_not_listed(
    issuer: tuple[WithMetadata, str], tmp_path: Path
) -> None:
    """A method that the server does not list is exit code 2, before credentials are sent."""
    server, url = issuer
    server.listed = ["client_secret_basic"]
    environ = key_environ(tmp_path, url)
    assert_failed(invoke("token", environ=environ), 2, "got 'private_key_jwt'")
    result = invoke("doctor", environ=environ)
    assert result.exit_code == 2
    assert verdicts(result.stdout)["issuer"] == "failed"
    assert verdicts(result.stdout)["grant"] == "skipped"
    assert "-> Use a method that the server lists. client_secret_basic: " in result.stdout
    assert not server.requests


@pytest.mark.slow
def test_an_issuer_without_a_server(tmp_path: Path) -> None:
    """If the issuer's server cannot be reached, the exit code is 4."""
    with closed_port() as port:
        environ = key_environ(tmp_path, f"http://127.0.0.1:{port}")
        assert_failed(invoke("token", environ=environ), 4, "no metadata", "No server listens there")
        result = invoke("doctor", environ=environ)
    assert result.exit_code == 4
    assert verdicts(result.stdout)["issuer"] == "failed"
    assert "-> No server listens there" in result.stdout


def test_show_config_sends_nothing(tmp_path: Path) -> None:
    """``--show-config`` says that the metadata has the endpoints, and does not request it."""
    environ = key_environ(tmp_path, "https://id.example")
    result = invoke("token", "--show-config", environ=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert rows["token_url"] == rows["revoke_url"] == ["-", "the metadata of the issuer"]
    result = invoke("token", "--show-config", "--revoke-url", "https://x.example", environ=environ)
    assert "https://x.example" in result.stdout
