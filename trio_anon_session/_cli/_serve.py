"""``serve``: the embedded token server on loopback."""

from __future__ import annotations

import os
import shlex
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click
import trio

from ._ending import EXIT_CODES, FAILED, Seconds, Subcommand, say_error
from ._wording import counted

if TYPE_CHECKING:
    from ..testing import Client, TokenServer

KEEP_TOKENS = 1000
"""Number of issued tokens that the server keeps; each takes 17 KB at most, usually 0.4 KB."""


@click.command(
    cls=Subcommand,
    epilog=EXIT_CODES,
    help="""Serve the embedded token server on loopback, until Ctrl-C.

    The server behaves like Box. The command prints the environment variables that a
    program needs to use it.

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
    default="test-client",
    show_default=True,
    help="The id of its only client.",
)
@click.option(
    "--client-secret",
    default="test-secret",
    show_default=True,
    help="The secret of that client. Other users of this machine can read it.",
)
@click.option(
    "--lifetime",
    type=Seconds(min=0, min_open=True),
    help="Lifetime of tokens in seconds.  [default: random from 3600 to 4250, as at Box]",
)
def serve(port: int, client_id: str, client_secret: str, lifetime: float | None) -> None:
    """Serve until SIGINT or SIGTERM arrives."""
    from ..testing import Client

    client = Client(client_id=client_id, client_secret=client_secret)
    trio.run(_serve, make_server(client, lifetime), port, client)


def make_server(client: Client, lifetime: float | None) -> TokenServer:
    """Return a server whose memory use is bounded, however long it runs.

    It keeps no requests, only counters and the last issued tokens.
    """
    from ..testing import TokenServer

    return TokenServer(
        clients=[client], lifetime=lifetime, seed=os.getpid(), keep=0, keep_tokens=KEEP_TOKENS
    )


async def _serve(server: TokenServer, port: int, client: Client) -> None:
    from ..testing import open_loopback

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with AsyncExitStack() as stack:
            # Only errors that occur while the server opens the port concern the port.
            try:
                url = await stack.enter_async_context(open_loopback(server, port=port))
            except OSError as error:
                say_error(f"port {port}: {error.strerror}; use another --port, or 0 for a free one")
                raise SystemExit(FAILED) from None
            click.echo(f"The token server is ready and listens on {url}. Press Ctrl-C to stop it.")
            click.echo("To use it, run in another terminal:")
            click.echo(f"  export BOX_API_ROOT_URL={url}")
            click.echo(f"  export BOX_CLIENT_ID={shlex.quote(client.client_id)}")
            click.echo(f"  export BOX_CLIENT_SECRET={shlex.quote(client.client_secret or '')}")
            click.echo("  trio-anon-session token")
            async for _ in signals:
                break
    click.echo(counted({"grants": server.grants, "revocations": server.revocations}))
