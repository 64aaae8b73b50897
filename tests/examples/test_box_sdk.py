"""The example of Box's SDK, run as a command."""

from __future__ import annotations

import pytest

from . import run_example

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("served_environment")]


def test_files_are_looked_up_with_the_sdk() -> None:
    """The program prints what the SDK returns about each file."""
    ended = run_example("box_sdk/look_up.py", 11, 22)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "file 11\nfile 22\n"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"BOX_CLIENT_SECRET": "wrong"}, "the token endpoint rejected the client 'test-client'"),
        ({"BOX_CLIENT_ID": ""}, "client_id must be set: export BOX_CLIENT_ID with"),
    ],
)
def test_wrong_settings_of_the_example(environ: dict[str, str], said: str) -> None:
    """The program ends with one sentence about wrong or missing credentials."""
    ended = run_example("box_sdk/look_up.py", 11, environ=environ)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"look_up.py: {said}")
    assert "Traceback" not in ended.stderr
