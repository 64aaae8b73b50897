"""``token`` prints a token, and ``revoke`` revokes one."""

from __future__ import annotations

import json
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
from ._ending import EXIT_CODES, Subcommand, refuse, say_error
from ._flags import Source, takes_configuration, with_order

if TYPE_CHECKING:
    from .._config import Config
    from .._events import Event
    from .._manager import TokenSource
    from ..stores import SharedTokenManager, TokenStore

_HEADER = re.compile(r"^(authorization:\s*)?(bearer(\s+|$))?", re.IGNORECASE)
_WANTED = "trio-anon-session token | trio-anon-session revoke"


@click.command(
    cls=Subcommand,
    epilog=EXIT_CODES,
    help=with_order(
        """Print a valid access token.

    With --store it is the token of all who share that store: a new one is got where
    there is none, or where its end is nearer than --expired-buffer.

    \b
    Example:
      trio-anon-session token --header |
        curl -H @- https://api.box.com/2.0/folders/0"""
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print an object in one line of JSON.")
@click.option("--header", is_flag=True, help="Print a header line, as curl takes it.")
@takes_configuration(max_retries=2)
def token(source: Source, as_json: bool, header: bool) -> None:
    """Print a valid access token."""
    if as_json and header:
        refuse("--json and --header are two formats: give one of them")
    config, store = source.config(), source.make_store()
    if store is None:
        info, left = trio.run(_get_token, config)
    else:
        info, left = trio.run(_get_shared_token, config, store)
    if as_json:
        click.echo(json.dumps(_as_object(info, left)))
    elif header:
        click.echo(f"Authorization: Bearer {info.access_token}")
    else:
        click.echo(info.access_token)


async def _get_shared_token(config: Config, store: TokenStore) -> tuple[TokenInfo, float]:
    """Return the token of a store; a STALE one will do, and the run is over before its refresh."""
    from ..stores import SharedTokenManager

    async with SharedTokenManager(TokenManager(config), store) as manager:
        try:
            return await _get_token(config, _WithoutNews(manager))
        finally:
            _say_trouble(manager)


class _WithoutNews:
    """Is a shared token manager for a run that ends before there can be any news."""

    def __init__(self, manager: SharedTokenManager) -> None:
        self.get_tokens_client_credentials_grant = manager.get_tokens_client_credentials_grant
        self.revoke_tokens = manager.revoke_tokens


async def _get_token(config: Config, manager: TokenSource | None = None) -> tuple[TokenInfo, float]:
    """Return a token, and the seconds of its life that are left."""
    is_seen = sys.stderr is not None and sys.stderr.isatty()
    observers = [_tell_failure] if is_seen else []
    async with AnonymousSession(config, manager, observers=observers) as session:
        await session.get_access_token()
        info = session.token_info
        assert info is not None
        return info, info.sent_at + info.lifetime - trio.current_time()


def _tell_failure(event: Event) -> None:
    """Tell whoever waits at a terminal why it takes so long."""
    if isinstance(event, RefreshFailed) and not event.round_over:
        said = event.error.removeprefix(f"{event.kind}: ")
        say_error(f"attempt {event.attempt} failed, the next in {event.retry_in:.1f} s: {said}")


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
    surplus = f"takes no token as an argument, which everybody on this machine sees: {_WANTED}"


@click.command(
    cls=_Revoke,
    epilog=EXIT_CODES,
    help=with_order(
        f"""Revoke a token that is given on standard input.

    It may be the token alone, the line of 'token --header', or the object of
    'token --json'. It is revoked at the configured server, in the name of the
    configured client, which should be the one that got it. With --store, those who
    share it there stop handing it out.

    \b
    Example:
      {_WANTED}"""
    ),
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    default="-",
    help="A file that holds the token.  [default: standard input]",
)
@takes_configuration(max_retries=2)
def revoke(source: Source, token_file: Path) -> None:
    """Revoke a token."""
    config, store = source.config(), source.make_store()
    is_stdin = os.fspath(token_file) == "-"
    if is_stdin and source.reads_stdin:
        refuse("secret and token cannot both come by standard input")
    # Python has no stream where a shell has closed it.
    if is_stdin and (sys.stdin is None or sys.stdin.isatty()):
        refuse(f"wants a token on standard input: {_WANTED}")
    with click.open_file(os.fspath(token_file), "rb") as file:
        access_token = read_token(file.read())
    told = ""
    if store is None:
        trio.run(_revoke, config, access_token)
    elif trio.run(_revoke_shared, config, access_token, store):
        told = "; those who share it have been told"
    else:
        told = "; those who share it have not been told"
    # RFC 7009 §2.2: a server says the same of a token that it has never seen.
    mark = fingerprint(access_token)
    click.echo(f"token {mark} is revoked, or the server does not know it as this client's{told}")


def read_token(content: bytes) -> str:
    """Return the token in what ``token`` prints, in any of its formats.

    Raises:
        ConfigError: there is none, or it is none.
    """
    text = content.decode(errors="replace").strip()
    fields = parse_object(content)
    if fields is not None:
        found = fields.get("access_token")
        text = found if isinstance(found, str) else ""
    else:
        text = _HEADER.sub("", text)
    if not text:
        raise ConfigError("token", f"none came: {_WANTED}")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError("token", "wants one token, and nothing else beside it")
    return text


async def _revoke(config: Config, access_token: str) -> None:
    async with TokenManager(config) as manager:
        await _revoke_by(manager, config, access_token)


async def _revoke_shared(config: Config, access_token: str, store: TokenStore) -> bool:
    """Revoke a token, and return whether those who share it know."""
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
    """Say what is wrong with the store; the run goes on without it."""
    if manager.trouble is not None:
        say_error(manager.trouble)
