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
"""Seconds; what no program of a test may outlive."""


def run_example(
    name: str, *args: object, environ: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end.

    Args:
        name: of the file in ``examples/``.
        *args: of the command line.
        environ: variables, besides those of this process.
        stdin: what it reads.
    """
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, args)],
        env={**os.environ, **(environ or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
