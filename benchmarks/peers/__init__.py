"""Other token caches to compare with: one file for each distribution, with its name.

Each file has a tuple for each kind of cache. All caches get their tokens from the same
``Endpoint``; those that need HTTP have a transport in front of it that answers in process.
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

NO_CHECKPOINT = "a call is not a checkpoint"
RESOURCE = "https://api.box.com/2.0/files/1"
"""The URL that is requested with a token."""


@attrs.frozen
class SyncCache:
    """A cache with a blocking getter, called in a thread.

    Attributes:
        name: the name in tables.
        open: makes a cache without a token, and yields its getter.
        remark: a note to the figure of a hit.
        checks_expiry: whether a hit checks the time.
    """

    name: str
    open: Callable[[Endpoint], AbstractContextManager[Getter]]
    remark: str = ""
    checks_expiry: bool = True


@attrs.frozen
class AsyncCache:
    """A cache with an async getter; otherwise the same."""

    name: str
    open: Callable[[Endpoint], AbstractAsyncContextManager[AsyncGetter]]
    remark: str = ""


@attrs.frozen
class Kind(Generic[C]):
    """A kind of caches.

    Attributes:
        name: the name of the tuple in the files.
        files: the files that have it, in the order of the tables.
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
"""Caches of asyncio. A hit returns before it needs asyncio."""
ON_ASYNCIO: Kind[AsyncCache] = Kind("ON_ASYNCIO", ("google_auth",))
REQUESTS: Kind[AsyncCache] = Kind("REQUESTS", ("httpx_auth", "authlib"))
"""Caches that are measured by a request of `RESOURCE` with the token, on Trio."""


def load(kind: Kind[C]) -> tuple[list[C], list[str]]:
    """Return the caches of a kind, and the names of those that are left out.

    A library is left out if its installed version is not the required one, because most of the
    functions used here are not public.
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
    """Return the remark of the base's row about libraries that are left out."""
    names = ", ".join(left_out)
    return names and f"left out, not installed as required: {names}"
