"""`Config.discover`: the endpoints of an authorization server, from its metadata.

Everything but `discover` is without I/O. The metadata is public, so the requests have no
credentials. The client's secrets are still hidden in all texts of the server.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import trio

from ._advice import next_step_for_issuer
from ._backoff import parse_retry_after
from ._checks import check_issuer, check_url
from ._config import authentication_of, secrets_of
from ._errors import ConfigError, TokenUnavailableError
from ._exchange import Exchange, NoAnswer, get_request
from ._token import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._config import Config
    from ._exchange import Answer
    from ._http_libraries import HTTPClient
    from ._secrets import Secrets

ConfigT = TypeVar("ConfigT", bound="Config")

_FOUND_BY_DISCOVERY = ("token_url", "issuer")
_TEMPORARY_STATUSES = frozenset({408, 425, 429})
_SHOWN = 200
"""The most characters of a text of the server that an error shows."""

_SUPPORTED = "token_endpoint_auth_methods_supported"
_MUTUAL_TLS = ("tls_client_auth", "self_signed_tls_client_auth")
_METHODS = (
    "client_secret_post",
    "client_secret_basic",
    "client_secret_jwt",
    "private_key_jwt",
    *_MUTUAL_TLS,
    "none",
)
"""The methods that an error may show, if a server lists them."""


async def discover(
    made: type[ConfigT],
    issuer: str,
    client_id: str,
    http_client: HTTPClient | None,
    settings: Mapping[str, Any],
) -> ConfigT:
    """Return a config with the endpoints of an issuer: see `Config.discover`."""
    check_issuer("issuer", issuer)
    for name in _FOUND_BY_DISCOVERY:
        if name in settings:
            raise ConfigError(
                name,
                "must not be set: discover() finds it; to set it yourself, use Config(...)",
            )
    # All settings are checked before anything is sent.
    config = made(client_id=client_id, issuer=issuer, **settings)
    url, document = await find_metadata(config, issuer, http_client)
    has_revoke_url = settings.get("revoke_url") is not None
    return config.replace(**endpoints_in(document, url, config, has_revoke_url=has_revoke_url))


async def find_metadata(
    config: Config, issuer: str, http_client: HTTPClient | None
) -> tuple[str, dict[str, Any]]:
    """Return the URL of an issuer's metadata, and the metadata.

    Args:
        config: the limit of the requests, and the secrets to hide.
        issuer: the issuer identifier.
        http_client: the client, or None for one of its own.

    Raises:
        ConfigError: there is no metadata of this issuer.
        TokenUnavailableError: the server did not answer, or had a temporary error.
    """
    deadline = trio.current_time() + config.request_timeout
    problems = []
    async with aclosing(Exchange(http_client)) as exchange:
        for url in metadata_urls(issuer):
            answer = await exchange.send(
                get_request(url),
                secrets_of(config),
                limit=config.request_timeout,
                deadline=deadline,
            )
            document = document_in(answer)
            if isinstance(document, dict):
                return url, document
            problems.append(f"{url} answered {document}")
    raise ConfigError(
        "issuer",
        "must be the issuer identifier of a server with metadata (RFC 8414): "
        f"{' and '.join(problems)}; check the issuer, or set token_url with Config(...)",
    )


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Return the URLs at which an issuer may publish its metadata, in the order to try.

    RFC 8414 §3 inserts the well-known part before the path of the issuer. OpenID Connect Discovery
    §4 appends it. Both remove a slash at the end of the issuer.
    """
    scheme, _, rest = issuer.removesuffix("/").partition("://")
    host, slash, path = rest.partition("/")
    return (
        f"{scheme}://{host}/.well-known/oauth-authorization-server{slash}{path}",
        f"{scheme}://{host}{slash}{path}/.well-known/openid-configuration",
    )


def document_in(answer: Answer | NoAnswer) -> dict[str, Any] | str:
    """Return the metadata in a response, or the text what the response is instead.

    Raises:
        TokenUnavailableError: there is no response, or it is a temporary error.
    """
    if isinstance(answer, NoAnswer):
        error = TokenUnavailableError(f"no metadata of the authorization server: {answer.reason}")
        error.network_failure = answer.failure
    elif answer.status >= 500 or answer.status in _TEMPORARY_STATUSES:
        error = TokenUnavailableError(
            f"the metadata of the authorization server is not available: status {answer.status}",
            status_code=answer.status,
            retry_after=parse_retry_after(
                answer.headers.get("retry-after"), answer.headers.get("date"), time.time()
            ),
        )
    elif answer.status != 200:
        return f"status {answer.status}"
    else:
        document = parse_object(answer.body)
        # Some servers answer 200 with a page or an error for every path.
        if document is None or not isinstance(document.get("issuer"), str):
            return "status 200 without an issuer in a JSON object"
        return document
    error._is_scrubbed = True
    error.next_step = next_step_for_issuer(error)
    raise error


