"""The `Copier` of a fleet's state."""

from __future__ import annotations

import attrs

from tools.claimant.bounds import Bounds
from tools.claimant.referee import Fact, Referee
from tools.claimant.world import Call, Lane, Process, World
from tools.exploring.snapshots import Copier
from trio_anon_session import (
    Config,
    CredentialsRejectedError,
    TokenInfo,
    TokenRequestError,
)
from trio_anon_session._dropped import Drop, DroppedTokens
from trio_anon_session.stores._claimant import Claim, Claimant, Question
from trio_anon_session.stores._clock import Span
from trio_anon_session.stores._entry import Entry, Failure, Lease, Token
from trio_anon_session.stores._known import KnownTokens, _HandedOut

KNOWN_TOKENS = ("_dropped", "_handed_out", "_last", "_longest", "_reported_at", "missing", "untold")
"""The attributes of `KnownTokens`, which has no slots."""
ENTRY = tuple(field.name for field in attrs.fields(Entry))

COPIER = Copier(
    {
        **{kind: tuple(kind.__slots__) for kind in (World, Process, Lane, Referee)},
        **{kind: tuple(kind.__slots__) for kind in (Claimant, Question, DroppedTokens)},
        KnownTokens: KNOWN_TOKENS,
        Entry: ENTRY,
    },
    (
        *(Bounds, Config, Call, Claim, Fact, Drop, Failure, Lease, Span, Token, _HandedOut),
        *(TokenInfo, CredentialsRejectedError, TokenRequestError),
    ),
    opaque=("Rising", "function"),
)
