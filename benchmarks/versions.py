"""The versions of the measured packages, and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("trio_anon_session", "trio", "httpx")
"""Packages that are always installed. benchmarks/requirements.txt lists the peers."""

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def pinned() -> dict[str, str]:
    """Return the versions in benchmarks/requirements.txt by name."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def installed(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions of all installed packages that are measured."""
    found = {platform.python_implementation(): platform.python_version()}
    for package in (*PACKAGES, *pinned()):
        there = installed(package)
        if there is not None:
            found[package] = there
    return found


def machine() -> dict[str, str]:
    """Return the properties of the machine that affect figures, but do not identify it."""
    # The part of a release after the number is chosen by its builder.
    release = platform.release().partition("-")[0]
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {release}, {platform.machine()}",
    }


def _processor() -> str:
    # The name of the processor on Linux. Python knows the name on other systems only.
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
