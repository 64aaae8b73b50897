"""The settings of the store in which tokens are shared, and of its encryption keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

import attrs
import click

from .._checks import is_loopback
from .._errors import ConfigError
from .._secrets import HIDDEN
from ._settings import DEFAULT, NOTHING
from ._ways import Given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._secrets import Secrets
    from ..stores import TokenStore

STORE = "TRIO_ANON_SESSION_STORE"
STORE_KEY = "TRIO_ANON_SESSION_STORE_KEY"
_EXPECTED = (
    "must be a path, sqlite:PATH, or a URL that begins with valkey://, valkeys://, redis://, "
    "rediss:// or unix://"
)
_INSTALL = "pip install 'trio_anon_session[redis]'"
# A scheme has at least two letters, because a single letter is a Windows drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_URL = re.compile(r"(valkeys?|rediss?|unix)://.", re.IGNORECASE)
_HOST = r"(?:\[[\da-f:.]+\]|[\w.%-]+)(?::\d+)?"
# Only URLs of these forms are printed. In a URL of another form, each part may belong to a
# password.
_PLAIN_URLS = (
    re.compile(
        rf"((?:valkeys?|rediss?)://)([^/?#]*@)?({_HOST}(?:,{_HOST})*(?:/\d*)?)(\?[^@]*)?",
        re.IGNORECASE,
    ),
    re.compile(r"(unix://)([^/?#]*@)?(/[^@?#]*)(\?[^@]*)?", re.IGNORECASE),
)


class Place(NamedTuple):
    """The location of a store."""

    kind: Literal["sqlite", "redis"]
    where: str

    @classmethod
    def read(cls, text: str) -> Place:
        """Return the location that a setting names.

        Raises:
            ValueError: `text` is not a store. The error has no message, because the text may
                contain a password.
        """
        scheme = _SCHEME.match(text)
        path = text
        if scheme is not None:
            if _URL.match(text):
                return cls("redis", text)
            if scheme.group().lower() != "sqlite:":
                raise ValueError
            path = text[scheme.end() :]
        # Two slashes begin the host of a URL, so this text is not a path.
        if not path or "\0" in path or re.match("//[^/]", path):
            raise ValueError
        return cls("sqlite", str(_home(Path(path))))

    @property
    def shown(self) -> str:
        """The location without secrets."""
        if self.kind == "sqlite":
            return f"sqlite:{click.format_filename(self.where)}"
        for url in _PLAIN_URLS:
            if parts := url.fullmatch(self.where):
                scheme, user, where, query = parts.groups()
                user, query = f"{HIDDEN}@" if user else "", f"?{HIDDEN}" if query else ""
                return f"{scheme}{user}{where}{query}"
        return HIDDEN

    @property
    def exposure(self) -> tuple[str, str] | None:
        """A security problem of the location and its advice, or None."""
        # SQLiteStore itself refuses files that other users can read or replace.
        is_plain = self.where.lower().startswith(("valkey:", "redis:"))
        if self.kind == "redis" and is_plain and not all(map(is_loopback, _hosts_of(self.where))):
            return (
                "the connection is not encrypted",
                "Use a URL with valkeys:// or rediss://, for TLS.",
            )
        return None


def _hosts_of(url: str) -> list[str]:
    # Imported here because it imports the stores, which most runs do not need.
    from ..stores._address import split_hosts

    return [urlsplit(f"//{host}").hostname or "" for host in split_hosts(url)[1]]


def _home(path: Path) -> Path:
    """Return a path with ~ expanded, which shells do only at the start of a word."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def url_has_secret(text: str) -> bool:
    """Return whether a URL may contain a user or a password."""
    # Search the whole URL for an @: if a password contains a slash, the rest of it is parsed as the
    # path.
    if "@" in text:
        return True
    return not {"username", "password"}.isdisjoint(parse_qs(text.partition("?")[2]))


