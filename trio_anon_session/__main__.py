"""The entry point of ``trio-anon-session`` and of ``python -m trio_anon_session``."""

from __future__ import annotations

import sys

_MODULES_OF_EXTRA = frozenset({"click", "rich", "hypercorn"})
"""The modules that the extra ``cli`` installs."""


def main() -> None:
    """Run the command, or report that its extra is not installed."""
    # The call is inside the try block: subcommands import their modules when they run.
    try:
        from ._cli import cli

        cli(prog_name="trio-anon-session")
    except ImportError as error:
        if error.name not in _MODULES_OF_EXTRA:
            raise
        install = "pip install 'trio_anon_session[cli]'"
        sys.exit(f"trio-anon-session: needs {error.name}: {install}")


if __name__ == "__main__":
    main()
