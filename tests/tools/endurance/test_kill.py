"""The program that kills a token server while callers wait, with few callers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tools.endurance.kill import main, outlast

if TYPE_CHECKING:
    from tools.endurance.kill import Report

pytestmark = pytest.mark.nightly


def test_a_hundred_callers_survive_a_killed_server() -> None:
    """A hundred callers that wait while the server is killed all get the token of the next one."""
    # One attempt a second for two minutes is enough even for a slow machine.
    report: Report = trio.run(
        partial(outlast, 100, 0.5, retry_interval=0.1, max_retry_interval=0.2, max_retries=120)
    )
    assert report.problems() == []
    assert report.attempts[-1][1] == "a token"


def test_an_outage_longer_than_the_retries_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """If the callers get no token, the program exits with 1 and says what is wrong."""
    assert main(["--getters", "3", "--down", "0", "--max-retries", "0"]) == 1
    printed = capsys.readouterr().out
    assert "3 of 3 waited at the kill, 0 got a token, 3 an error" in printed
    assert "WRONG: callers with a token: 0, not 3" in printed
