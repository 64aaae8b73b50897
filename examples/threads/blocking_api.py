"""Blocking code that calls the API, and knows nothing of Trio."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def look_up(
    url: str, get_access_token: Callable[[], str], invalidate: Callable[[str], None]
) -> Any:
    """Return what the API tells of an item.

    Args:
        url: of the item.
        get_access_token: returns a token that is good now.
        invalidate: is told of a token that the API says is dead.
    """
    is_new = False
    while True:
        token = get_access_token()
        request = urllib.request.Request(url)  # noqa: S310  # the program's own https URL
        # Not for a redirect to elsewhere, to which urllib sends all other headers along.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # likewise
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                challenge = error.headers.get("WWW-Authenticate", "")
            is_dead = error.code == 401 and 'error="invalid_token"' in challenge
            # Once is enough: what is wrong with a new token is not its age.
            if not is_dead or is_new:
                raise
        invalidate(token)
        is_new = True
