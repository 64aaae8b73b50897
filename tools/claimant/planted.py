"""Plant bugs in the claimant, one at a time, and see how soon the exploration finds each.

    python -m tools.claimant.planted [--paths N] [NUMBER ...]

Each bug is looked for in a process of its own; the source is not written to. Exit code 1 if a
bug is not found, unless `SURVIVORS` gives the reason. ``--paths N`` draws the shortest path to
the first N bugs that are found.
"""

from __future__ import annotations

import sys

from tools.claimant.bugs import BUGS, SURVIVORS
from tools.exploring.planted import main

PACKAGE = "tools.claimant"

if __name__ == "__main__":
    sys.exit(main(PACKAGE, BUGS, SURVIVORS))
