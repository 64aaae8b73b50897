"""Where each setting comes from: flags, then the environment, then Box's file, then defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from .._config import ENVIRONMENT, Config, revokes_elsewhere
from .._errors import ConfigError
from .._secrets import HIDDEN, Secrets, client_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT = "default"
NOTHING = "-"


@attrs.frozen
class Setting:
    """Is a setting of `Config` that the command takes.

    Attributes:
        name: of the field.
        help: what it is, in the help of its flag.
        kind: what its flag takes.
        choices: what a word has to be one of.
    """

    name: str
    help: str
    kind: Literal["text", "seconds", "count", "secret_file", "params"] = "text"
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The flag."""
        special = {"client_secret": "--client-secret-file", "extra_params": "--param"}
        return special.get(self.name, "--" + self.name.replace("_", "-"))


SETTINGS = (
    Setting("client_id", "The application's id."),
    Setting(
        "client_secret",
        "A file that holds the application's secret; - reads standard input.",
        "secret_file",
    ),
    Setting("api_root_url", "Where the API lives."),
    Setting("token_url", "The token endpoint."),
    Setting("revoke_url", "The revocation endpoint."),
    Setting(
        "auth_method",
        "How the client authenticates: in the body, as Box wants it, or by HTTP Basic.",
        choices=("client_secret_post", "client_secret_basic"),
    ),
    Setting("scope", "Scopes, separated by spaces."),
    Setting("box_subject_type", "Whose token it is.", choices=("enterprise", "user")),
    Setting("box_subject_id", "The enterprise's or user's id."),
    Setting(
        "extra_params",
        "A further field of the grant, such as audience=https://api.example; may be repeated.",
        "params",
    ),
    Setting(
        "stale_buffer", "Seconds before the end of its life when a token is refreshed.", "seconds"
    ),
    Setting(
        "expired_buffer",
        "Seconds before the end of its life when a token is no longer handed out.",
        "seconds",
    ),
    Setting(
        "refresh",
        "When a token is refreshed: by itself, or when somebody asks.",
        choices=("eager", "on_request"),
    ),
    Setting("idle_timeout", "Seconds without a request after which refreshing parks.", "seconds"),
    Setting("refresh_jitter", "Seconds by which a refresh may come later.", "seconds"),
    Setting("max_retries", "Attempts after the first.", "count"),
    Setting("retry_interval", "Seconds before the first retry; they double.", "seconds"),
    Setting("max_retry_interval", "Seconds; no pause is longer.", "seconds"),
    Setting("request_timeout", "Seconds that one attempt may take.", "seconds"),
    Setting("min_refresh_interval", "Seconds between two grants at least.", "seconds"),
    Setting("default_lifetime", "Seconds that a token lives whose answer is silent.", "seconds"),
)


@attrs.frozen
class Given:
    """Is what a setting is, and where that comes from; the value may be a secret."""

    value: Any = attrs.field(repr=False)
    source: str


@attrs.frozen
class Settings:
    """Holds what was given, by name."""

    given: Mapping[str, Given]

    def config(self) -> Config:
        """Return the config that they make.

        Raises:
            ConfigError: naming all that is missing, or what is wrong and where it comes from.
        """
        missing = [name for name in _WHENCE if name not in self.given]
        if missing:
            first, *others = (f"{name}: {_WHENCE[name]}" for name in missing)
            wants = "; ".join([first.partition(": ")[2], *others])
            if others:
                wants += ". 'trio-anon-session serve' brings some to try with"
            raise ConfigError(missing[0], wants)
        problem = None
        try:
            return Config(**{name: given.value for name, given in self.given.items()})
        except ConfigError as error:
            problem = error
        source = self.given.get(problem.field)
        said = f" (from {source.source})" if source is not None else ""
        raise ConfigError(problem.field, problem.wants + said)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, value and source of each setting, the secret masked."""
        try:
            config = self.config()
        except ConfigError:
            config = None
        return [self._row(setting.name, config) for setting in SETTINGS]

    def _row(self, name: str, config: Config | None) -> tuple[str, str, str]:
        given = self.given.get(name)
        if name in _WHENCE and given is None:
            return name, NOTHING, "missing"
        if given is not None:
            return name, self._shown(name, given.value), given.source
        if name == "revoke_url" and config is not None and revokes_elsewhere(config):
            return name, NOTHING, "missing: token_url is another server's than api_root_url"
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
            # Names alone, as in the config's repr: a value may be another scheme's password.
            value = " ".join(f"{field}={HIDDEN}" for field in value)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return self.secrets().hide(text)

    def secrets(self) -> Secrets:
        """Return what must not be shown of them."""
        secret = self.given.get("client_secret")
        if secret is None:
            return Secrets()
        client_id = self.given.get("client_id")
        try:
            return Secrets(*client_secrets(client_id.value if client_id else "", secret.value))
        except UnicodeEncodeError:
            # Bytes of the environment that are no text, which no config takes.
            return Secrets(secret.value)


_WHENCE = {
    "client_id": "set BOX_CLIENT_ID, or give --client-id or --box-json",
    "client_secret": "set BOX_CLIENT_SECRET, or give --client-secret-file or --box-json",
}
"""How to give what nobody can do without."""

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
    """Return what flags, environment, Box's settings file and defaults make together.

    Args:
        flags: values by the names of their settings.
        environ: the environment; a variable that is empty counts as missing.
        box_json: the settings file of Box's developer console.
        defaults: those of the subcommand, where they are not the config's.

    Raises:
        ConfigError: the file is missing or wrong.
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
