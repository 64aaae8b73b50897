"""The end of a run: exit codes, error messages in one line, interrupts."""

from __future__ import annotations

import copy
import errno
import math
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .._environment import BOX
from .._errors import (
    AnonymousSessionError,
    ConfigError,
    CredentialsRejectedError,
    RevocationError,
    TokenRequestError,
)
from ._output import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FAILED = 1
MISCONFIGURED = 2
REJECTED = 3
UNAVAILABLE = 4
INTERRUPTED = 130
"""The code with which shells report that SIGINT ended a process."""

MEANINGS = {
    0: "success",
    FAILED: "another failure",
    MISCONFIGURED: "the configuration or the command line is wrong",
    REJECTED: "the server rejected the credentials",
    UNAVAILABLE: "a token request or a revocation failed",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""The meaning of each exit code."""

CODES_OF = {
    "demo": (0, FAILED, MISCONFIGURED, INTERRUPTED),
    "doctor": tuple(MEANINGS),
    "token": tuple(MEANINGS),
    # Ctrl-C is the normal end of these two.
    "watch": (0, FAILED, MISCONFIGURED, REJECTED, UNAVAILABLE),
    "serve": (0, FAILED, MISCONFIGURED),
    "revoke": tuple(MEANINGS),
    "completion": (0, FAILED, MISCONFIGURED),
}
"""The exit codes of each subcommand."""


def exit_codes(subcommand: str | None = None) -> str:
    """Return the end of a help: the exit codes of a subcommand, or of all."""
    codes = CODES_OF[subcommand] if subcommand is not None else MEANINGS
    lines = (f"  {code:<3}  {MEANINGS[code]}" for code in codes)
    return "\n".join(("\b", "Exit codes:", *lines))


_REJECTIONS = frozenset({"invalid_client", "unauthorized_client"})
_OUTPUT_FAILURES = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EBADF})


def exit_code_of(error: AnonymousSessionError) -> int:
    """Return the exit code for an error of this library."""
    match error:
        case ConfigError():
            return MISCONFIGURED
        case CredentialsRejectedError():
            return REJECTED
        case RevocationError() if error.error in _REJECTIONS or error.status_code in (401, 403):
            return REJECTED
        case TokenRequestError():
            return UNAVAILABLE
    return FAILED


def say_error(message: str) -> None:
    """Print an error message on stderr, in one line."""
    say(f"trio-anon-session: {' '.join(message.split())}", err=True)


def refuse(problem: str) -> NoReturn:
    """Exit because the command line is wrong."""
    raise click.UsageError(problem, click.get_current_context())


class Seconds(click.FloatRange):
    """A finite number of seconds; ``nan`` and ``inf`` are refused."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert the text of a flag."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"must be a finite number of seconds, got {value}", param, ctx)
        return seconds


class ConfigurationOption(click.Option):
    """An option that several subcommands have."""


class Subcommand(click.Command):
    """A subcommand that does not repeat unexpected arguments, which may be secrets."""

    surplus = "takes no arguments"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse a command line, and fail if arguments are left over."""
        ctx.allow_extra_args = True
        left = super().parse_args(ctx, args)
        if left and not ctx.resilient_parsing:
            ctx.fail(f"{ctx.info_name} {self.surplus}")
        return left

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the subcommand does, with the variables of ``--env-prefix``."""
        shown = copy.copy(self)
        shown.help = self.help and self.help.replace(BOX, ctx.params.get("env_prefix", BOX))
        super(Subcommand, shown).format_help_text(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the subcommand's own options first, then the common ones."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Configuration": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_setting = isinstance(param, ConfigurationOption)
                sections["Configuration" if is_setting else "Options"].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class Program(click.Group):
    """The command group, which turns errors into an exit code and one line on stderr."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order in which they were added."""
        return list(self.commands)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command, and exit."""
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort) as error:
            if not standalone_mode:
                raise
            code = _end_by_click(error)
        if not standalone_mode:
            return code
        sys.exit(code or 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand, and turn its exceptions into an exit code."""
        try:
            return super().invoke(ctx)
        except BaseException as raised:  # noqa: ASYNC103  # Trio has ended: nothing is cancelled
            error = _main_error(raised)
            code = self._code_of(error)
            if code is None and error is raised:
                raise
        if code is None:
            raise error
        raise click.exceptions.Exit(code)

    def _code_of(self, error: BaseException) -> int | None:
        match error:
            case KeyboardInterrupt():
                # The terminal has printed ^C, so end this line before the shell prompt.
                if sys.stderr is not None and sys.stderr.isatty():
                    say(err=True)
                return INTERRUPTED
            case AnonymousSessionError():
                say_error(str(error))
                return exit_code_of(error)
            case OSError(errno=code) if code in _OUTPUT_FAILURES:
                say_error(f"the output cannot be written: {error.strerror}")
                return FAILED
        return None


def _end_by_click(error: click.ClickException | click.Abort) -> int:
    """Print click's error message, and return the exit code."""
    if isinstance(error, click.Abort):
        return INTERRUPTED
    said = error.format_message()
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "trio-anon-session"
        said = f"{said} (see '{path} --help')"
    say_error(said)
    return error.exit_code


def _main_error(error: BaseException) -> BaseException:
    """Return the error that decides the exit code, taken out of its exception group."""
    for kind in (KeyboardInterrupt, BrokenPipeError, OSError, AnonymousSessionError):
        for one in _leaves(error):
            if isinstance(one, kind):
                return one
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
