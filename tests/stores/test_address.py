"""Tests of server addresses: parsing a URL, and errors that do not show an invalid one."""

from __future__ import annotations

import ssl
import traceback
from urllib.parse import quote

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import traceback_with_locals
from trio_anon_session import ConfigError
from trio_anon_session.stores import RedisStore
from trio_anon_session.stores._address import Address

PASSWORD = "h4nd0ver"

GOOD = {
    "redis://cache": Address("cache", 6379),
    "redis://cache:7000/2": Address("cache", 7000, db=2),
    "redis://cache?db=2": Address("cache", 6379, db=2),
    "redis://[::1]:7000": Address("::1", 7000),
    "redis://:word@cache": Address("cache", 6379, password="word"),
    "redis://me:word@cache": Address("cache", 6379, username="me", password="word"),
    "redis://me@cache": Address("cache", 6379, username="me"),
    "redis://m%40e:w%3Ao%2Frd@cache": Address("cache", 6379, username="m@e", password="w:o/rd"),
    "redis://cache?client_name=my%20fleet": Address("cache", 6379, client_name="my fleet"),
    "unix:///run/valkey.sock": Address("", 0, "/run/valkey.sock"),
    "unix:///run/a%20b?db=3": Address("", 0, "/run/a b", db=3),
    "unix://me:word@/run/s": Address("", 0, "/run/s", username="me", password="word"),
}


@pytest.mark.parametrize("url", GOOD)
def test_an_address_is_what_its_url_says(url: str) -> None:
    """The URL sets host, port, path, database, user, password and client name."""
    assert Address.from_url(url) == (GOOD[url],)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_valkey_schemes_equal_redis_schemes(scheme: str) -> None:
    """The schemes valkey:// and valkeys:// mean the same as redis:// and rediss://."""
    other = scheme.replace("redis", "valkey")
    for rest in ("cache", "me:word@cache:7000/2?client_name=x", "a:1,b"):
        (wanted, *_), (found, *_) = (
            Address.from_url(f"{name}://{rest}") for name in (scheme, other)
        )
        assert (found.tls is None) == (wanted.tls is None) == (scheme == "redis")
        assert attrs.evolve(found, tls=None) == attrs.evolve(wanted, tls=None)


SEVERAL = {
    "valkey://a,b": [("a", 6379), ("b", 6379)],
    "valkey://a:1,b,c:3/2": [("a", 1), ("b", 6379), ("c", 3)],
    "redis://m%40e:w,o@a:1,b:2/2": [("a", 1), ("b", 2)],
    "rediss://[::1]:7000,[::2]:7001?client_name=x": [("::1", 7000), ("::2", 7001)],
}


@pytest.mark.parametrize("url", SEVERAL)
def test_several_servers_differ_in_host_and_port(url: str) -> None:
    """Commas separate the servers of a URL, and its other parts apply to all of them."""
    addresses = Address.from_url(url)
    assert [(address.host, address.port) for address in addresses] == SEVERAL[url]
    assert {attrs.evolve(address, host="", port=0) for address in addresses} == {
        attrs.evolve(addresses[0], host="", port=0)
    }


@pytest.mark.parametrize(
    ("options", "verify_mode", "check_hostname"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=required&ssl_check_hostname=True", ssl.CERT_REQUIRED, True),
        ("?ssl_check_hostname=no", ssl.CERT_REQUIRED, False),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
    ],
)
def test_tls_checks_certificate_and_name(
    options: str, verify_mode: ssl.VerifyMode, check_hostname: bool
) -> None:
    """With ``rediss``, both are checked, unless an option in the URL turns the check off."""
    (address,) = Address.from_url(f"rediss://cache{options}")
    assert address.tls is not None
    assert (address.tls.verify_mode, address.tls.check_hostname) == (verify_mode, check_hostname)
    assert address.tls.minimum_version >= ssl.TLSVersion.TLSv1_2


ENCODED = "percent-encode special characters in user and password"
SCHEMES = (
    "must be an address that begins with valkey://, redis://, valkeys:// (TLS), rediss:// (TLS) "
    f"or unix://; {ENCODED}"
)
HOST = f"must have a host; {ENCODED}"
PORT = f"must have a port from 1 to 65535; {ENCODED}"
DB = f"must give the number of the database once, as /0 or as db=0; {ENCODED}"
PATH = "must have the path of a socket: unix:///run/valkey.sock"
OPTIONS = (
    "can have only the options db, client_name, each once; TLS options need valkeys:// or rediss://"
)
TLS_OPTIONS = (
    "can have only the options db, client_name, ssl_ca_certs, ssl_certfile, ssl_keyfile, "
    "ssl_check_hostname, ssl_cert_reqs, each once"
)
TLS = "ssl_cert_reqs must be required or none, and ssl_check_hostname true or false"
KEY_ONLY = "has ssl_keyfile without ssl_certfile; add ssl_certfile"

