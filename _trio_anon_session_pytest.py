"""The fixtures ``token_server``, ``anonymous_session`` and ``virtual_time``, for pytest.

Every pytest run loads this module if the package is installed, also in unrelated projects.
It is outside the package because importing the package imports Trio and httpx. They are
imported only when a test uses a fixture, after ``coverage`` has started. The fixtures
are implemented in ``trio_anon_session.testing.plugin``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_anon_session import AnonymousSession
    from trio_anon_session.testing import TokenServer
    from trio_anon_session.testing.plugin import VirtualTime


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for marker in (
        "token_server(**settings): arguments of the TokenServer of the fixture"
        " `token_server`, such as lifetime=60.0.",
        "anonymous_session(**settings): settings of the Config of the fixture"
        " `anonymous_session`, such as stale_buffer=60.0, and its observers.",
    ):
        config.addinivalue_line("markers", marker)


@pytest.fixture
def token_server(request: pytest.FixtureRequest) -> TokenServer:
    """Return a new ``TokenServer``; the marker of the same name sets its arguments."""
    from trio_anon_session.testing.plugin import make_server

    return make_server(request)


@pytest.fixture
def _anonymous_session_settings(
    request: pytest.FixtureRequest, token_server: TokenServer
) -> dict[str, Any]:
    # A separate fixture that is not async, so that errors appear before the test needs Trio.
    from trio_anon_session.testing.plugin import check_test, session_settings

    check_test(request)
    return session_settings(request, token_server)


@pytest.fixture
async def anonymous_session(
    token_server: TokenServer, _anonymous_session_settings: dict[str, Any]
) -> AsyncIterator[AnonymousSession]:
    """Open a session with `token_server`; the marker of the same name sets its settings.

    Time is virtual if the test has the argument ``autojump_clock``.
    """
    from trio_anon_session.testing import open_test_session

    async with open_test_session(token_server, **_anonymous_session_settings) as session:
        yield session


@pytest.fixture(scope="session")
def virtual_time() -> VirtualTime:
    """Return the decorator `virtual_time`, which runs an async function in virtual time.

    Unlike ``autojump_clock``, it works with Hypothesis' ``@given``.
    """
    from trio_anon_session.testing.plugin import virtual_time

    return virtual_time
