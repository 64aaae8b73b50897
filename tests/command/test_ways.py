"""How the client authenticates: each way by flag and by variable, and contradictions."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ports import closed_port
from trio_anon_session import AssertionFile, MutualTLS, PrivateKeyJWT, SecretFile
from trio_anon_session._cli._flags import Source
from trio_anon_session._cli._settings import VARIABLES
from trio_anon_session._cli._ways import flag_of

from .running import COMPLETE, SECRET, assert_failed, invoke, source, write_box_json
from .ways import write_assertion, write_certificate, write_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_anon_session._authentication import ClientAuthentication

Given = dict[str, Any]


def key(folder: Path) -> tuple[Given, ClientAuthentication]:
    path = write_key(folder)
    given = {"client_key_file": path, "client_key_algorithm": "ES256", "client_key_id": "k1"}
    return given, PrivateKeyJWT.from_file(path, algorithm="ES256", key_id="k1")


def rsa_key(folder: Path) -> tuple[Given, ClientAuthentication]:
    path = write_key(folder, "RSA-2048")
    return {"client_key_file": path}, PrivateKeyJWT.from_file(path)


def foreign_assertion(folder: Path) -> tuple[Given, ClientAuthentication]:
    path = write_assertion(folder)
    return {"client_assertion_file": path}, AssertionFile(path)


def certificate(folder: Path) -> tuple[Given, ClientAuthentication]:
    certfile, keyfile = write_certificate(folder)
    given = {"client_cert_file": certfile, "client_cert_key_file": keyfile}
    return given, MutualTLS(certfile, keyfile)


WAYS = [key, rsa_key, foreign_assertion, certificate]


def invoked_with(by: str, given: Given, *args: object, **environ: str) -> Any:
    """Run the command with settings from flags or variables."""
    if by == "flag":
        args += tuple(each for name, value in given.items() for each in (flag_of(name), value))
    else:
        environ |= {VARIABLES[name]: str(value) for name, value in given.items()}
    return invoke(*args, environ=environ)


@pytest.mark.parametrize("by", ["flag", "variable"])
@pytest.mark.parametrize("way", WAYS)
def test_a_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Path], tuple[Given, ClientAuthentication]],
    by: str,
) -> None:
    """Flags or variables create the object that authenticates the client, without a secret."""
    given, expected = way(tmp_path)
    flags = {"client_id": "id"} | (given if by == "flag" else {})
    if by == "variable":
        for name, value in given.items():
            monkeypatch.setenv(VARIABLES[name], str(value))
    config = source(**flags).config()
    assert (config.auth_method, config.client_secret) == (expected, None)


@pytest.mark.parametrize("by", ["flag", "variable"])
@pytest.mark.parametrize("way", WAYS)
def test_show_config(
    tmp_path: Path, way: Callable[[Path], tuple[Given, ClientAuthentication]], by: str
) -> None:
    """``--show-config`` shows paths, key id and algorithm with their sources, and the method."""
    given, expected = way(tmp_path)
    result = invoked_with(by, given, "token", "--show-config", BOX_CLIENT_ID="id")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    for name, value in given.items():
        where = f"flag {flag_of(name)}" if by == "flag" else f"environment {VARIABLES[name]}"
        assert rows[name] == [str(value), where]
    assert rows["client_secret"] == ["-", "default"]
    assert rows["auth_method"] == [expected.method, f"default, from {next(iter(given))}"]


def test_the_method_may_be_named(tmp_path: Path) -> None:
    """``--auth-method`` may repeat the method of a file, but not contradict it."""
    certfile, keyfile = write_certificate(tmp_path)
    given = {"client_cert_file": certfile, "client_cert_key_file": keyfile}
    config = source(**given, client_id="id", auth_method="self_signed_tls_client_auth").config()
    assert config.auth_method == MutualTLS(certfile, keyfile)
    result = invoked_with("flag", given, "token", "--auth-method", SECRET, BOX_CLIENT_ID="id")
    assert_failed(
        result,
        2,
        "auth_method must be 'tls_client_auth' or 'self_signed_tls_client_auth' with",
        "client_cert_file (flag --client-cert-file)",
        "(from flag --auth-method)",
    )


def test_a_secret_of_a_file_is_read_for_every_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the secret is in a regular file, the session gets the file and not its content."""
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    by_flag = Source({"client_id": "id"}, (), path, None, {}).config()
    monkeypatch.setenv("BOX_CLIENT_SECRET_FILE", str(path))
    by_variable = source(client_id="id").config()
    assert by_flag.client_secret == by_variable.client_secret == SecretFile(path)


