"""The content of a file, given where its path is expected, is shown nowhere."""

from __future__ import annotations

import base64
import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from tests.authentication.mutual_tls.certificates import Pair
from tests.authentication.signing import FITTING, PASSWORD, key_of, pem_of
from tests.helpers import run_virtually
from tests.http.endpoint import Endpoint, ask, open_manager, says
from trio_anon_session import AssertionFile, Config, MutualTLS, PrivateKeyJWT, SecretFile
from trio_anon_session._cli import cli
from trio_anon_session._cli._settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def contents() -> Iterator[tuple[str, str]]:
    """Yield what is in such files, and secrets."""
    for kind in FITTING:
        for password in (None, PASSWORD):
            pem = pem_of(kind, password=password).decode()
            body = "".join(pem.splitlines()[1:-1])
            name = kind if password is None else f"{kind}, encrypted"
            yield f"{name}, PEM", pem
            yield f"{name}, base64", body
            yield f"{name}, base64url", body.replace("+", "-").replace("/", "_").rstrip("=")
            yield f"{name}, lines", "\n".join(pem.splitlines()[1:-1])
    der = key_of("P-256").private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    yield "SEC 1, base64", base64.b64encode(der).decode()
    yield "JWT", f"eyJhbGciOiJFUzI1NiJ9.{secrets.token_urlsafe(40)}.{secrets.token_urlsafe(64)}"
    yield "secret", f"1{secrets.token_hex(16)}"
    yield "secret with slashes", base64.b64encode(b"\xff" * 3 + secrets.token_bytes(30)).decode()
    yield "secret with short parts", "bDWSXDIy/i85Kq/1423aVt/Zx0pLm/9sUeWc/Tq7"


CONTENTS = dict(contents())


async def request_a_token(auth: dict[str, Any]) -> None:
    async with open_manager(Endpoint(says()), Config(client_id="id", **auth)) as manager:
        await ask(manager)


def with_auth(make: Callable[[str], dict[str, Any]]) -> Callable[[str], object]:
    """Return a function that creates a config, prints it, and requests a token."""

    def call(content: str) -> object:
        auth = make(content)
        print(*map(repr, auth.values()), Config(client_id="id", **auth))
        return run_virtually(request_a_token, auth)

    return call


def from_environment(variable: str, **more: str) -> Callable[[str], object]:
    environ = {"BOX_CLIENT_ID": "id", **more}
    return with_auth(
        lambda content: {
            "auth_method": Config.from_env(environ | {variable: content}).auth_method,
        }
    )


@pytest.fixture
def certfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a certificate."""
    import trustme

    monkeypatch.chdir(tmp_path)
    return str(Pair(trustme.CA(), "client.example").write(tmp_path)[0])


WAYS: dict[str, Callable[[str], object]] = {
    "SecretFile": with_auth(lambda content: {"client_secret": SecretFile(content)}),
    "AssertionFile": with_auth(lambda content: {"auth_method": AssertionFile(content)}),
    "PrivateKeyJWT": with_auth(lambda content: {"auth_method": PrivateKeyJWT.from_file(content)}),
    "certfile": with_auth(lambda content: {"auth_method": MutualTLS(content)}),
    "keyfile": with_auth(lambda content: {"auth_method": MutualTLS("client.pem", content)}),
    "Box": Config.from_box_json,
    "BOX_CLIENT_CERT_KEY_FILE": from_environment(
        "BOX_CLIENT_CERT_KEY_FILE", BOX_CLIENT_CERT_FILE="client.pem"
    ),
    **{
        name: from_environment(name)
        for name in ("BOX_CLIENT_KEY_FILE", "BOX_CLIENT_ASSERTION_FILE", "BOX_CLIENT_CERT_FILE")
    },
}
FLAGS = [
    *(setting.flag for setting in SETTINGS if setting.kind.endswith("file")),
    "--box-json",
    "--store-key-file",
]


def assert_not_shown(name: str, said: str) -> None:
    words = re.findall(r"[\w+/-]{12,}", CONTENTS[name], re.ASCII)
    runs = {word[at : at + 12] for word in words for at in range(len(word) - 11)}
    shown = [run for run in runs if run in said and run not in "-----BEGIN PRIVATE KEY-----"]
    assert shown == [], name


@pytest.mark.parametrize("way", WAYS)
def test_a_path_that_is_a_content(
    way: str, certfile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither an error nor a repr shows the content."""
    for name, content in CONTENTS.items():
        with pytest.raises(Exception, match=r"must|cannot be read") as caught:
            WAYS[way](content)
        assert_not_shown(name, f"{caught.value} {capsys.readouterr()}")


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_that_is_a_content(flag: str, certfile: str) -> None:
    """The command shows it neither as an error nor as a setting."""
    more = ["--client-cert-file", certfile] if flag == "--client-cert-key-file" else []
    # All flags read their paths with one function, so each flag gets a third of the contents.
    for name in list(CONTENTS)[FLAGS.index(flag) % 3 :: 3]:
        for command in (["token"], ["token", "--show-config"]):
            given = [*command, "--client-id", "id", f"{flag}={CONTENTS[name]}", *more]
            result = CliRunner().invoke(cli, given)
            assert result.exit_code != 0 or "--show-config" in command
            assert_not_shown(name, result.output)
