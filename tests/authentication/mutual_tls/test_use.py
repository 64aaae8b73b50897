"""Tests of what a client with `MutualTLS` sends, and which certificate it presents."""

from __future__ import annotations

import logging
import re
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.authentication.mutual_tls.certificates import (
    Pair,
    config,
    connect,
    presented,
    server_context,
)
from tests.http.endpoint import CALLS, TOKEN, Endpoint, ask, form_of, open_manager, says, sent_by
from trio_anon_session import MutualTLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_sent(
    call: str, old: Pair, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The form has the client id, and the request has no other credentials."""
    request = await sent_by(config(MutualTLS(*old.write(tmp_path))), call)

    assert form_of(request) == [
        ("grant_type", "client_credentials") if call == "grant" else ("token", TOKEN),
        ("client_id", "my app"),
    ]
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(("first", "second"), [("RSA", "ECDSA"), ("ECDSA", "RSA")])
async def test_another_type_of_key(
    first: str,
    second: str,
    authority: trustme.CA,
    server: ssl.SSLContext,
    tmp_path: Path,
    autojump_clock: MockClock,
) -> None:
    """After a request, the context presents the new certificate, even with another type of key."""
    method = MutualTLS(*Pair(authority, "first.example", first).write(tmp_path))
    context = method.ssl_context()
    async with open_manager(Endpoint(says()), config(method)) as manager:
        assert presented(context, server) == "first.example"
        Pair(authority, "second.example", second).write(tmp_path)
        assert presented(context, server) == "first.example"
        await ask(manager)
    assert presented(context, server) == "second.example"
    assert method.ssl_context() is context


@pytest.mark.parametrize(
    ("certificate", "key", "trouble"),
    [
        ("new", "old", "keyfile must have the private key of the certificate in certfile"),
        ("old", "new", "keyfile must have the private key of the certificate in certfile"),
        ("new", "half", "keyfile must be a PEM file with a valid private key"),
        ("missing", "new", "certfile: the file '[^']+' cannot be read: No such file or directory"),
        ("new", "missing", "keyfile: the file '[^']+' cannot be read: No such file or directory"),
    ],
)
async def test_half_replaced(
    certificate: str,
    key: str,
    trouble: str,
    old: Pair,
    new: Pair,
    server: ssl.SSLContext,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    """While certificate and key do not fit, the client keeps the old ones and logs one WARNING."""
    certfile, keyfile = old.write(tmp_path)
    method = MutualTLS(certfile, keyfile)
    async with open_manager(Endpoint(says()), config(method)) as manager:
        for path, content in ((certfile, certificate), (keyfile, key)):
            part = "certificate" if path == certfile else "key"
            if content == "missing":
                path.unlink()
            elif content == "half":
                path.write_bytes(new.key[:100])
            else:
                path.write_bytes(getattr(old if content == "old" else new, part))
        for _ in range(2):
            await ask(manager)
            assert presented(method.ssl_context(), server) == "old.example"
        [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert re.fullmatch(f"the client keeps its old certificate: {trouble}", record.getMessage())

        new.write(tmp_path)
        await ask(manager)
        assert presented(method.ssl_context(), server) == "new.example"
        certfile.unlink()
        await ask(manager)
        assert [each.levelno for each in caplog.records].count(logging.WARNING) == 2


def test_context_cannot_be_changed(old: Pair, server: ssl.SSLContext, tmp_path: Path) -> None:
    """Changing the context raises an error, because the next certificate would undo the change."""
    certfile, _ = old.write(tmp_path)
    context = MutualTLS(*old.write(tmp_path)).ssl_context()
    changes: list[Callable[[], object]] = [
        lambda: setattr(context, "check_hostname", False),
        lambda: setattr(context, "verify_mode", ssl.CERT_NONE),
        lambda: context.load_verify_locations(certfile),
        lambda: context.load_cert_chain(certfile),
        lambda: context.set_ciphers("ALL"),
    ]
    for change in changes:
        with pytest.raises(AttributeError, match="cannot be changed: create your own SSLContext"):
            change()
    context.set_alpn_protocols(["http/1.1"])
    ours, _ = connect(context, server)
    assert ours.selected_alpn_protocol() == "http/1.1"
    assert ours.context.verify_mode is context.verify_mode is ssl.CERT_REQUIRED
    assert ours.context.check_hostname is context.check_hostname is True


def test_an_unknown_server(old: Pair, tmp_path: Path) -> None:
    """The context refuses a server with a certificate of another authority."""
    context = MutualTLS(*old.write(tmp_path)).ssl_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(context, server_context(trustme.CA()))
