"""The command's subcommands, and their exit codes."""

from __future__ import annotations

import logging
import os
import shlex
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

import click
import trio

from ._config import ENVIRONMENT, Config
from ._demo import run_demo
from ._errors import (
    AnonymousSessionError,
    ConfigError,
    CredentialsRejectedError,
    TokenRequestError,
)
from ._session import AnonymousSession
from ._version import __version__
from .testing import Client, TokenServer, open_loopback

EXIT_CODES = """
\b
Exit codes:
  0  all went well
  1  something else went wrong
  2  the configuration or the command line is wrong
  3  the token endpoint rejected the credentials
  4  no token could be had
"""


def _fail(error: AnonymousSessionError) -> NoReturn:
    """End with one line on stderr and the exit code of the error."""
    if isinstance(error, ConfigError):
        code = 2
    elif isinstance(error, CredentialsRejectedError):
        code = 3
    elif isinstance(error, TokenRequestError):
        code = 4
    else:
        code = 1
    click.echo(f"trio-anon-session: {error}", err=True)
    raise SystemExit(code)


@click.group(epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="trio-anon-session")
def cli() -> None:
    """Keep one OAuth 2.0 client-credentials token alive, and look at it."""
    # What goes wrong is said in one line at the end, not once for each attempt too.
    logging.getLogger("trio_anon_session").addHandler(logging.NullHandler())


@cli.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=15.0, show_default=True)
@click.option("--workers", type=click.IntRange(1, 90), default=24, show_default=True)
@click.option(
    "--lifetime",
    type=click.FloatRange(min=1),
    default=4.0,
    show_default=True,
    help="Seconds that each token lives.",
)
def demo(seconds: float, workers: int, lifetime: float) -> None:
    """Show a session at work; needs nothing.

    Starts the embedded token server on a loopback socket and some workers that call its
    protected resource, and gives them trouble: latency, a failing spell, a revocation.
    Exits with 0 only if no getter failed and no request was refused for good.
    """
    raise SystemExit(0 if trio.run(run_demo, seconds, workers, lifetime) else 1)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True)
@click.option("--client-id", default="test-client", show_default=True)
@click.option("--client-secret", default="test-secret", show_default=True)
@click.option(
    "--lifetime",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds that tokens live.  [default: drawn from 3600 to 4250, as at Box]",
)
def serve(port: int, client_id: str, client_secret: str, lifetime: float | None) -> None:
    """Serve the embedded token server on loopback, until Ctrl-C."""
    client = Client(client_id=client_id, client_secret=client_secret)
    server = TokenServer(clients=[client], lifetime=lifetime, keep=10_000, seed=os.getpid())
    trio.run(_serve, server, port, client)


async def _serve(server: TokenServer, port: int, client: Client) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with AsyncExitStack() as stack:
            # Around the opening alone: what goes wrong later is not the port's fault.
            try:
                url = await stack.enter_async_context(open_loopback(server, port=port))
            except OSError as error:
                click.echo(f"trio-anon-session: port {port}: {error.strerror}", err=True)
                raise SystemExit(1) from None
            click.echo(f"Serving on {url}; Ctrl-C ends it. Point a program at it with:")
            click.echo(f"  export BOX_API_ROOT_URL={url}")
            click.echo(f"  export BOX_CLIENT_ID={shlex.quote(client.client_id)}")
            click.echo(f"  export BOX_CLIENT_SECRET={shlex.quote(client.client_secret)}")
            async for _ in signals:
                break
    click.echo(f"{server.grants} grants, {server.revocations} revocations")


@cli.command(epilog=EXIT_CODES)
@click.option("--client-id", help="The application's id.")
@click.option(
    "--client-secret-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A file that holds the secret; - reads standard input.",
)
@click.option("--box-json", type=click.Path(path_type=Path), help="Box's settings file.")
@click.option("--api-root-url", help="Where the API lives.")
@click.option("--token-url", help="The token endpoint.")
@click.option("--auth-method", help="client_secret_post or client_secret_basic.")
@click.option("--scope", help="Scopes, separated by spaces.")
@click.option("--box-subject-type", help="enterprise or user.")
@click.option("--box-subject-id", help="The enterprise's or user's id.")
@click.option(
    "--max-retries", type=click.IntRange(min=0), default=2, show_default=True, help="Retries."
)
def token(
    client_secret_file: Path | None,
    box_json: Path | None,
    max_retries: int,
    **flags: str | None,
) -> None:
    """Print a valid access token.

    Settings come from the flags, then from the environment (BOX_CLIENT_ID,
    BOX_CLIENT_SECRET, BOX_API_ROOT_URL, ...), then from the file that --box-json names.
    The secret is taken from a file or the environment alone: a flag would show it to
    everybody on the machine.
    """
    settings = {name: value for name, value in flags.items() if value is not None}
    try:
        if client_secret_file is not None:
            settings["client_secret"] = _read_secret(client_secret_file)
        config = _configure(settings, box_json).replace(max_retries=max_retries)
        click.echo(trio.run(_get_token, config))
    except AnonymousSessionError as error:
        _fail(error)


def _read_secret(path: Path) -> str:
    with click.open_file(os.fspath(path), "rb") as file:
        content: bytes = file.read()
    # Not by catching UnicodeDecodeError: it holds the content.
    secret = content.decode(errors="replace").strip()
    if "\ufffd" in secret:
        raise ConfigError("client_secret", "wants a file of UTF-8 text")
    return secret


def _configure(settings: dict[str, str], box_json: Path | None) -> Config:
    """Return the config that flags, environment and settings file make together."""
    if box_json is None:
        by_flag = {ENVIRONMENT[name]: value for name, value in settings.items()}
        return Config.from_env(os.environ | by_flag)
    from_env = {name: os.environ[var] for name, var in ENVIRONMENT.items() if os.environ.get(var)}
    return Config.from_box_json(box_json).replace(**(from_env | settings))


async def _get_token(config: Config) -> str:
    async with AnonymousSession(config) as session:
        return await session.get_access_token()
