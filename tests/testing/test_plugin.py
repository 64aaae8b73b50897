"""The pytest plugin: its fixtures and markers, in separate runs of pytest."""

from __future__ import annotations

import importlib.metadata

import pytest

import _trio_anon_session_pytest

# pytester forgets modules that a run inside it imports first, but the package keeps their classes.
import trio_anon_session._events  # noqa: F401
from trio_anon_session import Config
from trio_anon_session.testing import TokenServer

pytest_plugins = ["pytester"]

HEAD = """
import sys
import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio_anon_session import AnonymousSession, Granted
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session
"""


class Run:
    """Runs pytest on a module in this process, strictly, with pytest-trio's automatic mode."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makeini("[pytest]\nstrict = true\ntrio_mode = true\nfilterwarnings = error\n")

    def __call__(self, module: str, *arguments: str) -> pytest.RunResult:
        self._pytester.makepyfile(HEAD + module)
        return self._pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    def passes(self, module: str, passed: int = 1) -> None:
        """Run a module, and check that all of its tests pass."""
        self(module).assert_outcomes(passed=passed)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Return an object that runs pytest on a module."""
    return Run(pytester)


# Imports


def test_pytest_finds_the_plugin() -> None:
    """The entry point of the distribution is the plugin."""
    (entry,) = importlib.metadata.entry_points(group="pytest11", name="trio_anon_session")
    assert entry.load() is _trio_anon_session_pytest


@pytest.mark.slow
def test_a_run_that_uses_no_fixture_does_not_load_the_package(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a run that does not use its fixtures, the plugin does not import the package."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "import sys\n"
        "def test_nothing():\n"
        "    assert '_trio_anon_session_pytest' in sys.modules\n"
        "    assert not {'trio', 'httpx', 'hypothesis', 'trio_anon_session'} & set(sys.modules)\n"
    )
    result = pytester.runpytest_subprocess("-p", "_trio_anon_session_pytest", "--strict-markers")
    result.assert_outcomes(passed=1)


def test_markers_are_registered(run: Run) -> None:
    """``pytest --markers`` explains both markers."""
    result = run("", "--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.token_server(?*settings): *", "@pytest.mark.anonymous_session(*"]
    )


def test_fixtures_are_explained(run: Run) -> None:
    """``pytest --fixtures`` explains the three public fixtures, and shows no private one."""
    result = run("", "--fixtures")
    result.stdout.fnmatch_lines(
        [
            "token_server -- *_trio_anon_session_pytest.py:*",
            "    Return a new ``TokenServer``*",
            "anonymous_session -- *_trio_anon_session_pytest.py:*",
            "    Open a session with `token_server`*",
            "virtual_time [[]session scope] -- *_trio_anon_session_pytest.py:*",
            "    Return the decorator `virtual_time`*",
        ]
    )
    result.stdout.no_fnmatch_line("_anonymous*")


# token_server


def test_each_test_has_its_own_server(run: Run) -> None:
    """Each test gets a new server, also if it is not async."""
    run.passes(
        """
seen = []

@pytest.mark.parametrize("n", [1, 2])
def test_server(token_server, n):
    assert isinstance(token_server, TokenServer)
    assert token_server.lifetime is None
    assert token_server not in seen
    seen.append(token_server)
""",
        passed=2,
    )


def test_the_marker_configures_the_server(run: Run) -> None:
    """The marker's arguments configure the server; for each setting, the nearest marker wins."""
    run.passes(
        """
pytestmark = pytest.mark.token_server(lifetime=1.0, seed=1, keep=7)

@pytest.mark.token_server(lifetime=2.0, resource_latency=2.0)
class TestIt:
    @pytest.mark.token_server(lifetime=3.0, faults=FaultPlan(token=[Fault.hang()]))
    def test_near(self, token_server):
        assert token_server.lifetime == 3.0
        assert token_server.resource_latency == 2.0
        assert token_server.requests.maxlen == 7
        assert token_server.faults == FaultPlan(token=[Fault.hang()])

    def test_far(self, token_server):
        assert token_server.lifetime == 2.0
        assert token_server.faults == FaultPlan()
""",
        passed=2,
    )


