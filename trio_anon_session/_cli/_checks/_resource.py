"""The checks with ``--url``: whether its API gets the token, and accepts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import trio

from ..._challenges import means_invalid_token
from ..._config import for_prefix
from ..._origins import (
    Origin,
    default_origins,
    listed_origins,
    may_have_token,
    origin_of,
    shown_origin,
)
from .._ending import MISCONFIGURED
from ._result import Check

if TYPE_CHECKING:
    from ..._config import Config

_URL_PROBLEM = "--url must be a valid URL with https, or with http to this machine"


def check_origin(url: str, config: Config) -> Check:
    """Check that ``session.auth()`` sends the token to a URL, without sending anything."""
    name = "origin"
    origin = _origin_for_token(url)
    if origin is None:
        # The message does not quote the URL, which may contain a password.
        advice = "Use a URL such as https://api.box.com/2.0/folders/0."
        return Check(name, "failed", _URL_PROBLEM, advice, MISCONFIGURED)
    shown, allowed = shown_origin(origin), default_origins(config)
    if origin in allowed:
        return Check(name, "ok", f"session.auth() sends the token to {shown}")
    found = f"session.auth() does not send the token to {shown}, only to {listed_origins(allowed)}"
    if not allowed:
        found = (
            "session.auth() has no default origins: api_root_url is Box's, and token_url is on "
            "another server"
        )
    setting = for_prefix("api_root_url (--api-root-url, BOX_API_ROOT_URL)", config)
    advice = f"Set {setting} to {shown}, or add it to session.auth(origins=[...])."
    return Check(name, "warning", found, advice)


def _origin_for_token(text: str) -> Origin | None:
    """Return the origin of a URL, or None if no token can be sent there."""
    try:
        url = httpx.URL(text)
        # httpx decodes the host only when it is read, and that can raise.
        found = origin_of(url) if url.host else None
    except (httpx.InvalidURL, ValueError):
        return None
    return found if found is not None and may_have_token(found) else None


async def check_resource(
    client: httpx.AsyncClient, url: str, access_token: str, limit: float
) -> Check:
    """Check that a protected resource accepts the token."""
    name = "resource"
    answer = await _call(client, url, access_token, limit)
    if isinstance(answer, str):
        return Check(name, "failed", answer, "Check --url, and that this machine can reach it.")
    status, is_dead = answer
    found = f"GET {_plain(url)} answered {status}"
    if 200 <= status < 300:
        return Check(name, "ok", found)
    if status == 401 and is_dead:
        advice = (
            "The API does not accept this token. Check that the token endpoint belongs to the API, "
            "and whether it requires an audience (--param audience=...)."
        )
        return Check(name, "failed", found, advice)
    if status in (401, 403):
        advice = "The token lacks permission. Check the app's permissions, subject and scope."
        return Check(name, "failed", found, advice)
    if status == 404:
        advice = (
            "The API found nothing. Check --url, and whether the token's owner has access to it."
        )
        return Check(name, "warning", found, advice)
    if 300 <= status < 400:
        return Check(name, "warning", found, "Use the URL that it redirects to.")
    advice = "Try again later." if status >= 500 or status == 429 else "Check --url."
    return Check(name, "failed", found, advice)


async def check_revoked_token(
    client: httpx.AsyncClient, url: str, access_token: str, limit: float
) -> Check:
    """Check that a protected resource rejects the revoked token."""
    name = "revoked token"
    answer = await _call(client, url, access_token, limit)
    if isinstance(answer, str):
        return Check(name, "failed", answer, "Try again later.")
    status, _ = answer
    found = f"GET {_plain(url)} answered {status} to the revoked token"
    if status == 401:
        return Check(name, "ok", found)
    advice = (
        "The API still accepts the revoked token. Some APIs do so until the token expires; do not "
        "rely on revocation with this API."
    )
    return Check(name, "warning", found, advice)


async def _call(
    client: httpx.AsyncClient, text: str, access_token: str, limit: float
) -> tuple[int, bool] | str:
    """Return a status and whether it means an invalid token, or the reason for a failed request."""
    if _origin_for_token(text) is None:
        return _URL_PROBLEM
    headers = {"Authorization": f"Bearer {access_token}"}
    # A cookie of the previous call must not authorize this one.
    client.cookies.clear()
    try:
        with trio.fail_after(limit):
            async with client.stream("GET", text, headers=headers) as response:
                challenge = response.headers.get("WWW-Authenticate", "")
                return response.status_code, means_invalid_token(challenge) is True
    except trio.TooSlowError:
        return f"GET {_plain(text)}: no answer within {limit:g} s"
    except Exception as error:
        # The run must continue after every failure, so that the token is revoked.
        return f"GET {_plain(text)} failed: {type(error).__name__}"


def _plain(text: str) -> str:
    """Return a URL without user, password, query and fragment, which may be secret."""
    url = httpx.URL(text)
    port = f":{url.port}" if url.port is not None else ""
    return f"{url.scheme}://{url.host}{port}{url.path}"
