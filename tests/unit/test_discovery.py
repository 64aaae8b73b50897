"""Tests of the metadata URLs of an issuer, and of valid and wrong documents, without I/O."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.config_kit import SECRET, assert_hides_secret
from trio_anon_session import Config, ConfigError
from trio_anon_session._authentication import ClientAuthentication
from trio_anon_session._discovery import endpoints_in, metadata_urls

ISSUER = "https://id.example/tenant"
URL = "https://id.example/.well-known/oauth-authorization-server/tenant"
DOCUMENT = {
    "issuer": ISSUER,
    "token_endpoint": "https://token.example/t?tenant=1",
    "revocation_endpoint": "https://id.example/r",
}
SUPPORTED = "token_endpoint_auth_methods_supported"
ALIASES = {
    "token_endpoint": "https://mtls.example/t",
    "revocation_endpoint": "https://mtls.example/r",
}


class Certificate(ClientAuthentication):
    """A client that, for discovery, authenticates with a certificate."""

    __slots__ = ()

    method = "tls_client_auth"


def endpoints(
    document: dict[str, Any], *, has_revoke_url: bool = False, **settings: Any
) -> dict[str, str]:
    """Return the endpoints in a document, by default for a client with a secret."""
    if "auth_method" not in settings or isinstance(settings["auth_method"], str):
        settings["client_secret"] = SECRET
    config = Config(**{"client_id": "id", "issuer": ISSUER} | settings)
    return endpoints_in(document, URL, config, has_revoke_url=has_revoke_url)


def refusal(document: dict[str, Any], **settings: Any) -> ConfigError:
    """Return the error for a document."""
    with pytest.raises(ConfigError) as caught:
        endpoints(document, **settings)
    assert_hides_secret(caught.value)
    assert caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize(
    ("issuer", "between", "after"),
    [
        (
            "https://a.example",
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ),
        (
            "https://a.example/oauth2/default",
            "https://a.example/.well-known/oauth-authorization-server/oauth2/default",
            "https://a.example/oauth2/default/.well-known/openid-configuration",
        ),
        (
            "http://[::1]:8080/x",
            "http://[::1]:8080/.well-known/oauth-authorization-server/x",
            "http://[::1]:8080/x/.well-known/openid-configuration",
        ),
    ],
)
def test_urls(issuer: str, between: str, after: str) -> None:
    """The well-known part is between host and path, or after the path; a last slash is removed."""
    assert metadata_urls(issuer) == (between, after)
    assert metadata_urls(f"{issuer}/") == (between, after)


@given(path=st.lists(st.text("aZ0-._~%", min_size=1), max_size=4).map("/".join))
def test_urls_keep_host_and_path(path: str) -> None:
    """Without the well-known part, both URLs are exactly the issuer."""
    issuer = f"https://Id.example:8443/{path}".removesuffix("/")
    first, second = metadata_urls(issuer)
    assert first.replace("/.well-known/oauth-authorization-server", "", 1) == issuer
    assert second.removesuffix("/.well-known/openid-configuration") == issuer
    assert second != issuer


def test_endpoints() -> None:
    """Token and revocation endpoint are those of the document."""
    assert endpoints(DOCUMENT | {"more": [1]}) == {
        "token_url": "https://token.example/t?tenant=1",
        "revoke_url": "https://id.example/r",
    }


@pytest.mark.parametrize("revocation", [None, "https://id.example/r", "http://evil.example", 7])
def test_own_revoke_url(revocation: object) -> None:
    """With a given revoke_url, the document's is neither used nor checked."""
    document = DOCUMENT | {"revocation_endpoint": revocation}
    assert list(endpoints(document, has_revoke_url=True)) == ["token_url"]


def test_no_revocation_endpoint() -> None:
    """A document without a revocation endpoint sets only token_url."""
    document = {name: DOCUMENT[name] for name in ("issuer", "token_endpoint")}
    assert list(endpoints(document)) == list(endpoints(document | {"revocation_endpoint": None}))
    assert list(endpoints(document)) == ["token_url"]


