"""Letters for tokens, so that pictures and messages contain no token."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from .log import Came

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .log import Entry


def token_names(log: Sequence[Entry]) -> dict[str, str]:
    """Return a name for each token in a log, in the order of arrival."""
    texts = (
        entry.what.token.access_token
        for entry in log
        if isinstance(entry.what, Came) and entry.what.token is not None
    )
    return letters(texts)


def letters(texts: Iterable[str]) -> dict[str, str]:
    """Return A, B, … Z, A1, B1, … for the distinct texts."""
    names: dict[str, str] = {}
    for text in texts:
        if text not in names:
            round_, letter = divmod(len(names), len(string.ascii_uppercase))
            names[text] = string.ascii_uppercase[letter] + (str(round_) if round_ else "")
    return names
