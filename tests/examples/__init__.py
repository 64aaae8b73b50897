"""The examples, run as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 240.0
"""Seconds after which a test kills a program."""


def run_example(
    name: str, *args: object, environ: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end.

    Args:
        name: the file in ``examples/``.
        *args: the command line.
        environ: variables, in addition to those of this process.
        stdin: the standard input.
    """
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, args)],
        env={**os.environ, **(environ or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
