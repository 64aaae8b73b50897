"""The demonstration: what it shows, what it counts, and how it ends."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
import trio
from rich.console import Console

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    Closed,
    Granted,
    Invalidated,
    RefreshFailed,
    Revoked,
    StateChanged,
    TokenInfo,
    TokenState,
)
from trio_anon_session._cli._scene import Scene, cause_trouble, open_scene, run_demo, work
from trio_anon_session._cli._view import BAR_WIDTH, View, age_bar
from trio_anon_session._cli._wording import describe
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

from .running import drawn, invoke, run_on_terminal, run_python

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_anon_session import Event

LIFETIME = 4.0
DEMO = ("demo", "--seconds", "3", "--workers", "4", "--lifetime", "1")


def make_scene(session: AnonymousSession | None = None) -> Scene:
    """Return a scene in which everything has gone well so far."""
    session = session if session is not None else AnonymousSession(make_config())
    view = View(0.0, 60.0)
    view.session = session
    scene = Scene(view, TokenServer(), served=10)
    view.requests = scene.requests
    return scene


def figures(text: str) -> dict[str, str]:
    """Return the rows of the summary by name."""
    return dict(re.findall(r"^([a-z ]+?)  +(\d.*)$", text, re.MULTILINE))


@pytest.mark.slow
def test_piped() -> None:
    """With its output piped, the demonstration prints plain lines, and every promise is kept."""
    environ = {"PYTHONIOENCODING": "utf-8"}
    ended = run_python("-m", "trio_anon_session", *DEMO, environ=environ)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert "\x1b" not in ended.stdout
    rows = figures(ended.stdout)
    assert set(rows) == {
        "requests served",
        "refreshes",
        "failed attempts",
        "waiting callers",
        "met the revocation",
        "refused",
        "failed",
    }
    assert int(rows["requests served"]) > 0
    # Whether a token request meets the outage depends on the machine. The picture of the demo,
    # which is drawn in virtual time, shows the failed attempts.
    for words in ("is down", "works again"):
        assert f"~ the token endpoint {words}\n" in ended.stdout
    assert (rows["refused"], rows["failed"]) == ("0", "0")
    assert ended.stdout.endswith("every promise was kept\n")


@pytest.mark.slow
def test_piped_to_an_ascii_output() -> None:
    """The demonstration also runs if the output can encode only ASCII."""
    args = ("demo", "--seconds", "3", "--workers", "2")
    environ = {"PYTHONIOENCODING": "ascii"}
    ended = run_python("-m", "trio_anon_session", *args, environ=environ)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_on_a_terminal() -> None:
    """On a terminal the demonstration draws its panel, and shows the cursor again at the end."""
    # A longer life, so that the panel shows the state FRESH however slow the machine is.
    ended = run_on_terminal(*DEMO[:-1], "60")
    assert ended.code == 0, ended.text
    assert "every promise was kept" in ended.text
    for words in ("╭", "╯", "token's age", "requests", "FRESH", "of 3 s", "\x1b["):
        assert words in ended.text
    assert ended.text.rfind("\x1b[?25h") > ended.text.rfind("\x1b[?25l") > -1


@pytest.mark.parametrize("code", [0, 1, 130])
def test_flags_and_exit_code(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The command passes its flags to the demonstration, and exits with the code it returns."""
    asked: list[tuple[Any, ...]] = []

    async def run_demo(*args: object) -> int:
        asked.append(args)
        return code

    monkeypatch.setattr("trio_anon_session._cli._scene.run_demo", run_demo)
    result = invoke("demo", "--seconds", 3, "--workers", 5, "--lifetime", 1.5)
    assert result.exit_code == code
    assert asked == [(3.0, 5, 1.5)]


@pytest.mark.slow
def test_a_broken_promise_is_a_failure() -> None:
    """If no request was served, a promise is broken, and the exit code is 1."""
    assert trio.run(run_demo, 0.0, 1, 1.0) == 1


async def test_bar_of_the_token_age(autojump_clock: MockClock) -> None:
    """The bar fills with the token's age; S and E mark where it becomes STALE and EXPIRED."""
    config = make_config(stale_buffer=40.0, expired_buffer=20.0, refresh="on_request")
    manager = FakeTokenManager(config)
    now = trio.current_time()
    # The token is older than the session.
    manager.outcomes = [TokenInfo.from_answer("old", 100.0, now - 55.0, config)]
    async with AnonymousSession(config, manager) as session:
        assert age_bar(session, now, 10) == "··········"
        await session.get_access_token()
        assert len(age_bar(session, now)) == BAR_WIDTH
        for age, bar in (
            (0.0, "█·····S·E·"),
            (9.9, "█·····S·E·"),
            (10.0, "██····S·E·"),
            (60.0, "██████S·E·"),
            (75.0, "██████S█E·"),
            (80.0, "██████S█E·"),
            (95.0, "██████S█E█"),
            (1000.0, "██████S█E█"),
        ):
            assert age_bar(session, now - 55.0 + age, 10) == bar
        session.invalidate("old")
        assert age_bar(session, now, 10) == "··········"


