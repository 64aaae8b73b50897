"""The prose linter reads only prose, and its word list finds the phrases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.prose.reading import prose_of_module, prose_of_page, sentences
from tools.prose.words import INSTEAD, pattern

ROOT = Path(__file__).parents[3]
PAGE = """\
# A heading

Text with `inline code`, a [link](target.md), and
more text.

```python
code = "in a block"
```

<!-- comment -->
| cell | ``code`` |
- An item. A second sentence.
"""
MODULE = '''\
"""A docstring.

    >>> example(1)
    output

    Args:
        books: an argument.
"""
name = value["key"]  # A comment.
raise ValueError(f"message with {field.name} and "
                 "second part")
'''


@pytest.mark.parametrize(("read", "text"), [(prose_of_page, PAGE), (prose_of_module, MODULE)])
def test_prose_keeps_its_position(read: object, text: str) -> None:
    """Each word of the prose has the same line and column as in the file."""
    assert callable(read)
    prose = read(text)
    assert [len(line) for line in prose.split("\n")] == [len(line) for line in text.split("\n")]
    for found in re.finditer(r"[A-Za-z]+", prose):
        assert text.startswith(found[0], found.start())


def test_a_page_is_read_without_code() -> None:
    """Code blocks, inline code, comments and link targets are left out."""
    words = " ".join(re.findall(r"[A-Za-z]+", prose_of_page(PAGE)))
    assert words == "A heading Text with a link and more text cell An item A second sentence"


def test_a_module_is_read_without_code() -> None:
    """Docstrings, comments and messages are prose; names, keys and examples are not."""
    words = " ".join(re.findall(r"[A-Za-z]+", prose_of_module(MODULE)))
    assert words == "A docstring Args an argument A comment message with and second part"


def test_sentences_end_at_items_and_cells() -> None:
    """A sentence ends at a full stop, a blank line, an item of a list, or code."""
    text = "One two. Three\nfour, e.g. five\n\nSix | seven\n- eight\n- nine"
    found = [(" ".join(sentence.split()), text[at]) for at, sentence in sentences(text)]
    expected = ["One two.", "Three four, e.g. five", "Six", "seven", "eight", "nine"]
    assert found == [(sentence, sentence[0]) for sentence in expected]


@pytest.mark.parametrize(
    "text",
    [
        "it is used alone",
        "Nobody waits",
        "the session is told",
        "config wants a number",
        "retried for\n    ever",
        "the token is there",
        "a dead token",
        "number 1 is none",
        "it takes nothing, and goes without",
    ],
)
def test_the_word_list_finds(text: str) -> None:
    """A phrase is found in any case and across lines."""
    assert any(re.search(pattern(phrase), text, re.IGNORECASE) for phrase in INSTEAD)


@pytest.mark.parametrize(
    "text",
    [
        "Is there a way?",
        "options must be a Config or None, not str",
        "no more than one",
        "None if there is none",
        "these are all the same",
    ],
)
def test_the_word_list_leaves(text: str) -> None:
    """Questions, the value None and the plain meaning of a phrase are fine."""
    assert not any(re.search(pattern(phrase), text, re.IGNORECASE) for phrase in INSTEAD)


def test_files_that_are_not_rewritten_exist() -> None:
    """The list of files that the linter leaves out names files."""
    lines = (ROOT / "tools/prose/not-rewritten.txt").read_text().splitlines()
    assert lines[0].startswith("#")
    for line in lines[1:]:
        assert (ROOT / line).is_file(), line
