"""Plant bugs in the machine, one at a time, and see how soon the exploration finds each.

    python -m tools.lifecycle.planted [--paths N] [NUMBER ...]

Each bug is looked for in a process of its own; the source is not written to. Exit code 1 if a
bug is not found, unless `SURVIVORS` gives the reason. ``--paths N`` draws the shortest path to
the first N bugs that are found.
"""

from __future__ import annotations

import sys

from tools.exploring.planted import main
from tools.lifecycle.bugs import BUGS, SURVIVORS

PACKAGE = "tools.lifecycle"

if __name__ == "__main__":
    sys.exit(main(PACKAGE, BUGS, SURVIVORS))
