"""``serve``: the embedded token server on loopback."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click
import trio

from ._ending import FAILED, Seconds, Subcommand, exit_codes, say_error
from ._flags import takes_prefix
from ._output import escaped, say
from ._settings import prefix_flag
from ._wording import counted

if TYPE_CHECKING:
    from ..testing import Client, TokenServer

_TOKEN_DOWN = "token-down"
_TOKEN_UP = "token-up"
_HINT = "Type token-down to make the token endpoint fail, and token-up to end that."
_STDIN = 0
_LONGEST_LINE = 100
"""Bytes of a typed line that are kept."""
_FOREGROUND_INTERVAL = 1.0
"""Seconds between two checks whether the process is in the foreground again."""

KEEP_TOKENS = 1000
"""Number of issued tokens that the server keeps; each takes 17 KB at most, usually 0.4 KB."""


def _checked(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return a value that can be printed as a variable, exactly as it is."""
    if escaped(value) != value:
        raise click.BadParameter("must not have control characters")
    return value


@click.command(
    cls=Subcommand,
    epilog=exit_codes("serve"),
    help="""Serve the embedded token server on loopback, until Ctrl-C.

    The server behaves like Box. The command prints the environment variables that a
    program needs to use it.

    While it runs, type token-down and Enter to make its token endpoint answer 503, and
    token-up to end that. Revocations and the API continue to work.

    \b
    Example, in two terminals:
      trio-anon-session serve
      trio-anon-session token      (once the variables are set)""",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The port; 0 picks a free one.",
)
@click.option(
    "--client-id",
    callback=_checked,
    default="test-client",
    show_default=True,
    help="The id of its only client.",
)
@click.option(
    "--client-secret",
    callback=_checked,
    default="test-secret",
    show_default=True,
    help="The secret of that client. Other users of this machine can read it.",
)
@takes_prefix("The prefix of the variables that the command prints.")
@click.option(
    "--lifetime",
    type=Seconds(min=0, min_open=True),
    help="Lifetime of tokens in seconds.  [default: random from 3600 to 4250, as at Box]",
)
@click.option(
    "--grant-scopes",
    metavar="SCOPES",
    help="Grant only these scopes, separated by spaces.  [default: what is requested]",
)
@click.option(
    "--token-down",
    is_flag=True,
    help="Begin with a token endpoint that answers 503. Everything else works.",
)
def serve(
    port: int,
    client_id: str,
    client_secret: str,
    env_prefix: str,
    lifetime: float | None,
    grant_scopes: str | None,
    token_down: bool,
) -> None:
    """Serve until SIGINT or SIGTERM arrives."""
    from ..testing import Client

    scopes = None if grant_scopes is None else frozenset(grant_scopes.split())
    client = Client(client_id=client_id, client_secret=client_secret, granted_scopes=scopes)
    server = make_server(client, lifetime)
    trio.run(_serve, server, port, client, env_prefix, _TOKEN_DOWN if token_down else None)


def make_server(client: Client, lifetime: float | None) -> TokenServer:
    """Return a server whose memory use is bounded, however long it runs.

    It keeps no requests, only counters and the last issued tokens.
    """
    from ..testing import TokenServer

    return TokenServer(
        clients=[client], lifetime=lifetime, seed=os.getpid(), keep=0, keep_tokens=KEEP_TOKENS
    )


async def _serve(
    server: TokenServer, port: int, client: Client, prefix: str, command: str | None
) -> None:
    from ..testing import open_loopback

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with AsyncExitStack() as stack:
            # Only errors that occur while the server opens the port concern the port.
            try:
                url = await stack.enter_async_context(open_loopback(server, port=port))
            except OSError as error:
                say_error(f"port {port}: {error.strerror}; use another --port, or 0 for a free one")
                raise SystemExit(FAILED) from None
            say(f"The token server is ready and listens on {url}. Press Ctrl-C to stop it.")
            say("To use it, run in another terminal:")
            variables = {
                "API_ROOT_URL": url,
                "CLIENT_ID": client.client_id,
                "CLIENT_SECRET": client.client_secret or "",
            }
            for name, value in variables.items():
                say(f"  export {shlex.quote(prefix + name)}={shlex.quote(value)}")
            say(f"  trio-anon-session token{prefix_flag(prefix)}")
            if command is not None:
                say(_obey(command, server))
            nursery = await stack.enter_async_context(trio.open_nursery())
            if _has_console():
                say(_HINT)
                nursery.start_soon(_read_console, server)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
    say(counted({"grants": server.grants, "revocations": server.revocations}))


def _has_console() -> bool:
    """Return whether lines can be typed: standard input is a terminal or a pipe."""
    # Without standard input, its number belongs to another file.
    if sys.stdin is None:
        return False
    return os.isatty(_STDIN) or stat.S_ISFIFO(os.fstat(_STDIN).st_mode)


async def _read_console(server: TokenServer) -> None:
    """Obey each line of standard input, until it ends."""
    line = b""
    while True:
        await trio.lowlevel.wait_readable(_STDIN)
        # A terminal stops a process that reads from it in the background.
        if os.isatty(_STDIN) and os.tcgetpgrp(_STDIN) != os.getpgrp():
            await trio.sleep(_FOREGROUND_INTERVAL)
            continue
        content = os.read(_STDIN, 4096)
        if not content:
            return
        *ended, line = (line + content).split(b"\n")
        line = line[:_LONGEST_LINE]
        for one in ended:
            if command := one.decode(errors="replace").strip():
                say(_obey(command, server))


def _obey(command: str, server: TokenServer) -> str:
    """Follow a command of the console, and return its answer."""
    from ..testing import Fault, FaultPlan

    if command == _TOKEN_DOWN:
        server.faults = FaultPlan(token_then=Fault.server_error(503))
        return "The token endpoint answers 503."
    if command == _TOKEN_UP:
        server.faults = FaultPlan()
        return "The token endpoint works."
    # The line is not repeated, because it may be a secret that was typed by mistake.
    return "Type token-down or token-up."
