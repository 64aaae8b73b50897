"""Tests of how the client sends its credentials, and that they appear nowhere else."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers import make_config, run_virtually
from tests.http.endpoint import CALLS, METHODS, TOKEN, ask, form_of, sent_by
from tests.wire import open_peer
from trio_anon_session import TokenManager

if TYPE_CHECKING:
    from pathlib import Path

# These characters are treated differently by forms, percent-encoding and Basic.
texts = st.text(
    st.sampled_from("ab41 +%/&=?#:;@'\"\\~*-._é密😀\n\x00")
    | st.characters(exclude_categories=["Cs"]),
    min_size=1,
    max_size=20,
).filter(lambda text: text[-1] not in "\r\n")


def no_trace(secret: str, request: httpx.Request) -> bool:
    """Return whether the secret is missing in the URL and in all headers except Authorization."""
    places = [str(request.url)]
    places += [value for name, value in request.headers.items() if name != "authorization"]
    spellings = (secret, quote(secret, safe=""), quote_plus(secret))
    return not any(spelling in place for spelling in spellings for place in places)


@given(client_id=texts, client_secret=texts, call=st.sampled_from(CALLS))
@example(client_id="id", client_secret=" ", call="grant")
def test_the_form_carries_the_credentials_once(
    client_id: str, client_secret: str, call: str
) -> None:
    """With client_secret_post, id and secret are in the form once, and nowhere else."""
    # The marked secret is too long to occur elsewhere by chance.
    marked = f"9z{client_secret}§7"
    request = run_virtually(sent_by, make_config(client_id=client_id, client_secret=marked), call)

    assert re.fullmatch(rb"[\w.~*&=+%-]+", request.content)
    assert form_of(request) == [
        ("grant_type", "client_credentials") if call == "grant" else ("token", TOKEN),
        ("client_id", client_id),
        ("client_secret", marked),
    ]
    assert "Authorization" not in request.headers
    assert no_trace(marked, request)


@given(client_id=texts, client_secret=texts, call=st.sampled_from(CALLS))
@example(client_id="a:b", client_secret="c:d", call="grant")
@example(client_id="a b", client_secret="c+d%20", call="revoke")
def test_the_basic_header_has_the_credentials(
    client_id: str, client_secret: str, call: str
) -> None:
    """With client_secret_basic, percent-encoded credentials are in the header, not in the form.

    Servers that decode forms, and servers that decode only percent-encoding, read the same.
    """
    marked = f"9z{client_secret}§7"
    config = make_config(
        client_id=client_id, client_secret=marked, auth_method="client_secret_basic"
    )
    request = run_virtually(sent_by, config, call)

    [header] = request.headers.get_list("Authorization")
    assert header.startswith("Basic ")
    pair = base64.b64decode(header.removeprefix("Basic "), validate=True).decode("ascii")
    assert re.fullmatch(r"((?:[\w.~-]|%[0-9A-F]{2})+):((?:[\w.~-]|%[0-9A-F]{2})+)", pair, re.ASCII)
    for decode in (unquote, unquote_plus):
        assert [decode(part) for part in pair.split(":")] == [client_id, marked]
    assert form_of(request) == [
        ("grant_type", "client_credentials") if call == "grant" else ("token", TOKEN)
    ]
    assert no_trace(marked, request)


@given(
    client_id=texts,
    client_secret=texts,
    method=st.sampled_from(METHODS),
    call=st.sampled_from(CALLS),
    url=st.sampled_from(
        [
            "https://api.example/t",
            "https://api.example/t?tenant=a%20b&x=&y=1+2",
            "https://id.example:8443/t/",
            "http://[::1]:8080/t",
        ]
    ),
)
def test_no_credentials_change_the_url(
    client_id: str, client_secret: str, method: str, call: str, url: str
) -> None:
    """Whatever the credentials, the request is a POST to exactly the URL of the config."""
    config = make_config(
        client_id=client_id,
        client_secret=client_secret,
        auth_method=method,
        token_url=url,
        revoke_url=url,
    )
    request = run_virtually(sent_by, config, call)

    assert (request.method, str(request.url)) == ("POST", url)
    assert request.headers["Host"] == httpx.URL(url).netloc.decode()


@pytest.fixture
def _netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".netrc"
    path.write_text(
        "machine 127.0.0.1 login of-netrc password of-netrc\ndefault login d password d\n"
    )
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("is_given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_netrc_file_adds_no_credentials(method: str, is_given: bool) -> None:
    """A netrc file with the host adds nothing, so there is only one way of authentication."""
    async with open_peer() as peer, httpx.AsyncClient() as client:
        config = make_config(api_root_url=f"http://{peer.netloc}", auth_method=method)
        async with TokenManager(config, http_client=client if is_given else None) as manager:
            await ask(manager)
        [request] = peer.requests

    pair = base64.b64encode(b"id:secret").decode()
    expected = f"Basic {pair}" if method == "client_secret_basic" else None
    assert request.headers.get("authorization") == expected
    assert (b"client_secret=secret" in request.body) is (method == "client_secret_post")
    assert b"of-netrc" not in request.raw
