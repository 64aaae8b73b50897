"""The check of the metadata that the issuer publishes (RFC 8414)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._config import for_prefix
from ..._discovery import endpoints_in, find_metadata, listed_methods
from ..._environment import listed
from ..._errors import ConfigError, TokenUnavailableError
from .._ending import MISCONFIGURED, UNAVAILABLE
from ._result import Check, Verdict

if TYPE_CHECKING:
    import httpx

    from ..._config import Config
    from .._settings import Settings

_NAME = "issuer"
_CERTIFICATE = "--client-cert-file (BOX_CLIENT_CERT_FILE)"
_HOW = {
    **{
        name: f"--auth-method {name} (BOX_AUTH_METHOD), with a secret"
        for name in ("client_secret_post", "client_secret_basic", "client_secret_jwt")
    },
    "private_key_jwt": (
        "--client-key-file (BOX_CLIENT_KEY_FILE) or --client-assertion-file "
        "(BOX_CLIENT_ASSERTION_FILE)"
    ),
    "tls_client_auth": _CERTIFICATE,
    "self_signed_tls_client_auth": _CERTIFICATE,
}
"""How to use each method."""


async def check_issuer(
    settings: Settings, config: Config, http_client: httpx.AsyncClient | None = None
) -> tuple[Check, Config | None]:
    """Check the metadata of the issuer, and return the config with the endpoints in it.

    If ``token_url`` is set, it has priority, and wrong metadata is only a warning.

    Args:
        settings: the settings.
        config: the config made from them, without the metadata.
        http_client: the client to use, or None for one of its own.
    """
    issuer = config.issuer or ""
    verdict: Verdict = "failed" if settings.discovers else "warning"
    fallback = None if settings.discovers else config
    found, advice, code = "", None, MISCONFIGURED
    methods: list[str] = []
    try:
        url, document = await find_metadata(config, issuer, http_client)
        methods = listed_methods(document)
        has_revoke_url = "revoke_url" in settings.given
        endpoints = endpoints_in(document, url, config, has_revoke_url=has_revoke_url)
    except ConfigError as error:
        found = str(settings.with_source(error))
        if error.field == "auth_method":
            advice = for_prefix(_advice_for(methods), config)
    except TokenUnavailableError as error:
        found = str(error).removesuffix(error.next_step or "").rstrip(". ")
        advice, code = error.next_step, UNAVAILABLE
    else:
        return _compared(settings, config, methods, endpoints)
    return Check(_NAME, verdict, found, advice, code), fallback


def _compared(
    settings: Settings, config: Config, methods: list[str], endpoints: dict[str, str]
) -> tuple[Check, Config]:
    known = f"; it lists {listed([*map(repr, methods)], 'and')}" if methods else ""
    found = f"the metadata of {config.issuer} is valid{known}"
    if settings.discovers:
        return Check(_NAME, "ok", found), config.replace(**endpoints)
    if endpoints["token_url"] != config.token_url:
        found += f"; its token endpoint is {endpoints['token_url']}, not {config.token_url}"
        advice = "Remove token_url to use the metadata, or check it and issuer."
        return Check(_NAME, "warning", found, advice), config
    return Check(_NAME, "ok", found), config


def _advice_for(methods: list[str]) -> str:
    usable = [f"{name}: {_HOW[name]}" for name in methods if name in _HOW]
    if not usable:
        return "The command supports no method of this server."
    return f"Use a method that the server lists. {'; '.join(usable)}."
