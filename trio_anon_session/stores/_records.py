"""Names of tokens in a store, and the records of tokens and failures."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, TypeGuard

from .._config import Config, secrets_of
from .._errors import TokenUnavailableError
from .._token import LIFETIME_LIMIT, TokenInfo, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._errors import TokenRequestError
    from .._secrets import Secrets

_PUBLIC_PARAMS = ("audience", "resource")
"""Extra parameters whose values are not secret."""


FORMAT = 1
"""Version of the record format. Records with a later version are neither read nor changed."""


class ForeignRecordError(Exception):
    """Error for a record of another configuration."""


class LaterFormatError(Exception):
    """Error for a record that a later version of this package wrote."""


def check_format(fields: Mapping[str, Any]) -> None:
    """Check that this version of the package can read a record.

    Raises:
        LaterFormatError: a later version of this package wrote it.
    """
    written = fields.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise LaterFormatError


def name_of(config: Config) -> str:
    """Return the name under which a store holds the token of a config.

    The name is a fingerprint of endpoint, client, subject and scope. It must not depend on a
    secret, because anyone who can read the names could use one to test guesses.
    """
    return _digest(_public_facts(config))[:32]


def mark_of(access_token: str) -> str:
    """Return the mark of a token: a digest from which the token cannot be computed."""
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
    """Return a fingerprint of all parameters of the token request, for the record of the token."""
    return _digest([_public_facts(config), dict(config.extra_params)])


def token_record(token: TokenInfo, config: Config, owner: str) -> str:
    """Return the record of a token. It omits ``extra`` if that is not JSON."""
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
        # A custom token manager can use values of any type.
        default=lambda _: None,
    )


def read_token_record(record: str, sent_at: float, config: Config) -> TokenInfo | None:
    """Return the token in a record; None if the record does not contain a token.

    Args:
        record: a record from a store.
        sent_at: when the token request was sent, on Trio's clock.
        config: contains the buffers.

    Raises:
        ForeignRecordError: the record belongs to another configuration.
        LaterFormatError: a later version of this package wrote the record.
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
            token_type=_token_type(token_type),
            scope=scope if isinstance(scope, str) else None,
            extra=extra,
        )
    except ValueError:
        return None


def _token_type(value: object) -> str:
    """Return the type in a record. The repr of a token shows it, so it must not be any text."""
    return value if isinstance(value, str) and value.lower() == "bearer" else "bearer"


def tokens_in(record: str) -> list[str]:
    """Return the token in a record, of any configuration; an empty list if it has no token."""
    token = _fields_of(record).get("access_token")
    return [token] if isinstance(token, str) else []


def owner_in(record: str) -> str | None:
    """Return the name of the process that put a token; None if the record has no name."""
    owner = _fields_of(record).get("owner")
    return owner if isinstance(owner, str) else None


OF_THE_FLEET = "the fleet's last attempt failed: "
"""Begin of the message of an error that another process received."""
_NAMES = ("error", "request_id")
_FACTS = (*_NAMES, "error_description", "next_step")
_MAX_COUNT = 1000
"""Maximum count of failed attempts. The pauses stop growing long before."""


def failure_record(error: TokenRequestError, count: int, config: Config) -> str:
    """Return the record of a failed attempt, for the other processes.

    Args:
        error: the error.
        count: number of failed attempts of the fleet in a row.
        config: contains the secrets that are removed from the record.
    """
    texts = {name: getattr(error, name) for name in _FACTS}
    texts["message"] = Exception.__str__(error)
    # A custom token manager can use values of any type.
    said = _shown(
        {name: text for name, text in texts.items() if isinstance(text, str)}, secrets_of(config)
    )
    status = error.status_code
    return json.dumps(
        {"count": count, "status_code": status if _is_whole(status) else None, **said}
    )


def read_failure_record(
    record: str, pause: float, config: Config
) -> tuple[TokenUnavailableError | None, int]:
    """Return the error to raise for another process's failure, and the count of failures.

    Args:
        record: a record from a store. If it is invalid, return None and 0.
        pause: seconds during which no process must try again.
        config: contains the secrets that are removed from the error.
    """
    fields = _fields_of(record)
    status, count = fields.get("status_code"), fields.get("count")
    texts = {name: fields.get(name) for name in ("message", *_FACTS)}
    if not _is_whole(count) or not (status is None or _is_whole(status)):
        return None, 0
    if not all(isinstance(text, str | None) for text in texts.values()):
        return None, 0
    # Any program with access to the store can write any text there.
    said = _shown({name: text for name, text in texts.items() if text}, secrets_of(config))
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
    return error, min(count, _MAX_COUNT)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def without_secrets(record: str, secrets: Secrets) -> str:
    """Return the record of a failed attempt without the given secrets.

    Use it where a record leaves or enters the process: other processes must not see the tokens of
    this one, and any program with access to the store can write a token into a record.
    """
    fields = _fields_of(record)
    texts = {name: fields.get(name) for name in ("message", *_FACTS)}
    said = _shown({name: text for name, text in texts.items() if isinstance(text, str)}, secrets)
    return json.dumps({**fields, **said}) if said else record


def _shown(texts: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    return {
        name: secrets.name(text) if name in _NAMES else secrets.quote(text)
        for name, text in texts.items()
    }


def _fields_of(record: str) -> dict[str, Any]:
    return parse_object(record.encode(errors="replace")) or {}
