"""Tests of the arguments of `MutualTLS`, and of the errors for wrong ones."""

from __future__ import annotations

import copy
import os
import pickle
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.authentication.mutual_tls.certificates import Pair, config, presented
from tests.helpers import traceback_with_locals
from trio_anon_session import ConfigError, MutualTLS

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


PASSWORD = "p4ss wörd-of-the-key"


@pytest.mark.parametrize("form", ["plain", "PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("is_one_file", [False, True])
def test_what_it_accepts(
    form: str, is_one_file: bool, old: Pair, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """The key may be in either file, and encrypted in either format."""
    key = old.key if form == "plain" else old.encrypted_key(PASSWORD, form)
    certfile, keyfile = old.write(tmp_path)
    password = None if form == "plain" else PASSWORD
    if is_one_file:
        certfile.write_bytes(key + old.certificate)
        method = MutualTLS(certfile, password=password)
    else:
        keyfile.write_bytes(key)
        method = MutualTLS(str(certfile), str(keyfile), password)

    assert presented(method.ssl_context(), server) == "old.example"


ENCRYPTED = "<the key, encrypted>"
WRONG_PASSWORD = "password must be a non-empty str of at most 1024 bytes in UTF-8"


@pytest.mark.parametrize(
    ("certificate", "key", "password", "message"),
    [
        (None, b"", None, r"certfile: the file '.*' cannot be read: No such file or directory"),
        (b"", None, None, r"keyfile: the file '.*' cannot be read: No such file or directory"),
        (b"x" * 65537, b"", None, r"certfile: the file '.*' has more than 65536 bytes"),
        (b"nonsense", "old", None, r"certfile must be a PEM file with a certificate, got '.*'"),
        (b"", "old", None, r"certfile must be a PEM file with a certificate, got '.*'"),
        ("key", "old", None, r"certfile must be a PEM file with a certificate, got '.*'"),
        ("damaged", "old", None, r"certfile must be a PEM file with a certificate, got '.*'"),
        ("old", "none", None, r"keyfile must be set: certfile has no private key, got '.*'"),
        ("old", b"nonsense", None, "keyfile must be a PEM file with a valid private key"),
        ("old", "certificate", None, "keyfile must be a PEM file with a valid private key"),
        ("old", "damaged", None, "keyfile must be a PEM file with a valid private key"),
        ("old", "new", None, "keyfile must have the private key of the certificate in certfile"),
        ("old", ENCRYPTED, None, "password must be set: the private key is encrypted"),
        ("old", ENCRYPTED, "wr0ng", "password must be the right one: the private key is encrypted"),
        ("old", "old", "", WRONG_PASSWORD),
        (
            "old",
            "old",
            "é" * 513,
            WRONG_PASSWORD,
        ),
        ("old", "old", "\udc80", WRONG_PASSWORD),
    ],
)
def test_wrong_values(
    certificate: str | bytes | None,
    key: str | bytes | None,
    password: str | None,
    message: str,
    old: Pair,
    new: Pair,
    tmp_path: Path,
) -> None:
    """A wrong file or password raises an error that names the argument, and contains no secret."""
    contents = {
        "old": (old.certificate, old.key),
        "new": (new.certificate, new.key),
        "key": (old.key, b""),
        "certificate": (b"", old.certificate),
        "damaged": (old.certificate.replace(b"A", b"B"), old.key.replace(b"A", b"B")),
        ENCRYPTED: (b"", old.encrypted_key(PASSWORD)),
        "none": (b"", b""),
    }
    certfile, keyfile = tmp_path / "client.pem", tmp_path / "client.key"
    for path, content, part in ((certfile, certificate, 0), (keyfile, key, 1)):
        if content is not None:
            path.write_bytes(contents[content][part] if isinstance(content, str) else content)

    with pytest.raises(ConfigError) as caught:
        MutualTLS(certfile, None if key == "none" else keyfile, password)

    assert re.fullmatch(message, str(caught.value))
    assert re.match(rf"{caught.value.field}\b", str(caught.value))
    shown = "".join(traceback_with_locals(caught.value))
    assert caught.value.__context__ is None
    for secret in [PASSWORD, *([password] if password else []), *old.key.decode().split("\n")[1:3]]:
        assert secret not in shown


@pytest.mark.slow
@pytest.mark.parametrize("password", [None, "wr0ng"])
def test_no_question_on_the_terminal(password: str | None, old: Pair, tmp_path: Path) -> None:
    """A wrong or missing password is an error; OpenSSL does not ask for it on the terminal."""
    certfile, keyfile = old.write(tmp_path)
    keyfile.write_bytes(old.encrypted_key(PASSWORD))
    code = (
        "import fcntl, termios, trio_anon_session as tas\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        f"try: tas.MutualTLS({str(certfile)!r}, {str(keyfile)!r}, {password!r})\n"
        "except tas.ConfigError as error: print(error.field)\n"
    )
    terminal, end = pty.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdin=end,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(end)
    assert (ended.stdout, ended.stderr) == ("password\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "certfile must be a path, not int"),
        ((b"client.pem",), "certfile must be a path, not bytes"),
        (("client.pem", 3), "keyfile must be a path, not int"),
        (("client.pem", "client.key", b"secret"), "password must be a str or None, not bytes"),
    ],
)
def test_wrong_types(arguments: tuple[Any, ...], message: str) -> None:
    """An argument of a wrong type raises a TypeError that names it, before a file is read."""
    with pytest.raises(TypeError, match=f"^{message}$"):
        MutualTLS(*arguments)


def test_unusable_authorities(old: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file with the CA certificates is damaged, the error names its variable."""
    # httpx 0.27 ignores a missing file.
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("damaged")
    monkeypatch.setenv("SSL_CERT_FILE", str(damaged))
    with pytest.raises(ConfigError, match=r"^SSL_CERT_FILE must be a PEM file") as caught:
        MutualTLS(*old.write(tmp_path))
    assert caught.value.__context__ is None


def test_value(old: Pair, tmp_path: Path) -> None:
    """Two objects with the same settings are equal; repr and pickle contain no secret."""
    certfile, keyfile = old.write(tmp_path)
    one, same = MutualTLS(certfile, keyfile), MutualTLS(str(certfile), str(keyfile))
    other = MutualTLS(certfile, keyfile, PASSWORD)

    assert (one, hash(one)) == (same, hash(same))
    assert one != other
    assert config(one) == config(same)
    assert (one.certfile, one.keyfile) == (certfile, keyfile)
    assert repr(one) == f"MutualTLS({str(certfile)!r}, {str(keyfile)!r})"
    assert repr(other) == f"MutualTLS({str(certfile)!r}, {str(keyfile)!r}, password=***)"
    assert copy.copy(other) is copy.deepcopy(other) is other
    with pytest.raises(TypeError, match="cannot pickle a MutualTLS"):
        pickle.dumps(other)
    with pytest.raises(ConfigError, match="a client with MutualTLS has no secret"):
        config(one, client_secret="secret")
