"""Check that the project's prose is plain English.

    python -m tools.prose [--all] [--long] [--update] [FILE ...]

It reads Markdown, and the docstrings, comments and strings of Python modules. proselint applies
the word list of words.py and its own checks. Without a FILE, it checks the files that
``[tool.prose]`` in pyproject.toml names, except those listed in not-rewritten.txt.

``--all``     also checks the files listed in not-rewritten.txt
``--long``    also lists sentences of more than 25 words; they are suggestions, not errors
``--update``  removes files from not-rewritten.txt that have nothing to replace

Exit code 1 if there is a phrase to replace.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proselint.checks import __register__ as their_checks
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.registry.checks.engine import Fancy
from proselint.tools import LintFile

from tools.prose.reading import prose_of, sentences
from tools.prose.words import INSTEAD, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NOT_REWRITTEN = Path(__file__).with_name("not-rewritten.txt")
LONGEST = 25
"""Words of a sentence."""

OUR_CHECKS = tuple(
    Check(
        check_type=types.PreferredForms({pattern(phrase): instead}, types.Padding.RAW),
        engine=Fancy(),  # Python's regular expressions, which can look behind.
        path="project",
        message=f'"{{1}}": use "{instead}"',
        flags=CheckFlags(allow_quotes=True),
    )
    for phrase, instead in INSTEAD.items()
)
CONFIG: Config = {
    "max_errors": 10_000,
    "checks": DEFAULT["checks"]
    | {
        "project": True,
        "lexical_illusions": False,  # A heading and its first word, and code next to code.
        "spelling": False,  # Attributes of SVG are American.
        "typography": False,  # Straight quotes are meant.
        "weasel_words": False,  # Its advice is a joke.
    },
}


class Finding(NamedTuple):
    """A phrase to replace, or a long sentence."""

    line: int
    text: str


def files() -> list[str]:
    """Return the files that ``[tool.prose]`` in pyproject.toml names."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["prose"]["files"]
    found = {path.relative_to(ROOT).as_posix() for each in patterns for path in ROOT.glob(each)}
    # Built pages are copies, and the word list contains the words.
    return sorted(
        name for name in found if "/_build/" not in name and name != "tools/prose/words.py"
    )


def not_rewritten() -> list[str]:
    """Return the files that are listed as not rewritten yet."""
    lines = NOT_REWRITTEN.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def remove_clean_files() -> None:
    """Remove the files from the list that have nothing to replace, or that no longer exist."""
    kept = [
        line
        for line in NOT_REWRITTEN.read_text().splitlines()
        if line.startswith("#") or ((ROOT / line).is_file() and any(phrases_in(ROOT / line)))
    ]
    NOT_REWRITTEN.write_text("\n".join(kept) + "\n")


def phrases_in(path: Path) -> Iterator[Finding]:
    """Yield the phrases of a file that the project, or proselint, asks to replace."""
    prose = prose_of(path)
    if prose:
        for result in LintFile(str(path), prose).lint(CONFIG):
            message = " ".join(result.check_result.message.split())
            yield Finding(prose.count("\n", 0, result.check_result.span[0] - 1) + 1, message)
    if path.suffix == ".py":
        yield from _docstrings_with_is(path)


def _docstrings_with_is(path: Path) -> Iterator[Finding]:
    """Yield the docstrings that begin with "Is"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            if docstring.startswith(("Is ", "Are ")):
                use = "a noun phrase" if isinstance(node, ast.ClassDef) else "an imperative"
                yield Finding(node.body[0].lineno, f'"{docstring.split(".")[0]}": begin with {use}')


def long_sentences_in(path: Path) -> Iterator[Finding]:
    """Yield the sentences of a file that are too long to read once."""
    prose = prose_of(path)
    for position, sentence in sentences(prose):
        count = len(sentence.split())
        if count > LONGEST:
            beginning = " ".join(sentence.split()[:8])
            yield Finding(prose.count("\n", 0, position) + 1, f"{count} words: {beginning} …")


def main(arguments: list[str] | None = None) -> int:
    """Print each finding with its place."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.prose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="*", metavar="FILE", help="check only these files")
    parser.add_argument("--all", action="store_true", help="check the files not rewritten, too")
    parser.add_argument("--long", action="store_true", help="also list long sentences")
    parser.add_argument("--update", action="store_true", help="shorten the list of files")
    options = parser.parse_args(arguments)
    CheckRegistry().register_many(their_checks)
    CheckRegistry().register_many(OUR_CHECKS)
    if options.update:
        remove_clean_files()
    left_out = set() if options.all or options.paths else {*not_rewritten()}
    names = [name for name in options.paths or files() if name not in left_out]
    phrases = 0
    long = 0
    for name in names:
        for finding in sorted(phrases_in(ROOT / name)):
            phrases += 1
            print(f"{name}:{finding.line}: {finding.text}")
        for finding in long_sentences_in(ROOT / name):
            long += 1
            if options.long:
                print(f"{name}:{finding.line}: suggestion: {finding.text}")
    print(
        f"{len(names)} files: {phrases} phrases to replace, {long} sentences of more than "
        f"{LONGEST} words (--long lists them). {len(left_out)} files are not rewritten yet."
    )
    return 1 if phrases else 0


if __name__ == "__main__":
    sys.exit(main())
