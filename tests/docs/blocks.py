"""The code blocks of the README and of docs/, as tests.

============  ===============================================================
language      what a test does with such a block
============  ===============================================================
``python``    run, in one namespace for the whole page; one whose first line
              names a file of ``examples/`` is compared with that file
``text``      compared with what the last block of Python has printed
``console``   bash runs each line after ``$``, and its output is compared with
              the lines below it, in which ``...`` matches any text;
              a line ``^C`` is Ctrl-C after as many lines as are above it;
              a folder after ``console`` is the one where bash starts
``sh``        run by bash, and must succeed; a line that begins with
              ``pip install`` is not run, but its extras must exist
``toml``      read
============  ===============================================================

A block of any other language fails, so that a test checks every block. Directives, such as
``{figure}``, belong to Sphinx; those that contain code fail, too.

    python -m tests.docs.blocks

prints the number of blocks.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sybil import Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from .forks import folder_of_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sybil import Document, Example

ROOT = Path(__file__).parents[2]
LIMIT = 240.0
"""Seconds after which a test kills the commands of a block."""
_MARK = "\N{SYMBOL FOR END OF TEXT}"
_CTRL_C = "\n^C\n"


def run_python(example: Example) -> None:
    """Run a block, or compare it with the file that its first line names."""
    first, _, rest = example.parsed.partition("\n")
    name = first.removeprefix("# ")
    if name.startswith("examples/"):
        quoted = rest.strip("\n")
        assert quoted, f"nothing of {name} is quoted"
        assert quoted in (ROOT / name).read_text(), f"{name} has changed"
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    example.namespace["printed"] = printed.getvalue()


def compare_with_printed(example: Example) -> None:
    """Compare a block of text with what the last block of Python has printed."""
    assert example.parsed.strip() == example.namespace["printed"].strip()


def run_console(example: Example, folder: str = ".") -> None:
    """Run the lines after ``$`` in one shell, and compare the output of each."""
    commands, expected = _read_console(example.parsed)
    script = "\n".join(
        f"{_interrupted(command, wanted)}\nprintf '{_MARK}'"
        for command, wanted in zip(commands, expected, strict=True)
    )
    printed = _run_shell(f"cd {folder}\n{script}", example).split(_MARK)
    for command, wanted, got in zip(commands, expected, printed, strict=False):
        assert _matches(wanted, got), f"$ {command}\n{got}\nis not\n{wanted}"
    assert len(printed) == len(commands) + 1, f"the shell ended early:\n{printed[-1]}"


def run_sh(example: Example) -> None:
    """Run a block that must succeed; for lines of pip, only check that the extras exist."""
    lines = example.parsed.strip().splitlines()
    installs = [line for line in lines if line.startswith("pip install ")]
    for line in installs:
        _check_extras(line)
    rest = [line for line in lines if line not in installs]
    if rest:
        _run_shell("\n".join(["set -eu", *rest, f"printf '{_MARK}'"]), example, ends_with=_MARK)


def read_toml(example: Example) -> None:
    """Read a block of settings."""
    tomllib.loads(example.parsed)


RUNNERS: dict[str, Callable[[Example], None]] = {
    "python": run_python,
    "text": compare_with_printed,
    "console": run_console,
    "sh": run_sh,
    "toml": read_toml,
}


def every_block(document: Document) -> Iterable[Region]:
    """Find all blocks of a page except Sphinx's directives, each with the function that runs it."""
    for region in FencedCodeBlockLexer(".*")(document):
        language = region.lexemes["language"].strip()
        if language.startswith("{") and "code" not in language:
            continue
        runner = RUNNERS.get(language, refuse)
        if language.startswith("console "):
            runner = partial(run_console, folder=language.removeprefix("console "))
        yield Region(region.start, region.end, region.lexemes["source"], runner)


def refuse(example: Example) -> None:
    """Fail for a block whose language has no runner."""
    raise AssertionError(f"no block may go unchecked; languages: {', '.join(RUNNERS)}")


def _read_console(text: str) -> tuple[list[str], list[str]]:
    commands: list[str] = []
    printed: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
            printed.append("")
        elif line.startswith("> ") and not printed[-1]:
            commands[-1] += "\n" + line.removeprefix("> ")
        else:
            printed[-1] += line + "\n"
    return commands, printed


def _interrupted(command: str, wanted: str) -> str:
    """Return a command, with Ctrl-C where a page shows it. The command must handle SIGINT itself.

    bash lets such a process ignore SIGINT, as it does for background jobs.
    """
    before, key, _ = wanted.partition(_CTRL_C)
    if not key:
        return command
    return f"""
exec 3< <(exec {command} 2>&1)
for ((line = 0; line < {before.count(chr(10)) + 1}; line++)); do
    IFS= read -r printed <&3 && echo "$printed"
done
echo ^C
kill -INT $!
cat <&3"""


def _matches(wanted: str, got: str) -> bool:
    parts = wanted.strip().split("...")
    # Do not compare invisible spaces at the ends of lines.
    seen = "\n".join(line.rstrip() for line in got.strip().splitlines())
    return re.fullmatch(".*?".join(map(re.escape, parts)), seen, re.DOTALL) is not None


def _run_shell(script: str, example: Example, ends_with: str = "") -> str:
    """Run a script in the folder with the examples, and return its output."""
    folder: Path = example.namespace["examples_copy"]
    output = folder / "output"
    path = os.pathsep.join(
        [str(folder_of_command()), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    # Use a file, because a process that is left in the background would keep a pipe open.
    with output.open("w") as file:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env={**os.environ, "PATH": path, "COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(LIMIT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    printed = output.read_text()
    assert printed.endswith(ends_with), printed
    return printed


def _check_extras(line: str) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        known = tomllib.load(file)["project"]["optional-dependencies"]
    named = re.findall(r"\[([\w,-]+)\]", line)
    unknown = {extra for group in named for extra in group.split(",")} - set(known)
    assert not unknown, f"no such extra: {', '.join(sorted(unknown))}"


def main() -> None:
    """Print the number of blocks for each page."""
    total: Counter[str] = Counter()
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        languages = re.findall(r"^ *```(\w+).*\n", page.read_text(), re.MULTILINE)
        total.update(languages)
        counts = ", ".join(f"{n} {language}" for language, n in Counter(languages).items())
        print(f"{page.relative_to(ROOT)!s:<40}{counts}")
    counts = ", ".join(f"{n} {language}" for language, n in total.items())
    print(f"{total.total()} blocks: {counts}")


if __name__ == "__main__":
    main()
