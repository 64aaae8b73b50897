"""The source of each setting: flags, then environment, then Box's file, then defaults."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Literal

import attrs
import click
import httpx

from .._authentication import SecretFile
from .._authentication._credentials import parts_of
from .._checks import is_box
from .._config import Config, why_no_revocation, with_prefix
from .._environment import BOX, ENVIRONMENT
from .._errors import ConfigError
from .._paths import shown
from .._secrets import HIDDEN, Secrets, client_secrets
from ._files import SECRET, content_of, secret_text
from ._ways import (
    FILES,
    METHODS,
    WAY_SETTINGS,
    Given,
    config_settings,
    flag_of,
    methods_of,
    missing_way,
    way_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DEFAULT = "default"
NOTHING = "-"
_SHORTEST = 16
"""The least characters of a key or an assertion."""


@attrs.frozen
class Setting:
    """A setting that has a flag.

    Attributes:
        name: name of the field.
        help: help text of the flag.
        kind: type of the flag's value.
        choices: the allowed values, if they are limited.
    """

    name: str
    help: str
    kind: Literal["text", "seconds", "count", "file", "secret_file", "params"] = "text"
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The name of the flag."""
        return flag_of(self.name)


SETTINGS = (
    Setting("client_id", "The client id of the application."),
    Setting(
        "client_secret",
        "A file that contains the client secret; - reads standard input.",
        "secret_file",
    ),
    Setting(
        "client_key_file",
        "A PEM file with the private key that signs assertions (private_key_jwt).",
        "file",
    ),
    Setting("client_key_id", "The id under which the server knows this key."),
    Setting(
        "client_key_algorithm",
        "The algorithm of the signatures.  [default: that of the key]",
    ),
    Setting(
        "client_assertion_file",
        "A file with an assertion, such as a service account token of Kubernetes.",
        "file",
    ),
    Setting(
        "client_cert_file",
        "A PEM file with the client's certificate (mutual TLS).",
        "file",
    ),
    Setting("client_cert_key_file", "A PEM file with its key, unless that file has it.", "file"),
    Setting("api_root_url", "The root URL of the API."),
    Setting("token_url", "The URL of the token endpoint."),
    Setting("revoke_url", "The URL of the revocation endpoint."),
    Setting(
        "auth_method",
        "How the client authenticates: client_secret_post (as for Box), "
        "client_secret_basic or client_secret_jwt. A key, assertion or certificate has a "
        "method of its own.",
        choices=METHODS,
    ),
    Setting(
        "issuer",
        "The issuer identifier of the authorization server. Without --token-url, its metadata "
        "has the endpoints.",
    ),
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
    Setting("max_wait", "Maximum seconds to wait for a token.", "seconds"),
    Setting("min_refresh_interval", "Minimum seconds between two token requests.", "seconds"),
    Setting("default_lifetime", "Lifetime in seconds if the server sends none.", "seconds"),
)


