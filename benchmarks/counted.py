"""A program whose instructions valgrind counts, piece by piece.

    valgrind --tool=callgrind --dump-before=getppid python -m benchmarks.counted AT_MOST FIGURE ...

Callgrind writes its counts at each call of ``getppid``, which the program uses only for this. At
the end, the program prints the name of the piece before each of these calls, in order. Pieces
without a name are the code between the measurements.
"""

from __future__ import annotations

import gc
import json
import os
import sys

START, BASE_IMPORT, OUR_IMPORT = "the start of Python", "trio, httpx", "trio_anon_session"

mark = os.getppid


def piece_name(figure: str, subject: str) -> str:
    """Return the name of the counted piece of a contender."""
    return f"{figure}: {subject}"


def main(at_most: int, wanted: list[str]) -> None:
    """Run the pieces of these figures, up to a size of the crowd."""
    mark()
    import httpx  # noqa: F401 - imported to be counted
    import trio  # noqa: F401 - imported to be counted

    mark()
    import trio_anon_session  # noqa: F401 - imported to be counted

    mark()
    from benchmarks.scenes.instructions import FIGURES

    names = [START, BASE_IMPORT, OUR_IMPORT]
    # The time of a garbage collection depends on all earlier code.
    gc.disable()
    for name in wanted:
        figure = FIGURES[name]
        number = figure.number(at_most)
        for who, run in figure.pieces.items():
            # Python specializes code after it has run a few times.
            run(max(1, number // 10))
            gc.collect()
            run(number)
            # Both runs call getppid at both ends. Only the last of these pieces counts.
            names += ["", "", "", piece_name(name, who.subject)]
    print(json.dumps(names))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
