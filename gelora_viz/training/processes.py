"""Several processes that train one run together, on the processors or the GPUs of one machine.

The worker is the first of them, and the only one to write into the folder. It starts the others as torchrun would,
with the same variables in their environment, so that Trainer and accelerate find them, and they end when it does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType

import psutil
import torch
from torch import distributed

from gelora_viz.errors import RunError, StudyError, first_line
from gelora_viz.runs import OUT_OF_MEMORY, RunFolder, is_lost_connection

_HOST = "127.0.0.1"
_PATIENCE = 15.0
"""Seconds within which the first process should notice that another one has died."""
_LAST_WORDS = 5.0
"""Seconds that a process may take to end once it should."""
JOINING = 120.0
"""Seconds in which all processes of a run must be there. They import torch and transformers first: 10 s on two cores,
and a minute for many at once from the shared disk of a cluster."""
_AGENT_STORE, _RESTARTS = "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"


class Companions:
    """The other processes of a run, from the second on; none for a run with a single process.

    Args:
        folder: the run's folder.
        processes: how many there are to be, with this one.
        trust_remote_code: whether they may run Python code that comes with the model.
    """

    def __init__(self, folder: RunFolder, processes: int, *, trust_remote_code: bool = False) -> None:
        self._folder = folder
        self._n = processes
        self._options = ["--with-parent", *(["--trust-remote-code"] if trust_remote_code else [])]
        self._others: list[subprocess.Popen[bytes]] = []
        self._is_over = threading.Event()
        self._death: str | None = None

    def __enter__(self) -> None:
        if self._n == 1:
            join(self._find_death)  # where torchrun or Slurm has started the others
            return
        self._store, port = _open_store(_HOST, 0)
        loopback = _loopback_interface()
        common = {
            "MASTER_ADDR": _HOST,
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
            "WORLD_SIZE": str(self._n),
            "LOCAL_WORLD_SIZE": str(self._n),
            _AGENT_STORE: "True",
            _RESTARTS: "0",
        }
        os.environ |= {**common, "RANK": "0", "LOCAL_RANK": "0"}
        command = [sys.executable, "-m", "gelora_viz.training.worker", str(self._folder.path), *self._options]
        for rank in range(1, self._n):
            environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            other = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)  # noqa: S603 - our own worker
            self._others.append(other)
        try:
            join(self._find_death)
        except BaseException:
            self._end_others(at_once=True)
            raise
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._is_over.set()
        if kind is None and distributed.is_initialized():
            distributed.destroy_process_group()
        deadline = time.monotonic() + _PATIENCE
        if error is None:
            for other in self._others:
                _wait(other, deadline)
        elif is_lost_connection(error):
            self._death = self._find_death(patience=2.0)
        self._end_others()

    def _end_others(self, *, at_once: bool = False) -> None:
        """End what is left of them: by their standard input, and by force those that do not answer, or are halted."""
        deadline = time.monotonic() + (0.0 if at_once else _LAST_WORDS)
        for other in self._others:
            if other.stdin is not None:
                other.stdin.close()
        for other in self._others:
            _wait(other, deadline)
            if other.poll() is None:
                other.kill()

    def cause(self) -> str | None:
        """Why the process that this one lost contact with ended; None if no contact was lost."""
        return self._death

    def _find_death(self, patience: float = 0.0) -> str | None:
        """Which process died and how: a killed one if there is any, as the others end because of it."""
        deadline = time.monotonic() + patience
        while True:
            codes = {number: other.poll() for number, other in enumerate(self._others, start=2)}
            died = {number: code for number, code in codes.items() if code}
            if died or time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        if not died:
            return None
        number = min(died, key=lambda each: (died[each] > 0, died[each] != OUT_OF_MEMORY))
        return f"process {number} of {self._n} {_describe(died[number])}; see {self._folder.path / 'log.txt'}"

    def _watch(self) -> None:
        """End the run if a companion has died and this process still waits for it, as it may on GPUs."""
        while not self._is_over.wait(0.5):
            if (death := self._find_death()) is not None:
                if not self._is_over.wait(_PATIENCE):
                    with suppress(StudyError):
                        self._folder.write_status("failed", death)
                    self._end_others(at_once=True)
                    os._exit(1)
                return


def join(find_death: Callable[[], str | None] = lambda: None) -> None:
    """Wait until all processes of the run are there; at once, where there is only one.

    torch itself waits for half an hour, deaf to signals, and does not say for whom.

    Args:
        find_death: what has become of one that has died, if the caller has started the others.

    Raises:
        RunError: after `JOINING` seconds, or when one has died; it says who is missing.
    """
    n, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if n == 1:
        return
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if os.environ.get(_AGENT_STORE) != "True":  # nobody has opened the store that all meet at
        if rank == 0:
            _kept.append(_open_store(host, port)[0])
        os.environ |= {_AGENT_STORE: "True", _RESTARTS: os.environ.get(_RESTARTS, "0")}
    try:
        store = distributed.TCPStore(host, port, timeout=timedelta(seconds=JOINING))  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise RunError(
            f"process {rank + 1} of {n} reaches nobody at {host}:{port} ({first_line(error)}); see whether the first "
            "process runs, and what MASTER_ADDR and MASTER_PORT name"
        ) from error
    attempt = f"gelora_viz/{os.environ[_RESTARTS]}"
    store.set(f"{attempt}/{rank}", "here")
    if rank > 0:
        store.wait([f"{attempt}/all"], timedelta(seconds=JOINING))
        return
    deadline = time.monotonic() + JOINING
    while missing := [each for each in range(n) if not store.check([f"{attempt}/{each}"])]:
        if (death := find_death()) is not None:
            raise RunError(death)
        if time.monotonic() > deadline:
            who = ", ".join(str(each + 1) for each in missing)
            raise RunError(
                f"process {who} of {n} did not join within {JOINING:g} s; see what the log says of it, or ask for "
                "fewer processes"
            )
        time.sleep(0.05)
    store.set(f"{attempt}/all", "here")


_kept: list[distributed.TCPStore] = []  # type: ignore[name-defined]
"""Stores of this process, which close when nothing refers to them."""


def _open_store(host: str, port: int) -> tuple[distributed.TCPStore, int]:  # type: ignore[name-defined]
    """A store that listens to one address alone, and its port; 0 takes a free one.

    A store that binds its own port listens on every interface, without a password. The first process joins the store
    like every other.
    """
    listener = socket.create_server((host, port))
    port = listener.getsockname()[1]
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    return store, port


def agree(opinion: bool, device: torch.device) -> bool:
    """Whether any process of the run says yes; all must call it together, and all get the same answer."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return opinion
    vote = torch.tensor(int(opinion), device=device)
    distributed.all_reduce(vote, op=distributed.ReduceOp.MAX)
    return bool(vote.item())


def _loopback_interface() -> str:
    """The network interface of this machine alone, such as "lo"."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == _HOST for address in addresses):
            return name
    raise RunError(f"this machine has no network interface with the address {_HOST}; train with processes=1")


def _wait(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return


def _describe(code: int) -> str:
    if code == OUT_OF_MEMORY:
        return "ran out of memory"
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
