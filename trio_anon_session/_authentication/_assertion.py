"""``private_key_jwt`` with an assertion that somebody else has signed (RFC 7523 §2.2).

The platform on which a program runs can vouch for it: Kubernetes, GitHub and SPIFFE write or
return signed statements about the workload. The server trusts their issuer, so that the program
needs no secret of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._paths import checked_path, shown
from .._secrets import async_without_locals, digest, with_quiet_init
from ._credentials import ClientAuthentication, Credentials
from ._jwt import assertion_fields
from ._sources import call, checked_text, read_text

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ._credentials import AssertionRequest

_SETTING = "auth_method"


class _ForeignAssertion(ClientAuthentication):
    """A client that sends an assertion as it gets it."""

    __slots__ = ()

    method = "private_key_jwt"

    @async_without_locals
    async def credentials(self, request: AssertionRequest) -> Credentials:
        # A JWT has no white space, but a file or the output of a program often ends with some.
        assertion = (await self._read(request)).strip()
        self._remember(assertion)
        fields = assertion_fields(request.client_id, assertion)
        return Credentials(fields, version=digest(assertion))

    async def _read(self, request: AssertionRequest) -> str:
        raise NotImplementedError


@with_quiet_init
class AssertionFile(_ForeignAssertion):
    """A client that authenticates with the assertion in a file, which the platform replaces.

    This is workload identity: a projected service account token of Kubernetes, for example for
    Microsoft Entra; or a JWT that a SPIFFE or GitHub Actions helper writes. Use it as
    ``Config(auth_method=AssertionFile(path), ...)``, without ``client_secret``. The token manager
    sends the content of the file as ``client_assertion`` (RFC 7523 §2.2).

    The session reads the file for every attempt, in a worker thread and within
    ``request_timeout``. If the server answers ``invalid_client``, it reads the file again; if the
    assertion has changed, the next attempt uses the new one. A file that cannot be read makes the
    attempt fail with a retryable error, and the session goes on with the token it has.

    Some servers accept an assertion with a ``jti`` only once. For them, use :class:`Assertion` with
    a callable that returns another assertion each time: a revocation needs one, too.

    Args:
        path: the file. It must contain a JWT as text, at most 64 KiB. White space around it is
            ignored.

    Raises:
        TypeError: ``path`` is not a str or a path.
        ConfigError: ``path`` is empty, contains a NUL character, or is the content of a file.
    """

    __slots__ = ("_path",)

    advice = (
        "client_id (BOX_CLIENT_ID), the claims iss, sub, aud and exp of the assertion in the file, "
        "that the server accepts it more than once"
    )

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = checked_path("path", path)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AssertionFile) and self._path == other._path

    def __hash__(self) -> int:
        return hash((AssertionFile, self._path))

    def __repr__(self) -> str:
        return f"AssertionFile({shown(self._path)})"

    async def _read(self, request: AssertionRequest) -> str:  # noqa: ARG002  # of all assertions
        return await read_text(_SETTING, self._path)


@with_quiet_init
class Assertion(_ForeignAssertion):
    """A client that authenticates with an assertion from a callable.

    Use it for an assertion that comes from a service, such as a metadata server or a vault. Use it
    as ``Config(auth_method=Assertion(provider), ...)``, without ``client_secret``. The token
    manager sends the result as ``client_assertion`` (RFC 7523 §2.2).

    The session calls ``provider(request)`` for every attempt, within ``request_timeout``. A plain
    callable is called in a worker thread. If the server answers ``invalid_client``, the session
    calls it again with ``request.attempt == 2``; if the assertion has changed, the session makes
    another attempt. An `Exception` of the provider makes the attempt fail with a retryable error,
    and the session goes on with the token it has.

    Cancellation: cancels an async provider. The thread of a plain one goes on, and its result is
    dropped.

    Args:
        provider: a plain or async callable that gets an :class:`AssertionRequest`, and returns a
            JWT as a str. White space around it is ignored.

    Raises:
        TypeError: ``provider`` is not callable.
    """

    __slots__ = ("_provider",)

    advice = (
        "client_id (BOX_CLIENT_ID) and the claims iss, sub, aud and exp of the assertion that the "
        "provider returns"
    )

    def __init__(self, provider: Callable[[AssertionRequest], str | Awaitable[str]]) -> None:
        if not callable(provider):
            raise TypeError(f"provider must be callable, not {type(provider).__name__}")
        super().__init__()
        self._provider = provider

    @property
    def provider(self) -> Callable[[AssertionRequest], str | Awaitable[str]]:
        """The callable."""
        return self._provider

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Assertion) and self._provider == other._provider

    def __hash__(self) -> int:
        # Not of the provider, because a callable may have no hash.
        return hash(Assertion)

    def __repr__(self) -> str:
        # The repr of a callable may contain a secret, such as an argument of a partial.
        name = getattr(self._provider, "__qualname__", None)
        return f"Assertion({name if isinstance(name, str) else type(self._provider).__name__})"

    async def _read(self, request: AssertionRequest) -> str:
        return checked_text(_SETTING, await call(_SETTING, self._provider, request))
