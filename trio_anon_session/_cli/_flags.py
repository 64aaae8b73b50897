"""The flags that several subcommands have: those of the configuration, and ``--show-config``."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from .._errors import ConfigError
from ._ending import ConfigurationOption
from ._settings import SETTINGS, Settings, resolve
from ._store import STORE, STORE_KEY, StoreSettings, resolve_store, store_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._config import Config
    from ..stores import TokenStore
    from ._settings import Setting

_ORDER = """

Settings come from the flags, then from the environment (BOX_CLIENT_ID,
BOX_CLIENT_SECRET, BOX_API_ROOT_URL, ...), then from the file of Box's developer
console that --box-json names; --show-config says which came from where.

The secret is taken from a file, standard input or the environment alone: a flag
would show it to everybody on this machine."""


def with_order(text: str) -> str:
    """Return a help text, and below it where settings come from."""
    return inspect.cleandoc(text) + _ORDER


@attrs.frozen
class Source:
    """Is what a command line says of the configuration; nothing has been read as yet."""

    flags: Mapping[str, Any] = attrs.field(repr=False)
    params: Sequence[str] = attrs.field(repr=False)
    secret_file: Path | None
    box_json: Path | None
    defaults: Mapping[str, Any]
    store: str | None = attrs.field(default=None, repr=False)
    store_key_file: Path | None = None

    def settings(self) -> Settings:
        """Read what there is to read.

        Raises:
            ConfigError: a file is missing or wrong.
        """
        flags = dict(self.flags)
        if self.params:
            flags["extra_params"] = _read_params(self.params)
        if self.secret_file is not None:
            flags["client_secret"] = _read_secret(self.secret_file)
        return resolve(flags, os.environ, self.box_json, self.defaults)

    def config(self) -> Config:
        """Return the config.

        Raises:
            ConfigError: something is missing or wrong.
        """
        return self.settings().config()

    def store_settings(self) -> StoreSettings | None:
        """Read which store there is, if any, and its keys.

        Raises:
            ConfigError: something is missing or wrong.
        """
        return resolve_store(self.store, self.store_key_file, os.environ)

    def make_store(self) -> TokenStore | None:
        """Return the store, if there is one.

        Raises:
            ConfigError: something is missing or wrong.
        """
        settings = self.store_settings()
        return settings.make() if settings is not None else None

    @property
    def has_store(self) -> bool:
        """Whether a store was named, or a key for one."""
        return any((self.store is not None, self.store_key_file, os.environ.get(STORE)))

    @property
    def reads_stdin(self) -> bool:
        """Whether the secret comes by standard input."""
        return self.secret_file is not None and os.fspath(self.secret_file) == "-"


def takes_configuration(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a subcommand the flags of the configuration; it is called with a `Source`.

    Args:
        **defaults: settings that are other ones than the config's where nobody gives them.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(**values: Any) -> None:
            flags = {setting.name: values.pop(setting.name) for setting in SETTINGS}
            source = Source(
                params=flags.pop("extra_params"),
                secret_file=flags.pop("client_secret"),
                flags={name: value for name, value in flags.items() if value is not None},
                box_json=values.pop("box_json"),
                defaults=defaults,
                store=values.pop("store"),
                store_key_file=values.pop("store_key_file"),
            )
            if values.pop("show_config"):
                _show(source)
            else:
                function(source, **values)

        decorated: Callable[..., None] = call
        for option in reversed(_options(defaults)):
            decorated = option(decorated)
        return decorated

    return decorate


def _options(defaults: Mapping[str, Any]) -> list[Any]:
    path = click.Path(path_type=Path)
    options = [_option(setting, defaults) for setting in SETTINGS]
    box_json = {"type": path, "help": "The settings file of Box's developer console."}
    options.insert(2, click.option("--box-json", cls=ConfigurationOption, **box_json))
    options += [
        click.option(
            "--store",
            cls=ConfigurationOption,
            metavar="STORE",
            help="Where the token is shared: a file of this machine, or valkey://HOST, "
            f"valkeys://HOST, unix://SOCKET; with a password, by {STORE} alone.",
        ),
        click.option(
            "--store-key-file",
            cls=ConfigurationOption,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="A file with the key that seals the token in Redis, and older keys below it; "
            f"or by {STORE_KEY}.",
        ),
    ]
    shown = "Show each setting and where it comes from, and end."
    show = click.option("--show-config", cls=ConfigurationOption, is_flag=True, help=shown)
    return [*options, show]


def _option(setting: Setting, defaults: Mapping[str, Any]) -> Any:
    told = setting.help
    if setting.name in defaults:
        told += f"  [default: {defaults[setting.name]}]"
    settings: dict[str, Any] = {"help": told, "cls": ConfigurationOption}
    match setting.kind:
        case "seconds":
            settings |= {"type": float, "metavar": "SECONDS"}
        case "count":
            settings |= {"type": click.IntRange(min=0), "metavar": "N"}
        case "secret_file":
            settings["type"] = click.Path(
                exists=True, dir_okay=False, allow_dash=True, path_type=Path
            )
        case "params":
            settings |= {"multiple": True, "metavar": "NAME=VALUE"}
    if setting.choices:
        # Not click's own type of choices: it shows what it refuses, a secret perhaps.
        settings["metavar"] = "[" + "|".join(setting.choices) + "]"
        settings["shell_complete"] = functools.partial(_complete, setting.choices)
    return click.option(setting.flag, setting.name, **settings)


def _complete(
    choices: tuple[str, ...], _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[str]:
    return [choice for choice in choices if choice.startswith(incomplete)]


def _read_params(texts: Sequence[str]) -> dict[str, str | list[str]]:
    params: dict[str, str | list[str]] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError("extra_params", "wants NAME=VALUE (from flag --param)")
        before = params.get(name)
        if before is None:
            params[name] = value
        else:
            params[name] = [*([before] if isinstance(before, str) else before), value]
    return params


def _read_secret(path: Path) -> str:
    is_stdin = os.fspath(path) == "-"
    # Python has no stream where a shell has closed it.
    if is_stdin and sys.stdin is None:
        raise ConfigError("client_secret", "wants a secret in standard input, which is closed")
    if is_stdin and sys.stdin.isatty():
        return str(click.prompt("The application's secret", hide_input=True, err=True))
    with click.open_file(os.fspath(path), "rb") as file:
        content: bytes = file.read()
    # Not by catching UnicodeDecodeError: it holds the content.
    secret = content.decode(errors="replace").strip()
    if "\ufffd" in secret:
        raise ConfigError("client_secret", "wants a file of UTF-8 text")
    if not secret:
        raise ConfigError(
            "client_secret", f"wants a secret in {'standard input' if is_stdin else path}"
        )
    return secret


def _show(source: Source) -> None:
    settings, store = source.settings(), source.store_settings()
    rows = [*settings.rows(), *store_rows(store, settings.secrets())]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, where in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {where}")
    # Shown first, so that what is wrong can be seen.
    settings.config()
    source.make_store()
