"""The settings of a `Config` from environment variables. The environment is passed in."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ._authentication import NAMES, SecretFile
from ._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

BOX = "BOX_"
"""The default prefix."""
_VARIABLES = {
    "client_id": "CLIENT_ID",
    "client_secret": "CLIENT_SECRET",
    "api_root_url": "API_ROOT_URL",
    "token_url": "TOKEN_URL",
    "revoke_url": "REVOKE_URL",
    "auth_method": "AUTH_METHOD",
    "issuer": "ISSUER",
    "scope": "SCOPE",
    "box_subject_type": "SUBJECT_TYPE",
    "box_subject_id": "SUBJECT_ID",
}
ENVIRONMENT = {field: BOX + variable for field, variable in _VARIABLES.items()}
"""The environment variable of each setting that is one text, with the default prefix."""


def _secret(secret: str) -> dict[str, Any]:
    return {"client_secret": secret}


def _secret_file(path: str) -> dict[str, Any]:
    return {"client_secret": SecretFile(path)}


def _key_file(path: str, **settings: str) -> dict[str, Any]:
    from_file = _late("_private_key_jwt", "PrivateKeyJWT").from_file
    return {"auth_method": from_file(path, **settings)}


def _assertion_file(path: str) -> dict[str, Any]:
    return {"auth_method": _late("_assertion", "AssertionFile")(path)}


def _certificate(path: str, **settings: str) -> dict[str, Any]:
    return {"auth_method": _late("_mutual_tls", "MutualTLS")(path, **settings)}


def _late(module: str, name: str) -> Any:
    # Most programs use one way to authenticate, and some ways need an extra.
    return getattr(import_module(f"{__package__}._authentication.{module}"), name)


@attrs.frozen
class Way:
    """One way to authenticate.

    Attributes:
        variable: the variable that selects it.
        methods: the values of ``AUTH_METHOD`` that agree with it, by their names in RFC 8414.
        settings_of: returns the settings for the values of the variables.
        options: further variables, by the arguments of ``settings_of``.
    """

    variable: str
    methods: tuple[str, ...]
    settings_of: Callable[..., dict[str, Any]]
    options: Mapping[str, str] = {}


WAYS = (
    Way("CLIENT_SECRET", NAMES, _secret),
    Way("CLIENT_SECRET_FILE", NAMES, _secret_file),
    Way(
        "CLIENT_KEY_FILE",
        ("private_key_jwt",),
        _key_file,
        {"key_id": "CLIENT_KEY_ID", "algorithm": "CLIENT_KEY_ALGORITHM"},
    ),
    Way("CLIENT_ASSERTION_FILE", ("private_key_jwt",), _assertion_file),
    Way(
        "CLIENT_CERT_FILE",
        ("tls_client_auth", "self_signed_tls_client_auth"),
        _certificate,
        {"keyfile": "CLIENT_CERT_KEY_FILE"},
    ),
)
"""All ways to authenticate that variables can select. The first two have a client secret."""


def read(make: Callable[..., T], environ: Mapping[str, str], prefix: str) -> T:
    """Return what ``make`` returns for the settings in the environment.

    Args:
        make: the constructor of the config.
        environ: the environment.
        prefix: the beginning of the variables' names.

    Raises:
        ConfigError: a variable is missing, contradicts another one, or has a wrong value.
        TypeError: ``prefix`` is not a str.
    """
    check_prefix(prefix)
    # An empty variable counts as missing.
    given = {
        name.removeprefix(prefix): value
        for name, value in environ.items()
        if name.startswith(prefix) and value
    }
    way = _way(given, prefix)
    settings = {field: given[name] for field, name in _VARIABLES.items() if name in given}
    settings.pop("client_secret", None)
    if way.methods is not NAMES:
        # The object says which method it is.
        settings.pop("auth_method", None)
    options = {name: given[option] for name, option in way.options.items() if option in given}
    try:
        return make(**settings, **way.settings_of(given[way.variable], **options))
    except ConfigError as error:
        problem = error
    if problem.field in settings:
        names = [_VARIABLES[problem.field]]
    elif problem.field in _VARIABLES and problem.field != "client_secret":
        names = []
    else:
        names = [way.variable, *(name for name in way.options.values() if name in given)]
    said = f" (from {listed([prefix + name for name in names], 'and')})" if names else ""
    raise ConfigError(problem.field, problem.wants + said)


def check_prefix(prefix: object) -> None:
    """Check the beginning of the variables' names.

    Raises:
        ConfigError: ``prefix`` has no underscore at its end.
        TypeError: ``prefix`` is not a str.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, not {type(prefix).__name__}")
    if prefix and not prefix.endswith("_"):
        raise ConfigError(
            "prefix", f"must end with '_', such as {BOX!r}, or be empty, got {prefix!r}"
        )


def _way(given: Mapping[str, str], prefix: str) -> Way:
    """Return how the client authenticates."""
    ways = [way for way in WAYS if way.variable in given]
    if len(ways) > 1:
        variables = listed([prefix + way.variable for way in ways], "and")
        raise ConfigError(
            "auth_method", f"must be one way to authenticate: set only one of {variables}"
        )
    for way in WAYS:
        for option in way.options.values():
            if option in given and way not in ways:
                raise ConfigError(
                    "auth_method",
                    f"must be set by {prefix}{way.variable}, because {prefix}{option} is set",
                )
    missing = [] if "CLIENT_ID" in given else ["client_id"]
    missing += [] if ways else ["client_secret"]
    if missing:
        raise ConfigError(missing[0], _how_to_set(missing, prefix))
    [way] = ways
    if given.get("AUTH_METHOD", way.methods[0]) not in way.methods:
        methods = listed([repr(method) for method in way.methods], "or")
        raise ConfigError(
            "auth_method",
            f"must agree with {prefix}{way.variable}: unset {prefix}AUTH_METHOD, "
            f"or set it to {methods}",
        )
    return way


def _how_to_set(missing: list[str], prefix: str) -> str:
    variables = " and ".join(prefix + _VARIABLES[field] for field in missing)
    if prefix == BOX:
        return (
            f"must be set: export {variables} with the values from Box's developer console, "
            "or from 'trio-anon-session serve'"
        )
    if "client_secret" in missing:
        first, *others = [prefix + way.variable for way in WAYS]
        variables += f"; instead of {first}, you can export {listed(others, 'or')}"
    return f"must be set: export {variables}"


def listed(texts: list[str], word: str) -> str:
    """Return texts as one, with a word before the last."""
    *others, last = texts
    return f"{', '.join(others)} {word} {last}" if others else last
