"""One scene after the other, each in a process of its own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeAlias

from benchmarks import scenes

if TYPE_CHECKING:
    from benchmarks.measure import Comparison, Effort

Measured: TypeAlias = "tuple[str, tuple[Comparison, ...]]"
"""A scene's title, and what came of it."""


def measure(name: str, effort: Effort) -> Measured:
    """Run a scene, and return its title and what came of it."""
    scene = scenes.load(name)
    return scenes.title(scene), tuple(scene.run(effort))


def measure_apart(name: str, effort: Effort) -> Measured:
    """Run a scene in a process of its own.

    What others have imported, and have left of the heap, would change its figures: a request by
    1 %, behind a dozen peers.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, name, effort).result()
