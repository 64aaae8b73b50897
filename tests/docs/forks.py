"""The command for the shell blocks of the pages: each call is a fork of one process.

Most of the CPU time of a call goes into its imports, and that process has imported everything.
The shell finds a small program under the command's name. It passes its arguments, variables,
directory and files to the process, and ends with the exit code of the fork. tests/command runs the
command as it is installed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import marshal
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from trio_anon_session.__main__ import main

ROOT = Path(__file__).parents[2]
_CLIENT = """
import marshal, os, signal, socket, sys

with socket.socket(socket.AF_UNIX) as connection:
    numbers = {signal.SIGINT, signal.SIGTERM}
    # A signal that comes early must not be lost, and must not be sent before the call.
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    connection.connect(sys.argv[1])
    call = marshal.dumps((sys.argv[2:], os.getcwd(), dict(os.environ)))
    socket.send_fds(connection, [len(call).to_bytes(4)], [0, 1, 2])
    connection.sendall(call)
    for number in numbers:
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    answer = connection.recv(1)
sys.exit(answer[0] if answer else "the fork has ended without an exit code")
"""


@functools.cache
def folder_of_command() -> Path:
    """Start the process that forks, and return a directory with the command for ``PATH``."""
    folder = Path(tempfile.mkdtemp())
    client, command = folder / "client.py", folder / "trio-anon-session"
    client.write_text(_CLIENT)
    # Without the site module, Python starts in a fraction of the time.
    words = shlex.join([sys.executable, "-I", "-S", str(client), str(folder / "socket")])
    command.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    command.chmod(0o700)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    atexit.register(process.communicate)
    return folder


def serve(folder: Path) -> None:
    """Fork for each connection until standard input ends, and delete the directory then."""
    for module in ("_doctor", "_scene", "_serve", "_store", "_tokens", "_watch"):
        importlib.import_module(f"trio_anon_session._cli.{module}")
    importlib.import_module("trio_anon_session.stores")
    # The garbage collectors of the forks skip these objects, so the forks share their memory.
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        print("ready", flush=True)
        stdin = sys.stdin.fileno()
        while stdin not in select.select([listener.fileno(), stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    run_call(connection)
                    return
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0] != 0:
                    pass
    shutil.rmtree(folder)


def run_call(connection: socket.socket) -> None:
    """Run the command in a fork, pass signals on to it, and send its exit code."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    call = connection.recv(int.from_bytes(size), socket.MSG_WAITALL)
    arguments, directory, variables = marshal.loads(call)
    # The fork's end of the pipe closes when the fork has ended.
    ended, held = os.pipe()
    fork = os.fork()
    if fork == 0:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv[1:] = arguments
        main()
        return
    for file in (*files, held):
        os.close(file)
    while ended not in select.select([connection.fileno(), ended], [], [])[0]:
        # A client that was killed sends nothing, so kill the fork too.
        received = connection.recv(1)
        os.kill(fork, received[0] if received else signal.SIGKILL)
    _, status = os.waitpid(fork, 0)
    connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    # A normal exit of an interpreter with so many modules would take as long as a call.
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
