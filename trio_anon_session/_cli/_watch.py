"""``watch``: keeps a session open, and shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from .._errors import CredentialsRejectedError, TokenRequestError
from .._manager import TokenManager
from .._session import AnonymousSession
from .._token import TokenState
from ._ending import REJECTED, UNAVAILABLE, Seconds, Subcommand, exit_codes, refuse
from ._flags import Source, takes_configuration, with_order
from ._output import say
from ._wording import counted

if TYPE_CHECKING:
    from .._config import Config
    from .._manager import TokenSource
    from ..stores import TokenStore
    from ._fleet import Fleet
    from ._view import View

_CALL_INTERVAL = 1.0
"""Seconds between two calls of ``get_access_token()``."""


@click.command(
    cls=Subcommand,
    epilog=exit_codes("watch"),
    help=with_order(
        """Keep a token alive, and show what happens, until Ctrl-C.

    On a terminal, watch shows a live panel. Elsewhere it prints a line for each
    event, and a status line every ten seconds. It asks the session for the token once
    a second, as a program would. The exit code is 0 if the token is usable at the end,
    also after Ctrl-C. With --store, watch also shows the processes that share the
    token.

    \b
    Example:
      trio-anon-session watch --stale-buffer 300"""
    ),
)
@click.option("--seconds", type=Seconds(min=0, min_open=True), help="Stop after this many seconds.")
@click.option(
    "--every",
    type=Seconds(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds between two status lines without a terminal.",
)
@click.option("--revoke-on-exit", is_flag=True, help="Revoke the token at the end.")
@takes_configuration()
def watch(source: Source, seconds: float | None, every: float, revoke_on_exit: bool) -> None:
    """Keep a session open, and show it."""
    config = source.config().replace(revoke_on_exit=revoke_on_exit)
    settings = source.store_settings()
    if settings is None:
        raise SystemExit(trio.run(run_watch, config, seconds, every))
    if revoke_on_exit:
        refuse(
            "--revoke-on-exit would revoke the token of all processes that share the store; if you "
            "want that, run: trio-anon-session token | trio-anon-session revoke (both with --store)"
        )
    raise SystemExit(
        trio.run(watch_fleet, config, seconds, every, settings.make(), settings.shown())
    )


async def watch_fleet(
    config: Config, seconds: float | None, every: float, store: TokenStore, place: str
) -> int:
    """Show a session whose token is shared, and return the exit code.

    Args:
        config: settings of the session.
        seconds: duration in seconds; None until Ctrl-C.
        every: seconds between two status lines without a terminal.
        store: the store that shares the token.
        place: the store's location, as it is printed.
    """
    from ..stores import SharedTokenManager
    from ._fleet import Fleet

    async with SharedTokenManager(TokenManager(config), store) as manager:
        return await run_watch(config, seconds, every, manager, Fleet(manager, place))


async def run_watch(
    config: Config,
    seconds: float | None,
    every: float,
    token_manager: TokenSource | None = None,
    fleet: Fleet | None = None,
) -> int:
    """Show a session, and return the exit code.

    Args:
        config: settings of the session.
        seconds: duration in seconds; None until Ctrl-C.
        every: seconds between two status lines without a terminal.
        token_manager: the token manager; None for a new `TokenManager`.
        fleet: the state of the store, if the token is shared.
    """
    from ._view import View, make_console

    console = make_console()
    view = View(trio.current_time(), seconds, every, shows_trouble=True, fleet=fleet)
    async with AnonymousSession(config, token_manager, observers=[view.observe]) as session:
        view.session = session
        caller = _Caller(session, view)
        view.say(f"client {config.client_id!r} at {config.token_url}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.run)
            if fleet is not None:
                nursery.start_soon(fleet.follow, view.say)
            await view.show(console)
            nursery.cancel_scope.cancel()
        seen = session.statistics()
        watched = trio.current_time() - view.began_at
    figures = counted(view.grants(seen) | {"failures": seen.failures})
    say(f"watched for {watched:.1f} s: {figures}; the token was {seen.state.name} at the end")
    if seen.state in (TokenState.FRESH, TokenState.STALE):
        return 0
    return REJECTED if caller.is_rejected else UNAVAILABLE


class _Caller:
    """A task that asks for the token once a second, and shows failures."""

    def __init__(self, session: AnonymousSession, view: View) -> None:
        self._session = session
        self._view = view
        self.is_rejected = False

    async def run(self) -> None:
        while True:
            pause = _CALL_INTERVAL
            try:
                await self._session.get_access_token()
                self.is_rejected = False
            except TokenRequestError as error:
                self.is_rejected = isinstance(error, CredentialsRejectedError)
                pause = max(pause, error.retry_after or 0.0)
                # The failed attempt has already shown the reason.
                self._view.say(f"! no token, next call in {pause:.0f} s")
            await trio.sleep(pause)
