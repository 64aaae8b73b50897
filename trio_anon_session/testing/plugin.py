"""The implementation of the pytest fixtures that `_trio_anon_session_pytest` declares.

================================  ==================================================
fixture                           value
================================  ==================================================
``token_server``                  a new ``TokenServer``
``anonymous_session``             an open session with that server, in process
``virtual_time``                  the decorator ``virtual_time``, for ``@given``
================================  ==================================================

pytest loads them automatically. To set the arguments of the first two fixtures, use markers with
the same names.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import pytest

from .._config import Config
from .._errors import ConfigError
from .._reporter import checked_observers
from ._clocks import virtual_time
from ._server import TokenServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = [
    "VirtualTime",
    "check_test",
    "make_server",
    "session_settings",
    "virtual_time",
]

P = ParamSpec("P")
T = TypeVar("T")

PLUGINS = ("trio", "pytest_trio.plugin")
"""The names of the pytest-trio plugin: if loaded automatically, and if loaded with ``-p``."""

CLOCKS = ("autojump_clock", "mock_clock")
"""The clock fixtures of pytest-trio."""


class VirtualTime(Protocol):
    """The type of the fixture ``virtual_time``."""

    def __call__(self, async_fn: Callable[P, Awaitable[T]], /) -> Callable[P, T]:
        """Return a function that runs ``async_fn`` in virtual time."""
        ...


def make_server(request: pytest.FixtureRequest) -> TokenServer:
    """Return a server with the arguments from a test's markers."""
    settings = _settings_of(request, "token_server")
    mistake = ""
    try:
        return TokenServer(**settings)
    except (TypeError, ValueError) as error:
        mistake = str(error)
    pytest.fail(f"@pytest.mark.token_server: {mistake}", pytrace=False)


def session_settings(request: pytest.FixtureRequest, server: TokenServer) -> dict[str, Any]:
    """Return the checked session settings from a test's markers.

    Args:
        request: the request of the test.
        server: the server of the session.
    """
    settings = _settings_of(request, "anonymous_session")
    mistake = ""
    try:
        server.config(**{name: settings[name] for name in settings.keys() - {"observers"}})
        checked_observers(settings.get("observers", ()))
    except (ConfigError, TypeError) as error:
        mistake = str(error)
    if mistake:
        pytest.fail(f"@pytest.mark.anonymous_session: {mistake}", pytrace=False)
    return settings


def check_test(request: pytest.FixtureRequest) -> None:
    """Fail a test that pytest-trio does not run, or not on the requested clock."""
    test = request.node.name
    needs = f"{test} uses the fixture anonymous_session, which needs Trio"
    mistake = ""
    if not any(map(request.config.pluginmanager.hasplugin, PLUGINS)):
        mistake = (
            f"{needs}, and pytest-trio is not installed: pip install 'trio_anon_session[testing]'"
        )
    elif request.node.get_closest_marker("trio") is None:
        mistake = (
            f"{needs}: make the test async, and mark it with @pytest.mark.trio"
            " or set trio_mode = true"
        )
    else:
        arguments = inspect.signature(request.function).parameters
        for clock in CLOCKS:
            if clock in request.fixturenames and clock not in arguments:
                mistake = (
                    f"{clock} must be an argument of {test} itself: pytest-trio looks for a clock"
                    " only there, and would use real time"
                )
    if mistake:
        pytest.fail(mistake, pytrace=False)


def _settings_of(request: pytest.FixtureRequest, marker: str) -> dict[str, Any]:
    """Return the arguments of a test's markers; a test's marker overrides class and module."""
    names = _SETTINGS[marker]
    settings: dict[str, Any] = {}
    for mark in request.node.iter_markers(marker):
        if mark.args:
            pytest.fail(
                f"@pytest.mark.{marker}: settings must be keyword arguments, such as lifetime=60.0;"
                f" got {mark.args[0]!r}",
                pytrace=False,
            )
        settings = {**mark.kwargs, **settings}
    for name in settings:
        if name not in names:
            elsewhere = [other for other in _SETTINGS if name in _SETTINGS[other]]
            hint = f" (use @pytest.mark.{elsewhere[0]} for it)" if elsewhere else ""
            pytest.fail(
                f"@pytest.mark.{marker}: unknown setting {name!r}{hint}; the settings are"
                f" {', '.join(sorted(names))}",
                pytrace=False,
            )
    return settings


def _names_of(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


_SETTINGS = {
    "token_server": _names_of(TokenServer),
    "anonymous_session": _names_of(Config) | {"observers"},
}
"""The settings that each marker accepts."""