# anonymous_session


def test_the_session_is_open_against_the_server(run: Run) -> None:
    """The session is open in the test, uses the test's server, and is closed after the test."""
    run.passes(
        """
sessions = []

async def test_session(anonymous_session, token_server):
    sessions.append(anonymous_session)
    token = await anonymous_session.get_access_token()
    assert [*token_server.tokens] == [token]

def test_after():
    assert "closed" in repr(sessions[0])
""",
        passed=2,
    )


def test_the_marker_configures_the_session(run: Run) -> None:
    """The marker's arguments are settings and observers; the server's marker also applies."""
    run.passes(
        """
events = []

@pytest.mark.token_server(lifetime=400.0)
@pytest.mark.anonymous_session(stale_buffer=60.0, refresh="on_request", observers=[events.append])
async def test_session(anonymous_session):
    assert anonymous_session.config.stale_buffer == 60.0
    assert anonymous_session.config.refresh == "on_request"
    await anonymous_session.get_access_token()
    assert anonymous_session.token_info.lifetime == 400.0
    assert any(isinstance(event, Granted) for event in events)
"""
    )


def test_your_own_token_server(run: Run) -> None:
    """Your own fixture ``token_server`` replaces that of the plugin."""
    run.passes(
        """
@pytest.fixture
def token_server():
    return TokenServer(lifetime=7.0)

async def test_session(anonymous_session):
    await anonymous_session.get_access_token()
    assert anonymous_session.token_info.lifetime == 7.0
"""
    )


def test_time_is_virtual_with_the_clock(run: Run) -> None:
    """If ``autojump_clock`` is an argument of the test, a month passes without waiting."""
    run.passes(
        """
@pytest.mark.token_server(lifetime=86400.0)
async def test_session(anonymous_session, token_server, autojump_clock):
    first = await anonymous_session.get_access_token()
    await trio.sleep(30 * 86400.0)
    assert await anonymous_session.get_access_token() != first
    assert token_server.grants == 31
"""
    )


