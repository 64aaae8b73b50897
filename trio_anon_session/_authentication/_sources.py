"""Sources of a secret or an assertion that may change: files and callables.

Files are read and plain callables are called in a worker thread, because a network file system or
a key service may take long. In virtual time they are called directly, because the clock would jump
while a thread works.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from .._callables import lazy_kind
from .._paths import checked_path, shown
from .._secrets import async_without_locals, digest, with_quiet_init
from ._credentials import CredentialsUnavailableError
from ._threads import in_thread

if TYPE_CHECKING:
    import os
    from pathlib import Path

SIZE_LIMIT = 2**16
"""The most bytes of a file or text. Keys and assertions have a few thousand."""

SecretProvider = Callable[[], str | Awaitable[str]]


@with_quiet_init
class SecretFile:
    """A file with the client secret. The session reads it for every attempt.

    One line end at the end of the file is not part of the secret. The object contains only the
    path, so it can be copied and pickled.

    Args:
        path: the file. It must contain UTF-8 text, at most 64 KiB.

    Raises:
        TypeError: ``path`` is not a str or a path.
        ConfigError: ``path`` is empty, contains a NUL character, or is the content of a file.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = checked_path("path", path)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretFile) and self._path == other._path

    def __hash__(self) -> int:
        return hash(self._path)

    def __repr__(self) -> str:
        return f"SecretFile({shown(self._path)})"


Secret = str | SecretFile | SecretProvider
"""The values of `Config.client_secret`."""


@async_without_locals
async def read_secret(secret: Secret) -> str:
    """Return the current client secret.

    Raises:
        CredentialsUnavailableError: it cannot be read.
    """
    if isinstance(secret, str):
        return secret
    if isinstance(secret, SecretFile):
        return await read_text("client_secret", secret.path)
    return _without_line_end(checked_text("client_secret", await call("client_secret", secret)))


def version_of(secret: Secret, text: str) -> str | None:
    """Return the version of a secret's text, or None for a secret that cannot change."""
    return None if isinstance(secret, str) else digest(text)


@async_without_locals
async def read_text(setting: str, path: Path) -> str:
    """Return the text of a file, without a line end at its end.

    Raises:
        CredentialsUnavailableError: the file is missing, empty, too large or not text.
    """
    return text_in(setting, path, await in_thread(setting, path, read_file, setting, path))


def text_in(setting: str, path: Path, content: bytes) -> str:
    """Return the text in the content of a file, without a line end at its end.

    Raises:
        CredentialsUnavailableError: the content is empty, or not text.
    """
    what = f"{setting}: the file {shown(path)}"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise CredentialsUnavailableError(f"{what} is not UTF-8 text")
    if not text.strip():
        raise CredentialsUnavailableError(f"{what} is empty")
    return _without_line_end(text)


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def read_file(setting: str, path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        CredentialsUnavailableError: the file cannot be read, or is too large.
    """
    what = f"{setting}: the file {shown(path)}"
    content = b""
    problem = None
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or type(error).__name__
    # Raised outside of the except block, so that the error has no context.
    if problem is not None:
        raise CredentialsUnavailableError(f"{what} cannot be read: {problem}", is_local=True)
    if len(content) > SIZE_LIMIT:
        raise CredentialsUnavailableError(f"{what} has more than {SIZE_LIMIT} bytes")
    return content


def checked_text(setting: str, result: object) -> str:
    """Return the text that a callable has returned.

    Raises:
        CredentialsUnavailableError: it is not text, empty, too long or not encodable.
    """
    what = f"{setting}: the callable must return a non-empty str"
    if not isinstance(result, str):
        raise CredentialsUnavailableError(f"{what}, not {type(result).__name__}")
    # A foreign subclass of str may override any method.
    text = str.__str__(result)
    if not text.strip():
        raise CredentialsUnavailableError(f"{what}, not an empty one")
    if len(text) > SIZE_LIMIT:
        raise CredentialsUnavailableError(f"{what} of at most {SIZE_LIMIT} characters")
    if text.encode(errors="ignore").decode() != text:
        raise CredentialsUnavailableError(f"{what} that UTF-8 can encode")
    return text


async def call(setting: str, function: Callable[..., Any], *args: object) -> Any:
    """Call a user's callable, plain or async, and return its result.

    Raises:
        CredentialsUnavailableError: it raised an `Exception`, or earlier calls hang. The error
            names only the type, because the message may contain a secret.
    """
    problem = crash = None
    try:
        if lazy_kind(function) is not None:
            result = function(*args)
        else:
            result = await in_thread(setting, function, function, *args)
        return await result if inspect.isawaitable(result) else result
    except CredentialsUnavailableError:
        raise
    except Exception as error:
        problem = type(error).__name__
    except BaseExceptionGroup as group:
        # A nursery of the callable raises one if it was cancelled, or if a task has crashed.
        if group.split(trio.Cancelled)[1] is None:
            raise
        # Trio cancels the caller at its next checkpoint.
        crash = group.split((trio.Cancelled, Exception))[1]
        problem = type(group).__name__
    if crash is not None:
        try:
            raise crash
        finally:
            # Otherwise, frame and exception refer to each other until garbage collection.
            del crash
    raise CredentialsUnavailableError(f"{setting}: the callable raised {problem}")
