"""The prose of a Markdown page or a Python module, without its code.

The prose has the same length and the same lines as the file, so that positions in both are the
same. Inline code becomes underscores, which count as one word. Other code becomes `BREAK`.
"""

from __future__ import annotations

import io
import itertools
import re
import tokenize
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BREAK = "|"
_CODE_OF_PAGES = re.compile(
    r"^[ ]*(?P<fence>`{3,}|~{3,}).*?^[ ]*(?P=fence)[ ]*$"
    r"|<!--.*?-->"
    r"|</?[a-z][^>\n]*>"
    r"|(?<=\])\([^)\s]*\)"  # The target of a link.
    r"|^\([\w-]+\)=$"  # A label of MyST.
    r"|\A---\n.*?^---$",
    re.MULTILINE | re.DOTALL,
)
_CODE_OF_DOCSTRINGS = re.compile(
    r"^[ ]*>>>.*(?:\n[ ]*[^ \n].*)*"  # An example with its output.
    r"|(?<=::\n)(?:\n|[ ]{4}.*\n)+"
    r"|^[ ]{8,}\**\w+(?=:[ ])",  # A name under "Args:" or "Attributes:".
    re.MULTILINE,
)
_INLINE_CODE = re.compile(r"(?<!`)(?P<ticks>`+)(?!`)[^|]+?(?<!`)(?P=ticks)(?!`)")
_FIELD = re.compile(r"\{[^{}]*\}")
_LITERAL = re.compile(r"(?P<kind>\w*)(?P<quote>'''|\"\"\"|'|\")(?P<text>.*)(?P=quote)", re.DOTALL)
_END_OF_SENTENCE = re.compile(
    r"(?<=[.!?])[\s\"')*_]*\s(?=[\s\"'(*]*[A-Z_0-9])|\n[ #]*\n|\n[ #]*(?:[-*]|\d+\.)[ ]|\||:\n"
)
# Python has these since version 3.12.
_FSTRING_MIDDLE = getattr(tokenize, "FSTRING_MIDDLE", -1)
_FSTRING_ENDS = {getattr(tokenize, f"FSTRING_{name}", -1) for name in ("START", "END")}


def prose_of(path: Path) -> str:
    """Return the prose of a file."""
    text = path.read_text()
    return prose_of_module(text) if path.suffix == ".py" else prose_of_page(text)


def prose_of_page(text: str) -> str:
    """Return the prose of a Markdown page."""
    return _without_inline_code(_CODE_OF_PAGES.sub(lambda found: _filled(found[0], BREAK), text))


def prose_of_module(text: str) -> str:
    """Return docstrings, comments and strings of a module. A string of one word is a name."""
    starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    prose = [*_filled(text, BREAK)]
    for kind, _, first, last, _ in tokenize.generate_tokens(io.StringIO(text).readline):
        start, end = starts[first[0] - 1] + first[1], starts[last[0] - 1] + last[1]
        if kind == tokenize.COMMENT:
            prose[start:end] = " " + text[start + 1 : end]
        elif kind == tokenize.STRING:
            prose[start:end] = _prose_of_literal(text[start:end])
        elif kind == _FSTRING_MIDDLE:
            prose[start:end] = text[start:end]
        elif kind in _FSTRING_ENDS:
            prose[start:end] = _filled(text[start:end], " ")
    return _without_inline_code("".join(prose))


def sentences(prose: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence of a prose, after its position."""
    start = 0
    for end in (*(found.end() for found in _END_OF_SENTENCE.finditer(prose)), len(prose)):
        sentence = prose[start:end]
        text = sentence.lstrip(" \n|#*-")
        if text:
            yield end - len(text), text.rstrip(" \n|#*-")
        start = end


def _prose_of_literal(literal: str) -> str:
    """Return the text of a string literal without quotes, or nothing if it is one word."""
    found = _LITERAL.fullmatch(literal)
    assert found is not None, literal
    text = found["text"]
    if " " not in text.strip():
        return _filled(literal, BREAK)
    if "f" in found["kind"].lower():
        text = _FIELD.sub(lambda field: _filled(field[0], "_"), text)
    text = _CODE_OF_DOCSTRINGS.sub(lambda code: _filled(code[0], BREAK), text)
    return " " * found.start("text") + text + " " * len(found["quote"])


def _without_inline_code(text: str) -> str:
    return _INLINE_CODE.sub(lambda found: _filled(found[0], "_"), text)


def _filled(text: str, filler: str) -> str:
    """Return a text of the same lines, of which each other character is the filler."""
    return re.sub(r"\S" if filler == BREAK else r"[^\n]", filler, text)
