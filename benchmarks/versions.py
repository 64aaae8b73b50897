"""What was measured, by version."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("trio_anon_session", "trio", "httpx")
"""Always there. The peers are listed in benchmarks/requirements.txt."""


def versions() -> dict[str, str]:
    """Return the versions of what is installed, and of what it runs on."""
    found = {
        platform.python_implementation(): platform.python_version(),
        platform.system(): f"{platform.release()}, {platform.machine()}, {os.cpu_count()} cores",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
