"""Other token caches, to measure beside ours: one file a distribution, and of its name.

Each file has the caches that it offers in a tuple for each kind. What they get their tokens
from is one and the same ``Endpoint``; those that speak nothing but HTTP have a transport in
front of it that answers in process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import attrs

from benchmarks.versions import installed, pinned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from benchmarks.endpoint import Endpoint

C = TypeVar("C")

Getter: TypeAlias = "Callable[[], object]"
AsyncGetter: TypeAlias = "Callable[[], Awaitable[object]]"

NO_CHECKPOINT = "a hit is no checkpoint"
RESOURCE = "https://api.box.com/2.0/files/1"
"""What is requested with a token."""


@attrs.frozen
class SyncCache:
    """A cache whose getter is called from a thread.

    Attributes:
        name: as tables show it.
        open: makes a cache without a token, and yields its getter.
        remark: what one has to know beside a figure of a hit.
        checks_expiry: whether a hit looks at the time.
    """

    name: str
    open: Callable[[Endpoint], AbstractContextManager[Getter]]
    remark: str = ""
    checks_expiry: bool = True


@attrs.frozen
class AsyncCache:
    """A cache whose getter is awaited; else the same."""

    name: str
    open: Callable[[Endpoint], AbstractAsyncContextManager[AsyncGetter]]
    remark: str = ""


@attrs.frozen
class Kind(Generic[C]):
    """A kind of caches.

    Attributes:
        name: of the tuple in the files.
        files: that have it, in the order in which they are shown.
    """

    name: str
    files: tuple[str, ...]


ON_TRIO: Kind[AsyncCache] = Kind(
    "ON_TRIO", ("anthropic", "aiobotocore", "azure_core", "authlib", "azure_identity")
)
SYNC: Kind[SyncCache] = Kind(
    "SYNC",
    (
        "openai",
        "anthropic",
        "databricks_sdk",
        "google_auth",
        "azure_core",
        "httpx_auth",
        "botocore",
        "boxsdk",
    ),
)
AWAITS_NOTHING: Kind[AsyncCache] = Kind("AWAITS_NOTHING", ("gcloud_aio_auth",))
"""Of asyncio, but a hit is over before it would get there."""
ON_ASYNCIO: Kind[AsyncCache] = Kind("ON_ASYNCIO", ("google_auth",))
REQUESTS: Kind[AsyncCache] = Kind("REQUESTS", ("httpx_auth", "authlib"))
"""What is awaited is a request of `RESOURCE` with the token, on Trio."""


def load(kind: Kind[C]) -> tuple[list[C], list[str]]:
    """Return the caches of a kind, and the names of those that are left out.

    Left out is what is not installed in the very version that is asked for: most of what is
    called here is nothing that a project has promised to keep.
    """
    wanted = {name.lower().replace("-", "_"): version for name, version in pinned().items()}
    caches: list[C] = []
    left_out = []
    for file in kind.files:
        if file in wanted and installed(file) == wanted[file]:
            caches += getattr(import_module(f"{__name__}.{file}"), kind.name)
        else:
            left_out.append(file.replace("_", "-"))
    return caches, left_out


def remark(left_out: Iterable[str]) -> str:
    """Return what the base's row says of those that are left out."""
    names = ", ".join(left_out)
    return names and f"left out, not installed as required: {names}"
