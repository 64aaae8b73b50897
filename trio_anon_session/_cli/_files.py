"""The files in which the client's secret, key or assertion is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .._authentication import CredentialsUnavailableError, SecretFile
from .._authentication._sources import read_file, text_in
from .._errors import ConfigError
from .._paths import shown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SECRET = "client_secret"
"""The name of the setting."""


class FilePath(click.Path):
    """The path of a file. Errors do not show a value that may be the content of a file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            click.BadParameter: There is no such file.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            problem = error.message.replace(repr(click.format_filename(value)), shown(value))
        raise click.BadParameter(problem, ctx, param)


def secret_text(secret: str | SecretFile) -> str:
    """Return the current client secret.

    Raises:
        ConfigError: The file with the secret cannot be used.
    """
    if isinstance(secret, str):
        return secret
    return text_of(SECRET, secret.path)


def text_of(setting: str, path: str | Path) -> str:
    """Return the text of a file that a setting names.

    Raises:
        ConfigError: The file cannot be read, or is not text.
    """
    content = content_of(setting, path)
    return _usable(setting, lambda: text_in(setting, Path(path), content))


def content_of(setting: str, path: str | Path) -> bytes:
    """Return the content of a file that a setting names.

    Raises:
        ConfigError: The file cannot be read.
    """
    return _usable(setting, lambda: read_file(setting, Path(path)))


def _usable(setting: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except CredentialsUnavailableError as error:
        problem = str(error)
    # Raised outside of the except block, so that the error has no context.
    raise ConfigError(setting, problem.removeprefix(f"{setting}: "))


def secret_in_file(path: Path) -> str | SecretFile:
    """Return the secret of ``--client-secret-file``.

    A pipe or standard input can be read only once, but a file is read for every attempt, so that
    `watch` notices a new secret.

    Raises:
        ConfigError: It is not a secret.
    """
    is_stdin = os.fspath(path) == "-"
    # sys.stdin is None if the shell closed it.
    if is_stdin and sys.stdin is None:
        raise ConfigError(SECRET, "cannot be read: standard input is closed; pipe the secret to it")
    if is_stdin and sys.stdin.isatty():
        return str(click.prompt("The application's secret", hide_input=True, err=True))
    if not is_stdin and path.is_file():
        return SecretFile(path)
    with click.open_file(os.fspath(path), "rb") as file:
        content: bytes = file.read()
    # A UnicodeDecodeError would contain the secret.
    secret = content.decode(errors="replace").strip()
    if "\ufffd" in secret:
        raise ConfigError(SECRET, "the file must be UTF-8 text")
    if not secret:
        raise ConfigError(SECRET, f"{'standard input' if is_stdin else path} is empty")
    return secret