@given(other=st.text() | st.none() | st.integers() | st.lists(st.just(ISSUER)))
@example(other=f"{ISSUER}/")
@example(other=ISSUER.upper())
@example(other="https://id.example:443/tenant")
@example(other="https://ID.example/tenant")
@example(other="https://id.example/%74enant")
@example(other=f"https://{SECRET}@evil.example")
@example(other="x" * 10**6)
@example(other="YXNzZXJ0aW9u")
def test_other_issuer(other: object) -> None:
    """The issuer must be exactly equal; the error shows a short part of the other one."""
    if other == ISSUER:
        return
    error = refusal(DOCUMENT | {"issuer": other})
    assert error.field == "issuer"
    assert f"{URL} has " in error.wants
    assert len(str(error)) < 600
    if other == f"{ISSUER}/":
        assert f"has '{ISSUER}/'; check the spelling, above all a slash" in error.wants
    if other == "YXNzZXJ0aW9u":
        assert "has a str that is no issuer; check" in error.wants


@pytest.mark.parametrize("member", ["token_endpoint", "revocation_endpoint"])
@pytest.mark.parametrize(
    ("value", "wants"),
    [
        ("http://id.example/t", "must be an https URL"),
        ("ftp://id.example/t", "must be an https URL"),
        ("/oauth2/token", "must be an absolute URL"),
        ("", "must be an absolute URL"),
        ("https://user:pw@id.example/t", "without user name and password"),
        ("https://id.example/t#x", "without a fragment"),
        ("https://id.example:port/", "must be an absolute URL"),
        ("https://" + "x" * 10**6, "must be an absolute URL"),
        ("http://" + "x." * 10_000, "must be "),
        ("https://id.example/\n", "must be an absolute URL"),
        (7, "must be a URL as a str, got int"),
        (["https://id.example/t"], "must be a URL as a str, got list"),
        ({}, "must be a URL as a str, got dict"),
        (True, "must be a URL as a str, got bool"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_wrong_endpoint(member: str, value: object, wants: str) -> None:
    """An endpoint of the document must be a valid URL; the error names it."""
    error = refusal(DOCUMENT | {member: value})
    assert error.field == "issuer"
    assert error.wants.startswith("must be the issuer of a server with valid metadata: ")
    assert f"in {URL}, {member} must be" in error.wants
    assert wants in error.wants
    assert len(str(error)) < 700


def test_no_token_endpoint() -> None:
    """A document without a token endpoint is refused."""
    for document in ({"issuer": ISSUER}, DOCUMENT | {"token_endpoint": None}):
        assert "token_endpoint must be a URL as a str, got NoneType" in refusal(document).wants


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_plain_http_on_loopback(host: str) -> None:
    """A server on loopback may use plain http."""
    issuer = f"http://{host}:1"
    document = DOCUMENT | {"issuer": issuer, "token_endpoint": f"{issuer}/t"}
    assert endpoints(document, issuer=issuer)["token_url"] == f"{issuer}/t"


@pytest.mark.parametrize("member", ["token_endpoint", "revocation_endpoint"])
def test_no_change_to_plain_http(member: str) -> None:
    """An https issuer cannot have an http endpoint, even on loopback."""
    error = refusal(DOCUMENT | {member: "http://localhost:6379/"})
    assert f"{member} must be an https URL, because the issuer is one" in error.wants


@pytest.mark.parametrize(
    ("method", "listed", "fits"),
    [
        ("client_secret_post", None, True),
        ("client_secret_post", ["client_secret_basic", "client_secret_post"], True),
        ("client_secret_post", ["client_secret_basic"], False),
        ("client_secret_basic", ["client_secret_basic"], True),
        ("client_secret_basic", ["CLIENT_SECRET_BASIC"], False),
        ("client_secret_basic", [], False),
        (Certificate(), ["tls_client_auth"], True),
        (Certificate(), ["self_signed_tls_client_auth"], True),
        (Certificate(), ["private_key_jwt"], False),
        (Certificate(), None, True),
    ],
)
def test_methods(method: Any, listed: Any, fits: bool) -> None:
    """A method that the server does not list is refused; without a list, any is accepted."""
    document = DOCUMENT | {SUPPORTED: listed}
    if fits:
        assert "token_url" in endpoints(document, auth_method=method)
        return
    error = refusal(document, auth_method=method)
    assert error.field == "auth_method"
    name = method if isinstance(method, str) else method.method
    assert error.wants.startswith(f"must be a method that the server lists, got {name!r}; ")


def test_shown_methods() -> None:
    """The error lists the known methods, and no other text of the server."""
    known = ["none", "tls_client_auth", "private_key_jwt"]
    error = refusal(DOCUMENT | {SUPPORTED: [*known, SECRET, "evil\ntext", 7, None, [], {}]})
    shown = "'private_key_jwt', 'tls_client_auth', 'none'"
    assert error.wants.endswith(f"{SUPPORTED} in {URL} has {shown}")
    assert refusal(DOCUMENT | {SUPPORTED: ["x"]}).wants.endswith("has only unknown methods")


@pytest.mark.parametrize("listed", ["client_secret_post", {"client_secret_post": 1}, 1, True])
def test_wrong_list_of_methods(listed: object) -> None:
    """A list of methods that is no array is an error of the issuer's metadata."""
    error = refusal(DOCUMENT | {SUPPORTED: listed})
    assert (error.field, f"{SUPPORTED} must be an array" in error.wants) == ("issuer", True)


@pytest.mark.parametrize("missing", [(), ("token_endpoint",), ("revocation_endpoint",)])
def test_aliases(missing: tuple[str, ...]) -> None:
    """Only a client with a certificate uses the aliases, as far as they exist."""
    aliases = {name: url for name, url in ALIASES.items() if name not in missing}
    document = DOCUMENT | {"mtls_endpoint_aliases": aliases | {"jwks_uri": 7}}
    used = DOCUMENT | aliases
    assert endpoints(document, auth_method=Certificate()) == {
        "token_url": used["token_endpoint"],
        "revoke_url": used["revocation_endpoint"],
    }
    assert endpoints(document) == endpoints(DOCUMENT)


@pytest.mark.parametrize(
    ("aliases", "wants"),
    [
        ([], "mtls_endpoint_aliases must be an object"),
        ("x", "mtls_endpoint_aliases must be an object"),
        ({"token_endpoint": "http://id.example"}, "token_endpoint must be an https URL"),
        ({"revocation_endpoint": 7}, "revocation_endpoint must be a URL"),
    ],
)
def test_wrong_aliases(aliases: object, wants: str) -> None:
    """Wrong aliases are refused, but only for a client with a certificate."""
    document = DOCUMENT | {"mtls_endpoint_aliases": aliases}
    assert wants in refusal(document, auth_method=Certificate()).wants
    assert endpoints(document) == endpoints(DOCUMENT)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([ISSUER, SECRET, "https://id.example/t", "http://id.example", "none"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from([*DOCUMENT, SUPPORTED, "mtls_endpoint_aliases"]), VALUES),
    st.booleans(),
)
def test_hostile_documents(members: dict[str, Any], has_certificate: bool) -> None:
    """Any document gives https endpoints, or a short ConfigError without the secret."""
    settings: dict[str, Any] = {"auth_method": Certificate()} if has_certificate else {}
    problem = None
    try:
        found = endpoints(DOCUMENT | members, **settings)
    except ConfigError as error:
        problem = error
    if problem is None:
        assert (DOCUMENT | members)["issuer"] == ISSUER
        assert all(url.startswith("https://") for url in found.values())
    else:
        assert_hides_secret(problem)
        assert problem.field in ("issuer", "auth_method")
        assert len(str(problem)) < 700
