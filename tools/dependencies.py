"""Print the facts about every package that pyproject.toml names, as rows of a table.

    python -m tools.dependencies [NAME ...]

The rows are for docs/explanation/dependencies.md: name, newest release, whether it is older than a
year, lower bound, licence, and who maintains the package according to its metadata. With NAMEs, it
prints only these packages. It asks pip, in version 26 or newer, and installs nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
OURS = "trio-anon-session"


def named() -> dict[str, str]:
    """Return the packages that pyproject.toml names, and the lower bound of each or ``""``."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    lists = [
        settings["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *settings["dependency-groups"].values(),
    ]
    bounds: dict[str, str] = {}
    for text in (text for each in lists for text in each if isinstance(text, str)):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name != OURS:
            known = [bounds[name]] if bounds.get(name) else []
            found = [each.version for each in requirement.specifier]
            bounds[name] = min([*known, *found], key=Version, default="")
    return bounds


def required_by(names: Iterable[str]) -> set[str]:
    """Return what the installed packages of these names require, at any depth, on Python 3.11."""
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        for text in importlib.metadata.requires(waiting.pop()) or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            marker = requirement.marker
            applies = marker is None or marker.evaluate({"python_version": "3.11", "extra": ""})
            if applies and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def newest(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the metadata of the newest release of each package."""
    process = _pip("--report", "-", *names)
    process.check_returncode()
    found = (item["metadata"] for item in json.loads(process.stdout)["install"])
    return {canonicalize_name(metadata["name"]): metadata for metadata in found}


def is_old(name: str, version: str) -> bool:
    """Return whether this release is older than a year."""
    return _pip("--uploaded-prior-to=P365D", f"{name}=={version}").returncode == 0


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    return subprocess.run(
        [*command, "--no-deps", *arguments], capture_output=True, text=True, check=False
    )


def licence(metadata: dict[str, Any]) -> str:
    """Return the licence of a package in a few words."""
    expression: str = metadata.get("license_expression") or metadata.get("license") or ""
    if expression and "\n" not in expression:
        return expression
    # The field has the text of the licence, or nothing.
    lines = (line for line in metadata.get("classifier", []) if line.startswith("License ::"))
    return ", ".join(line.rpartition(" :: ")[2] for line in lines)


def maintainers(metadata: dict[str, Any]) -> str:
    """Return the people or the organisation that the metadata names, and where they work."""
    fields = ("maintainer", "maintainer_email", "author", "author_email")
    names = dict.fromkeys(metadata[field] for field in fields if metadata.get(field))
    urls = [url.partition(", ")[2] for url in metadata.get("project_url", [])]
    return "; ".join([*names, *urls[:1]])


def main() -> None:
    """Print one row for each package."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", metavar="NAME", nargs="*")
    names = parser.parse_args().names
    bounds = named()
    for name, metadata in newest(names or sorted(bounds)).items():
        version = metadata["version"]
        age = "older than a year" if is_old(name, version) else ""
        row = (name, version, age, bounds.get(name, ""), licence(metadata), maintainers(metadata))
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
