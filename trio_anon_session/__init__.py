"""One OAuth 2.0 client-credentials token for all tasks of a Trio program, refreshed in time.

The modules of the package, in the order of their imports. A module imports only modules above it
in this table, except that `Config.discover` imports ``_discovery``. ``lint-imports`` checks this:

===================  ========================================================
``_version``         the version
``_secrets``         keeping secrets out of texts, pickles and tracebacks
``_values``          equality, hash and repr of the frozen classes
``_clocks``          whether time is virtual
``_workers``         worker threads for calls that block
``_callables``       checks for callables that are async by mistake
``_logging``         writing log records
``_http_libraries``  httpx and httpx2: which of them a client belongs to
``_errors``          the exception tree
``_paths``           paths of files that may be the content of a file by mistake
``_authentication``  ways to authenticate, with a map of its own
``_checks``          the checks of the settings of a `Config`
``_environment``     the settings of a `Config` from environment variables
``_box_json``        the settings of a `Config` from a file of Box
``_config``          `Config`
``_token``           `TokenInfo`, `TokenState`; parsing of token responses
``_dropped``         dropped tokens, which callers must not get again
``_rounds``          rounds of failed attempts; pure: times are passed in
``_lifecycle``       the data of a session and all decisions about it; also pure
``_backoff``         ``Retry-After``, and the pauses after failed attempts
``_events``          the events and statistics of a session
``_wire_logs``       scrubbing of the log records of the HTTP libraries
``_advice``          what to do about an error of a token endpoint
``_reading``         reading a response within limits
``_exchange``        one HTTP request, and its response or why it failed
``_judging``         the meaning of a response; without I/O
``_discovery``       `Config.discover`: endpoints from a server's metadata
``_manager``         `TokenManager`: one token request or revocation
``_nursery``         background tasks of a block; exceptions without a group
``_gate``            the gate for waiting callers, and the session's alarm
``_misuse``          checks of a session's arguments, and of where it is used
``_revocation``      revoking one token, with retries
``_states``          `StateView`: waiting for states
``_reporter``        counters, log records and observers
``_challenges``      parsing ``WWW-Authenticate`` headers
``_origins``         the origins that may get a token
``_body``            a response body whose first bytes were read already
``_flow``            the auth flow, for httpx and httpx2
``_auth``            `SessionAuth`, the ``httpx.Auth``
``_session``         `AnonymousSession`: tasks, waiting, and actions
``threads``          `SessionThread`: a session for programs of threads
``httpx2``           `SessionAuth` for clients of httpx2
``stores``           one token for a fleet, with a map of its own
``boxsdk``           `SessionAuthentication` for Box's official SDK
``otel``             `OpenTelemetryObserver`: events as metrics and spans
``testing``          the test kit, with an embedded token server
``_cli``             the command, with a map of its own
===================  ========================================================
"""

from typing import TYPE_CHECKING

from ._authentication import AssertionRequest, SecretFile
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
    "Assertion",
    "AssertionFile",
    "AssertionRequest",
    "Closed",
    "Config",
    "ConfigError",
    "CredentialsRejectedError",
    "Event",
    "Granted",
    "Invalidated",
    "MalformedTokenResponseError",
    "MutualTLS",
    "Observer",
    "PrivateKeyJWT",
    "RefreshFailed",
    "RevocationError",
    "Revoked",
    "SecretFile",
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
    from ._authentication._assertion import Assertion, AssertionFile
    from ._authentication._mutual_tls import MutualTLS
    from ._authentication._private_key_jwt import PrivateKeyJWT
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
#   0.7  for the table of checks in _checks, instead of validators of attrs
_LATE = {
    "_auth": ("SessionAuth",),
    "_authentication._assertion": ("Assertion", "AssertionFile"),
    "_authentication._mutual_tls": ("MutualTLS",),
    "_authentication._private_key_jwt": ("PrivateKeyJWT",),
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

    # Few programs need these packages, which import SQLite and a test server.
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
