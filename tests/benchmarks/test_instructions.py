"""The scene that counts instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import counted, scenes
from benchmarks.measure import BRIEF
from benchmarks.scenes import instructions
from benchmarks.scenes.instructions import FIGURES

if TYPE_CHECKING:
    from benchmarks.scenes.instructions import Piece

PIECES = [
    pytest.param(piece, id=counted.piece_name(name, who.subject))
    for name, figure in FIGURES.items()
    for who, piece in figure.pieces.items()
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_marks_where_it_begins_and_ends(
    piece: Piece, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece calls ``mark`` at its beginning and at its end."""
    marks: list[None] = []
    monkeypatch.setattr(counted, "mark", lambda: marks.append(None))
    piece(2)
    assert len(marks) == 2


def test_without_valgrind_the_scene_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Valgrind, the scene raises LeftOutError with the reason."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(scenes.LeftOutError, match="needs valgrind"):
        instructions.run(BRIEF)
