"""``token`` and ``doctor`` with each way to authenticate, at a server that verifies it."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.ports import served_in_thread
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer, TrustedIssuer

from .running import COMPLETE, SECRET, invoke
from .test_doctor import STEPS, verdicts
from .ways import (
    AUDIENCE,
    AUTHORITY,
    ISSUER,
    SUBJECT,
    public_pem_of,
    write_assertion,
    write_certificate,
    write_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENTS = [
    Client("keys", keys={"k1": public_pem_of()}),
    Client("assertions", assertions=TrustedIssuer(ISSUER, SUBJECT, AUDIENCE, public_pem_of())),
    Client("id", SECRET),
]
pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[tuple[TokenServer, str]]:
    """Serve while a test runs."""
    server = TokenServer(clients=CLIENTS)
    with served_in_thread(server) as url:
        yield server, url


def arguments(folder: Path, way: str, kind: str = "P-256") -> list[object]:
    """Return the flags of a client that the server knows."""
    match way:
        case "key":
            algorithm = "ES256" if kind == "P-256" else "RS256"
            options: list[object] = ["--client-key-algorithm", algorithm, "--client-key-id", "k1"]
            return ["--client-id", "keys", "--client-key-file", write_key(folder, kind), *options]
        case "assertion":
            path = write_assertion(folder)
            return ["--client-id", "assertions", "--client-assertion-file", path]
    (folder / "secret").write_text(f"{SECRET}\n")
    return ["--client-id", "id", "--client-secret-file", folder / "secret"]


@pytest.mark.parametrize("way", ["key", "assertion", "secret"])
def test_a_way(server: tuple[TokenServer, str], tmp_path: Path, way: str) -> None:
    """The server accepts the client of ``token``, and all checks of ``doctor`` are ok."""
    args = [*arguments(tmp_path, way), "--api-root-url", server[1]]
    result = invoke("token", *args)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.strip() in server[0].tokens
    result = invoke("doctor", *args)
    assert result.exit_code == 0, result.output
    assert verdicts(result.stdout) == dict.fromkeys(STEPS, "ok")


def test_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of ``token`` and ``doctor`` present the certificate of the client."""
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    certfile, keyfile = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    # In TLS 1.3, the handshake of a client without a certificate ends before the server refuses it.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    token_server = TokenServer(clients=[Client("app", certificate=certfile.read_text())])
    with served_in_thread(token_server, context) as url:
        args = ["--client-id", "app", "--client-cert-file", certfile]
        args += ["--client-cert-key-file", keyfile, "--api-root-url", url]
        result = invoke("token", *args)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.strip() in token_server.tokens
        result = invoke("doctor", *args)
    assert result.exit_code == 0, result.output
    assert verdicts(result.stdout)["connection"] == "ok"


@pytest.mark.parametrize(
    ("way", "advice"),
    [
        ("key", "aud is --issuer (BOX_ISSUER), or the token URL without it."),
        ("assertion", "All of iss, sub and aud must be equal"),
    ],
)
def test_advice_after_a_rejection(
    server: tuple[TokenServer, str], tmp_path: Path, way: str, advice: str
) -> None:
    """After ``invalid_client``, the advice says what to compare for this way."""
    server[0].faults = FaultPlan(token_then=Fault.refusal("invalid_client", "no"))
    args = [*arguments(tmp_path, way), "--api-root-url", server[1]]
    result = invoke("doctor", "--json", *args)
    assert result.exit_code == 3
    by_name = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert "Check client_id" in by_name["grant"]["advice"]
    assert advice in by_name["grant"]["advice"]
    server[0].faults = FaultPlan(token_then=Fault.refusal("invalid_scope", "no"))
    assert advice not in invoke("doctor", *args).output


def test_a_wrong_key(server: tuple[TokenServer, str], tmp_path: Path) -> None:
    """A key that is not registered passes the check of the credentials; the server refuses it."""
    args = [*arguments(tmp_path, "key", "RSA-2048"), "--api-root-url", server[1]]
    result = invoke("doctor", *args)
    assert result.exit_code == 3
    found = verdicts(result.stdout)
    assert (found["credentials"], found["grant"]) == ("ok", "failed")
    assert "The signature of the assertion is wrong" in result.stdout


def test_a_file_that_is_no_assertion(server: tuple[TokenServer, str], tmp_path: Path) -> None:
    """``doctor`` does not send a file that contains something else, such as a secret."""
    (tmp_path / "file").write_text(SECRET)
    args = ["--client-id", "assertions", "--client-assertion-file", tmp_path / "file"]
    result = invoke("doctor", *args, "--api-root-url", server[1])
    assert result.exit_code == 2
    assert verdicts(result.stdout)["grant"] == "skipped"
    assert not server[0].requests
    assert SECRET not in result.output


def test_a_server_that_echoes_the_assertion(
    server: tuple[TokenServer, str], tmp_path: Path
) -> None:
    """An assertion that the server quotes is not shown."""
    text = write_assertion(tmp_path).read_text()
    server[0].faults = FaultPlan(token_then=Fault.refusal("invalid_client", f"not {text}"))
    args = arguments(tmp_path, "assertion")
    result = invoke("doctor", *args, "--api-root-url", server[1])
    assert "not ***" in result.stdout
    assert text not in result.output


def test_a_new_secret_in_the_file(server: tuple[TokenServer, str], tmp_path: Path) -> None:
    """After a change of the secret, the command works again with the new secret in the file."""
    args = [*arguments(tmp_path, "secret"), "--api-root-url", server[1]]
    assert invoke("token", *args).exit_code == 0
    server[0].clients["id"] = Client("id", f"new-{SECRET}")
    assert invoke("token", *args).exit_code == 3
    (tmp_path / "secret").write_text(f"new-{SECRET}")
    assert invoke("token", *args).exit_code == 0
    assert invoke("token", environ={**COMPLETE, "BOX_API_ROOT_URL": server[1]}).exit_code == 3
