"""The checks of the settings of `Config`: each one accepts a value or raises a `ConfigError`."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

import httpx

from ._authentication import NAMES, ClientAuthentication, SecretFile
from ._callables import lazy_kind
from ._errors import ConfigError

RefreshMode = Literal["eager", "on_request"]

_PROTECTED_PARAMS = frozenset(
    {
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "box_subject_type",
        "box_subject_id",
    }
)
# RFC 6749 §3.3: one or more scope tokens, separated by single spaces.
_SCOPE = r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*"

SECRETS = "must be a non-empty str, a SecretFile or a callable"

_Check = Callable[[str, Any], None]


def is_loopback(host: str) -> bool:
    """Return whether the host of a URL is this machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Before Python 3.13, is_loopback ignores an IPv4-mapped address.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_box(url: httpx.URL) -> bool:
    """Return whether a URL is on a server of Box."""
    return f".{url.host}".endswith(".box.com")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def seconds(*, zero: bool, optional: bool = False) -> _Check:
    wants = f"must be a finite number of seconds {'≥' if zero else '>'} 0"
    wants += ", or None" if optional else ""

    def check(field: str, value: object) -> None:
        if value is None and optional:
            return
        if (
            not isinstance(value, float)
            or not math.isfinite(value)
            or value < 0
            or (value == 0 and not zero)
        ):
            raise ConfigError(field, f"{wants}, got {_shown(value)}")

    return check


def _shown(value: object) -> str:
    # repr() of an int with more than 4300 digits raises an error.
    if isinstance(value, int | float) and -1e100 < value < 1e100:
        return repr(value)
    return _kind(value)


def to_float(value: Any) -> Any:
    # An int that is too large for a float stays an int, and the check reports it.
    try:
        return float(value) if _is_number(value) else value
    except OverflowError:
        return value


def _check_text(field: str, value: object) -> None:
    # The value is not shown, because it may be a misplaced secret.
    if not isinstance(value, str) or not value:
        raise ConfigError(field, f"must be a non-empty str, got {_kind(value)}")
    if not _is_encodable(value):
        raise ConfigError(field, "must be text that UTF-8 can encode")
    if value.endswith(("\n", "\r")):
        raise ConfigError(field, "must not end with a line end, as text read from a file does")


def _is_encodable(text: str) -> bool:
    # A UnicodeEncodeError would contain the text, and would be the context of the ConfigError.
    return text.encode(errors="ignore").decode() == text


def _check_secret(field: str, value: object) -> None:
    if isinstance(value, str):
        _check_text(field, value)
    elif value is not None and not isinstance(value, SecretFile) and not callable(value):
        raise ConfigError(field, f"{SECRETS}, got {_kind(value)}")


def _check_auth_method(field: str, value: object) -> None:
    if isinstance(value, str) and value in _OBJECTS:
        raise ConfigError(field, f"must be an object: {_OBJECTS[value]}; got {value!r}")
    if not isinstance(value, ClientAuthentication):
        _check_auth_name(field, value)


def _check_optional_text(field: str, value: object) -> None:
    if value is not None:
        _check_text(field, value)


def _kind(value: object) -> str:
    return "an empty str" if value == "" else f"{type(value).__name__}"


