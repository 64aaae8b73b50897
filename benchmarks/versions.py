"""What was measured, by version."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("trio_anon_session", "trio", "httpx")
"""Always there. The peers are listed in benchmarks/requirements.txt."""

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def pinned() -> dict[str, str]:
    """Return what benchmarks/requirements.txt asks for, by name."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def installed(package: str) -> str | None:
    """Return the version in which a package is there, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions of what is installed, and of what it runs on."""
    found = {
        platform.python_implementation(): platform.python_version(),
        platform.system(): f"{platform.release()}, {platform.machine()}, {os.cpu_count()} cores",
    }
    for package in (*PACKAGES, *pinned()):
        there = installed(package)
        if there is not None:
            found[package] = there
    return found
