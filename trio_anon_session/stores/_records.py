"""What lies in a store, and under which name."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, TypeGuard

from .._errors import TokenUnavailableError
from .._secrets import Secrets, client_secrets
from .._token import LIFETIME_LIMIT, TokenInfo, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._config import Config
    from .._errors import TokenRequestError

_PUBLIC_PARAMS = ("audience", "resource")
"""Extra parameters whose values are no secrets."""


FORMAT = 1
"""The version of what is written. What has a later one is left alone."""


class ForeignRecordError(Exception):
    """Tells that a store holds what another configuration has put there."""


class LaterFormatError(Exception):
    """Tells that a store holds what a later version of this package has put there."""


def check_format(fields: Mapping[str, Any]) -> None:
    """Refuse what was written by a later version of this package.

    Raises:
        LaterFormatError: it was.
    """
    written = fields.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise LaterFormatError


def name_of(config: Config) -> str:
    """Return the name under which a store keeps a config's token.

    A fingerprint of endpoint, client, subject and scope, and of no secret: whoever can read a
    store's names could try secrets out on one.
    """
    return _digest(_public_facts(config))[:32]


def mark_of(access_token: str) -> str:
    """Return what a store knows a token by; nobody finds the token from it."""
    return _digest(access_token)


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _public_facts(config: Config) -> list[Any]:
    return [
        config.token_url,
        config.client_id,
        config.box_subject_type,
        config.box_subject_id,
        sorted((config.scope or "").split()),
        {
            name: value if name in _PUBLIC_PARAMS else None
            for name, value in config.extra_params.items()
        },
    ]


def _purpose_of(config: Config) -> str:
    """Return a fingerprint of all that a grant asks for, which lies beside its token alone."""
    return _digest([_public_facts(config), dict(config.extra_params)])


def token_record(token: TokenInfo, config: Config, owner: str) -> str:
    """Return a token as text for a store. What of it is not JSON stays here."""
    extra = dict(token.extra)
    try:
        json.dumps(extra)
    except (TypeError, ValueError, RecursionError):
        extra = {}
    return json.dumps(
        {
            "format": FORMAT,
            "purpose": _purpose_of(config),
            "owner": owner,
            "access_token": token.access_token,
            "lifetime": min(float(token.lifetime), LIFETIME_LIMIT),
            "token_type": token.token_type,
            "scope": token.scope,
            "extra": extra,
        },
        # A token manager of somebody else's may have put anything there.
        default=lambda _: None,
    )


def read_token_record(record: str, sent_at: float, config: Config) -> TokenInfo | None:
    """Return the token in a record, or None where there is none in it.

    Args:
        record: what was found in a store.
        sent_at: when its grant was sent, on Trio's clock.
        config: gives the buffers.

    Raises:
        ForeignRecordError: it is another configuration's.
        LaterFormatError: it is a later version's.
    """
    fields = _fields_of(record)
    check_format(fields)
    if "purpose" not in fields:
        return None
    if fields["purpose"] != _purpose_of(config):
        raise ForeignRecordError
    access_token, lifetime = fields.get("access_token"), fields.get("lifetime")
    scope, token_type, extra = fields.get("scope"), fields.get("token_type"), fields.get("extra")
    if not (isinstance(access_token, str) and isinstance(lifetime, float)):
        return None
    if not (0 < lifetime <= LIFETIME_LIMIT and isinstance(extra, dict)):
        return None
    try:
        return TokenInfo.from_answer(
            access_token,
            lifetime,
            sent_at,
            config,
            token_type=token_type if isinstance(token_type, str) else "bearer",
            scope=scope if isinstance(scope, str) else None,
            extra=extra,
        )
    except ValueError:
        return None


def owner_in(record: str) -> str | None:
    """Return who put a token there, where the record says so."""
    owner = _fields_of(record).get("owner")
    return owner if isinstance(owner, str) else None


OF_THE_FLEET = "the fleet's last attempt failed: "
"""How the message of another process's failure begins."""
_NAMES = ("error", "request_id")
_FACTS = (*_NAMES, "error_description", "next_step")
_MOST = 1000
"""Attempts that are counted. The pauses stop growing long before."""


def failure_record(error: TokenRequestError, count: int, config: Config) -> str:
    """Return as text, for the others, how an attempt failed.

    Args:
        error: how.
        count: how many attempts of the fleet in a row.
        config: has the secrets that must not be seen in it.
    """
    texts = {name: getattr(error, name) for name in _FACTS}
    texts["message"] = Exception.__str__(error)
    # A token manager of somebody else's may have put anything there.
    said = _shown({name: text for name, text in texts.items() if isinstance(text, str)}, config)
    status = error.status_code
    return json.dumps(
        {"count": count, "status_code": status if _is_whole(status) else None, **said}
    )


def read_failure_record(
    record: str, pause: float, config: Config
) -> tuple[TokenUnavailableError | None, int]:
    """Return what is to be raised of another process's failure, and the count.

    Args:
        record: what was found in a store; None and 0 where it is no such record.
        pause: seconds for which nobody is to try again.
        config: has the secrets that must not be seen in it.
    """
    fields = _fields_of(record)
    status, count = fields.get("status_code"), fields.get("count")
    texts = {name: fields.get(name) for name in ("message", *_FACTS)}
    if not _is_whole(count) or not (status is None or _is_whole(status)):
        return None, 0
    if not all(isinstance(text, str | None) for text in texts.values()):
        return None, 0
    # Whoever can write to the store can put any words there.
    said = _shown({name: text for name, text in texts.items() if text}, config)
    error = TokenUnavailableError(
        f"{OF_THE_FLEET}{said.get('message', 'no reason given')}",
        status_code=status,
        retry_after=pause or None,
        error=said.get("error"),
        error_description=said.get("error_description"),
        request_id=said.get("request_id"),
    )
    error.next_step = said.get("next_step")
    error._is_scrubbed = True
    return error, min(count, _MOST)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(texts: Mapping[str, str], config: Config) -> dict[str, str]:
    secrets = Secrets(*client_secrets(config.client_id, config.client_secret))
    return {
        name: secrets.name(text) if name in _NAMES else secrets.quote(text)
        for name, text in texts.items()
    }


def _fields_of(record: str) -> dict[str, Any]:
    return parse_object(record.encode(errors="replace")) or {}