@attrs.frozen
class StoreSettings:
    """The settings of the store, with their sources.

    Attributes:
        store: the location as given; may contain a password.
        keys: the encryption keys: the first encrypts, all decrypt; None for no encryption.
    """

    store: Given
    keys: Given | None = None

    @property
    def place(self) -> Place:
        """The location of the store.

        Raises:
            ConfigError: The setting does not name a store.
        """
        try:
            return Place.read(self.store.value)
        except ValueError:
            pass
        # Raised outside the except block, so that the error has no context with the secret.
        raise self._refuse("store", _EXPECTED)

    def make(self) -> TokenStore:
        """Return the store.

        Raises:
            ConfigError: A setting is invalid, or an extra is not installed.
        """
        place = self.place
        if place.kind == "redis":
            return self._make_redis(place)
        if self.keys is not None:
            raise self._refuse("store_key", "must not be set for a SQLite store, only for Redis")
        from ..stores import SQLiteStore

        try:
            return SQLiteStore(place.where)
        except ValueError:
            pass
        raise self._refuse("store", _EXPECTED)

    def _make_redis(self, place: Place) -> TokenStore:
        from ..stores import RedisStore

        keys = self.keys.value if self.keys is not None else None
        try:
            return RedisStore(place.where, encryption_key=keys)
        except ConfigError as error:
            problem = error
        except ImportError as error:
            if error.name not in ("coredis", "cryptography"):
                raise
            problem = ConfigError("store", f"needs {error.name}: {_INSTALL}")
        field = "store_key" if problem.field == "encryption_key" else "store"
        raise self._refuse(field, problem.wants)

    def _refuse(self, field: str, problem: str) -> ConfigError:
        given = self.keys if field == "store_key" else self.store
        assert given is not None
        return ConfigError(field, f"{problem} (from {given.source})")

    def shown(self) -> str:
        """Return the location without secrets."""
        try:
            return self.place.shown
        except ConfigError:
            return HIDDEN


def store_rows(settings: StoreSettings | None, secrets: Secrets) -> list[tuple[str, str, str]]:
    """Return name, value and source of the store settings, without secrets.

    Args:
        settings: the store settings, or None without a store.
        secrets: other secrets to mask.
    """
    store = keys = (NOTHING, DEFAULT)
    if settings is not None:
        store = (secrets.hide(settings.shown()), settings.store.source)
        if settings.keys is not None:
            keys = (" ".join(HIDDEN for _ in settings.keys.value), settings.keys.source)
    return [("store", *store), ("store_key", *keys)]


def resolve_store(
    flag: str | None, key_file: Path | None, environ: Mapping[str, str]
) -> StoreSettings | None:
    """Return the store settings from flags or environment, or None without a store.

    Raises:
        ConfigError: A flag contains a password, or a key is missing.
    """
    if flag is not None:
        if _URL.match(flag) and url_has_secret(flag):
            raise ConfigError(
                "store",
                "the URL in --store must not contain a user or password, because other users of "
                f"this machine can read flags; set {STORE} instead",
            )
        store = Given(flag, "flag --store")
    elif environ.get(STORE):
        store = Given(environ[STORE], f"environment {STORE}")
    elif key_file is not None:
        raise ConfigError("store", f"set {STORE} or use --store together with --store-key-file")
    else:
        return None
    if key_file is not None:
        return StoreSettings(store, Given(_read_keys(key_file), "flag --store-key-file"))
    if environ.get(STORE_KEY):
        source = f"environment {STORE_KEY}"
        return StoreSettings(store, Given(_split(environ[STORE_KEY], source), source))
    return StoreSettings(store)


def _read_keys(path: Path) -> list[str]:
    # A UnicodeDecodeError would contain the keys.
    text = path.read_bytes().decode(errors="replace")
    return _split(text, f"file {click.format_filename(path)}")


def _split(text: str, source: str) -> list[str]:
    keys = text.split()
    if not keys:
        raise ConfigError("store_key", f"must be one or more keys, got none (from {source})")
    return keys
