"""``doctor``: finds problems, and advises what to do."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import click
import trio

from ._ending import Subcommand, exit_codes
from ._flags import Source, takes_configuration, with_order
from ._output import escaped, say, say_json

if TYPE_CHECKING:
    from ._checks import Check

_FOUND_AT = 24
"""The column in which the findings begin."""
_NARROWEST = 20
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "bright_black"}


@click.command(
    cls=Subcommand,
    epilog=exit_codes("doctor"),
    help=with_order(
        """Find problems, and show what to do about them.

    Checks the configuration, the client's secret, key, assertion or certificate, the
    host name, the connection and its TLS, a token request, the token's lifetime
    compared with the buffers, the clock, and revocation. The token is revoked at the
    end. With --issuer, doctor also checks the metadata of the server. With --url, it
    also checks whether session.auth() sends the token there, and calls the URL before
    and after the revocation. The exit code is that of the first failed check; warnings
    do not count.

    \b
    Example:
      trio-anon-session doctor --url https://api.box.com/2.0/folders/0"""
    ),
)
@click.option("--url", help="A protected resource to call with the token.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@takes_configuration(request_timeout=10.0)
def doctor(source: Source, url: str | None, as_json: bool) -> None:
    """Run the checks, and print the results."""
    from ._checks import examine, exit_code_of_all

    checks: list[Check] = []

    def keep(check: Check) -> None:
        checks.append(check)
        if not as_json:
            _say(check)

    trio.run(examine, source, url, keep)
    code = exit_code_of_all(checks)
    if as_json:
        keys = ("name", "verdict", "found", "advice")
        shown = [{key: getattr(check, key) for key in keys} for check in checks]
        say_json({"exit_code": code, "checks": shown})
    else:
        say(_sum_up(checks))
    raise SystemExit(code)


def _say(check: Check) -> None:
    verdict = click.style(f"{check.verdict:<8}", fg=_COLOURS[check.verdict])
    say(f" {check.name:<14} {_fold(escaped(check.found), _FOUND_AT)}", before=verdict)
    if check.advice is not None:
        advice = _fold(escaped(check.advice), _FOUND_AT + len("-> "))
        say(f"{'':<{_FOUND_AT}}-> {advice}")


def _fold(text: str, column: int) -> str:
    """Return a text that begins in a column, wrapped to that column on a terminal."""
    if not sys.stdout.isatty():
        return text
    width = max(_NARROWEST, shutil.get_terminal_size().columns - column)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':<{column}}".join(lines)


def _sum_up(checks: list[Check]) -> str:
    counts = {
        verdict: sum(check.verdict == verdict for check in checks)
        for verdict in ("failed", "warning")
    }
    if not any(counts.values()):
        return "no problems found"
    said = [f"{counts['failed']} failed"] if counts["failed"] else []
    if counts["warning"]:
        said.append(f"{counts['warning']} warning{'s' if counts['warning'] > 1 else ''}")
    return ", ".join(said)
