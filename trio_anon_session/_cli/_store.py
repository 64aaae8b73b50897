"""The store in which tokens are shared: which one, what seals what lies there, how to open it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

import attrs
import click

from .._config import is_loopback
from .._errors import ConfigError
from .._secrets import HIDDEN
from ._settings import DEFAULT, NOTHING, Given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._secrets import Secrets
    from ..stores import TokenStore

STORE = "TRIO_ANON_SESSION_STORE"
STORE_KEY = "TRIO_ANON_SESSION_STORE_KEY"
_WANTS = (
    "wants a path, sqlite:PATH, or a URL that begins with valkey://, valkeys://, redis://, "
    "rediss:// or unix://"
)
_INSTALL = "pip install 'trio_anon_session[redis]'"
# Of one letter is a Windows drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_URL = re.compile(r"(valkeys?|rediss?|unix)://.", re.IGNORECASE)
_HOST = r"(?:\[[\da-f:.]+\]|[\w.%-]+)(?::\d+)?"
# In one that is written in another way, anything may be the password's.
_PLAIN_URLS = (
    re.compile(
        rf"((?:valkeys?|rediss?)://)([^/?#]*@)?({_HOST}(?:,{_HOST})*(?:/\d*)?)(\?[^@]*)?",
        re.IGNORECASE,
    ),
    re.compile(r"(unix://)([^/?#]*@)?(/[^@?#]*)(\?[^@]*)?", re.IGNORECASE),
)


class Place(NamedTuple):
    """Is where a store is."""

    kind: Literal["sqlite", "redis"]
    where: str

    @classmethod
    def read(cls, text: str) -> Place:
        """Read what somebody gives for a store.

        Raises:
            ValueError: it is none. The text is not in it: there may be a password in there.
        """
        scheme = _SCHEME.match(text)
        path = text
        if scheme is not None:
            if _URL.match(text):
                return cls("redis", text)
            if scheme.group().lower() != "sqlite:":
                raise ValueError
            path = text[scheme.end() :]
        # Elsewhere, what follows two slashes is a host.
        if not path or "\0" in path or re.match("//[^/]", path):
            raise ValueError
        return cls("sqlite", str(_home(Path(path))))

    @property
    def shown(self) -> str:
        """The same without a secret."""
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
        """Who else may get at what is there, and what to do about it; None for nobody."""
        # SQLiteStore itself refuses files that other users can read or replace.
        is_plain = self.where.lower().startswith(("valkey:", "redis:"))
        if self.kind == "redis" and is_plain and not all(map(is_loopback, _hosts_of(self.where))):
            return (
                "what goes there can be read on the way",
                "Give a URL with valkeys:// or rediss://, for TLS.",
            )
        return None


def _hosts_of(url: str) -> list[str]:
    # Not before there is a URL: it takes the stores along.
    from ..stores._address import split_hosts

    return [urlsplit(f"//{host}").hostname or "" for host in split_hosts(url)[1]]


def _home(path: Path) -> Path:
    """Return a path whose ~ a shell has left as it is, as within a word."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def url_has_secret(text: str) -> bool:
    """Tell whether there may be a user or a password in a URL."""
    # Anywhere: a slash in a password makes it a part of the path.
    if "@" in text:
        return True
    return not {"username", "password"}.isdisjoint(parse_qs(text.partition("?")[2]))


@attrs.frozen
class StoreSettings:
    """Is which store there is, and where that comes from.

    Attributes:
        store: what was given for it, perhaps with a password in it.
        keys: the first seals what is kept there, and all open it; None to have it open.
    """

    store: Given
    keys: Given | None = None

    @property
    def place(self) -> Place:
        """Where it is.

        Raises:
            ConfigError: nobody knows.
        """
        try:
            return Place.read(self.store.value)
        except ValueError:
            pass
        # Outside of the except block, as the other errors here: nothing is to hang on to them.
        raise self._refuse("store", _WANTS)

    def make(self) -> TokenStore:
        """Return the store.

        Raises:
            ConfigError: there is no such store, or it cannot be had like that.
        """
        place = self.place
        if place.kind == "redis":
            return self._make_redis(place)
        if self.keys is not None:
            raise self._refuse("store_key", "is for Redis alone: leave it out with SQLite")
        from ..stores import SQLiteStore

        try:
            return SQLiteStore(place.where)
        except ValueError:
            pass
        raise self._refuse("store", _WANTS)

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

    def _refuse(self, field: str, wants: str) -> ConfigError:
        given = self.keys if field == "store_key" else self.store
        assert given is not None
        return ConfigError(field, f"{wants} (from {given.source})")

    def shown(self) -> str:
        """Return where it is, without a secret."""
        try:
            return self.place.shown
        except ConfigError:
            return HIDDEN


def store_rows(settings: StoreSettings | None, secrets: Secrets) -> list[tuple[str, str, str]]:
    """Return name, value and source of each setting of a store, without a secret.

    Args:
        settings: those of the store, if there is one.
        secrets: what else must not be seen.
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
    """Return the store that flags or environment name, or None where they name none.

    Raises:
        ConfigError: a flag shows a password, or there is no key where one should be.
    """
    if flag is not None:
        if _URL.match(flag) and url_has_secret(flag):
            raise ConfigError(
                "store",
                "wants a URL without user and password in --store, which shows it to everybody "
                f"on this machine: set {STORE} instead",
            )
        store = Given(flag, "flag --store")
    elif environ.get(STORE):
        store = Given(environ[STORE], f"environment {STORE}")
    elif key_file is not None:
        raise ConfigError("store", f"set {STORE}, or give --store, to go with --store-key-file")
    else:
        return None
    if key_file is not None:
        return StoreSettings(store, Given(_read_keys(key_file), "flag --store-key-file"))
    if environ.get(STORE_KEY):
        source = f"environment {STORE_KEY}"
        return StoreSettings(store, Given(_split(environ[STORE_KEY], source), source))
    return StoreSettings(store)


def _read_keys(path: Path) -> list[str]:
    # Not by catching UnicodeDecodeError: it holds the content.
    text = path.read_bytes().decode(errors="replace")
    return _split(text, f"file {click.format_filename(path)}")


def _split(text: str, source: str) -> list[str]:
    keys = text.split()
    if not keys:
        raise ConfigError("store_key", f"wants a key, or several, one in a line (from {source})")
    return keys
