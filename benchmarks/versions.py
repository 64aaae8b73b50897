"""What was measured, by version, and on what machine."""

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
    """Return the versions of what is installed."""
    found = {platform.python_implementation(): platform.python_version()}
    for package in (*PACKAGES, *pinned()):
        there = installed(package)
        if there is not None:
            found[package] = there
    return found


def machine() -> dict[str, str]:
    """Return what a figure depends on, and nothing that tells whose machine it is."""
    # Of a release, what comes behind the number is its builder's.
    release = platform.release().partition("-")[0]
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {release}, {platform.machine()}",
    }


def _processor() -> str:
    # Where Linux has the name. Elsewhere Python knows it, and on Linux it does not.
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
