"""``completion``: the completion scripts for shells."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from .running import SECRET, assert_failed, invoke, run_shell

FOLDER = Path(sys.executable).parent


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    """``completion`` prints a script for each supported shell."""
    result = invoke("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "trio-anon-session" in result.stdout
    assert "_TRIO_ANON_SESSION_COMPLETE" in result.stdout


def test_another_shell() -> None:
    """For a shell that click does not support, the exit code is 2."""
    assert_failed(invoke("completion", "tcsh"), 2, "bash")


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("trio-anon-session", path=FOLDER) is None,
    reason="the command's script is not installed",
)
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["trio-anon-session", "re"], ["revoke"]),
        (["trio-anon-session", "token", "--client-s"], ["--client-secret-file"]),
        (
            ["trio-anon-session", "token", "--auth-method", "client_secret_"],
            ["client_secret_basic", "client_secret_jwt", "client_secret_post"],
        ),
        (["trio-anon-session", "watch", "--refresh", ""], ["eager", "on_request"]),
        (["trio-anon-session", "completion", ""], ["bash", "fish", "zsh"]),
    ],
)
def test_bash_completes(words: list[str], completed: list[str]) -> None:
    """In bash, the script completes subcommands, flags, and the values of flags."""
    quoted = " ".join(f"'{word}'" for word in words)
    ended = run_shell(
        f"""
        PATH="{FOLDER}:$PATH"
        eval "$(trio-anon-session completion bash)"
        COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}
        function_of=$(complete -p trio-anon-session | grep -o -- '-F [^ ]*' | cut -c4-)
        "$function_of" trio-anon-session
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(ended.stdout.split()) == completed


def test_an_argument_too_many() -> None:
    """For an argument too many, the exit code is 2, and the message does not repeat it."""
    result = invoke("completion", "bash", SECRET)
    assert_failed(result, 2)
