"""``completion``: the shell completion script that click generates."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ._ending import Subcommand, exit_codes
from ._output import say

PROGRAM = "trio-anon-session"
VARIABLE = "_TRIO_ANON_SESSION_COMPLETE"
"""The variable with which the script calls the command; click derives it from the program name."""


@click.command(
    cls=Subcommand,
    epilog=exit_codes("completion"),
    short_help="Print the completion script for a shell.",
    help="""Print the script with which SHELL completes subcommands and flags.

    \b
    In ~/.bashrc:                    eval "$(trio-anon-session completion bash)"
    In ~/.zshrc:                     eval "$(trio-anon-session completion zsh)"
    In ~/.config/fish/config.fish:   trio-anon-session completion fish | source""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    found = get_completion_class(shell)
    assert found is not None
    say(found(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
