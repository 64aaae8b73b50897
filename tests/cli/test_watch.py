"""``watch``: a session for the configuration that is there, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import signal
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.helpers import make_config
from trio_anon_session import AnonymousSession, Granted, RefreshFailed
from trio_anon_session._cli._view import View
from trio_anon_session.testing import Fault, FaultPlan

from .running import LIMIT, SECRET, Served, assert_failed, invoke, run_on_terminal, running

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.slow
def test_plain_lines(served: Served) -> None:
    """Without a terminal, there is a line for what happens, and a summary at the end."""
    result = invoke("watch", "--seconds", 1, environ=served.environ)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third, last = result.stdout.splitlines()
    assert first.endswith(f"client 'id' at {served.url}/oauth2/token")
    assert re.search(r"s  EMPTY   \[·+\]  held \d, grants 0, failures survived 0$", second)
    assert re.search(r"s  \+ token [0-9a-f]{8} after \d\.\d\d s, good for \d+\.\d s$", third)
    assert last == "watched for 1.0 s: 1 grants, 0 failures; the token was FRESH at the end"
    assert not [token for token in served.server.tokens if token in result.output]


@pytest.mark.slow
def test_a_line_now_and_then(served: Served) -> None:
    """Where nothing happens, there is a line every so often."""
    result = invoke("watch", "--seconds", 1, "--every", 0.2, environ=served.environ)
    assert len(re.findall(r"FRESH   \[", result.stdout)) >= 2


@pytest.mark.slow
def test_the_token_is_kept_alive(served: Served) -> None:
    """The session goes on by itself, from token to token."""
    served.server.lifetime = 1.0
    args = ["--seconds", 2, "--min-refresh-interval", 0.2]
    result = invoke("watch", *args, environ=served.environ)
    assert result.exit_code == 0
    assert served.server.grants >= 3
    assert len(re.findall(r"\+ token", result.stdout)) >= 3


@pytest.mark.slow
def test_a_failure_in_plain_words_and_what_comes_next(served: Served) -> None:
    """A failure is shown with when the next attempt comes; in the end all is well."""
    served.server.faults = FaultPlan(token=[Fault.server_error(503)])
    args = ["--seconds", 2, "--retry-interval", 0.1]
    result = invoke("watch", *args, environ=served.environ)
    assert result.exit_code == 0
    assert re.search(r"! attempt failed, next in \d\.\d\d s: .*status 503", result.stdout)
    assert "1 grants, 1 failures" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault.server_error(503), 4), (Fault.refusal("invalid_client", SECRET), 3)],
)
def test_no_token_at_the_end(served: Served, fault: Fault, code: int) -> None:
    """Without a usable token at the end, the exit code says why."""
    served.server.faults = FaultPlan(token_then=fault)
    args = ["--seconds", 1, "--max-retries", 0]
    result = invoke("watch", *args, environ=served.environ)
    assert result.exit_code == code
    # Why has been said with the attempt, and is not said again.
    assert re.search(r"! no token, asking again in \d+ s$", result.stdout, re.MULTILINE)
    assert "the token was EMPTY at the end" in result.stdout
    assert SECRET not in result.output


@pytest.mark.slow
def test_revoke_on_exit(served: Served) -> None:
    """With ``--revoke-on-exit`` no token is left behind."""
    result = invoke("watch", "--seconds", 1, "--revoke-on-exit", environ=served.environ)
    assert result.exit_code == 0
    assert served.server.revocations == served.server.grants == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_is_the_normal_end(served: Served, name: str) -> None:
    """A signal ends it with the summary, and with 0 where there is a token."""
    with running("watch", environ=served.environ) as process:
        assert process.stdout is not None
        while "+ token" not in process.stdout.readline():
            pass
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (0, "")
    assert rest.startswith("watched for ")


@pytest.mark.slow
def test_on_a_terminal(served: Served) -> None:
    """On a terminal there is a panel, and Ctrl-C ends it with the terminal restored."""
    ended = run_on_terminal(
        "watch", environ=served.environ, when=lambda text: "FRESH" in text, type_=b"\x03"
    )
    assert ended.code == 0, ended.text
    for words in ("╭", "╯", "token's age", "next refresh", "in 3"):
        assert words in ended.text
    assert "of None" not in ended.text
    assert ended.text.rstrip().endswith("the token was FRESH at the end")
    assert ended.text.rfind("\x1b[?25h") > ended.text.rfind("\x1b[?25l") > -1
    assert ended.echoes


async def test_what_to_do_stays_in_the_panel(autojump_clock: MockClock) -> None:
    """However narrow the terminal is, what failed and what to do can be read until it is over."""
    view = View(0.0, shows_trouble=True)
    view.session = AnonymousSession(make_config())

    def drawn() -> str:
        console = Console(width=60, file=io.StringIO())
        with console.capture() as capture:
            console.print(view.panel(60))
        return " ".join(capture.get().replace("│", " ").split())

    def fail(said: str) -> None:
        view.observe(
            RefreshFailed(
                f"Down: {said}",
                attempt=1,
                consecutive_failures=1,
                retry_in=1.0,
                round_over=False,
                latency=0.1,
                kind="Down",
                retryable=True,
                status_code=503,
            )
        )

    assert "last failure" not in drawn()
    words = "the token endpoint could not be asked at all"
    fail(f"{words}. Check that it is there, and that there is a way to it.")
    # The following ones do not say again what to do.
    fail(words)
    assert f"last failure {words}. Check that it is there, and that" in drawn()
    fail("something else")
    assert "last failure something else" in drawn()
    view.observe(Granted("0123abcd", 4.0, 3.5, 0.25))
    assert "last failure" not in drawn()


async def test_the_latest_stays_in_a_low_terminal(autojump_clock: MockClock) -> None:
    """In a terminal that is too low for the panel, the oldest events go, and not the latest."""
    view = View(0.0)
    view.session = AnonymousSession(make_config())
    for number in range(10):
        view.say(f"event {number}")
    drawn = {}
    for height in (14, 40, 5):
        console = Console(width=60, height=height, file=io.StringIO())
        with console.capture() as capture:
            console.print(view.panel_that_fits(console))
        drawn[height] = capture.get().splitlines()
    assert len(drawn[14]) == 14
    assert "event 9 " in drawn[14][-2]
    assert "event 0 " in "".join(drawn[40])
    assert "event" not in "".join(drawn[5])


def test_a_configuration_that_is_wrong() -> None:
    """Nothing is drawn where there is nothing to watch."""
    assert_failed(invoke("watch"), 2, "BOX_CLIENT_ID")
