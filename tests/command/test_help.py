"""The help of each subcommand: its defaults and exit codes."""

from __future__ import annotations

import re
from typing import cast

import attrs
import click
import pytest

from trio_anon_session import Config
from trio_anon_session._cli import cli
from trio_anon_session._cli._ending import CODES_OF, MEANINGS, ConfigurationOption

from .running import invoke

COMMANDS = cast("click.Group", cli).commands


def entries(name: str) -> dict[str, str]:
    """Return the text of each option in the help of a subcommand."""
    text = invoke(*filter(None, [name]), "--help", environ={"COLUMNS": "100"}).stdout
    found = re.findall(r"^  (-[^\n]*(?:\n   [^\n]*)*)", text, re.MULTILINE)
    words = [" ".join(entry.split()) for entry in found]
    return {
        re.findall(r"--[a-z-]+", entry)[-1 if entry.startswith("-h") else 0]: entry
        for entry in words
    }


def options() -> list[tuple[str, click.Option]]:
    """Return all options, each with its subcommand."""
    return [
        (name, param)
        for name, command in COMMANDS.items()
        for param in command.params
        if isinstance(param, click.Option)
    ]


@pytest.mark.parametrize(
    ("name", "option"), options(), ids=lambda one: one if isinstance(one, str) else one.name
)
def test_each_default_is_in_the_help(name: str, option: click.Option) -> None:
    """An option that has a default shows it, also if the default is that of `Config`."""
    shown = entries(name)[option.opts[0]]
    default = None if option.is_flag else option.to_info_dict()["default"]
    if isinstance(option, ConfigurationOption):
        fields = {field.name: field.default for field in attrs.fields(Config)}
        default = fields.get(option.name or "")
    if isinstance(default, str | int | float):
        assert "[default: " in shown


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_each_help_lists_its_exit_codes(name: str) -> None:
    """The help ends with the exit codes that the subcommand has, and no others."""
    text = invoke(*filter(None, [name]), "--help").stdout
    listed = re.findall(r"^ +(\d+) +(\S.*)$", text.rpartition("Exit codes:")[2], re.MULTILINE)
    codes = CODES_OF[name] if name else tuple(MEANINGS)
    assert [(int(code), meaning) for code, meaning in listed] == [
        (code, MEANINGS[code]) for code in codes
    ]
    assert set(CODES_OF) == set(COMMANDS)


@pytest.mark.parametrize("name", ["", *(name for name in COMMANDS if name != "completion")])
def test_help_has_an_example(name: str) -> None:
    """The help gives an example, and ``-h`` shows the same help."""
    text = invoke(*filter(None, [name]), "--help").stdout
    assert re.search(r"^  +.*trio-anon-session \w+", text, re.MULTILINE)
    assert invoke(*filter(None, [name]), "-h").stdout == text
