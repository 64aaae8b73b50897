"""Run scenes one after the other, each in its own process."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeAlias

from benchmarks import scenes

if TYPE_CHECKING:
    from benchmarks.measure import Comparison, Effort

Measured: TypeAlias = "tuple[str, tuple[Comparison, ...]]"
"""The title of a scene, and its results."""


def measure(name: str, effort: Effort) -> Measured:
    """Run a scene, and return its title and results."""
    scene = scenes.load(name)
    return scenes.title(scene), tuple(scene.run(effort))


def measure_apart(name: str, effort: Effort) -> Measured:
    """Run a scene in a new process.

    The imports of other scenes, and their effect on the heap, would change its figures: a request
    by 1 % after a dozen peers.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, name, effort).result()
