"""The tests that pages give as proof of their claims exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = Counter(
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
)


@pytest.mark.parametrize("page", ["docs/explanation/promises.md", "SECURITY.md"])
def test_pages_name_tests_that_exist(page: str) -> None:
    """Each test that a page gives as proof exists, and its name is unique."""
    named = re.findall(r"`(test_\w+)`", (ROOT / page).read_text())
    assert len(named) >= 10
    assert {name: TESTS[name] for name in named} == dict.fromkeys(named, 1)


def test_the_page_of_promises_has_all_of_them() -> None:
    """The page has a heading for each of the 22 promises, and names a test with its number."""
    text = (ROOT / "docs" / "explanation" / "promises.md").read_text()
    sections = re.findall(r"^### (\d+)\. .*\n((?:(?!#).*\n)*)", text, re.MULTILINE)
    assert [int(number) for number, _ in sections] == [*range(1, 23)]
    for number, section in sections:
        first, *_ = re.findall(r"`(test_\w+)`", section)
        assert first.startswith(f"test_promise_{int(number):02}_"), number


def test_every_promise_has_a_test_with_its_number() -> None:
    """Each of the 22 promises has a test with its number."""
    numbered = re.findall(r"test_promise_(\d\d)_", " ".join(TESTS))
    assert {int(number) for number in numbered} == {*range(1, 23)}