@pytest.mark.parametrize(
    ("stale_buffer", "expired_buffer", "bar"),
    [
        (0.0, 0.0, "█········E"),
        (0.0, 25.0, "█······E··"),
        (50.0, 0.0, "█····S···E"),
    ],
)
async def test_bar_without_a_stale_window(
    autojump_clock: MockClock, stale_buffer: float, expired_buffer: float, bar: str
) -> None:
    """A boundary at the end is in the last cell; if two share a cell, the bar shows E."""
    config = make_config(stale_buffer=stale_buffer, expired_buffer=expired_buffer)
    manager = FakeTokenManager(config, lifetime=100.0)
    async with AnonymousSession(config, manager) as session:
        token = await session.exchange_token("x")
        assert age_bar(session, token.sent_at, 10) == bar


async def test_line_and_panel_in_every_state(autojump_clock: MockClock) -> None:
    """In every state of the token, the plain line and the panel show state, age and requests."""
    config = make_config(refresh="on_request")
    manager = FakeTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        view = make_scene(session).view
        view.began_at = trio.current_time()
        view.events.extend(["  0.0 s  first words", "  1.0 s  [last] words"])
        shown = []
        for seconds in (0.0, 0.0, 3200.0, 500.0):
            await trio.sleep(seconds)
            drawn = io.StringIO()
            console = Console(width=90, file=drawn)
            console.print(view.panel())
            panel = drawn.getvalue()
            assert f"│ state           {session.state.name} " in panel
            assert f"{age_bar(session, trio.current_time())} " in panel
            assert "10 served, 0 failed" in panel
            assert "first words" in panel
            assert "[last] words" in panel
            shown.append(view.line())
            if session.token_info is None:
                await session.get_access_token()
    assert [line.split()[2] for line in shown] == ["EMPTY", "FRESH", "STALE", "EXPIRED"]
    assert shown[2].startswith("3200.0 s  STALE   [█")
    assert shown[2].endswith("]  served 10, failed 0, waiting 0, grants 1, failures 0")


async def test_a_long_error_is_shown_whole(autojump_clock: MockClock) -> None:
    """An error that is longer than a line is wrapped and indented, and is shown in full."""
    view = make_scene().view
    error = "the token endpoint answered with status 503: " + "try again in a moment, " * 6 + "bye"
    view.say(f"! attempt failed, retry in 0.50 s: {error}")
    assert error in drawn(view, 100)
    for height in (40, 13):
        console = Console(width=100, height=height, file=io.StringIO())
        with console.capture() as capture:
            console.print(view.panel_that_fits(console))
        lines = capture.get().splitlines()
        assert len(lines) <= height
        first = next(number for number, line in enumerate(lines) if "0.0 s  ! attempt" in line)
        assert re.match(r"│ {10}\w", lines[first + 1])


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Granted("0123abcd", 4.0, 3.5, 0.25), "+ token 0123abcd after 0.25 s, valid for 3.5 s"),
        (
            RefreshFailed(
                "Down: no answer",
                1,
                1,
                0.5,
                round_over=False,
                latency=0.1,
                kind="Down",
                retryable=True,
                status_code=503,
            ),
            "! attempt failed, retry in 0.50 s: no answer",
        ),
        (Invalidated("0123abcd"), "- token 0123abcd was invalidated"),
        (
            StateChanged(TokenState.STALE, TokenState.EXPIRED),
            "- the token has expired; callers wait for a new one",
        ),
        (StateChanged(TokenState.FRESH, TokenState.STALE), None),
        (Revoked("0123abcd", None), "- token 0123abcd was revoked"),
        (Revoked("0123abcd", "down"), "! token 0123abcd could not be revoked: down"),
        (Closed(), None),
    ],
)
def test_events_in_words(event: Event, told: str | None) -> None:
    """An important event is shown as one line; frequent events are not shown."""
    assert describe(event) == told


async def test_order_of_the_faults(autojump_clock: MockClock) -> None:
    """The demonstration slows the endpoint, takes it down, restores it, and revokes the token."""
    server = TokenServer()
    async with open_test_session(server) as session, trio.open_nursery() as nursery:
        start = trio.current_time()
        scene = Scene(View(start), server)
        token = await session.get_access_token()
        nursery.start_soon(cause_trouble, scene, 100.0)
        for moment, delay, status in ((30, 0.5, None), (50, 0.0, 502), (70, 0.0, None)):
            await trio.sleep_until(start + moment)
            later = server.faults.fault_of("token", 1000)
            assert (later.delay, later.status) == (delay, status)
        assert server.tokens[token].revoked_at is None
    assert server.tokens[token].revoked_at == start + 75.0
    assert list(scene.view.events) == [
        " 25.0 s  ~ the token endpoint becomes slow",
        " 45.0 s  ~ the token endpoint is down",
        " 65.0 s  ~ the token endpoint works again",
        " 75.0 s  ~ an administrator revokes the token",
    ]


