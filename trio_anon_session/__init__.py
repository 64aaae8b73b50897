"""One OAuth 2.0 client-credentials token, kept alive for every task of a Trio program.

A map of the package, from the bottom up. A module imports only modules above it in this table;
``lint-imports`` checks this:

===============  ========================================================
``_version``     the version
``_secrets``     scrubbing, fingerprints, no pickles, no locals
``_values``      equality, hash and repr of the frozen classes
``_clocks``      whether time is virtual
``_callables``   callables that users give, and that are async by mistake
``_logging``     records of ``logging``
``_errors``      the exception tree
``_config``      `Config`
``_token``       `TokenInfo`, `TokenState`; what an answer says, what time makes of it
``_dropped``     tokens that are not to be handed out again
``_rounds``      failed attempts, counted into rounds: pure, times are passed in
``_lifecycle``   the facts of a session and every decision about them: pure, too
``_backoff``     ``Retry-After``, and the pauses after failed attempts
``_events``      what a session tells: events, statistics
``_wire_logs``   what httpx and httpcore log of token requests, scrubbed
``_advice``      what to do about an error of a token endpoint
``_reading``     the body of an answer, within limits
``_manager``     `TokenManager`: one token request or revocation over httpx
``_nursery``     background tasks of a block; exceptions without a group
``_gate``        where callers wait for a token, and where the session sleeps
``_misuse``      checks that a session is made of the right parts, and used in the right place
``_revocation``  getting one token revoked, however often it takes
``_states``      the states, to wait for
``_reporter``    counting, logging, telling
``_challenges``  the challenges of a ``WWW-Authenticate`` header
``_origins``     where a token may go
``_body``        a body of which the beginning was read already
``_flow``        what an auth does with a request and its answers, for httpx and httpx2
``_auth``        `SessionAuth`, the ``httpx.Auth``
``_session``     `AnonymousSession`: tasks, waiting, and the effects of decisions
``httpx2``       `SessionAuth` for clients of httpx2
``stores``       one token for a fleet, with a map of its own
``otel``         `OpenTelemetryObserver`: events as metrics and spans
``testing``      the embedded token server and what belongs to it
``_cli``         the command, with a map of its own
===============  ========================================================
"""

from typing import TYPE_CHECKING

from ._config import Config
from ._errors import (
    AnonymousSessionError,
    ConfigError,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)
from ._manager import SharedTokenSource, TokenManager, TokenSource
from ._session import AnonymousSession
from ._token import TokenInfo, TokenRequestOptions, TokenState
from ._version import __version__

__all__ = [
    "AnonymousSession",
    "AnonymousSessionError",
    "Closed",
    "Config",
    "ConfigError",
    "CredentialsRejectedError",
    "Event",
    "Granted",
    "Invalidated",
    "MalformedTokenResponseError",
    "Observer",
    "RefreshFailed",
    "RevocationError",
    "Revoked",
    "SessionAuth",
    "SessionClosedError",
    "SessionStatistics",
    "SharedTokenSource",
    "StateChanged",
    "StateView",
    "TokenInfo",
    "TokenManager",
    "TokenRequestError",
    "TokenRequestOptions",
    "TokenSource",
    "TokenState",
    "TokenUnavailableError",
    "__version__",
]

if TYPE_CHECKING:
    from . import stores as stores
    from . import testing as testing
    from ._auth import SessionAuth
    from ._events import (
        Closed,
        Event,
        Granted,
        Invalidated,
        Observer,
        RefreshFailed,
        Revoked,
        SessionStatistics,
        StateChanged,
    )
    from ._states import StateView

# `import trio_anon_session` may take 1.05 times as long as `import trio, httpx`
# (python -m benchmarks imports), and takes 1.045 times as long. These measures save, in per cent
# of `import trio, httpx`, counted in instructions:
#   3.6  for the events, whose methods attrs generates: imported late, with _reporter, in _session
#   2.2  for trio-util, which StateView needs: imported late, here and in _reporter
#   1.0  for SessionAuth: imported late, here and in _session
#   1.1  for _values.Value, instead of the methods that attrs generates
#   0.7  for the table of checks in _config, instead of validators of attrs
_LATE = {
    "_auth": ("SessionAuth",),
    "_states": ("StateView",),
    "_events": (
        "Closed",
        "Event",
        "Granted",
        "Invalidated",
        "Observer",
        "RefreshFailed",
        "Revoked",
        "SessionStatistics",
        "StateChanged",
    ),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    # Few programs need these packages. They import SQLite and a whole test server.
    if name in ("stores", "testing"):
        return import_module(f"{__name__}.{name}")
    for module, names in _LATE.items():
        if name in names:
            # Python calls this function only for names that the module does not have yet.
            globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
