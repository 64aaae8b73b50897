"""``token`` prints a token, and ``revoke`` revokes one."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from .._errors import ConfigError
from .._events import RefreshFailed
from .._manager import TokenManager
from .._revocation import Revocation
from .._secrets import fingerprint
from .._session import AnonymousSession
from .._token import TokenInfo, parse_object
from ._ending import Subcommand, exit_codes, refuse, say_error
from ._files import FilePath
from ._flags import Source, takes_configuration, with_order
from ._output import say, say_json
from ._wording import failure_text

if TYPE_CHECKING:
    from .._config import Config
    from .._events import Event
    from .._manager import TokenSource
    from ..stores import SharedTokenManager, TokenStore

_HEADER = re.compile(r"^(authorization:\s*)?(bearer(\s+|$))?", re.IGNORECASE)
_USAGE = "trio-anon-session token | trio-anon-session revoke"


@click.command(
    cls=Subcommand,
    epilog=exit_codes("token"),
    help=with_order(
        """Print a valid access token.

    With --store, the token is shared with all processes that use that store. The
    command requests a new token if the store has none, or if less than
    --expired-buffer seconds of its lifetime are left.

    \b
    Example:
      trio-anon-session token --header |
        curl -H @- https://api.box.com/2.0/folders/0"""
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@click.option("--header", is_flag=True, help="Print an Authorization header line for curl.")
@takes_configuration(max_retries=2)
def token(source: Source, as_json: bool, header: bool) -> None:
    """Print a valid access token."""
    if as_json and header:
        refuse("--json and --header cannot be combined; use one of them")
    config, store = source.config(), source.make_store()
    if store is None:
        info, left = trio.run(_get_token, config)
    else:
        info, left = trio.run(_get_shared_token, config, store)
    if as_json:
        say_json(_as_object(info, left))
    elif header:
        say(f"Authorization: Bearer {info.access_token}")
    else:
        say(info.access_token)


async def _get_shared_token(config: Config, store: TokenStore) -> tuple[TokenInfo, float]:
    """Return the token of a store; a STALE token is returned without a refresh."""
    from ..stores import SharedTokenManager

    async with SharedTokenManager(TokenManager(config), store) as manager:
        try:
            return await _get_token(config, _WithoutNotifications(manager))
        finally:
            _say_trouble(manager)


class _WithoutNotifications:
    """A shared token manager without notifications, which a short run does not need."""

    def __init__(self, manager: SharedTokenManager) -> None:
        self.get_tokens_client_credentials_grant = manager.get_tokens_client_credentials_grant
        self.revoke_tokens = manager.revoke_tokens


async def _get_token(config: Config, manager: TokenSource | None = None) -> tuple[TokenInfo, float]:
    """Return a token, and its remaining lifetime in seconds."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    observers = [_report_failure] if is_terminal else []
    async with AnonymousSession(config, manager, observers=observers) as session:
        await session.get_access_token()
        info = session.token_info
        assert info is not None
        return info, info.sent_at + info.lifetime - trio.current_time()


def _report_failure(event: Event) -> None:
    """Print a failed attempt, so that a user at a terminal knows why the command waits."""
    if isinstance(event, RefreshFailed) and not event.round_over:
        failure = failure_text(event)
        say_error(f"attempt {event.attempt} failed, retry in {event.retry_in:.1f} s: {failure}")


def _as_object(info: TokenInfo, left: float) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "access_token": info.access_token,
        "token_type": info.token_type,
        "expires_in": max(0, math.floor(left)),
    }
    if info.scope is not None:
        shown["scope"] = info.scope
    return shown


class _Revoke(Subcommand):
    surplus = (
        "takes no token as an argument, because other users of this machine can read arguments; "
        f"use: {_USAGE}"
    )


@click.command(
    cls=_Revoke,
    epilog=exit_codes("revoke"),
    help=with_order(
        f"""Revoke the token on standard input.

    The input may be the output of 'token', 'token --header' or 'token --json'. The
    configured client sends the revocation to the configured server; it should be the
    client that requested the token. With --store, all processes that share the token
    stop using it.

    \b
    Example:
      {_USAGE}"""
    ),
)
@click.option(
    "--token-file",
    type=FilePath(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    default="-",
    help="A file that contains the token.  [default: standard input]",
)
@takes_configuration(max_retries=2)
def revoke(source: Source, token_file: Path) -> None:
    """Revoke a token."""
    config, store = source.config(), source.make_store()
    is_stdin = os.fspath(token_file) == "-"
    if is_stdin and source.reads_stdin:
        refuse("the secret and the token cannot both come from standard input")
    # sys.stdin is None if the shell closed it.
    if is_stdin and (sys.stdin is None or sys.stdin.isatty()):
        refuse(f"the token must come from standard input; use: {_USAGE}")
    with click.open_file(os.fspath(token_file), "rb") as file:
        access_token = read_token(file.read())
    sharing = ""
    if store is None:
        trio.run(_revoke, config, access_token)
    elif trio.run(_revoke_shared, config, access_token, store):
        sharing = "; the processes that share it were notified"
    else:
        sharing = "; the processes that share it could not be notified"
    # RFC 7009 §2.2: servers send the same response for a token that they do not know.
    mark = fingerprint(access_token)
    say(f"token {mark} is revoked, or is not a token of this client{sharing}")


def read_token(content: bytes) -> str:
    """Return the token in the output of ``token``, in any of its formats.

    Raises:
        ConfigError: The input is empty, or is not a token.
    """
    text = content.decode(errors="replace").strip()
    fields = parse_object(content)
    if fields is not None:
        found = fields.get("access_token")
        text = found if isinstance(found, str) else ""
    else:
        text = _HEADER.sub("", text)
    if not text:
        raise ConfigError("token", f"the input is empty; use: {_USAGE}")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError("token", "the input must be one token and nothing else")
    return text


async def _revoke(config: Config, access_token: str) -> None:
    async with TokenManager(config) as manager:
        await _revoke_by(manager, config, access_token)


async def _revoke_shared(config: Config, access_token: str, store: TokenStore) -> bool:
    """Revoke a token, and return whether the processes that share it were notified."""
    from ..stores import SharedTokenManager

    async with SharedTokenManager(TokenManager(config), store) as manager:
        try:
            await _revoke_by(manager, config, access_token)
        finally:
            _say_trouble(manager)
        return manager.trouble is None


async def _revoke_by(manager: TokenSource, config: Config, access_token: str) -> None:
    info = TokenInfo.from_answer(access_token, 1.0, trio.current_time(), config)
    revocation = Revocation(info)
    await revocation.run(manager, config)
    await revocation.wait()


def _say_trouble(manager: SharedTokenManager) -> None:
    """Print the problem of the store; the run continues without it."""
    if manager.trouble is not None:
        say_error(manager.trouble)
