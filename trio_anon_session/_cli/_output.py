"""Everything that the command prints, without the control characters of others.

A terminal obeys control characters: they can move the cursor, change what was printed before, or
make text look as if it ran in another direction. Names, errors and settings come from servers,
stores, files and command lines, so no output may contain their control characters.
"""

from __future__ import annotations

import json
import re

import click

# C0, DEL and C1, the bidirectional controls, the line separators of Unicode, and lone surrogates,
# which also cannot be encoded.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escaped(text: str) -> str:
    r"""Return a text in which each control character is an escape, such as ``\x1b``."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str = "", *, before: str = "", err: bool = False) -> None:
    """Print a text, in which only the ends of lines are not escaped.

    Args:
        text: the text.
        before: what is printed before it as it is, such as a coloured word.
        err: whether to print on stderr.
    """
    click.echo(before + "\n".join(map(escaped, text.split("\n"))), err=err)


def say_json(content: object) -> None:
    """Print one line of JSON."""
    # JSON has its own escapes. `json.dumps` uses them for all control characters except this one.
    say(json.dumps(content).replace("\x7f", "\\u007f"))
