"""The import of the package.

Each measurement starts a fresh interpreter, which reports the CPU time of an import. So its own
start is not in the figure, and other programs on the machine matter less. The bytecode is written
beforehand, into a separate folder. Packages that httpx imports only if they are installed, for its
command line and for compression, are hidden. So the figures are those of the dependencies,
whatever else is installed.

The base is the import of the packages that this one requires. Some modules of the package are
imported only with the first session or its auth. Most programs need these too, so they have a row
of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

import trio_anon_session
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BASE = "import trio, httpx"
OURS = "import trio_anon_session"
SESSION = (
    "from trio_anon_session import AnonymousSession, Config\n"
    "AnonymousSession(Config(client_id='id', client_secret='secret')).auth()"
)
STATEMENTS = {
    Contender(OURS, is_ours=True, limit=Limit(1.05)): OURS,
    Contender("import it, create a session and its auth", is_ours=True): SESSION,
    Contender(BASE): BASE,
}
OPTIONAL = ("brotli", "brotlicffi", "click", "h2", "pygments", "rich", "socksio", "zstandard")
PROGRAM = """\
import sys, time
sys.modules.update(dict.fromkeys({optional}))
before = len(sys.modules)
began = time.process_time()
{statements}
print(time.process_time() - began, len(sys.modules) - before)
"""


@attrs.frozen
class Import:
    """What an import took, and how many modules it loaded."""

    seconds: float
    modules: int


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    turns = max(effort.turns, effort.calls // 600)
    with tempfile.TemporaryDirectory() as bytecode:
        environ = environ_with(bytecode)
        # This writes the bytecode of all modules, so that no measured import compiles them.
        import_afresh(SESSION, environ)
        measured = in_turns(
            {who: partial(import_afresh, each, environ) for who, each in STATEMENTS.items()}, turns
        )
    seconds = {
        attrs.evolve(who, remark=f"{imports[0].modules:,} modules"): [it.seconds for it in imports]
        for who, imports in measured.items()
    }
    return [compare("an import", "s", seconds, base=BASE)]


def import_afresh(statements: str, environ: Mapping[str, str]) -> Import:
    """Import in a fresh interpreter."""
    program = PROGRAM.format(optional=OPTIONAL, statements=statements)
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    seconds, modules = ended.stdout.split()
    return Import(float(seconds), int(modules))


def environ_with(bytecode: str) -> dict[str, str]:
    """Return an environment in which Python imports this package, with bytecode in the folder."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    here = str(Path(trio_anon_session.__file__).parents[1])
    return {**environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONPATH": here}
