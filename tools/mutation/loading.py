"""Import a module of the package from changed source."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

PACKAGE = "trio_anon_session"
ROOT = Path(__file__).parents[2]


def source_path(module: str) -> Path:
    """Return the file of a module, named without the underscore of its file: ``stores.shared``."""
    *packages, name = module.split(".")
    return ROOT.joinpath(PACKAGE, *packages, f"_{name}.py")


def module_name(module: str) -> str:
    """Return the import name of a module."""
    return ".".join(source_path(module).relative_to(ROOT).with_suffix("").parts)


def load_from(module: str, source: str) -> None:
    """Let a module that is not imported yet be imported from this source."""
    sys.meta_path.insert(0, _Finder(module_name(module), str(source_path(module)), source))


class _Source(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


@attrs.frozen
class _Finder(importlib.abc.MetaPathFinder):
    name: str
    path: str
    source: str

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _Source(self.name, self.path, self.source)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=self.path)