def test_a_secret_of_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A pipe, such as that of ``<(pass show box)`` in bash, has the secret only once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[f"{SECRET}\n"])
    writer.start()
    config = Source({"client_id": "id"}, (), pipe, None, {}).config()
    writer.join()
    assert config.client_secret == SECRET


def test_a_flag_before_a_variable_with_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag replaces the secret of a variable, even if two variables contradict each other."""
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("BOX_CLIENT_SECRET", "another")
    monkeypatch.setenv("BOX_CLIENT_SECRET_FILE", "/no/such/file")
    config = Source({"client_id": "id"}, (), tmp_path / "secret", None, {}).config()
    assert config.client_secret == SecretFile(tmp_path / "secret")


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (
            ["--client-key-file", "k"],
            {"BOX_CLIENT_SECRET": SECRET},
            ("auth_method must be one way", "flag --client-key-file", "BOX_CLIENT_SECRET"),
        ),
        (
            ["--client-key-file", "k", "--client-cert-file", "c"],
            {"BOX_CLIENT_ASSERTION_FILE": "a"},
            (
                "client_key_file (flag --client-key-file)",
                "client_assertion_file (environment BOX_CLIENT_ASSERTION_FILE)",
                "client_cert_file (flag --client-cert-file)",
            ),
        ),
        (
            ["--client-cert-file", "c"],
            {"BOX_CLIENT_SECRET_FILE": "s"},
            ("client_secret (environment BOX_CLIENT_SECRET_FILE)", "--client-cert-file"),
        ),
        (
            ["--box-json", "box.json", "--client-cert-file", "c"],
            {},
            ("client_secret (file box.json)", "--client-cert-file"),
        ),
        (
            [],
            {"BOX_CLIENT_SECRET": SECRET, "BOX_CLIENT_SECRET_FILE": "s"},
            ("client_secret must have one source", "BOX_CLIENT_SECRET and BOX_CLIENT_SECRET_FILE"),
        ),
        (
            ["--client-key-id", "k1"],
            {"BOX_CLIENT_SECRET": SECRET},
            ("client_key_id must be used with client_key_file", "(from flag --client-key-id)"),
        ),
        (
            [],
            {"BOX_CLIENT_CERT_KEY_FILE": "k"},
            ("client_cert_key_file must be used with client_cert_file", "--client-cert-file"),
        ),
        (
            ["--auth-method", "private_key_jwt"],
            {"BOX_CLIENT_SECRET": SECRET},
            ("auth_method must be 'client_secret_post', ", "(environment BOX_CLIENT_SECRET)"),
        ),
        (
            ["--client-key-file", "P-256.pem", "--client-key-algorithm", "ES256"],
            {"BOX_AUTH_METHOD": "client_secret_basic"},
            (
                "auth_method must be 'private_key_jwt' with client_key_file",
                "(from environment BOX_AUTH_METHOD)",
            ),
        ),
        (
            [],
            {"BOX_AUTH_METHOD": "private_key_jwt"},
            ("client_key_file: set BOX_CLIENT_KEY_FILE or BOX_CLIENT_ASSERTION_FILE",),
        ),
        (["--auth-method", "tls_client_auth"], {}, ("client_cert_file: set ",)),
        ([], {}, ("client_secret: set ", "--client-key-file", "--client-assertion-file")),
    ],
)
def test_contradictions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    environ: dict[str, str],
    words: tuple[str, ...],
) -> None:
    """Two ways to authenticate, or a part of one, are exit code 2, with the name of each source."""
    monkeypatch.chdir(tmp_path)
    write_box_json(tmp_path / "box.json")
    write_key(tmp_path)
    assert_failed(invoke("token", *args, environ={"BOX_CLIENT_ID": "id", **environ}), 2, *words)


@pytest.mark.parametrize("by", ["flag", "variable"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"client_key_file": "gone"}, ("client_key_file: the file 'gone' cannot be read",)),
        (
            {"client_key_file": "P-256.pem", "client_key_algorithm": "RS256"},
            ("client_key_algorithm must be 'ES256' for this key",),
        ),
        (
            {"client_key_file": "P-256.pem", "client_key_algorithm": SECRET},
            ("client_key_algorithm must be 'RS256', ",),
        ),
        ({"client_key_file": "RSA-1024.pem"}, ("client_key_file must be an RSA key of at least",)),
        ({"client_key_file": "secret"}, ("client_key_file must be a private key in PEM",)),
        ({"client_key_file": "P-384.pem"}, ("client_key_file must have a private key without",)),
        ({"client_assertion_file": "gone"}, ("client_assertion_file: the file 'gone'",)),
        ({"client_assertion_file": "empty"}, ("client_assertion_file: the file 'empty' is empty",)),
        ({"client_cert_file": "gone"}, ("client_cert_file: the file 'gone'",)),
        (
            {"client_cert_file": "client.pem"},
            ("client_cert_key_file must be set: certfile has no private key",),
        ),
        (
            {"client_cert_file": "client.pem", "client_cert_key_file": "P-256.pem"},
            ("client_cert_key_file must have the private key of the certificate",),
        ),
        (
            {"client_cert_file": "client.pem", "client_cert_key_file": "P-384.pem"},
            ("client_cert_file must have a private key without a password",),
        ),
    ],
)
def test_wrong_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: Given,
    words: tuple[str, ...],
    by: str,
) -> None:
    """A file that cannot be used is exit code 2; the message names the setting and its source."""
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path)
    write_key(tmp_path, "RSA-1024")
    write_key(tmp_path, "P-384", password=SECRET)
    write_certificate(tmp_path)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "empty").touch()
    names = [*map(flag_of, given)] if by == "flag" else [VARIABLES[name] for name in given]
    result = invoked_with(by, given, "token", BOX_CLIENT_ID="id")
    assert_failed(result, 2, *words)
    # If a setting is missing, the message names that one.
    assert any(name in result.stderr for name in [*names, "; set BOX_"])


def secret_and_flags(folder: Path, way: str) -> tuple[str, list[object]]:
    """Return the secret text of a client, and its flags."""
    match way:
        case "secret":
            (folder / "secret").write_text(SECRET)
            return SECRET, ["--client-secret-file", folder / "secret"]
        case "assertion":
            path = write_assertion(folder)
            return path.read_text(), ["--client-assertion-file", path]
        case "key":
            path = write_key(folder)
            return _body_of(path), ["--client-key-file", path, "--client-key-algorithm", "ES256"]
    certfile, keyfile = write_certificate(folder)
    return _body_of(keyfile), [
        *("--client-cert-file", certfile),
        *("--client-cert-key-file", keyfile),
    ]


def _body_of(path: Path) -> str:
    """Return the Base64 text of a PEM file."""
    return "".join(path.read_text().splitlines()[1:-1])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["token", "watch", "revoke", "doctor"])
@pytest.mark.parametrize("way", ["secret", "assertion", "key", "certificate"])
@settings(max_examples=10)
@given(data=st.data())
def test_no_secret_of_a_file_in_any_output(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, way: str, command: str
) -> None:
    """A part of a secret, key or assertion is masked, also if other settings contain it."""
    text, args = secret_and_flags(tmp_path_factory.getbasetemp(), way)
    at = data.draw(st.integers(0, len(text) - 20))
    part = text[at : at + 20]
    names = ["client_id", "scope", "box_subject_id", *(["client_key_id"] if way == "key" else [])]
    args += [f"{flag_of(name)}={part}" for name in names]
    args += ["--box-subject-type", "user", "--param", f"a={part}", "--param", f"x{part}=x"]
    args.append("--json" if command == "doctor" else "--show-config")
    with closed_port() as port:
        result = invoke(command, *args, "--api-root-url", f"http://127.0.0.1:{port}")
    # doctor finds no server.
    assert result.exit_code == (4 if command == "doctor" else 0)
    assert part not in result.output
    assert "***" in result.output


def test_settings_are_shown_if_two_ways_contradict(tmp_path: Path) -> None:
    """The table comes before the error, so that it shows which settings to remove."""
    args = ["--client-key-file", tmp_path / "key", "--show-config"]
    result = invoke("watch", *args, environ=COMPLETE)
    assert result.exit_code == 2
    assert f"{tmp_path / 'key'}" in result.stdout
    assert "client_secret          ***" in result.stdout
    assert "must be one way to authenticate" in result.stderr
