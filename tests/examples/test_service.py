"""The service, run as a command, and its own tests, each with a planted bug."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from . import EXAMPLES, LIMIT, run_example

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

SERVICE = EXAMPLES / "service"

BUGS = {
    "test_a_day_of_hour_long_tokens": (
        "        auth=session.auth(),\n",
        '        headers={"Authorization": f"Bearer {session.get_access_token_nowait()}"},\n',
    ),
    "test_a_file_that_changes": ("etags[file_id] = etag\n", "pass\n"),
    "test_an_outage_of_two_hours": (
        "except (httpx.HTTPError, trio.TooSlowError, ValueError)",
        "except (httpx.HTTPStatusError, trio.TooSlowError, ValueError)",
    ),
    "test_a_token_that_is_revoked": (
        "        auth=session.auth(),\n",
        "        event_hooks={'request': [partial(_add_token, session)]},\n",
    ),
    "test_a_lookup_that_hangs": ("with trio.fail_after(LIMIT):", "if True:"),
    "test_the_end_while_everything_hangs": (
        "        nursery.cancel_scope.deadline = trio.current_time() + GRACE\n",
        "",
    ),
    "test_probes": ("return has_token or seen.consecutive_failures == 0", "return True"),
}
"""A bug for each of the example's tests: a text of the service, and its replacement."""

ADD_TOKEN = """

async def _add_token(session: AnonymousSession, request: httpx.Request) -> None:
    request.headers["Authorization"] = f"Bearer {await session.get_access_token()}"
"""


@pytest.mark.parametrize("test", BUGS)
def test_each_test_finds_its_bug(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str
) -> None:
    """Each test of the example fails if its bug is planted in the service."""
    # The tests of the example itself may have imported these modules before.
    for name in ("service", "test_service"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    shutil.copy(SERVICE / "test_service.py", pytester.path)
    source = (SERVICE / "service.py").read_text()
    old, new = BUGS[test]
    assert source.count(old) == 1
    buggy = source.replace(old, new)
    buggy = buggy.replace("\n\ndef open_client", f"{ADD_TOKEN}\n\ndef open_client")
    settings = "[pytest]\ntrio_mode = true\n"
    pytester.makefile(".ini", pytest=settings)
    (pytester.path / "service.py").write_text(buggy)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", test)
    result.assert_outcomes(failed=1, deselected=len(BUGS) - 1)


def test_every_test_has_a_bug() -> None:
    """Each test of the example has a planted bug."""
    source = (SERVICE / "test_service.py").read_text()
    assert source.count("async def test_") == len(BUGS)


@contextmanager
def running(*args: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the service until the block is left, and yield it with its health port."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", SERVICE / "service.py", *args],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert "health on port" in first
            yield process, int(first.split()[-1])
        finally:
            process.kill()


@pytest.mark.usefixtures("served_environment")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service(number: signal.Signals) -> None:
    """The service answers probes, and ends with 0 and a last line on a signal."""
    with running("11", "22", "--every", "0.1") as (process, port):
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(trust_env=False, base_url=url, timeout=LIMIT) as client:
            for path in ("/live", "/ready"):
                answer = client.get(path)
                assert answer.status_code == 200
                assert json.loads(answer.text)["state"] == "fresh"
        process.send_signal(number)
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert said.splitlines()[-1].startswith("INFO service: stopped; ")
    assert said.endswith(", 0 failed\n")


@pytest.mark.usefixtures("served_environment")
def test_wrong_credentials_end_the_service() -> None:
    """With wrong credentials, the service ends with an error at its start."""
    ended = run_example("service/service.py", 11, environ={"BOX_CLIENT_SECRET": "wrong"})
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("service.py: the token endpoint rejected the client 'test-client'")
    assert "CRITICAL service: retrying does not help" in ended.stderr
