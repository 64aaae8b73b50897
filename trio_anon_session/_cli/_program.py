"""The command: its subcommands together."""

from __future__ import annotations

import logging
import os
import sys

import click

from .._version import __version__
from ._completion import completion
from ._demo import demo
from ._doctor import doctor
from ._ending import EXIT_CODES, Program
from ._serve import serve
from ._tokens import revoke, token
from ._watch import watch


@click.group(
    cls=Program,
    epilog=EXIT_CODES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Keep one OAuth 2.0 client-credentials token alive, and look at it.

    \b
    See it at work:           trio-anon-session demo
    Find out what is wrong:   trio-anon-session doctor
    Call an API:              trio-anon-session token --header | curl -H @- URL""",
)
@click.version_option(__version__, prog_name="trio-anon-session")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Prepare what all subcommands want."""
    # Python has no stream where a shell has closed it.
    if sys.stdout is None:
        raise click.ClickException("standard output is closed; to want nothing of it, /dev/null")
    # rich looks at these by itself.
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    # What goes wrong is said in one line at the end, not once for each attempt too.
    logging.getLogger("trio_anon_session").addHandler(logging.NullHandler())
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (demo, doctor, token, watch, revoke, serve, completion):
    cli.add_command(command)
