"""How the client authenticates, by the settings of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .._authentication import NAMES
from .._environment import WAYS, listed
from .._errors import ConfigError
from ._files import SECRET, secret_text, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_FILE = {way.variable.lower(): way for way in WAYS if way.methods is not NAMES}
FILES = tuple(_BY_FILE)
"""The settings that select a way to authenticate without a secret. Each one is a file."""
_OPTIONS = {
    name: tuple(option.lower() for option in way.options.values()) for name, way in _BY_FILE.items()
}
WAY_SETTINGS = tuple(each for name in FILES for each in (name, *_OPTIONS[name]))
"""The settings of all these ways. They are not settings of `Config`."""
METHODS = tuple(dict.fromkeys(method for way in WAYS for method in way.methods))
"""The values of the setting ``auth_method``, by their names in RFC 8414."""
_ARGUMENTS = {
    "key": "client_key_file",
    "key_id": "client_key_id",
    "algorithm": "client_key_algorithm",
    "certfile": "client_cert_file",
    "keyfile": "client_cert_key_file",
}
"""The settings that are arguments of `PrivateKeyJWT` and `MutualTLS`, by these arguments."""


@attrs.frozen
class Given:
    """The value of a setting, which may be a secret, and its source."""

    value: Any = attrs.field(repr=False)
    source: str


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    special = {SECRET: "--client-secret-file", "extra_params": "--param"}
    return special.get(name, "--" + name.replace("_", "-"))


def how_to_set(prefix: str, *names: str) -> str:
    """Return which variable or flag sets one of these settings."""
    variables = [prefix + name.upper() for name in names]
    return f"set {listed(variables, 'or')}, or use {listed([*map(flag_of, names)], 'or')}"


def missing_way(given: Mapping[str, Given], prefix: str, *, at_box: bool) -> tuple[str, str]:
    """Return the setting that is missing, and how to set it, if nothing says how to authenticate.

    It depends on the method, if one is given.

    Args:
        given: the settings that were given.
        prefix: the beginning of the variables' names.
        at_box: whether the server is Box's.
    """
    method = given["auth_method"].value if "auth_method" in given else NAMES[0]
    files = [name for name, way in _BY_FILE.items() if method in way.methods]
    if files:
        return files[0], how_to_set(prefix, *files)
    flags = [*map(flag_of, (SECRET, *FILES)), *(["--box-json"] if at_box else [])]
    return SECRET, f"set {prefix}CLIENT_SECRET, or use {listed(flags, 'or')}"


def way_of(given: Mapping[str, Given], prefix: str) -> str | None:
    """Return the setting that says how the client authenticates, or None if none does.

    Raises:
        ConfigError: There are several, or another setting contradicts it.
    """
    ways = [name for name in (SECRET, *FILES) if name in given]
    if len(ways) > 1:
        sources = [f"{name} ({given[name].source})" for name in ways]
        raise ConfigError(
            "auth_method",
            f"must be one way to authenticate, got {listed(sources, 'and')}; remove all but one",
        )
    way = ways[0] if ways else None
    for name, options in _OPTIONS.items():
        for option in options:
            if option in given and name != way:
                raise ConfigError(
                    option,
                    f"must be used with {name} ({how_to_set(prefix, name)}), "
                    f"or not at all (from {given[option].source})",
                )
    method = given.get("auth_method")
    if way is not None and method is not None and method.value not in methods_of(way):
        methods = listed([*map(repr, methods_of(way))], "or")
        # The value is not shown, because it may be a misplaced secret.
        raise ConfigError(
            "auth_method",
            f"must be {methods} with {way} ({given[way].source}), or not set "
            f"(from {method.source})",
        )
    return way


def methods_of(way: str) -> tuple[str, ...]:
    """Return the methods that a way can be, by their names in RFC 8414. The first is the usual."""
    return NAMES if way == SECRET else _BY_FILE[way].methods


def config_settings(way: str, given: Mapping[str, Given], prefix: str) -> dict[str, Any]:
    """Return the settings of `Config` for a way to authenticate.

    Raises:
        ConfigError: A file cannot be used. The error names the setting and its source.
    """
    try:
        if way == SECRET:
            secret_text(given[SECRET].value)
            return {SECRET: given[SECRET].value}
        chosen = _BY_FILE[way]
        options = {
            argument: given[name.lower()].value
            for argument, name in chosen.options.items()
            if name.lower() in given
        }
        made: dict[str, Any] = chosen.settings_of(given[way].value, **options)
        if way == "client_assertion_file":
            text_of(way, given[way].value)
        return made
    except ConfigError as error:
        problem = error
    # Raised outside of the except block, so that the error has no context.
    raise _explained(problem, way, given, prefix)


def _explained(
    error: ConfigError, way: str, given: Mapping[str, Given], prefix: str
) -> ConfigError:
    """Return an error of a way's constructor in the words of the command."""
    if error.field == "password":
        return ConfigError(
            way,
            "must have a private key without a password: only a program can set the password "
            f"(from {given[way].source})",
        )
    field = _ARGUMENTS.get(error.field, error.field)
    if field in given:
        return ConfigError(field, f"{error.wants} (from {given[field].source})")
    if field in WAY_SETTINGS:
        return ConfigError(field, f"{error.wants}; {how_to_set(prefix, field)}")
    return ConfigError(field, f"{error.wants} (from {given[way].source})")
