"""The command group with all subcommands."""

from __future__ import annotations

import logging
import os
import sys

import click

from .._version import __version__
from ._completion import completion
from ._demo import demo
from ._doctor import doctor
from ._ending import Program, exit_codes
from ._output import say
from ._serve import serve
from ._tokens import revoke, token
from ._watch import watch


@click.group(
    cls=Program,
    epilog=exit_codes(),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Get, watch and revoke OAuth 2.0 client-credentials tokens.

    \b
    Watch a demo:     trio-anon-session demo
    Find problems:    trio-anon-session doctor
    Call an API:      trio-anon-session token --header | curl -H @- URL""",
)
@click.version_option(__version__, prog_name="trio-anon-session")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Prepare all subcommands, or print the help without one."""
    # sys.stdout is None if the shell closed it.
    if sys.stdout is None:
        raise click.ClickException(
            "standard output is closed; redirect it, for example to /dev/null"
        )
    # rich reads these variables itself; click does not.
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    # The command prints one line per error; log records of each attempt would repeat it.
    logging.getLogger("trio_anon_session").addHandler(logging.NullHandler())
    if ctx.invoked_subcommand is None:
        say(ctx.get_help())


for command in (demo, doctor, token, watch, revoke, serve, completion):
    cli.add_command(command)