@attrs.frozen
class Settings:
    """The settings that were given, by name.

    Attributes:
        given: the settings.
        prefix: the beginning of the variables' names.
    """

    given: Mapping[str, Given]
    prefix: str = BOX

    @property
    def discovers(self) -> bool:
        """Whether the endpoints come from the metadata of the issuer."""
        return "issuer" in self.given and "token_url" not in self.given

    @property
    def way(self) -> str | None:
        """The setting that says how the client authenticates.

        Raises:
            ConfigError: Settings contradict each other.
        """
        return way_of(self.given, self.prefix)

    @property
    def _at_box(self) -> bool:
        """Whether the server that issues the tokens is Box's."""
        if self.discovers:
            return False
        for name in ("token_url", "api_root_url"):
            if name in self.given:
                try:
                    return is_box(httpx.URL(self.given[name].value))
                except (httpx.InvalidURL, ValueError):
                    # The config refuses it later, and its error says what is wrong.
                    return False
        return True

    def config(self) -> Config:
        """Return the config made from these settings, without the issuer's metadata.

        Raises:
            ConfigError: Settings are missing (the error names all of them), or one is invalid
                (the error names its source).
        """
        settings = self._config_settings()
        try:
            return with_prefix(Config(**settings), self.prefix)
        except ConfigError as error:
            problem = error
        raise self.with_source(problem)

    async def discovered(self) -> Config:
        """Return the config, with the endpoints in the metadata of the issuer.

        Raises:
            ConfigError: As above, or the metadata is missing or wrong.
            TokenUnavailableError: The issuer's server did not answer, or had a temporary error.
        """
        settings = self._config_settings()
        try:
            return with_prefix(await Config.discover(**settings), self.prefix)
        except ConfigError as error:
            problem = error
        raise self.with_source(problem)

    def _config_settings(self) -> dict[str, Any]:
        way = self.way
        missing = {} if "client_id" in self.given else {"client_id": self._client_id()}
        if way is None:
            name, how = missing_way(self.given, self.prefix, at_box=self._at_box)
            missing[name] = how
        if missing or way is None:
            (field, problem), *others = missing.items()
            problem = "; ".join([problem, *(f"{name}: {how}" for name, how in others)])
            if others:
                problem += ". To try the command without an account, run: "
                problem += f"trio-anon-session serve{prefix_flag(self.prefix)}"
            raise ConfigError(field, problem)
        plain = {
            name: given.value
            for name, given in self.given.items()
            if name not in WAY_SETTINGS and name != SECRET
        }
        # The object of the way says which method it is.
        if way in FILES:
            plain.pop("auth_method", None)
        return plain | config_settings(way, self.given, self.prefix)

    def _client_id(self) -> str:
        box_json = " or --box-json" if self._at_box else ""
        return f"set {self.prefix}CLIENT_ID, or use --client-id{box_json}"

    def with_source(self, error: ConfigError) -> ConfigError:
        """Return an error of `Config` that names the source of the setting."""
        problem = error.wants.replace(
            "set token_url with Config(...)", f"set --token-url or {self.prefix}TOKEN_URL"
        )
        given = self.given.get(error.field)
        source = f" (from {given.source})" if given is not None else ""
        return ConfigError(error.field, problem + source)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, value and source of each setting, without secrets."""
        try:
            config = self.config()
        except ConfigError:
            config = None
        secrets = self.secrets()
        return [
            (name, secrets.hide(value), source)
            for setting in SETTINGS
            for name, value, source in [self._row(setting.name, config)]
        ]

    def _row(self, name: str, config: Config | None) -> tuple[str, str, str]:
        given = self.given.get(name)
        if given is not None:
            return name, _shown(name, given.value), given.source
        way = next((way for way in (SECRET, *FILES) if way in self.given), None)
        if name == "client_id" or (name == SECRET and way is None):
            return name, NOTHING, "missing"
        if name == "auth_method" and way in FILES:
            return name, methods_of(way)[0], f"{DEFAULT}, from {way}"
        if name in ("token_url", "revoke_url"):
            return name, *self._endpoint(name, config)
        return name, _shown(name, DEFAULTS.get(name)), DEFAULT

    def _endpoint(self, name: str, config: Config | None) -> tuple[str, str]:
        if self.discovers:
            return NOTHING, "the metadata of the issuer"
        reason = why_no_revocation(config) if config is not None else None
        if name == "revoke_url" and reason is not None:
            return NOTHING, f"missing: {reason}"
        value = getattr(config, name) if config is not None else None
        return _shown(name, value), f"{DEFAULT}, from api_root_url"

    def secrets(self) -> Secrets:
        """Return the secrets among the settings, and in the files that they name."""
        files = [name for name in (*FILES, "client_cert_key_file") if name in self.given]
        known = Secrets(
            *(text for name in files for text in _texts_in(name, self.given[name].value))
        )
        secret = self.given.get(SECRET)
        if secret is None:
            return known
        try:
            text = secret_text(secret.value)
        except ConfigError:
            return known
        client_id = self.given["client_id"].value if "client_id" in self.given else ""
        try:
            return known.and_also(Secrets(*client_secrets(client_id, text)))
        except UnicodeEncodeError:
            # Undecodable bytes of the environment, which Config refuses.
            return known.and_also(Secrets(text))


def _shown(name: str, value: Any) -> str:
    if value is None or value == {}:
        return NOTHING
    if isinstance(value, SecretFile):
        return shown(value.path)[1:-1]
    if name == SECRET:
        return HIDDEN
    if name.endswith("_file"):
        return shown(value)[1:-1]
    if name == "extra_params":
        # Only the names, as in the config's repr: a value may be a password.
        value = " ".join(f"{field}={HIDDEN}" for field in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _texts_in(name: str, path: Any) -> Iterator[str]:
    """Yield the parts of the text in a file that contains a key or an assertion."""
    try:
        content = content_of(name, path).decode("ascii", "replace")
    except ConfigError:
        return
    # Lines such as "BEGIN PRIVATE KEY" are not secret, and occur in messages.
    text = "".join(line.strip() for line in content.split("\n") if not line.startswith("-----"))
    # Harmless words contain a shorter text.
    if len(text) >= _SHORTEST:
        yield from parts_of(text)


def prefix_flag(prefix: str) -> str:
    """Return the flag of a prefix with a space before it, or nothing for the default."""
    return "" if prefix == BOX else f" --env-prefix {shlex.quote(prefix)}"


VARIABLES = ENVIRONMENT | {name: BOX + name.upper() for name in WAY_SETTINGS}
"""The environment variable of each setting that has one, with the default prefix."""

DEFAULTS: Mapping[str, Any] = {
    attribute.alias or attribute.name: {} if attribute.name == "extra_params" else attribute.default
    for attribute in attrs.fields(Config)
}


def resolve(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    box_json: Path | None,
    defaults: Mapping[str, Any],
    prefix: str = BOX,
) -> Settings:
    """Return the settings from flags, environment, Box's settings file and defaults.

    Args:
        flags: values by setting name.
        environ: the environment; an empty variable counts as missing.
        box_json: the settings file of Box's developer console.
        defaults: defaults of the subcommand that differ from those of `Config`.
        prefix: the beginning of the variables' names.

    Raises:
        ConfigError: The file is missing or invalid, or two variables have a secret.
    """
    given = {name: Given(value, DEFAULT) for name, value in defaults.items()}
    if box_json is not None:
        config = Config.from_box_json(box_json)
        for name in ("client_id", "client_secret", "box_subject_type", "box_subject_id"):
            value = getattr(config, name)
            if value is not None:
                given[name] = Given(value, f"file {click.format_filename(box_json)}")
    variables = {name: prefix + usual.removeprefix(BOX) for name, usual in VARIABLES.items()}
    for name, variable in variables.items():
        if environ.get(variable):
            given[name] = Given(environ[variable], f"environment {variable}")
    file = f"{prefix}CLIENT_SECRET_FILE"
    if environ.get(file):
        if environ.get(variables[SECRET]) and SECRET not in flags:
            raise ConfigError(
                SECRET, f"must have one source: set only one of {variables[SECRET]} and {file}"
            )
        given[SECRET] = Given(SecretFile(environ[file]), f"environment {file}")
    for name, value in flags.items():
        given[name] = Given(value, f"flag {flag_of(name)}")
    return Settings(given, prefix)