def test_without_automatic_mode(pytester: pytest.Pytester) -> None:
    """If pytest-trio's automatic mode is off, the marker ``trio`` is sufficient."""
    pytester.makepyfile(
        HEAD
        + """
@pytest.mark.trio
async def test_session(anonymous_session, autojump_clock):
    assert await anonymous_session.get_access_token()
"""
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_without_pytest_trio(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Without pytest-trio, ``anonymous_session`` says what to install; other fixtures work."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "def test_server(token_server):\n"
        "    assert token_server.grants == 0\n"
        "def test_time(virtual_time):\n"
        "    import trio\n"
        "    virtual_time(trio.sleep)(1e6)\n"
        f"{kind} test_session(anonymous_session): ...\n"
    )
    result = pytester.runpytest_subprocess("-p", "_trio_anon_session_pytest", "-W", "error")
    result.assert_outcomes(passed=2, errors=1)
    assert (
        "test_session uses the fixture anonymous_session, which needs Trio, and pytest-trio"
        " is not installed: pip install 'trio_anon_session[testing]'" in result.stdout.str()
    )


# Mistakes


SERVER, SESSION = "token_server", "anonymous_session"


@pytest.mark.parametrize(
    ("marker", "setting", "words"),
    [
        (SERVER, "faults=[Fault.hang()]", "faults must be a FaultPlan or None, not list"),
        (SERVER, "lifetime='60'", "lifetime must be a number of seconds ≥ 0, got '60'"),
        (SERVER, "lifetime=-1.0", "lifetime must be a number of seconds ≥ 0, got -1.0"),
        (SERVER, "lifetme=60.0", "unknown setting 'lifetme'; the settings are auth_methods, "),
        (SERVER, "60.0", "settings must be keyword arguments, such as lifetime=60.0; got 60.0"),
        (SESSION, "60.0", "settings must be keyword arguments, such as lifetime=60.0; got 60.0"),
        (
            SESSION,
            "stale_bufer=1.0",
            "unknown setting 'stale_bufer'; the settings are api_",
        ),
        (
            SESSION,
            "lifetime=60.0",
            "unknown setting 'lifetime' (use @pytest.mark.token_server for it); the settings are",
        ),
        (
            SESSION,
            "observers=print",
            "observers must be an iterable of callables, not builtin_function",
        ),
        (SESSION, "observers=[1]", "observers must be callables, not int"),
        (
            SESSION,
            "observers=[trio.sleep]",
            "observers must be plain callables, not an async function",
        ),
        (SESSION, "stale_buffer=-1.0", "stale_buffer must be a finite number of seconds ≥ 0"),
    ],
)
def test_a_wrong_setting(run: Run, marker: str, setting: str, words: str) -> None:
    """A wrong name or value in a marker is an error in one line, before the test begins."""
    fails_in_its_fixtures(
        run,
        f"@pytest.mark.{marker}({setting})\nasync def test_it({marker}): ...\n",
        f"@pytest.mark.{marker}: {words}",
    )


CLOCK = "autojump_clock must be an argument of test_session itself"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            """
@pytest.mark.usefixtures("autojump_clock")
async def test_session(anonymous_session): ...
""",
            CLOCK,
        ),
        (
            """
@pytest.fixture
def fast(autojump_clock): ...

async def test_session(anonymous_session, fast): ...
""",
            CLOCK,
        ),
        (
            "def test_session(anonymous_session): ...\n",
            "test_session uses the fixture anonymous_session, which needs Trio: make the"
            " test async, and mark it with @pytest.mark.trio or set trio_mode = true",
        ),
    ],
    ids=["usefixtures", "a fixture of its own", "not async"],
)
def test_a_test_that_cannot_use_the_session(run: Run, module: str, words: str) -> None:
    """A clock that would be ignored and a test that is not async are errors that say what to do."""
    fails_in_its_fixtures(run, module, words)


def fails_in_its_fixtures(run: Run, module: str, words: str) -> None:
    result = run(module)
    result.assert_outcomes(errors=1)
    output = result.stdout.str()
    assert words in output
    assert "Traceback" not in output
    assert "During handling" not in output


# virtual_time


def test_virtual_time(run: Run) -> None:
    """``virtual_time`` is a fixture under ``@given``, and decorates tests of each kind."""
    run.passes(
        """
from trio_anon_session.testing.plugin import virtual_time as decorator

@settings(max_examples=5, database=None)
@given(seconds=st.floats(0.0, 1e9))
def test_sleep(virtual_time, seconds):
    @virtual_time
    async def main():
        await trio.sleep(seconds)
        return trio.current_time()

    assert main() == seconds

@settings(max_examples=5, database=None)
@given(seconds=st.floats(0.0, 1e9))
@decorator
async def test_given(seconds):
    await trio.sleep(seconds)
    assert trio.current_time() == seconds

@pytest.mark.token_server(lifetime=60.0)
@pytest.mark.parametrize("seconds", [1.0, 1e9])
@decorator
async def test_fixture(token_server, seconds):
    assert token_server.lifetime == 60.0
    await trio.sleep(seconds)
    assert trio.current_time() == seconds
""",
        passed=4,
    )


def test_names_of_the_settings() -> None:
    """The markers accept the settings of `TokenServer` and `Config`."""
    from trio_anon_session.testing.plugin import _names_of

    assert {"lifetime", "faults", "clients"} <= _names_of(TokenServer)
    assert {"stale_buffer", "client_id"} <= _names_of(Config)
    assert "self" not in _names_of(TokenServer) | _names_of(Config)
