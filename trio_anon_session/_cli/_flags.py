"""The configuration flags of several subcommands, and ``--show-config``."""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import trio

from .._environment import BOX, check_prefix
from .._errors import ConfigError
from ._ending import ConfigurationOption
from ._files import SECRET, FilePath, secret_in_file
from ._output import escaped, say
from ._settings import DEFAULTS, SETTINGS, Settings, resolve
from ._store import STORE, STORE_KEY, StoreSettings, resolve_store, store_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._config import Config
    from ..stores import TokenStore
    from ._settings import Setting

_ORDER = """

Each setting comes from its flag, else from the environment (BOX_CLIENT_ID,
BOX_CLIENT_SECRET, BOX_API_ROOT_URL, ...), else from the settings file of Box's
developer console (--box-json). --show-config prints the source of each setting.
For a program with several clients, --env-prefix names the prefix of the variables.

The secret comes only from a file, standard input or the environment, because other
users of this machine can read the flags of a process. Instead of a secret, the client
may have a key, an assertion or a certificate."""

_LONGEST_METAVAR = 60
"""Characters. A line of the help has 80 characters."""


def with_order(text: str) -> str:
    """Return a help text, followed by the order of the sources of settings."""
    return inspect.cleandoc(text) + _ORDER


@attrs.frozen
class Source:
    """The configuration flags of a command line; no file has been read yet."""

    flags: Mapping[str, Any] = attrs.field(repr=False)
    params: Sequence[str] = attrs.field(repr=False)
    secret_file: Path | None
    box_json: Path | None
    defaults: Mapping[str, Any]
    store: str | None = attrs.field(default=None, repr=False)
    store_key_file: Path | None = None
    prefix: str = BOX

    def settings(self) -> Settings:
        """Return the settings from flags, environment and files.

        Raises:
            ConfigError: A file is missing or invalid.
        """
        flags = dict(self.flags)
        if self.params:
            flags["extra_params"] = _read_params(self.params)
        if self.secret_file is not None:
            flags[SECRET] = secret_in_file(self.secret_file)
        return resolve(flags, os.environ, self.box_json, self.defaults, self.prefix)

    def config(self) -> Config:
        """Return the config. For endpoints of an issuer, this requests its metadata.

        Raises:
            ConfigError: A setting is missing or invalid.
            TokenUnavailableError: The issuer's server did not answer, or had a temporary error.
        """
        settings = self.settings()
        return trio.run(settings.discovered) if settings.discovers else settings.config()

    def store_settings(self) -> StoreSettings | None:
        """Return the settings of the store, or None without a store.

        Raises:
            ConfigError: A setting is missing or invalid.
        """
        return resolve_store(self.store, self.store_key_file, os.environ)

    def make_store(self) -> TokenStore | None:
        """Return the store, or None without one.

        Raises:
            ConfigError: A setting is missing or invalid.
        """
        settings = self.store_settings()
        return settings.make() if settings is not None else None

    @property
    def has_store(self) -> bool:
        """Whether a store, or a key for one, was given."""
        return any((self.store is not None, self.store_key_file, os.environ.get(STORE)))

    @property
    def reads_stdin(self) -> bool:
        """Whether the secret comes from standard input."""
        return self.secret_file is not None and os.fspath(self.secret_file) == "-"


def _checked_prefix(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        check_prefix(value)
    except ConfigError as error:
        problem = error.wants
    else:
        return value
    raise click.BadParameter(problem)


def takes_prefix(
    text: str, kind: type[click.Option] = click.Option
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option for the prefix of the variables, which the help follows."""
    return click.option(
        "--env-prefix",
        cls=kind,
        # Before --help, which follows the prefix.
        is_eager=True,
        callback=_checked_prefix,
        metavar="PREFIX",
        default=BOX,
        show_default=True,
        help=text,
    )


def takes_configuration(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the configuration flags and calls with a `Source`.

    Args:
        **defaults: defaults of the subcommand that differ from those of `Config`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(**values: Any) -> None:
            flags = {setting.name: values.pop(setting.name) for setting in SETTINGS}
            source = Source(
                params=flags.pop("extra_params"),
                secret_file=flags.pop(SECRET),
                flags={name: value for name, value in flags.items() if value is not None},
                box_json=values.pop("box_json"),
                defaults=defaults,
                store=values.pop("store"),
                store_key_file=values.pop("store_key_file"),
                prefix=values.pop("env_prefix"),
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
    path = FilePath(path_type=Path)
    options = [_option(setting, defaults) for setting in SETTINGS]
    box_json = {"type": path, "help": "The settings file of Box's developer console."}
    options.insert(8, click.option("--box-json", cls=ConfigurationOption, **box_json))
    text = "The prefix of the environment variables; ends with an underscore, or is empty."
    options.insert(0, takes_prefix(text, ConfigurationOption))
    options += [
        click.option(
            "--store",
            cls=ConfigurationOption,
            metavar="STORE",
            help="The store that shares the token: a file, or valkey://HOST, valkeys://HOST, "
            f"unix://SOCKET. Set a URL with a password only in {STORE}.",
        ),
        click.option(
            "--store-key-file",
            cls=ConfigurationOption,
            type=FilePath(exists=True, dir_okay=False, path_type=Path),
            help="A file with the key that encrypts the token in Redis, and older keys below it; "
            f"or set {STORE_KEY}.",
        ),
    ]
    shown = "Print each setting and its source, and exit."
    show = click.option("--show-config", cls=ConfigurationOption, is_flag=True, help=shown)
    return [*options, show]


def _option(setting: Setting, defaults: Mapping[str, Any]) -> Any:
    text = setting.help
    default = defaults.get(setting.name, DEFAULTS.get(setting.name))
    if isinstance(default, str | int | float):
        shown = f"{default:g}" if isinstance(default, float) else default
        text += f"  [default: {shown}]"
    settings: dict[str, Any] = {"help": text, "cls": ConfigurationOption}
    match setting.kind:
        case "seconds":
            settings |= {"type": float, "metavar": "SECONDS"}
        case "count":
            settings |= {"type": click.IntRange(min=0), "metavar": "N"}
        case "file":
            # Without `exists`, because the check of the setting says more.
            settings["type"] = FilePath(path_type=Path)
        case "secret_file":
            settings["type"] = FilePath(
                exists=True, dir_okay=False, allow_dash=True, path_type=Path
            )
        case "params":
            settings |= {"multiple": True, "metavar": "NAME=VALUE"}
    if setting.choices:
        # click's Choice repeats an invalid value in its error, and the value may be a secret.
        metavar = "[" + "|".join(setting.choices) + "]"
        settings["metavar"] = metavar if len(metavar) <= _LONGEST_METAVAR else "METHOD"
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
            raise ConfigError("extra_params", "must be NAME=VALUE (from flag --param)")
        before = params.get(name)
        if before is None:
            params[name] = value
        else:
            params[name] = [*([before] if isinstance(before, str) else before), value]
    return params


def _show(source: Source) -> None:
    settings, store = source.settings(), source.store_settings()
    rows = [
        tuple(map(escaped, row))
        for row in (*settings.rows(), *store_rows(store, settings.secrets()))
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, where in rows:
        say(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {where}")
    # Errors come after the table, which helps to find their cause.
    settings.config()
    source.make_store()
