"""The source of each setting: flags, then environment, then Box's file, then defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from .._config import Config, why_no_revocation
from .._environment import ENVIRONMENT
from .._errors import ConfigError
from .._secrets import HIDDEN, Secrets, client_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT = "default"
NOTHING = "-"


@attrs.frozen
class Setting:
    """A setting of `Config` that has a flag.

    Attributes:
        name: name of the field.
        help: help text of the flag.
        kind: type of the flag's value.
        choices: the allowed values, if they are limited.
    """

    name: str
    help: str
    kind: Literal["text", "seconds", "count", "secret_file", "params"] = "text"
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The name of the flag."""
        special = {"client_secret": "--client-secret-file", "extra_params": "--param"}
        return special.get(self.name, "--" + self.name.replace("_", "-"))


SETTINGS = (
    Setting("client_id", "The client id of the application."),
    Setting(
        "client_secret",
        "A file that contains the client secret; - reads standard input.",
        "secret_file",
    ),
    Setting("api_root_url", "The root URL of the API."),
    Setting("token_url", "The URL of the token endpoint."),
    Setting("revoke_url", "The URL of the revocation endpoint."),
    Setting(
        "auth_method",
        "How the client authenticates: in the body (as for Box), or with HTTP Basic.",
        choices=("client_secret_post", "client_secret_basic"),
    ),
    Setting("issuer", "The issuer identifier of the authorization server."),
    Setting("scope", "Scopes, separated by spaces."),
    Setting("box_subject_type", "The kind of the token's subject.", choices=("enterprise", "user")),
    Setting("box_subject_id", "The id of that enterprise or user."),
    Setting(
        "extra_params",
        "An additional field of the token request, such as audience=https://api.example; may be "
        "repeated.",
        "params",
    ),
    Setting("stale_buffer", "Seconds before expiry at which a token is refreshed.", "seconds"),
    Setting(
        "expired_buffer",
        "Seconds before expiry at which a token is no longer used.",
        "seconds",
    ),
    Setting(
        "refresh",
        "When a token is refreshed: automatically, or only when a caller asks for it.",
        choices=("eager", "on_request"),
    ),
    Setting("idle_timeout", "Seconds without a caller after which refreshes pause.", "seconds"),
    Setting("refresh_jitter", "Maximum random delay of a refresh, in seconds.", "seconds"),
    Setting("max_retries", "Retries after the first attempt.", "count"),
    Setting(
        "retry_interval", "Seconds before the first retry; doubled after each attempt.", "seconds"
    ),
    Setting("max_retry_interval", "Maximum seconds between two attempts.", "seconds"),
    Setting("request_timeout", "Timeout of one attempt, in seconds.", "seconds"),
    Setting("min_refresh_interval", "Minimum seconds between two token requests.", "seconds"),
    Setting("default_lifetime", "Lifetime in seconds if the server sends none.", "seconds"),
)


@attrs.frozen
class Given:
    """The value of a setting, which may be a secret, and its source."""

    value: Any = attrs.field(repr=False)
    source: str


@attrs.frozen
class Settings:
    """The settings that were given, by name."""

    given: Mapping[str, Given]

    def config(self) -> Config:
        """Return the config made from these settings.

        Raises:
            ConfigError: Settings are missing (the error names all of them), or one is invalid
                (the error names its source).
        """
        missing = [name for name in _HOW_TO_SET if name not in self.given]
        if missing:
            first, *others = (f"{name}: {_HOW_TO_SET[name]}" for name in missing)
            problem = "; ".join([first.partition(": ")[2], *others])
            if others:
                problem += ". To try the command without an account, run: trio-anon-session serve"
            raise ConfigError(missing[0], problem)
        try:
            return Config(**{name: given.value for name, given in self.given.items()})
        except ConfigError as error:
            invalid = error
        given = self.given.get(invalid.field)
        source = f" (from {given.source})" if given is not None else ""
        raise ConfigError(invalid.field, invalid.wants + source)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, value and source of each setting, with the secret masked."""
        try:
            config = self.config()
        except ConfigError:
            config = None
        return [self._row(setting.name, config) for setting in SETTINGS]

    def _row(self, name: str, config: Config | None) -> tuple[str, str, str]:
        given = self.given.get(name)
        if name in _HOW_TO_SET and given is None:
            return name, NOTHING, "missing"
        if given is not None:
            return name, self._shown(name, given.value), given.source
        reason = why_no_revocation(config) if config is not None else None
        if name == "revoke_url" and reason is not None:
            return name, NOTHING, f"missing: {reason}"
        if name in ("token_url", "revoke_url"):
            value = getattr(config, name) if config is not None else None
            return name, self._shown(name, value), f"{DEFAULT}, from api_root_url"
        return name, self._shown(name, _DEFAULTS[name]), DEFAULT

    def _shown(self, name: str, value: Any) -> str:
        if value is None or value == {}:
            return NOTHING
        if name == "client_secret":
            return HIDDEN
        if name == "extra_params":
            # Only the names, as in the config's repr: a value may be a password.
            value = " ".join(f"{field}={HIDDEN}" for field in value)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return self.secrets().hide(text)

    def secrets(self) -> Secrets:
        """Return the secrets among the settings."""
        secret = self.given.get("client_secret")
        if secret is None:
            return Secrets()
        client_id = self.given.get("client_id")
        try:
            return Secrets(*client_secrets(client_id.value if client_id else "", secret.value))
        except UnicodeEncodeError:
            # Undecodable bytes of the environment, which Config refuses.
            return Secrets(secret.value)


_HOW_TO_SET = {
    "client_id": "set BOX_CLIENT_ID, or use --client-id or --box-json",
    "client_secret": "set BOX_CLIENT_SECRET, or use --client-secret-file or --box-json",
}
"""How to set the required settings."""

_DEFAULTS: Mapping[str, Any] = {
    attribute.alias or attribute.name: {} if attribute.name == "extra_params" else attribute.default
    for attribute in attrs.fields(Config)
}


def resolve(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    box_json: Path | None,
    defaults: Mapping[str, Any],
) -> Settings:
    """Return the settings from flags, environment, Box's settings file and defaults.

    Args:
        flags: values by setting name.
        environ: the environment; an empty variable counts as missing.
        box_json: the settings file of Box's developer console.
        defaults: defaults of the subcommand that differ from those of `Config`.

    Raises:
        ConfigError: The file is missing or invalid.
    """
    given = {name: Given(value, DEFAULT) for name, value in defaults.items()}
    if box_json is not None:
        config = Config.from_box_json(box_json)
        for name in ("client_id", "client_secret", "box_subject_type", "box_subject_id"):
            value = getattr(config, name)
            if value is not None:
                given[name] = Given(value, f"file {click.format_filename(box_json)}")
    for name, variable in ENVIRONMENT.items():
        if environ.get(variable):
            given[name] = Given(environ[variable], f"environment {variable}")
    known = {setting.name: setting.flag for setting in SETTINGS}
    for name, value in flags.items():
        given[name] = Given(value, f"flag {known[name]}")
    return Settings(given)