async def test_workers_count_their_requests(autojump_clock: MockClock) -> None:
    """A worker counts each request as served, refused or failed, and continues after an error."""
    server = TokenServer(FaultPlan(resource=[None, Fault(cut="before_headers"), Fault(status=403)]))
    async with open_test_session(server) as session, trio.open_nursery() as nursery:
        scene = Scene(View(trio.current_time()), server)
        transport = httpx.ASGITransport(server)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", auth=session.auth()
        ) as client:
            nursery.start_soon(work, scene, client, 7)
            await trio.sleep(10.0)
            nursery.cancel_scope.cancel()
    assert (scene.failed, scene.refused) == (1, 1)
    # The server had already accepted the token of the request that failed.
    assert scene.served == server.verdicts["good"] - 1
    # The pause between two requests is 0.05 to 0.15 s.
    assert 60 <= scene.served <= 200
    (line,) = scene.view.events
    assert "! a request failed: RemoteProtocolError: Server disconnected" in line


class SlowToServer(httpx.ASGITransport):
    """A transport that delays the requests of one worker for longer than a token's lifetime."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        if request.url.path == "/2.0/files/0":
            await trio.sleep(2 * LIFETIME)
        return await super().handle_async_request(request)


class TooLong(TokenServer):
    """A server that states a longer lifetime than its tokens have."""

    async def __call__(self, *args: Any) -> None:
        """Serve one ASGI connection."""
        self.faults = FaultPlan(token_then=Fault(fields={"expires_in": "100"}))
        await super().__call__(*args)


@pytest.mark.parametrize(
    ("server", "transport", "refused", "ending"),
    [
        (
            TokenServer,
            SlowToServer,
            "0",
            "this machine was too slow: 1 request took longer than the expired buffer (0.5 s) to "
            "reach the server\nevery promise was kept\n",
        ),
        (TooLong, httpx.ASGITransport, "{expired}", "\na promise was broken\n"),
    ],
    ids=["slow", "broken"],
)
async def test_expired_tokens(
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
    server: type[TokenServer],
    transport: type[httpx.ASGITransport],
    refused: str,
    ending: str,
) -> None:
    """A token that expires in transit shows a slow machine; any other breaks a promise."""
    token_server = server(lifetime=LIFETIME)
    way = transport(token_server)
    async with open_scene(token_server, "http://localhost", 100.0, 2, LIFETIME, way) as scene:
        await trio.sleep(2.1 * LIFETIME)
        # The slow request is on its way for the second time.
        token_server.revoke_all()
        await trio.sleep(2.4 * LIFETIME)
        assert scene.sum_up() is (refused == "0")
    out = capsys.readouterr().out
    assert token_server.verdicts["expired"] > 0
    assert figures(out)["refused"] == refused.format(expired=token_server.verdicts["expired"])
    assert out.endswith(ending)


def test_summary_of_a_good_run(capsys: pytest.CaptureFixture[str]) -> None:
    """If requests were served, and none was refused or failed, every promise was kept."""
    scene = make_scene()
    scene.server.verdicts.update({"good": 10, "revoked": 3})
    assert scene.sum_up() is True
    out = capsys.readouterr().out
    assert figures(out)["requests served"] == "10"
    assert figures(out)["met the revocation"] == "3, each retried with a new token"
    assert out.endswith("every promise was kept\n")


def test_summary_of_a_machine_that_is_too_slow(capsys: pytest.CaptureFixture[str]) -> None:
    """If every request was late, the summary reports a slow machine and no broken promise."""
    assert attrs.evolve(make_scene(), served=0, late=3).sum_up() is True
    assert "this machine was too slow: 3 requests took longer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "verdicts", "row", "figure"),
    [
        ({"failed": 1}, [], "failed", "1"),
        ({"refused": 2}, [], "refused", "2"),
        ({"served": 0}, [], "requests served", "0"),
        ({"expired": 1}, [], "refused", "1"),
        # The server refused a token that it had not revoked.
        ({}, ["unknown", "missing", "malformed"], "refused", "3"),
    ],
)
def test_summary_of_a_bad_run(
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    verdicts: list[Any],
    row: str,
    figure: str,
) -> None:
    """One failure, one refusal, or a run without a served request is a broken promise."""
    scene = attrs.evolve(make_scene(), **changes)
    scene.server.verdicts.update(verdicts)
    assert scene.sum_up() is False
    out = capsys.readouterr().out
    assert figures(out)[row] == figure
    assert out.endswith("a promise was broken\n")
