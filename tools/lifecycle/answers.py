"""The answers of a token manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.lifecycle.bounds import EXPIRED_AGE, LIFETIME, STALE_AGE
from trio_anon_session import (
    CredentialsRejectedError,
    TokenInfo,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from tools.lifecycle.facts import Facts

Event = tuple[object, ...]
"""The name of an event, and the arguments of its function."""

NAMES = "ABCDEFGH"
"""Names of tokens. A name is used again after the session has forgotten its token."""


def _with(error: TokenRequestError, **facts: bool) -> TokenRequestError:
    vars(error).update(facts)
    return error


FAILURES: dict[str, object] = {
    "bad": TokenRequestError("bad"),
    "rejected": CredentialsRejectedError("rejected"),
    "nonsense": "not a TokenInfo",
    "foreign": LookupError("foreign"),
    "renewed": _with(CredentialsRejectedError("renewed"), _has_new_credentials=True),
    "local": _with(TokenUnavailableError("local"), _is_local=True),
}
"""Answers without a token. All other failures are retryable, too."""


def token_named(name: str, sent_at: float) -> TokenInfo:
    """Return a token."""
    return TokenInfo(name, LIFETIME, sent_at, sent_at + STALE_AGE, sent_at + EXPIRED_AGE)


def possible_answers(facts: Facts) -> list[Event]:
    """Return every answer to the request in flight, each as an event.

    The last two items are the token, and when its request was sent. A shared token manager can
    answer with the token of another process. This token can be older, or requested during this
    request.
    """
    token, gone = facts.token, facts.gone
    used = {*gone, *facts.under_way}
    if token is not None:
        used.add(token.access_token)
    new = next(name for name in NAMES if name not in used)
    found: list[Event] = [_NEW[new], *_FAILURES[:2]]
    if token is not None:
        found.append(("answer", "the same", token.access_token, "sent"))
    if not facts.bounds.all_answers:
        return found
    found += (*_FAILURES[2:], _OLDER[new])
    if facts.now > facts.sent_at:
        found.append(("answer", "shared", new, "now"))
    for name, drop in gone.items():
        found.append(("answer", "granted again", name, "sent"))
        if not drop.is_revoked:
            found.append(("answer", "a copy", name, "as dropped"))
            if drop.dropped_at - 1.0 > drop.sent_at:
                found.append(("answer", "a copy", name, "just before the drop"))
    return found


_FAILURES: tuple[Event, ...] = tuple(("answer", kind) for kind in FAILURES)
_NEW: dict[str, Event] = {name: ("answer", "new", name, "sent") for name in NAMES}
_OLDER: dict[str, Event] = {name: ("answer", "shared", name, "before") for name in NAMES}
