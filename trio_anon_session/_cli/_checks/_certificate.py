"""The check of the client's certificate. `MutualTLS` has already checked that the key fits."""

from __future__ import annotations

import math
import time

from ..._authentication._certificates import certificate_in
from ..._errors import ConfigError
from .._ending import MISCONFIGURED
from .._files import content_of
from ._result import Check

DAY = 86400.0
EXPIRY_WARNING = 14 * DAY
_NAME = "credentials"
_SETTING = "client_cert_file"
_RENEW = "Get a new certificate from the server's operator or your CA, and replace the file."


def check_client_certificate(certfile: str, what: str, now: float) -> Check:
    """Check how long a client's certificate remains valid.

    Args:
        certfile: the PEM file.
        what: the method and the source, for the beginning of the text.
        now: wall-clock time.
    """
    fits = f"{what}: certificate and key fit together"
    try:
        subject, begins_at, ends_at = certificate_in(content_of(_SETTING, certfile))
    except ModuleNotFoundError:
        install = "pip install 'trio_anon_session[jwt]'"
        return Check(_NAME, "ok", f"{fits}; to see subject and expiry, run: {install}")
    except (ConfigError, ValueError):
        # OpenSSL accepts the certificate, so only its details are unknown.
        return Check(_NAME, "ok", f"{fits}; its subject and expiry cannot be read")
    days = math.floor((ends_at - now) / DAY)
    found = f"{fits}; subject {subject!r}, valid until {_date(ends_at)} ({days} days)"
    if now >= ends_at:
        found = f"{what}: the certificate of {subject!r} expired on {_date(ends_at)}"
        return Check(_NAME, "failed", found, _RENEW, MISCONFIGURED)
    if now < begins_at:
        found = f"{what}: the certificate of {subject!r} is not valid before {_date(begins_at)}"
        return Check(_NAME, "failed", found, "Check this machine's clock.", MISCONFIGURED)
    if ends_at - now < EXPIRY_WARNING:
        return Check(_NAME, "warning", found, _RENEW)
    return Check(_NAME, "ok", found)


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
