"""Plant bugs in the claimant, one at a time, and show how many states each takes to find.

    python -m tools.claimant.planted [--paths N] [NUMBER ...]

The search for each bug runs in a separate process, and does not change the source. The exit code
is 1 if a bug is not found, unless `SURVIVORS` gives the reason. ``--paths N`` draws the shortest
path to each of the first N bugs.
"""

from __future__ import annotations

import sys

from tools.claimant.bugs import BUGS, SURVIVORS
from tools.exploring.planted import main

PACKAGE = "tools.claimant"

if __name__ == "__main__":
    sys.exit(main(PACKAGE, BUGS, SURVIVORS))