BAD: dict[object, str] = {
    None: "must be a str, got NoneType",
    b"redis://cache": "must be a str, got bytes",
    "": SCHEMES,
    "cache:6379": SCHEMES,
    f"http://:{PASSWORD}@cache": SCHEMES,
    f"redis://:{PASSWORD}@[cache": SCHEMES,
    f"redis://:{PASSWORD}@cache\n": SCHEMES,
    f"redis://:{PASSWORD} x@cache": SCHEMES,
    f"redis://:x#{PASSWORD}@cache": SCHEMES,
    f"redis://:{PASSWORD}\u212a\u2100@cache": SCHEMES,
    f"redis://:{PASSWORD}@": HOST,
    f"redis://:x?{PASSWORD}@cache": HOST,
    f"redis://:{PASSWORD}@cache,,cache": HOST,
    f"redis://:{PASSWORD}@cache,cache:x": PORT,
    "redis:///0": HOST,
    "redis:cache": HOST,
    f"redis://x:{PASSWORD}/x@cache": PORT,
    f"redis://:{PASSWORD}@cache:0": PORT,
    f"redis://:{PASSWORD}@cache:65536": PORT,
    f"redis://:{PASSWORD}@cache/x": DB,
    f"redis://:{PASSWORD}@cache/1/2": DB,
    f"redis://:{PASSWORD}@cache/1?db=1": DB,
    f"redis://:{PASSWORD}@cache/{'1' * 5000}": DB,
    f"redis://:{PASSWORD}@cache?db=": DB,
    f"redis://:{PASSWORD}@cache?db=\u0663": DB,
    f"unix://:{PASSWORD}@/": PATH,
    f"unix://:{PASSWORD}@host/run/s": PATH,
    f"redis://cache?password={PASSWORD}": OPTIONS,
    f"redis://cache?{PASSWORD}": OPTIONS,
    f"redis://:{PASSWORD}@cache?db=1&db=2": OPTIONS,
    f"redis://:{PASSWORD}@cache?ssl_cert_reqs=none": OPTIONS,
    f"unix://:{PASSWORD}@/run/s?ssl_cert_reqs=none": OPTIONS,
    f"rediss://:{PASSWORD}@cache?stream_timeout=1": TLS_OPTIONS,
    f"rediss://:{PASSWORD}@cache?ssl_cert_reqs=optional": TLS,
    f"rediss://:{PASSWORD}@cache?ssl_check_hostname=maybe": TLS,
    f"rediss://:{PASSWORD}@cache?ssl_keyfile=k": KEY_ONLY,
}


@pytest.mark.parametrize("url", BAD)
def test_the_error_for_an_invalid_url_says_what_is_valid(url: object) -> None:
    """The error for each invalid URL says what is valid, and does not show the password."""
    with pytest.raises(ConfigError) as caught:
        RedisStore(url)  # type: ignore[arg-type]  # some are no text
    assert caught.value.field == "url"
    assert caught.value.wants == BAD[url]
    assert PASSWORD not in "".join(traceback_with_locals(caught.value))
    assert caught.value.__context__ is None


PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map("Q7q{}q7Q".format)


@given(PASSWORDS)
def test_any_password_is_used_unchanged_and_never_shown(password: str) -> None:
    """Any text is a valid password if percent-encoded, and an error or repr never shows it.

    Without percent-encoding, the text is used or rejected.
    """
    (address,) = Address.from_url(f"redis://me:{quote(password, safe='')}@cache")
    assert address == Address("cache", 6379, username="me", password=password)
    assert "Q7q" not in f"{address!r} {address}"
    shown = []
    try:
        shown += [repr(RedisStore(f"redis://me:{password}@cache"))]
        assert shown == ["<RedisStore at cache:6379>"]
    except ConfigError as error:
        shown += traceback.format_exception_only(error) + traceback_with_locals(error)
    assert "Q7q" not in "".join(shown)
