"""``watch``: a session for the configuration that is there, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from .._errors import CredentialsRejectedError, TokenRequestError
from .._manager import TokenManager
from .._session import AnonymousSession
from .._token import TokenState
from ._ending import EXIT_CODES, REJECTED, UNAVAILABLE, Seconds, Subcommand, refuse
from ._flags import Source, takes_configuration, with_order
from ._wording import counted

if TYPE_CHECKING:
    from .._config import Config
    from .._manager import TokenSource
    from ..stores import TokenStore
    from ._fleet import Fleet
    from ._view import View

_ASK_EVERY = 1.0
"""Seconds; as a program with some traffic does."""


@click.command(
    cls=Subcommand,
    epilog=EXIT_CODES,
    help=with_order(
        """Keep a token alive, and show what happens, until Ctrl-C.

    On a terminal this is a panel that changes; elsewhere it is a line for each
    thing that happens, and one every ten seconds.
    It asks for the token once a second, as a program would.
    The exit code is 0 if there is a usable token at the end, also after Ctrl-C.
    With --store it is one of those who share the token there, and shows what the
    others do.

    \b
    Example:
      trio-anon-session watch --stale-buffer 300"""
    ),
)
@click.option("--seconds", type=Seconds(min=0, min_open=True), help="End after so many seconds.")
@click.option(
    "--every",
    type=Seconds(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds between two lines, where there is no terminal.",
)
@click.option("--revoke-on-exit", is_flag=True, help="Revoke the token at the end.")
@takes_configuration()
def watch(source: Source, seconds: float | None, every: float, revoke_on_exit: bool) -> None:
    """Keep a session, and show it."""
    config = source.config().replace(revoke_on_exit=revoke_on_exit)
    settings = source.store_settings()
    if settings is None:
        raise SystemExit(trio.run(run_watch, config, seconds, every))
    if revoke_on_exit:
        refuse(
            "--revoke-on-exit would end the token of all who share the store; to want that: "
            "trio-anon-session token | trio-anon-session revoke, each with the store"
        )
    raise SystemExit(
        trio.run(watch_fleet, config, seconds, every, settings.make(), settings.shown())
    )


async def watch_fleet(
    config: Config, seconds: float | None, every: float, store: TokenStore, place: str
) -> int:
    """Show a session whose token is shared, as `run_watch` does.

    Args:
        config: its settings.
        seconds: how long; None until Ctrl-C.
        every: seconds between two lines, where there is no terminal.
        store: where it is shared.
        place: where that is, as it is shown.
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
        config: its settings.
        seconds: how long; None until Ctrl-C.
        every: seconds between two lines, where there is no terminal.
        token_manager: the session's, if not its own.
        fleet: what is seen of a store, if the token is shared.
    """
    from ._view import View, make_console

    console = make_console()
    view = View(trio.current_time(), seconds, every, shows_trouble=True, fleet=fleet)
    async with AnonymousSession(config, token_manager, observers=[view.observe]) as session:
        view.session = session
        asker = _Asker(session, view)
        view.say(f"client {config.client_id!r} at {config.token_url}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker.ask)
            if fleet is not None:
                nursery.start_soon(fleet.follow, view.say)
            await view.show(console)
            nursery.cancel_scope.cancel()
        seen = session.statistics()
        watched = trio.current_time() - view.began_at
    figures = counted(view.grants(seen) | {"failures": seen.failures})
    click.echo(
        f"watched for {watched:.1f} s: {figures}; the token was {seen.state.name} at the end"
    )
    if seen.state in (TokenState.FRESH, TokenState.STALE):
        return 0
    return REJECTED if asker.is_rejected else UNAVAILABLE


class _Asker:
    """Asks for the token again and again, and shows why there is none."""

    def __init__(self, session: AnonymousSession, view: View) -> None:
        self._session = session
        self._view = view
        self.is_rejected = False

    async def ask(self) -> None:
        while True:
            pause = _ASK_EVERY
            try:
                await self._session.get_access_token()
                self.is_rejected = False
            except TokenRequestError as error:
                self.is_rejected = isinstance(error, CredentialsRejectedError)
                pause = max(pause, error.retry_after or 0.0)
                # Why has been said when the attempt failed.
                self._view.say(f"! no token, asking again in {pause:.0f} s")
            await trio.sleep(pause)
