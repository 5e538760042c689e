"""Python processes that begin with torch, transformers and PEFT imported: forks of a process that imported them once.

A worker or a kernel spends about seven seconds of a core on imports before its first line, and these tests start
dozens. Where such a start is not what is tested, `WarmPopen` stands in for `subprocess.Popen`: `python -m MODULE` is
then run by a fork of a server that has the libraries. To whoever launches it, it is a child like any other, with its
arguments, environment, working folder and streams. Linux only; elsewhere processes start as they do for users.

A process is forked while its server has a single thread, hence a server for each process that launches others.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import inspect
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

IMPORTS = (
    "torch.distributed", "torch.distributed.tensor", "peft", "transformers.trainer", "transformers.models.auto",
    "gelora_viz.activations", "gelora_viz.adapters", "gelora_viz.comparison", "gelora_viz.dimension",
    "gelora_viz.plots", "gelora_viz.ranks", "gelora_viz.sources", "gelora_viz.spectra", "gelora_viz.study",
    "gelora_viz.training.processes", "gelora_viz.training.trainer", "ipykernel.kernelapp", "jupyter_client.launcher",
)  # fmt: skip
LAUNCHING = ("ipykernel_launcher", "jupyterlab", "gelora_viz.cli", "gelora_viz.runs.dispatcher")
"""Modules whose processes launch others in turn."""
PR_SET_CHILD_SUBREAPER = 36
MAX_REQUEST = 1 << 20


class WarmPopen(subprocess.Popen):
    """`subprocess.Popen`, but that `python -m MODULE` is forked from a process that has imported the libraries."""

    is_on = False
    """On unless a test is about the start of a process itself."""

    def _execute_child(self, *given: Any) -> None:
        start = super()._execute_child
        arguments = inspect.signature(start).bind(*given).arguments
        command = _module_command(arguments["args"])
        if not self.is_on or command is None or arguments["executable"] or arguments["pass_fds"]:
            start(*given)
            return
        files = [arguments[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        request = {
            "command": command,
            "cwd": str(Path(arguments["cwd"] or ".").absolute()),
            "environment": dict(os.environ if arguments["env"] is None else arguments["env"]),
            "new_session": arguments["start_new_session"],
        }
        self.pid = _own_server().fork([number if file == -1 else file for number, file in enumerate(files)], request)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(arguments[name] for name in pipes))


class _Server:
    """This process's end of the connection to its server."""

    def __init__(self, connection: socket.socket) -> None:
        self.owner = os.getpid()
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def start(cls) -> _Server:
        """A server in a new Python, which imports the libraries; returns at once."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, __file__, str(theirs.fileno())]
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        theirs.close()
        return cls(ours)

    @classmethod
    def forked(cls) -> _Server:
        """A server that is a fork of this process, which has the libraries and a single thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        return cls(ours)

    def fork(self, files: list[int], request: dict[str, Any]) -> int:
        """The process number of a new child of this process, which does what is asked for."""
        with self._lock:
            _set_subreaper(True)  # the server's fork loses its own parent at once, and becomes this process's child
            try:
                socket.send_fds(self._connection, [json.dumps(request).encode()], files)
                answer = self._connection.recv(MAX_REQUEST)
            finally:
                _set_subreaper(False)
        if not answer:
            raise OSError("the process that forks workers for the tests has died")
        return int(answer)


_server: _Server | None = None


def _own_server() -> _Server:
    global _server
    if _server is None or _server.owner != os.getpid():
        _server = _Server.start()
    return _server


def _module_command(command: Any) -> list[str] | None:
    """`[MODULE, argument, ...]` of `python -m MODULE argument ...`; None for anything else."""
    words = [os.fspath(word) for word in command] if isinstance(command, list | tuple) else []
    if not words or words[0] != sys.executable:
        return None
    rest = [word for word in words[1:3] if not word.startswith("-X")] + words[3:]
    return rest[1:] if rest[:1] == ["-m"] and len(rest) > 1 else None


def _set_subreaper(is_on: bool) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(is_on), 0, 0, 0)


def _serve(connection: socket.socket) -> NoReturn:
    """Fork a process for every request, until whoever may ask has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the processes, not for their server
    while True:
        message, files, *_ = socket.recv_fds(connection, MAX_REQUEST, 3)
        if not message:
            os._exit(0)
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                connection.close()
                os.close(told)
                os.close(tell)
                _become(json.loads(message), files)
            os.write(tell, str(child).encode())
            os._exit(0)
        for file in (*files, tell):
            os.close(file)
        os.waitpid(between, 0)
        connection.send(os.read(told, 32))  # now that the child has its new parent
        os.close(told)


def _become(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Be the process that was asked for, to its end."""
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python does
    if request["new_session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    sys.stderr.reconfigure(line_buffering=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *arguments = request["command"]
    _set_threads()
    if module in LAUNCHING:
        global _server
        _server = _Server.forked()
    sys.argv = [module, *arguments]
    folders = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    tempfile.tempdir = None  # which TMPDIR may name anew
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - as Python ends
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _set_threads() -> None:
    import torch

    named = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(named) if re.fullmatch("[1-9][0-9]*", named) else len(os.sched_getaffinity(0)))


def warm_up() -> None:
    """Import the libraries, and let those that launch processes do it as the tests do."""
    for name in IMPORTS:
        importlib.import_module(name)
    launch_warmly()
    WarmPopen.is_on = True


def launch_warmly() -> None:
    """Let this process's runs and kernels be forks of a server."""
    import jupyter_client.launcher

    from gelora_viz.runs import dispatching
    from gelora_viz.runs.executors import local

    local.subprocess = dispatching.subprocess = _WarmSubprocess()
    jupyter_client.launcher.Popen = WarmPopen


class _WarmSubprocess:
    """The module `subprocess`, but for Popen."""

    Popen = WarmPopen

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


if __name__ == "__main__":
    sys.modules["warm_processes"] = sys.modules["__main__"]
    warm_up()
    _serve(socket.socket(fileno=int(sys.argv[1])))
