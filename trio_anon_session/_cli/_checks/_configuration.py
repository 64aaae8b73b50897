"""The check of the settings; it opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._errors import ConfigError
from .._ending import MISCONFIGURED
from .._files import SECRET, secret_text
from ._result import Check

if TYPE_CHECKING:
    from .._flags import Source
    from .._settings import Settings

_WAYS = {
    SECRET: "secret",
    "client_key_file": "key",
    "client_assertion_file": "assertion",
    "client_cert_file": "certificate",
}
_QUOTES = ("'", '"')


def check_configuration(source: Source) -> tuple[Check, Settings | None]:
    """Check that the settings are valid and were not pasted with white space or quotes.

    Returns:
        The result, and the settings unless they cannot be read.
    """
    advice = "Run the command with --show-config to see each setting and where it comes from."
    settings = None
    try:
        settings = source.settings()
        config = settings.config()
    except ConfigError as error:
        code = MISCONFIGURED
        return Check("configuration", "failed", str(error), advice, code), settings
    odd = _oddly_pasted(settings)
    if odd:
        found = f"{', '.join(odd)} begins or ends with white space or a quote"
        advice = "Remove the white space or quote, unless it is part of the value."
        return Check("configuration", "warning", found, advice), settings
    subject = (
        f"{config.box_subject_type} {config.box_subject_id}"
        if config.box_subject_type is not None
        else "no subject"
    )
    way = settings.way or SECRET
    place = f"issuer {config.issuer}" if settings.discovers else f"at {config.token_url}"
    found = (
        f"client {config.client_id!r} ({settings.given['client_id'].source}), "
        f"{_WAYS[way]} ({settings.given[way].source}), {subject}, {place}"
    )
    return Check("configuration", "ok", found), settings


def _oddly_pasted(settings: Settings) -> list[str]:
    odd = []
    for name in ("client_id", "client_secret", "box_subject_id"):
        given = settings.given.get(name)
        if given is None:
            continue
        text = secret_text(given.value) if name == SECRET else str(given.value)
        if text != text.strip() or text.startswith(_QUOTES) or text.endswith(_QUOTES):
            odd.append(f"{name} ({given.source})")
    return odd
