"""Plant bugs, one at a time, and measure how soon the tests find each.

    python -m tools.planted [--picture] [NUMBER ...]

There is at least one bug for each promise that a timeline can break, 1 to 20. Timelines from
``timelines()`` search for the bugs of the core, without the explicit examples of the tests. The
tests in `FLEET_TESTS` search for those of the shared token manager, and stop at the first failure.
Each search runs in its own process, for a minute at most. The source files do not change. With
``--picture``, the program shrinks and draws the timeline that found a bug.

Exit code 1 if a bug is not found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import attrs
import pytest

from tests.drawing import draw_each
from tools.exploring.bugs import Bug
from tools.mutation.loading import ROOT, load_from

if TYPE_CHECKING:
    from trio_anon_session.testing.strategies import BrokenPromiseError, Timeline

LIMIT = 60.0
"""Seconds for each bug."""
BATCH = 25
"""Number of timelines for each seed."""


FLEET_TESTS = (
    *("tests/stores/test_shared.py", "tests/stores/test_shared_closing.py"),
    *("tests/stores/test_drops.py", "tests/stores/test_drops_in_outages.py"),
    *("tests/stores/test_leases.py", "tests/stores/test_garbage.py"),
    *("tests/stores/test_degrading.py", "tests/stores/test_shared_failures.py"),
)


class Found(NamedTuple):
    """The result of a search: None and "None" if it found nothing.

    An example is a timeline or a test.
    """

    examples: int
    promise: int | None
    text: str


BUGS = (
    Bug(
        1,
        "a caller gets a token at the moment of its expiry",
        "lifecycle",
        "        if aged >= token.expires_at:\n            return None",
        "        if aged > token.expires_at:\n            return None",
    ),
    Bug(
        1,
        "time is counted from the answer",
        "manager",
        "sent_at = trio.current_time()",
        "sent_at = trio.current_time() + 1.0",
    ),
    Bug(
        2,
        "a caller waits for the refresh of a STALE token",
        "lifecycle",
        "        if aged >= token.expires_at:\n            return None",
        "        if aged >= token.expires_at or (aged >= token.stale_at and self.request):\n"
        "            return None",
    ),
    Bug(
        3,
        "an eager session waits for a caller to meet the token STALE",
        "lifecycle",
        "case TokenState.STALE if is_eager or self.met_stale:",
        "case TokenState.STALE if self.met_stale:",
    ),
    Bug(
        3,
        "a session on request refreshes eagerly",
        "lifecycle",
        'is_eager = self._config.refresh == "eager" and not self.is_idle(at)',
        "is_eager = not self.is_idle(at)",
    ),
    Bug(
        4,
        "an eager session gives up when its token has EXPIRED",
        "lifecycle",
        "case TokenState.EXPIRED if is_eager or is_awaited:",
        "case TokenState.EXPIRED if is_awaited:",
    ),
    Bug(
        4,
        "a cached token does not count as use, and the session parks",
        "lifecycle",
        "        self.asked_at = at.now\n        if aged >= token.stale_at",
        "        if aged >= token.stale_at",
    ),
    Bug(
        5,
        "a caller does not look at the wall clock",
        "lifecycle",
        "        token = self.token\n"
        "        if token is None:\n"
        "            return None\n"
        "        aged = self._aged(at)\n",
        "        token = self.token\n"
        "        if token is None:\n"
        "            return None\n"
        "        aged = at.now\n",
    ),
    Bug(
        5,
        "the wall clock is read after the answer",
        "lifecycle",
        "        # The order matters: from `_token_to_revoke` on, the session refuses the token.\n",
        "        if at.wall is not None:\n            request.wall_offset = at.now - at.wall\n",
    ),
    Bug(
        6,
        "the session accepts an answer that comes too late",
        "lifecycle",
        "        if aged >= answer.expires_at:\n",
        "        if False:\n",
    ),
    Bug(
        7,
        "token requests follow each other without a gap",
        "lifecycle",
        "return self._sent_at + self._config.min_refresh_interval",
        "return self._sent_at",
    ),
    Bug(
        7,
        "a boolean is accepted as a lifetime",
        "token",
        "if not isinstance(value, int | float) or isinstance(value, bool):",
        "if not isinstance(value, int | float):",
    ),
    Bug(
        8,
        "a token request is sent while one is in flight",
        "lifecycle",
        "if self.request is not None or self.is_closed:\n            return math.inf",
        "if self.is_closed:\n            return math.inf",
    ),
    Bug(
        9,
        "a cancelled caller waits for the endpoint",
        "session",
        "                    await condition.wait()",
        "                    with trio.CancelScope(shield=True):\n"
        "                        await condition.wait()",
    ),
    Bug(
        9,
        "the last caller that leaves cancels the token request",
        "lifecycle",
        "        del self._waiting[caller]",
        "        del self._waiting[caller]\n"
        "        if self.request is not None and not self._waiting:\n"
        "            self.request.is_discarded = True",
    ),
    Bug(
        10,
        "a failure does not wake the waiting callers",
        "session",
        "            self._alarm.ring()\n"
        "            self._background.start_soon(self._gate.wake_all)",
        "            self._alarm.ring()\n"
        "            if conclusion.failure is None:\n"
        "                self._background.start_soon(self._gate.wake_all)",
    ),
    Bug(
        11,
        "a failed round ends the background refreshes",
        "lifecycle",
        "case TokenState.STALE if is_eager or self.met_stale:",
        "case TokenState.STALE if (is_eager or self.met_stale) and not self.rounds.is_over:",
    ),
    Bug(
        12,
        "a round has one attempt too few",
        "backoff",
        "if not error.retryable or attempt > config.max_retries:",
        "if not error.retryable or attempt >= config.max_retries:",
    ),
    Bug(
        12,
        "Retry-After is ignored",
        "backoff",
        "pause = error.retry_after\n",
        "pause = None\n",
    ),
    Bug(
        12,
        "all callers get the same exception",
        "rounds",
        "        ago = now - self._failed_at\n",
        "        error.retry_after, error.attempts = retry_after, attempts\n        raise error\n",
    ),
    Bug(
        13,
        "the session retries with rejected credentials",
        "backoff",
        "if not error.retryable or attempt > config.max_retries:",
        "if attempt > config.max_retries:",
    ),
    Bug(
        14,
        "a foreign exception ends the session",
        "session",
        "    except Exception as error:\n        return error\n",
        "    except OSError as error:\n        return error\n",
    ),
    Bug(
        15,
        "a strategy's pause has no limit",
        "backoff",
        "return float(min(pause, config.max_retry_interval))",
        "return float(pause)",
    ),
    Bug(
        16,
        "a late report drops the token",
        "session",
        "if reported is not None and reported.access_token != access_token:",
        "if False:",
    ),
    Bug(
        17,
        "the token of a request sent before invalidate() is accepted",
        "lifecycle",
        "        self._forget_token()\n"
        "        if self.request is not None:\n"
        "            self.request.is_discarded = True",
        "        self._forget_token()",
    ),
    Bug(
        18,
        "a failed revocation counts as successful",
        "revocation",
        "            raise self.error.copy_with() from self._cause\n",
        "            return\n",
    ),
    Bug(
        18,
        "a revoked token is used again if the server returns it",
        "lifecycle",
        "if name in self._revoked:",
        "if False:",
    ),
    Bug(
        19,
        "the end of the block leaves callers waiting",
        "session",
        "        self._shut()\n"
        "        # `wake_all` shields itself, and is short: no task holds its locks during I/O.\n"
        "        await self._gate.wake_all()",
        "        self._shut()\n        await trio.lowlevel.checkpoint()",
    ),
    Bug(
        19,
        "the end of the block waits for the token request",
        "session",
        "        return await manager.get_tokens_client_credentials_grant(options)\n",
        "        with trio.CancelScope(shield=True):\n"
        "            return await manager.get_tokens_client_credentials_grant(options)\n",
    ),
    Bug(
        20,
        "the body's exception is swallowed",
        "session",
        "        raise_at_exit(exc, crash)\n",
        "        raise_at_exit(exc, crash)\n        return True\n",
    ),
    Bug(
        20,
        "a crash propagates in a group",
        "nursery",
        "        return worst_of(*group.exceptions)",
        "        return group",
    ),
    Bug(
        1,
        "a token counts as new when it is read from the store",
        "stores.claimant",
        "sent_at = asked_at - max(0.0, stored.age)",
        "sent_at = asked_at",
    ),
    Bug(
        5,
        "a known token does not age while the machine sleeps",
        "stores.known",
        "slept = min(known.slept(at), max(0.0, known.token.sent_at - sent_at))",
        "slept = 0.0",
    ),
    Bug(
        7,
        "a process that waited for others ignores the gap",
        "stores.claimant",
        "blocked_for = max(leased_for, pause, self.gap_ends_at - at.now)",
        "blocked_for = max(leased_for, pause)",
    ),
    Bug(
        7,
        "a store that loses everything is asked again and again",
        "stores.questions",
        "        if question.was_overtaken:\n",
        "        if question.was_overtaken and is_kept:\n",
    ),
    Bug(
        8,
        "a lease is not renewed during a long token request",
        "stores.attempts",
        "            nursery.start_soon(self._link.keep_renewing, fence)\n",
        "",
    ),
    Bug(
        8,
        "a restarted store gets no time to come back",
        "stores.questions",
        "            if not self._claimant.can_wait_for_store("
        "failed_at, self._access.took, moment()):\n",
        "            if True:\n",
    ),
    Bug(
        9,
        "a cancelled process keeps the lease",
        "stores.attempts",
        "            with trio.move_on_after(RELEASE_TIMEOUT, shield=True):\n"
        "                await self._link.release(fence)\n"
        "            raise",
        "            raise",
    ),
    Bug(
        11,
        "nonsense from a store reaches the callers",
        "stores.link",
        "if not is_look(seen):",
        "if seen is None:",
    ),
    Bug(
        12,
        "only the process that met the failure pauses",
        "stores.claimant",
        "if failure.fence >= awaited or pause > POLL_INTERVAL:",
        "pause = 0.0\n        if failure.fence >= awaited:",
    ),
    Bug(
        13,
        "a rejection is published to the other processes",
        "stores.claimant",
        "if not (isinstance(outcome, TokenRequestError) and outcome.retryable):",
        "if not isinstance(outcome, TokenRequestError):",
    ),
    Bug(
        17,
        "sessions with the same manager are not notified of a drop",
        "stores.shared",
        "        for listener in tuple(self._listeners.values()):\n",
        "        for listener in tuple(self._listeners.values())[:1]:\n",
    ),
    Bug(
        17,
        "a drop that the store did not receive is forgotten",
        "stores.link",
        "= trio.current_time() + POLL_INTERVAL\n                else:\n",
        "= 0.0\n                finally:\n",
    ),
    Bug(
        18,
        "other processes keep a revoked token",
        "stores.shared",
        "        self._link.drop(mark_of(hidden.text))\n        await self._report_drops()\n",
        "",
    ),
    Bug(
        20,
        "a cancellation leaves the manager in a group",
        "stores.attempts",
        "            with Unwrapped():\n                outcome = await",
        "            if True:\n                outcome = await",
    ),
)


def search(bug: Bug, first_seed: int, *, small: bool) -> tuple[int, BrokenPromiseError | None]:
    """Return the number of timelines that ran, and the broken promise that one of them found."""
    logging.disable(logging.CRITICAL)
    # Import these only after the bug has been planted.
    from trio_anon_session.testing.strategies import BrokenPromiseError, run_timeline, timelines

    examples = 0
    was_found = False

    def run(timeline: Timeline) -> None:
        nonlocal examples, was_found
        # Run each timeline in two orders of tasks, because drawing takes longer than running.
        for order in (timeline.seed, timeline.seed + 1):
            examples += not was_found
            try:
                run_timeline(attrs.evolve(timeline, seed=order))
            except BrokenPromiseError:
                was_found = True
                raise

    began = time.monotonic()
    for number in itertools.count(first_seed):
        try:
            draw_each(timelines(), run, seed=number, count=BATCH, shrink=small)
        except BrokenPromiseError as broken:
            return examples, broken
        if time.monotonic() - began > LIMIT:
            return examples, None
    raise AssertionError


class _Count:
    """A pytest plugin that counts tests, and stores the name of the one that fails."""

    def __init__(self) -> None:
        self.count = 0
        self.failed: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.when == "call"
        if report.failed:
            self.failed = report.nodeid


def search_with_tests(bug: Bug) -> Found:
    """Run the tests until one fails."""
    seen = _Count()
    words = ["-o", "addopts=", "-x", "-m", "not slow"]
    words += ["-p", "no:cacheprovider", "-p", "no:terminal"]
    # Hypothesis has been imported for the timelines.
    words += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest.main([*words, *FLEET_TESTS], plugins=[seen])
    return Found(seen.count, None if seen.failed is None else bug.promise, str(seen.failed))


def search_here(number: int, first_seed: int = 0, *, small: bool = False) -> Found:
    """Search for a bug in a new process."""
    words = [sys.executable, "-m", "tools.planted", "--here", str(number)]
    words += ["--first-seed", str(first_seed), *["--picture"] * small]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return Found(*json.loads(ended.stdout))


def try_one(number: int, first_seed: int, *, picture: bool) -> bool:
    """Search for a bug, print a line, and return whether it was found in time."""
    bug = BUGS[number - 1]
    began = time.monotonic()
    found = search_here(number, first_seed, small=picture)
    seconds = time.monotonic() - began
    verdict = "nothing" if found.promise is None else found.promise
    start = f"{number:>3}  {bug.promise:>7}  {bug.what:<60}"
    print(f"{start}  {verdict:>8}  {found.examples:>8}  {seconds:>5.1f} s", flush=True)
    if picture:
        print(f"\n{found.text}\n", flush=True)
    return found.promise is not None and (picture or seconds <= LIMIT)


def main() -> int:
    """Search for the bugs on the command line, or for all."""
    parser = argparse.ArgumentParser(prog="python -m tools.planted")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="default: all bugs")
    parser.add_argument("--picture", action="store_true", help="shrink and draw the timeline")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = options.numbers or range(1, len(BUGS) + 1)
    if options.here:
        (number,) = numbers
        bug = BUGS[number - 1]
        load_from(bug.module, bug.source())
        if bug.module.startswith("stores."):
            found = search_with_tests(bug)
        else:
            examples, broken = search(bug, options.first_seed, small=options.picture)
            promise = None if broken is None else broken.promise
            found = Found(examples, promise, str(broken))
        json.dump(found, sys.stdout)
        return 0
    print(f"{'':>3}  {'promise':>7}  {'bug':<60}  {'broke':>8}  {'examples':>8}  {'time':>7}")
    results = [try_one(number, options.first_seed, picture=options.picture) for number in numbers]
    print(f"{sum(results)} of {len(results)} found within {LIMIT:g} s each")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
