"""httpx, and httpx2, its continuation: which of them a client belongs to.

Both libraries export the same names. So code that works with both receives the module of one of
them, as an argument named ``http``.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Protocol

import httpx

if TYPE_CHECKING:
    from types import ModuleType


class HTTPClient(Protocol):
    """An ``httpx.AsyncClient`` or an ``httpx2.AsyncClient``, for type checkers.

    With the name of a class of httpx2, they would accept any object where httpx2 is not installed.
    """

    @property
    def cookies(self) -> Any:
        """The cookies, with a ``jar``."""
        ...

    async def send(self, request: Any, *, stream: bool, auth: None, follow_redirects: bool) -> Any:
        """Send a request of the same library, and return its response."""
        ...

    async def aclose(self) -> None:
        """Close the client."""
        ...


def library_of(client: HTTPClient) -> ModuleType:
    """Return the library of a client: ``httpx`` or ``httpx2``.

    Raises:
        TypeError: the client is not an ``AsyncClient`` of either library.
    """
    # A program with a client of httpx2 has imported httpx2, so this module does not import it.
    for http in (httpx, sys.modules.get("httpx2")):
        if http is not None and isinstance(client, http.AsyncClient):
            return http
    raise TypeError(
        "http_client must be an httpx.AsyncClient, an httpx2.AsyncClient or None, "
        f"not {type(client).__name__}"
    )


@functools.cache
def with_base(kind: type[Any], base: type[Any]) -> type[Any]:
    """Return a class that inherits from both classes."""
    return type(kind.__name__, (kind, base), {"__module__": kind.__module__})
