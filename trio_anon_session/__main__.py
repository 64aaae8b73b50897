"""The command's way in: ``trio-anon-session``, or ``python -m trio_anon_session``."""

from __future__ import annotations

import sys

_EXTRAS = {
    **dict.fromkeys(("click", "rich", "hypercorn"), "cli"),
    **dict.fromkeys(("coredis", "cryptography"), "cli,redis"),
}
"""What may not be there, and what it comes with."""


def main() -> None:
    """Run the command, or say which extra it lacks."""
    # Around the run, too: what a subcommand needs is imported where it is used.
    try:
        from ._cli import cli

        cli(prog_name="trio-anon-session")
    except ImportError as error:
        extras = _EXTRAS.get(error.name or "")
        if extras is None:
            raise
        wants = f"pip install 'trio_anon_session[{extras}]'"
        sys.exit(f"trio-anon-session: needs {error.name}: {wants}")


if __name__ == "__main__":
    main()
