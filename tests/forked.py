"""Real Python processes without the start: forks of a process that has imported all modules already.

Importing takes a process about 1 second of CPU, or 7 with torch and its libraries: longer than what most tests then do
in it. `run` and `Popen` are those of `subprocess`, without `preexec_fn`, for commands that begin with THUMBTUNE or
CODE. The process is a child of this one, with its own memory, files, environment and signals. A test of what a process
imports, of its command line, or of variables that libraries read when they are imported (HF_ENDPOINT) starts Python
itself.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CODE", "THUMBTUNE", "Popen", "run"]

THUMBTUNE = (sys.executable, "-m", "thumbtune")
CODE = (sys.executable, "-c")
COMMANDS_WITHOUT_TORCH = frozenset({"channels", "db", "sql", "sync", "watch"})
MOST_BYTES = 1 << 20
PR_SET_CHILD_SUBREAPER = 36


class Popen(subprocess.Popen[Any]):
    """A process that runs `thumbtune`, or Python code."""

    def _execute_child(self, args: Sequence[str], executable: object, preexec_fn: object, *other: Any) -> None:
        _close_fds, _pass_fds, cwd, env, _startupinfo, _creationflags, _shell, *pipes = other[:13]
        assert (*args[:3],) == THUMBTUNE or (*args[:2],) == CODE
        assert preexec_fn is None
        sys.audit("subprocess.Popen", sys.executable, args, cwd, env)
        files = [number if file == -1 else file for number, file in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = _fork([*args[1:]], str(cwd or Path.cwd()), dict(os.environ if env is None else env), files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    args: Sequence[str],
    *,
    input: Any = None,  # noqa: A002 (the names are those of subprocess)
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Like `subprocess.run`."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(args, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _fork(arguments: list[str], cwd: str, environment: Mapping[str, str], files: list[int]) -> int:
    """Ask for a process and return its id, when it is a child of this process."""
    request = json.dumps([arguments, cwd, dict(environment)]).encode()
    assert len(request) < MOST_BYTES
    (server, _), libc = _server(with_torch=COMMANDS_WITHOUT_TORCH.isdisjoint(arguments)), ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        socket.send_fds(server, [request], files)
        return int(server.recv(100))
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@cache
def _server(*, with_torch: bool) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the process to fork. It ends when this process does, which closes the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for side in (ours, theirs):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
    process = subprocess.Popen(
        [sys.executable, "-c", f"from tests.forked import serve; serve({theirs.fileno()}, {with_torch})"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    return ours, process


def serve(descriptor: int, with_torch: bool) -> None:
    """Import, and fork for each request. A fork returns from this function when its command has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for package in ("collector", "store", *(["thumbtune", "trainer"] if with_torch else [])):
        for module in pkgutil.walk_packages([package], f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in ["sentence_transformers"] if with_torch else ["sync", "watch", "channels"]:
        importlib.import_module(name if with_torch else f"thumbtune.commands.{name}")
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=descriptor)
    while True:
        request, files, _, _ = socket.recv_fds(requests, MOST_BYTES, 3)
        if not request:
            return
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            if pid := os.fork():
                os.write(tell, str(pid).encode())
                os._exit(0)
            requests.close()
            os.close(told)
            os.close(tell)
            _become(request, files)
            return
        # Only now is the new process, whose parent has ended, a child of the requesting process.
        os.waitpid(between, 0)
        requests.send(os.read(told, 100))
        for file in (told, tell, *files):
            os.close(file)


def _become(request: bytes, files: list[int]) -> None:
    """Run the command of a request in this process, as Python does."""
    arguments, cwd, environment = json.loads(request)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    buffered = not environment.get("PYTHONUNBUFFERED")
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw = open(number, "wb", -1 if buffered else 0, closefd=False)  # noqa: SIM115
        lines = number == 2 or os.isatty(number)
        stream = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=lines, write_through=not buffered)
        setattr(sys, name, stream)
    option, what, *others = arguments
    sys.argv = [option, *others]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
