"""``completion``: what makes a shell complete subcommands and flags, as click knows it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ._ending import Subcommand

PROGRAM = "trio-anon-session"
VARIABLE = "_TRIO_ANON_SESSION_COMPLETE"
"""By which the script asks; click makes the name from the program's."""


@click.command(
    cls=Subcommand,
    short_help="Print what makes a shell complete subcommands and flags.",
    help="""Print the script that makes SHELL complete subcommands and flags.

    \b
    In ~/.bashrc:                    eval "$(trio-anon-session completion bash)"
    In ~/.zshrc:                     eval "$(trio-anon-session completion zsh)"
    In ~/.config/fish/config.fish:   trio-anon-session completion fish | source""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script of a shell."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
