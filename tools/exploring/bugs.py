"""Reads the bugs to plant. Each one changes one module.

The files look like diffs. A line that starts with ``@`` names the promise, the module and what
the machine does wrong. The following lines that start with a blank or ``-`` must occur exactly once
in the module. The lines that start with a blank or ``+`` replace them. Empty lines at the end of a
bug are ignored.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from tools.mutation.loading import source_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Bug(NamedTuple):
    """One bug.

    Attributes:
        promise: the promise of the design that it breaks. 0 is the machine's own contract.
        what: what the machine does wrong.
        module: the module's name without the underscore.
        before: lines that occur exactly once in the source.
        after: the lines that replace them.
    """

    promise: int
    what: str
    module: str
    before: str
    after: str

    def source(self) -> str:
        """Return the module's source with the bug in it.

        Raises:
            LookupError: `before` does not occur exactly once.
        """
        source = source_path(self.module).read_text()
        count = source.count(self.before)
        if count != 1:
            raise LookupError(f"{self.what}: must occur once in {self.module}, got {count}")
        return source.replace(self.before, self.after)


def read_folder(folder: Path) -> tuple[Bug, ...]:
    """Return the bugs in all files of a folder."""
    return tuple(
        itertools.chain.from_iterable(
            read_bugs(path.read_text().splitlines(keepends=True))
            for path in sorted(folder.glob("*.diff"))
        )
    )


def read_bugs(lines: Iterable[str]) -> list[Bug]:
    """Return the bugs in the lines of a file."""
    headers: list[str] = []
    changes: list[list[str]] = []
    for line in lines:
        if line.startswith("@"):
            headers.append(line)
            changes.append([])
        else:
            changes[-1].append(line if line.strip() else " \n")
    bugs = []
    for header, change in zip(headers, changes, strict=True):
        place, _, what = header.partition(": ")
        _, promise, module = place.split()
        while change[-1].isspace():
            change.pop()
        before = "".join(line[1:] for line in change if line[0] != "+")
        after = "".join(line[1:] for line in change if line[0] != "-")
        bugs.append(Bug(int(promise), what.strip(), module, before, after))
    return bugs