def endpoints_in(
    document: Mapping[str, Any], url: str, config: Config, *, has_revoke_url: bool
) -> dict[str, str]:
    """Return ``token_url`` and ``revoke_url`` of a config from the metadata of its issuer.

    Args:
        document: the metadata.
        url: the URL of the metadata.
        config: the issuer, and how the client authenticates.
        has_revoke_url: whether the user has set ``revoke_url``, which has priority.

    Raises:
        ConfigError: the metadata is that of another issuer, lacks a valid endpoint, or does not
            list the client's method.
    """
    known = secrets_of(config)
    if document.get("issuer") != config.issuer:
        # RFC 8414 §3.3: otherwise one server could pass off the endpoints of another as its own.
        shown = _shown_issuer(document.get("issuer"), known)
        raise ConfigError(
            "issuer",
            "must be equal to the issuer in the server's metadata, character by character: "
            f"{url} has {shown}; check the spelling, above all a slash at the end",
        )
    method = authentication_of(config).method
    _check_method(document, url, method)
    if method in _MUTUAL_TLS:
        document = {**document, **_aliases_in(document, url)}
    wanted = {"token_url": "token_endpoint"}
    if not has_revoke_url and document.get("revocation_endpoint") is not None:
        wanted["revoke_url"] = "revocation_endpoint"
    for member in wanted.values():
        try:
            check_url(member, document.get(member))
            _check_scheme(member, document[member], config)
        except ConfigError as error:
            problem = f"{member} {known.hide(error.wants, limit=_SHOWN)}"
        else:
            continue
        raise _wrong_metadata(url, problem)
    return {field: document[member] for field, member in wanted.items()}


def _shown_issuer(issuer: object, known: Secrets) -> str:
    """Return another issuer for an error message. Only a URL is shown, because it may be right."""
    if not isinstance(issuer, str):
        return "no str"
    try:
        check_issuer("issuer", issuer)
    except ConfigError:
        return "a str that is no issuer"
    return repr(known.hide(issuer, limit=_SHOWN))


def _check_scheme(field: str, url: str, config: Config) -> None:
    """Refuse a change from https to http.

    Otherwise, a server elsewhere could direct the credentials to a program on this machine.
    """
    if httpx.URL(config.issuer or "").scheme == "https" != httpx.URL(url).scheme:
        raise ConfigError(field, "must be an https URL, because the issuer is one")


def _aliases_in(document: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return the endpoints for clients with a certificate, where they differ (RFC 8705 §5)."""
    aliases = document.get("mtls_endpoint_aliases")
    if aliases is None:
        return {}
    if not isinstance(aliases, dict):
        raise _wrong_metadata(url, "mtls_endpoint_aliases must be an object")
    endpoints = ("token_endpoint", "revocation_endpoint")
    return {name: aliases[name] for name in endpoints if aliases.get(name) is not None}


def _check_method(document: Mapping[str, Any], url: str, method: str) -> None:
    """Raise if the server lists methods, and the client's method is not one of them."""
    listed = document.get(_SUPPORTED)
    # RFC 8414 §2 says that a server without a list has client_secret_basic. But many servers
    # without a list accept other methods, so nothing is refused.
    if listed is None:
        return
    if not isinstance(listed, list):
        raise _wrong_metadata(url, f"{_SUPPORTED} must be an array")
    accepted = _MUTUAL_TLS if method in _MUTUAL_TLS else (method,)
    if any(name in listed for name in accepted):
        return
    shown = [repr(name) for name in listed_methods(document)] or ["only unknown methods"]
    raise ConfigError(
        "auth_method",
        f"must be a method that the server lists, got {method!r}; "
        f"{_SUPPORTED} in {url} has {', '.join(shown)}",
    )


def listed_methods(document: Mapping[str, Any]) -> list[str]:
    """Return the known methods that a server lists. Others are texts of the server."""
    listed = document.get(_SUPPORTED)
    return [name for name in _METHODS if isinstance(listed, list) and name in listed]


def _wrong_metadata(url: str, problem: str) -> ConfigError:
    return ConfigError(
        "issuer",
        f"must be the issuer of a server with valid metadata: in {url}, {problem}; "
        "report this to the server's operator, or set token_url with Config(...)",
    )
