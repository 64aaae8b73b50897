"""Blocking code that calls the API without Trio."""

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
    """Return what the API knows about an item.

    Args:
        url: the URL of the item.
        get_access_token: returns a token that is valid now.
        invalidate: called with a token that the API refused as invalid.
    """
    is_new = False
    while True:
        token = get_access_token()
        request = urllib.request.Request(url)  # noqa: S310  # the program's own https URL
        # urllib sends all other headers also to the target of a redirect.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # the program's own https URL
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                challenge = error.headers.get("WWW-Authenticate", "")
            is_dead = error.code == 401 and 'error="invalid_token"' in challenge
            # If the API refuses a new token too, another one does not help.
            if not is_dead or is_new:
                raise
        invalidate(token)
        is_new = True
