"""``demo``: a session under load while its token endpoint fails; needs no configuration."""

from __future__ import annotations

import click
import trio

from ._ending import Seconds, Subcommand, exit_codes


@click.command(
    cls=Subcommand,
    epilog=exit_codes("demo"),
    help="""Show a session under load. Needs no configuration.

    Starts the embedded token server on a loopback socket, and workers that call its
    protected resource. During the run the token endpoint becomes slow, then fails, then
    revokes the token. The exit code is 0 if the session kept every promise.

    \b
    Example:
      trio-anon-session demo --seconds 30 --workers 80""",
)
@click.option(
    "--seconds",
    type=Seconds(min=1),
    default=15.0,
    show_default=True,
    help="Duration of the demo, in seconds.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 90),
    default=24,
    show_default=True,
    help="Number of tasks that call the resource.",
)
@click.option(
    "--lifetime",
    type=Seconds(min=1),
    default=4.0,
    show_default=True,
    help="Lifetime of each token, in seconds.",
)
def demo(seconds: float, workers: int, lifetime: float) -> None:
    """Run the demo."""
    from ._scene import run_demo

    raise SystemExit(trio.run(run_demo, seconds, workers, lifetime))