def check_url(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(field, f"must be a URL as a str, got {_kind(value)}")
    # url.host decodes the host, which can also raise.
    try:
        url = httpx.URL(value)
        host = url.host
    except (httpx.InvalidURL, ValueError):
        host = ""
    if not host:
        raise ConfigError(field, "must be an absolute URL such as https://api.box.com")
    if url.userinfo:
        raise ConfigError(field, "must be a URL without user name and password")
    if url.fragment or value.endswith("#"):
        raise ConfigError(field, "must be a URL without a fragment (RFC 6749 §3.2)")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ConfigError(
            field,
            "must be an https URL, or http for a loopback host (RFC 6749 §3.2), "
            f"got {url.scheme}://{host}",
        )


def _check_optional_url(field: str, value: object) -> None:
    if value is not None:
        check_url(field, value)


def check_issuer(field: str, value: str) -> None:
    check_url(field, value)
    # RFC 8414 §2: an issuer identifier has no query.
    if "?" in value:
        raise ConfigError(field, "must be a URL without a query")


def _check_root_url(field: str, value: str) -> None:
    check_issuer(field, value)
    url = httpx.URL(value)
    if is_box(url) and url.path != "/":
        raise ConfigError(field, f"must be https://{url.host} without a path")


def _check_optional_issuer(field: str, value: Any) -> None:
    if value is not None:
        check_issuer(field, value)


def _one_of(choices: tuple[str, ...], *, optional: bool = False) -> _Check:
    *others, last = [*map(repr, choices), *(["None"] if optional else [])]
    wants = f"must be {', '.join(others)} or {last}"

    def check(field: str, value: object) -> None:
        if value not in choices and not (optional and value is None):
            # The value is not shown, because it may be a misplaced secret.
            shown = "another str" if isinstance(value, str) and value else _kind(value)
            raise ConfigError(field, f"{wants}, got {shown}")

    return check


_check_auth_name = _one_of(NAMES)
_MUTUAL_TLS = 'MutualTLS("client.pem", "client.key")'
_OBJECTS = {
    "private_key_jwt": 'PrivateKeyJWT.from_file("client.key") or AssertionFile("assertion.jwt")',
    "tls_client_auth": _MUTUAL_TLS,
    "self_signed_tls_client_auth": _MUTUAL_TLS,
}
"""What to write for a method that is not one of these names."""


def _check_scope(field: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(_SCOPE, value)):
        raise ConfigError(
            field, "must be None, or scopes separated by single spaces (RFC 6749 §3.3)"
        )


def freeze_params(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return MappingProxyType(
        {
            name: tuple(item) if isinstance(item, list | tuple) else item
            for name, item in value.items()
        }
    )


def _check_params(field: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(field, f"must be a mapping of form fields, got {_kind(value)}")
    for name, item in value.items():
        if not isinstance(name, str) or not name or not _is_encodable(name):
            raise ConfigError(field, "must have non-empty str names")
        if name in _PROTECTED_PARAMS:
            raise ConfigError(field, f"must not set {name!r}: it has its own setting")
        # RFC 8707 §2: `resource` may be repeated. All other fields have one value.
        texts = item if isinstance(item, tuple) and name == "resource" else (item,)
        for text in texts:
            if not isinstance(text, str) or not _is_encodable(text):
                raise ConfigError(
                    field,
                    f"must have a str for {name!r}"
                    + (", or a list of str" if name == "resource" else ""),
                )


def show_params(value: Mapping[str, object]) -> str:
    # Only the names: a value may be a password of another scheme.
    return "{" + ", ".join(f"{name!r}: ..." for name in value) + "}"


def _check_count(field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(field, f"must be an int ≥ 0, got {_shown(value)}")


def _check_strategy(field: str, value: object) -> None:
    if value is None:
        return
    got = lazy_kind(value) if callable(value) else _kind(value)
    if got is not None:
        raise ConfigError(
            field, f"must be a plain callable (attempt, error) -> seconds or None, got {got}"
        )


def _check_flag(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(field, f"must be True or False, got {_kind(value)}")


_ZERO_OR_MORE = ("stale_buffer", "expired_buffer", "refresh_jitter", "shutdown_timeout")
_MORE_THAN_ZERO = (
    "retry_interval",
    "max_retry_interval",
    "request_timeout",
    "min_refresh_interval",
    "default_lifetime",
)
_OPTIONAL = ("idle_timeout", "max_wait")
DURATIONS = (*_ZERO_OR_MORE, *_MORE_THAN_ZERO, *_OPTIONAL)
# Not validators of attrs, for a faster import: see the package's __init__.
CHECKS: dict[str, _Check] = {
    "client_id": _check_text,
    "client_secret": _check_secret,
    "api_root_url": _check_root_url,
    "token_url": _check_optional_url,
    "revoke_url": _check_optional_url,
    "auth_method": _check_auth_method,
    "issuer": _check_optional_issuer,
    "scope": _check_scope,
    "box_subject_type": _one_of(("enterprise", "user"), optional=True),
    "box_subject_id": _check_optional_text,
    "extra_params": _check_params,
    "refresh": _one_of(get_args(RefreshMode)),
    "max_retries": _check_count,
    "retry_strategy": _check_strategy,
    "revoke_on_exit": _check_flag,
    **dict.fromkeys(_ZERO_OR_MORE, seconds(zero=True)),
    **dict.fromkeys(_MORE_THAN_ZERO, seconds(zero=False)),
    **dict.fromkeys(_OPTIONAL, seconds(zero=False, optional=True)),
}
"""The check of each setting."""
