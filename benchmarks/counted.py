"""A program of which the instructions are counted, a piece at a time.

    valgrind --tool=callgrind --dump-before=getppid python -m benchmarks.counted AT_MOST FIGURE ...

Callgrind writes down what it has counted since the last time whenever ``getppid`` is called,
which nothing here does for another reason. At its end, the program prints the names of the
pieces that lie before each of these calls, in their order; those without a name are what is
done in between.
"""

from __future__ import annotations

import gc
import json
import os
import sys

START, BASE_IMPORT, OUR_IMPORT = "the start of Python", "trio, httpx", "trio_anon_session"

mark = os.getppid


def piece_name(figure: str, subject: str) -> str:
    """Return the name of the piece that is counted for a contender."""
    return f"{figure}: {subject}"


def main(at_most: int, wanted: list[str]) -> None:
    """Run the pieces of these figures, for no more than a number."""
    mark()
    import httpx  # noqa: F401 - imported to be counted
    import trio  # noqa: F401 - likewise

    mark()
    import trio_anon_session  # noqa: F401 - likewise

    mark()
    from benchmarks.scenes.instructions import FIGURES

    names = [START, BASE_IMPORT, OUR_IMPORT]
    # When garbage is collected depends on all that was done before.
    gc.disable()
    for name in wanted:
        figure = FIGURES[name]
        number = figure.number(at_most)
        for who, run in figure.pieces.items():
            # Python makes the code faster that it has met a few times.
            run(max(1, number // 10))
            gc.collect()
            run(number)
            # Each of the two has marked the beginning and the end of what is counted.
            names += ["", "", "", piece_name(name, who.subject)]
    print(json.dumps(names))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
