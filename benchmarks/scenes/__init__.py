"""The scenes, one in each file.

Each file has ``run(effort)``, which returns comparisons, and a docstring whose first line is the
scene's title, and whose rest says how it is measured.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Comparison, Effort

NAMES = (
    "hit_sync",
    "hit_async",
    "request",
    "token_requests",
    "herd",
    "down",
    "cancelled",
    "hour",
    "release",
    "failure",
    "under_load",
    "sessions",
    "imports",
    "day",
    "refreshes",
    "timelines",
    "instructions",
)
"""The scenes, in the order in which they are run and shown."""


class LeftOutError(Exception):
    """A scene cannot be run here. The message says what it needs."""


class Scene(Protocol):
    """The interface of a file in this folder."""

    __doc__: str | None

    def run(self, effort: Effort) -> Sequence[Comparison]:
        """Run the scene, and return its comparisons; or raise LeftOutError immediately."""
        ...


def load(name: str) -> Scene:
    """Return a scene by its file's name."""
    return cast("Scene", import_module(f"benchmarks.scenes.{name}"))


def title(scene: Scene) -> str:
    """Return the first line of a scene's docstring, without its full stop."""
    assert scene.__doc__ is not None
    return scene.__doc__.splitlines()[0].rstrip(".")
