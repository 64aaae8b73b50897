"""Nothing piles up: the loads of the program, small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.endurance import memory
from tests.endurance.memory import LOADS, measure

if TYPE_CHECKING:
    from tests.endurance.memory import Load, Note


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_memory_is_flat(load: Load) -> None:
    """What goes wrong a hundred times leaves no more in memory than what goes wrong fifty times."""
    course = measure(load, LOADS[load] // 50)
    assert course.is_flat, course.table()


def test_memory_that_grows_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program fails, and names the load and the kind of object, where something is kept."""
    kept: list[memory.Reading] = []

    async def hoarding(count: int, note: Note) -> None:
        """Keep everything."""
        for done in range(1, count + 1):
            kept.append(memory.Reading(done, 0, None, 0))
            await trio.lowlevel.checkpoint()
            note(done)

    monkeypatch.setattr(memory, "LOADS", {hoarding: 1000})
    assert memory.main([]) == 1
    printed = capsys.readouterr().out
    assert "GROWS" in printed
    assert "tests.endurance.memory.Reading" in printed
    assert "memory grows under: hoarding" in printed
