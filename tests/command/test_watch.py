"""``watch``: what it shows of a session, on a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import io
import re
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from rich.console import Console

from tests.helpers import make_config
from trio_anon_session import (
    AnonymousSession,
    Granted,
    RefreshFailed,
    TokenManager,
    TokenState,
)
from trio_anon_session._cli._view import View
from trio_anon_session._cli._watch import run_watch
from trio_anon_session._secrets import fingerprint
from trio_anon_session.testing import (
    Client,
    Fault,
    FaultPlan,
    TokenServer,
    open_test_session,
    virtual_time,
)

from .running import (
    LIMIT,
    SECRET,
    Served,
    assert_failed,
    drawn,
    invoke,
    read_until,
    run_on_terminal,
    running,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


def watch(
    server: TokenServer, seconds: float = 60.0, every: float = 10.0, **settings: Any
) -> tuple[int, list[str]]:
    """Watch a session with a server in process, and return the exit code and the lines."""

    @virtual_time
    async def run() -> int:
        config = server.config(**settings)
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
            TokenManager(config, http_client=client) as manager,
        ):
            return await run_watch(config, seconds, every, manager)

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run()
    return code, printed.getvalue().splitlines()


def test_plain_lines() -> None:
    """Without a terminal, ``watch`` prints a line for each event, and a summary at the end."""
    server = TokenServer(lifetime=3600.0)
    code, lines = watch(server, 5.0)
    (token,) = server.tokens
    assert code == 0
    assert lines == [
        "  0.0 s  client 'test-client' at http://localhost/oauth2/token",
        f"  0.0 s  EMPTY   [{'·' * 32}]  waiting 0, grants 0, failures 0",
        f"  0.0 s  + token {fingerprint(token)} after 0.00 s, valid for 3570.0 s",
        "watched for 5.0 s: 1 grant, 0 failures; the token was FRESH at the end",
    ]


def test_lines_about_the_state() -> None:
    """If nothing happens, ``watch`` prints the state each time ``every`` seconds have passed."""
    _, lines = watch(TokenServer(lifetime=3600.0), 60.0, every=20.0)
    told = [line[:16] for line in lines if "FRESH   [" in line]
    assert told == [" 20.0 s  FRESH  ", " 40.0 s  FRESH  "]


def test_the_token_is_kept_alive() -> None:
    """The session refreshes its token again and again."""
    server = TokenServer(lifetime=60.0)
    code, lines = watch(server, 290.0)
    assert code == 0
    assert len([line for line in lines if "+ token" in line]) == server.grants == 10


def test_a_failed_attempt() -> None:
    """A failed attempt is shown with the time to the next one; the exit code is still 0."""
    server = TokenServer(FaultPlan(token=[Fault.server_error(503)]))
    code, lines = watch(server)
    assert code == 0
    told = [line for line in lines if "!" in line]
    assert len(told) == 1
    assert re.search(r"! attempt failed, retry in [123]\.\d\d s: .*status 503", told[0])
    assert "1 grant, 1 failure;" in lines[-1]


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault.server_error(503), 4), (Fault.refusal("invalid_client", SECRET), 3)],
)
def test_no_token_at_the_end(fault: Fault, code: int) -> None:
    """Without a usable token at the end, the exit code says why."""
    server = TokenServer(FaultPlan(token_then=fault), clients=[Client("id", SECRET)])
    ended, lines = watch(server, max_retries=0)
    assert ended == code
    # The failed attempt has already shown the reason, so this line does not repeat it.
    assert any(re.search(r"! no token, next call in \d+ s$", line) for line in lines)
    # No failure counts as survived, because there was no token.
    assert not [line for line in lines if "survived" in line]
    assert "the token was EMPTY at the end" in lines[-1]
    assert not [line for line in lines if SECRET in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags", "revoked"), [("SIGINT", ["--revoke-on-exit"], 1), ("SIGTERM", [], 0)]
)
def test_a_signal_is_the_normal_end(
    served: Served, name: str, flags: list[str], revoked: int
) -> None:
    """A signal ends ``watch`` with a summary and 0; ``--revoke-on-exit`` revokes the token."""
    with running("watch", *flags, environ=served.environ) as process:
        read_until("+ token", process)
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (0, "")
    assert "watched for " in rest
    assert (served.server.grants, served.server.revocations) == (1, revoked)


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


async def test_a_failure_stays_in_the_panel(autojump_clock: MockClock) -> None:
    """The panel shows the last failure and what to do until a token request succeeds."""
    view = View(0.0, shows_trouble=True)
    view.session = AnonymousSession(make_config())

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

    assert "last failure" not in drawn(view, 60)
    words = "the token endpoint could not be asked at all"
    fail(f"{words}. Check that it is there, and that there is a way to it.")
    # The same failure without advice does not replace the first one.
    fail(words)
    assert f"last failure {words}. Check that it is there, and that" in drawn(view, 60)
    fail("something else")
    assert "last failure something else" in drawn(view, 60)
    view.observe(Granted("0123abcd", 4.0, 3.5, 0.25))
    assert "last failure" not in drawn(view, 60)


async def test_failures_of_an_expired_token(autojump_clock: MockClock) -> None:
    """The panel of an EXPIRED token counts failures, and does not say that they were survived."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.server_error(503)), lifetime=60.0)
    async with open_test_session(server, max_retries=0) as session:
        await session.get_access_token()
        await trio.sleep(59.0)
        assert session.state is TokenState.EXPIRED
        view = View(0.0)
        view.session = session
        failures = session.statistics().failures
        assert failures > 1
        assert f"token endpoint 1 grant, {failures} failures " in f"{drawn(view, 80)} "
        assert "survived" not in drawn(view, 80) + view.line()


async def test_the_latest_stays_in_a_low_terminal(autojump_clock: MockClock) -> None:
    """If the terminal is too low for the panel, the oldest events are left out."""
    view = View(0.0)
    view.session = AnonymousSession(make_config())
    for number in range(10):
        view.say(f"event {number}")
    lines_of = {}
    for height in (14, 40, 5):
        console = Console(width=60, height=height, file=io.StringIO())
        with console.capture() as capture:
            console.print(view.panel_that_fits(console))
        lines_of[height] = capture.get().splitlines()
    assert len(lines_of[14]) == 14
    assert "event 9 " in lines_of[14][-2]
    assert "event 0 " in "".join(lines_of[40])
    assert "event" not in "".join(lines_of[5])


def test_a_configuration_that_is_wrong() -> None:
    """Without a configuration, the exit code is 2, and no panel is drawn."""
    assert_failed(invoke("watch"), 2, "BOX_CLIENT_ID")
