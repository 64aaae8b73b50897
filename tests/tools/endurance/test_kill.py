"""Getters outlast a server that is killed: the program, small."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tools.endurance.kill import main, outlast

if TYPE_CHECKING:
    from tools.endurance.kill import Report

pytestmark = pytest.mark.nightly


def test_a_hundred_getters_outlast_a_server_that_is_killed() -> None:
    """All get the one token of the server that takes the place of the one that was killed."""
    # One attempt a second for two minutes is enough even for a slow machine.
    report: Report = trio.run(
        partial(outlast, 100, 0.5, retry_interval=0.1, max_retry_interval=0.2, max_retries=120)
    )
    assert report.problems() == []
    assert report.attempts[-1][1] == "a token"


def test_an_outage_that_outlasts_the_retries_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The program fails, and says what is wrong, where the getters do not get their token."""
    assert main(["--getters", "3", "--down", "0", "--max-retries", "0"]) == 1
    printed = capsys.readouterr().out
    assert "3 of 3 waited at the kill, 0 got a token, 3 an error" in printed
    assert "WRONG: callers with a token: 0, not 3" in printed
