"""The `Copier` of a session's state."""

from __future__ import annotations

from tools.exploring.snapshots import Copier
from tools.lifecycle.bounds import Bounds
from tools.lifecycle.facts import Facts, Gone, Seat
from tools.lifecycle.world import World
from trio_anon_session import Config, TokenInfo, TokenRequestOptions
from trio_anon_session._dropped import Drop, DroppedTokens
from trio_anon_session._lifecycle import Caller, Lifecycle, Request
from trio_anon_session._rounds import Rounds

COPIED = (World, Facts, Lifecycle, Rounds, DroppedTokens, Request, Caller)

COPIER = Copier(
    {kind: tuple(kind.__slots__) for kind in COPIED},
    (Bounds, Config, Drop, Gone, Seat, TokenInfo, TokenRequestOptions),
    # `Doubling` is an object of the exploration without state.
    opaque=("Doubling",),
)
