"""`Address`: the address of a Valkey or Redis server, parsed from a URL."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from .._errors import ConfigError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_TLS_SCHEMES = ("valkeys", "rediss")
_SCHEMES = ("valkey", "redis", *_TLS_SCHEMES, "unix")
_TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "ssl_cert_reqs",
)
_OPTIONS = ("db", "client_name", *_TLS_OPTIONS)
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_ENCODED = "percent-encode special characters in user and password"


@attrs.frozen
class Address:
    """The address of a server, and the settings of its connections.

    Attributes:
        host: host name or IP address; empty if there is a path.
        port: port.
        path: path of its Unix socket; None for TCP.
        db: number of the database.
        username: user; None for the server's default user.
        password: password; no repr shows it.
        client_name: name of the connections in the server's client list.
        tls: TLS settings; None without TLS.
    """

    host: str
    port: int
    path: str | None = None
    db: int = 0
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    client_name: str | None = None
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> tuple[Address, ...]:
        """Return the addresses in a URL. They differ only in host and port.

        Raises:
            ConfigError: `url` is invalid. The message shows no part of it, because any part could
                belong to the password.
        """
        parts, hosts = _split(url)
        if parts.scheme == "unix":
            if parts.hostname or not parts.path.strip("/"):
                raise ConfigError("url", "must have the path of a socket: unix:///run/valkey.sock")
            path, places = unquote(parts.path), [("", 0)]
        else:
            path, places = None, [_host_and_port(host) for host in hosts]
        options = _read_options(parts)
        first = cls(
            *places[0],
            path=path,
            db=_db_of(parts, options),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            client_name=options.get("client_name"),
            tls=_tls_of(options) if parts.scheme in _TLS_SCHEMES else None,
        )
        return tuple(attrs.evolve(first, host=host, port=port) for host, port in places)


def split_hosts(url: str) -> tuple[SplitResult, list[str]]:
    """Split a URL with several hosts, and return its parts for the first host, and all hosts.

    Python's parser expects one host. Since 3.13 it rejects several if one is in brackets.

    Raises:
        ValueError: `url` is not a URL. The message quotes it.
    """
    scheme, slashes, rest = url.partition("//")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, hosts = authority.rpartition("@")
    first, *others = hosts.split(",")
    parts = urlsplit(f"{scheme}{slashes}{user}{at}{first}{rest[len(authority) :]}")
    return parts, [first, *others]


def _split(url: str) -> tuple[SplitResult, list[str]]:
    if not isinstance(url, str):
        raise ConfigError("url", f"must be a str, got {type(url).__name__}")
    parts, hosts = None, [""]
    if url.isprintable() and " " not in url:
        try:
            parts, hosts = split_hosts(url)
        except ValueError:
            # Raise outside of the handler, because this error quotes the URL.
            parts = None
    if parts is None or parts.fragment or parts.scheme not in _SCHEMES:
        raise ConfigError(
            "url",
            "must be an address that begins with valkey://, redis://, valkeys:// (TLS), "
            f"rediss:// (TLS) or unix://; {_ENCODED}",
        )
    return parts, hosts


def _host_and_port(text: str) -> tuple[str, int]:
    host = None
    port: int | None = 0
    try:
        parts = urlsplit(f"//{text}")
        host = parts.hostname
        port = parts.port
    except ValueError:
        # Raise outside of the handler, because this error quotes the URL.
        pass
    if not host:
        raise ConfigError("url", f"must have a host; {_ENCODED}")
    if port == 0:
        raise ConfigError("url", f"must have a port from 1 to 65535; {_ENCODED}")
    return unquote(host), 6379 if port is None else port


def _read_options(parts: SplitResult) -> dict[str, str]:
    has_tls = parts.scheme in _TLS_SCHEMES
    allowed = _OPTIONS if has_tls else _OPTIONS[: -len(_TLS_OPTIONS)]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs) or not options.keys() <= set(allowed):
        raise ConfigError(
            "url",
            f"can have only the options {', '.join(allowed)}, each once"
            + ("" if has_tls else "; TLS options need valkeys:// or rediss://"),
        )
    return options


def _db_of(parts: SplitResult, options: dict[str, str]) -> int:
    number = options.get("db", "0")
    if parts.scheme != "unix" and parts.path.strip("/"):
        number = parts.path.removeprefix("/") if "db" not in options else ""
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ConfigError(
            "url", f"must give the number of the database once, as /0 or as db=0; {_ENCODED}"
        )
    return int(number)


def _tls_of(options: dict[str, str]) -> ssl.SSLContext:
    """Return TLS settings, which check the certificate and the host name by default."""
    certfile, keyfile = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if keyfile and not certfile:
        raise ConfigError("url", "has ssl_keyfile without ssl_certfile; add ssl_certfile")
    requirement = options.get("ssl_cert_reqs", "required")
    checks_name = _TRUTHS.get(options.get("ssl_check_hostname", "true").lower())
    if requirement not in ("required", "none") or checks_name is None:
        raise ConfigError(
            "url",
            "ssl_cert_reqs must be required or none, and ssl_check_hostname true or false",
        )
    try:
        tls = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        # Some builds of Python use the minimum of OpenSSL's configuration.
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        if certfile:
            # Without a password, OpenSSL would ask for one on the terminal for an encrypted key.
            tls.load_cert_chain(certfile, keyfile, password="")
    except OSError as error:
        reason = type(error).__name__
    else:
        tls.check_hostname = checks_name and requirement == "required"
        if requirement == "none":
            tls.verify_mode = ssl.CERT_NONE
        return tls
    raise ConfigError(
        "url",
        f"ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read ({reason}); "
        "each must be an unencrypted PEM file",
    )
