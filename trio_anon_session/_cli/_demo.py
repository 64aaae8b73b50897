"""``demo``: a session under load and trouble, with nothing set up."""

from __future__ import annotations

import click
import trio

from ._ending import EXIT_CODES, Seconds, Subcommand


@click.command(
    cls=Subcommand,
    epilog=EXIT_CODES,
    help="""Show a session at work; needs nothing.

    Starts the embedded token server on a loopback socket and some workers that call its
    protected resource, and gives them trouble: latency, a failing spell, a revocation.
    Exits with 0 only if no getter failed and no request was refused for good.

    \b
    Example:
      trio-anon-session demo --seconds 30 --workers 80""",
)
@click.option(
    "--seconds",
    type=Seconds(min=1),
    default=15.0,
    show_default=True,
    help="How long it takes.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 90),
    default=24,
    show_default=True,
    help="Tasks that call the resource.",
)
@click.option(
    "--lifetime",
    type=Seconds(min=1),
    default=4.0,
    show_default=True,
    help="Seconds that each token lives.",
)
def demo(seconds: float, workers: int, lifetime: float) -> None:
    """Run the demonstration."""
    from ._scene import run_demo

    raise SystemExit(trio.run(run_demo, seconds, workers, lifetime))
