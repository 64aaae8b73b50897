"""The check of the settings; it opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._errors import ConfigError
from .._ending import MISCONFIGURED
from ._result import Check

if TYPE_CHECKING:
    from ..._config import Config
    from .._flags import Source
    from .._settings import Settings

_QUOTES = ("'", '"')


def check_configuration(source: Source) -> tuple[Check, Config | None]:
    """Check that the settings are valid and were not pasted with white space or quotes."""
    advice = "Run the command with --show-config to see each setting and where it comes from."
    try:
        settings = source.settings()
        config = settings.config()
    except ConfigError as error:
        code = MISCONFIGURED
        return Check("configuration", "failed", str(error), advice, code), None
    odd = _oddly_pasted(settings)
    if odd:
        found = f"{', '.join(odd)} begins or ends with white space or a quote"
        advice = "Remove the white space or quote, unless it is part of the value."
        return Check("configuration", "warning", found, advice), config
    subject = (
        f"{config.box_subject_type} {config.box_subject_id}"
        if config.box_subject_type is not None
        else "no subject"
    )
    found = (
        f"client {config.client_id!r} ({settings.given['client_id'].source}), "
        f"secret ({settings.given['client_secret'].source}), {subject}, at {config.token_url}"
    )
    return Check("configuration", "ok", found), config


def _oddly_pasted(settings: Settings) -> list[str]:
    odd = []
    for name in ("client_id", "client_secret", "box_subject_id"):
        given = settings.given.get(name)
        if given is None:
            continue
        text = str(given.value)
        if text != text.strip() or text.startswith(_QUOTES) or text.endswith(_QUOTES):
            odd.append(f"{name} ({given.source})")
    return odd
