"""The command's way in: ``trio-anon-session``, or ``python -m trio_anon_session``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say which extra it lacks."""
    # Around the run, too: what a subcommand needs is imported where it is used.
    try:
        from ._cli import cli

        cli(prog_name="trio-anon-session")
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich", "hypercorn"}:
            raise
        sys.exit(f"trio-anon-session: needs {error.name}: pip install 'trio_anon_session[cli]'")


if __name__ == "__main__":
    main()
