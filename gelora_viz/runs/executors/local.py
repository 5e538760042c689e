"""Runs as processes on this machine: one per GPU at a time, while the others wait for their turn."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gelora_viz._checks import check_whole
from gelora_viz.errors import InputError
from gelora_viz.runs.executors.command import worker_command, worker_environment
from gelora_viz.runs.liveness import identify
from gelora_viz.runs.queue import Queue, Slot, own_queue
from gelora_viz.runs.spec import RunSpec


@dataclass(frozen=True)
class LocalExecutor:
    """Starts runs on this machine.

    Every run has a slot while it trains, and all runs of this user on this machine wait for the same slots, whichever
    kernel or terminal launched them, and go on when it is gone. Slots are the GPUs that CUDA_VISIBLE_DEVICES leaves
    visible; each run sees only its own. Without a GPU there is one slot, or `at_once` of them, among which the CPU's
    threads are divided.

    Attributes:
        at_once: runs at the same time; None means one per GPU, or one without GPUs. If there are more, they share
            GPUs.
        processes: number of processes that train one run together, each on its own GPU if there are any. `batch_size`
            still counts all texts of an optimizer step.
        queue: folder of the queue, on a disk of this machine; runs wait for those launched with the same folder.
            None means GELORA_VIZ_QUEUE, or a folder among the temporary files.

    Example:
        >>> launch(spec, executor=LocalExecutor(at_once=2))  # doctest: +SKIP
        >>> launch(spec, executor="local", at_once=2)  # the same  # doctest: +SKIP
    """

    at_once: int | None = None
    processes: int = 1
    queue: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_whole(self.processes, "processes")
        if self.at_once is not None:
            check_whole(self.at_once, "at_once")

    def slots(self) -> tuple[Slot, ...]:
        """The slots for runs on this machine.

        Raises:
            InputError: if there are GPUs, but fewer than processes.
        """
        gpus = visible_gpus()
        if not gpus:
            return tuple(Slot((f"cpu-{number}",)) for number in range(self.at_once or 1))
        groups = [gpus[start : start + self.processes] for start in range(0, len(gpus), self.processes)]
        groups = [group for group in groups if len(group) == self.processes]
        if not groups:
            raise InputError(
                f"processes is {self.processes}, and {len(gpus)} GPUs are visible; give at most one process per GPU"
            )
        return tuple(
            Slot(tuple(f"gpu-{gpu}-{number // len(groups)}" for gpu in group), ",".join(group))
            for number in range(self.at_once or len(groups))
            for group in [groups[number % len(groups)]]
        )

    def prepare(self) -> None:
        """Find the queue and the slots."""
        self._folder()
        self.slots()

    def _folder(self) -> Path:
        return own_queue() if self.queue is None else Path(self.queue).absolute()

    def submit(self, run_dir: Path, spec: RunSpec) -> _LocalHandle:
        """Start the worker, which waits for its turn without further help."""
        slots = self.slots()
        queue = Queue.join(self._folder(), slots)
        threads = spec.threads or _threads_each(len(slots) * self.processes)
        with (run_dir / "log.txt").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own worker, no shell
                worker_command(
                    run_dir, processes=self.processes, queue=queue, trust_remote_code=spec.trust_remote_code
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=worker_environment(threads),
            )  # fmt: skip
        handle = _LocalHandle(process)
        queue.draw(process.pid)
        return handle


class _LocalHandle:
    """A worker that is a child of this process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.who: Mapping[str, Any] = {**identify(process.pid), "is_worker": True}

    def ended(self) -> str | None:
        """As in `Handle`."""
        code = self._process.poll()
        return None if code is None else f"status {code}"

    def kill(self) -> None:
        """As in `Handle`."""
        self._process.kill()

    def reap(self) -> None:
        """As in `Handle`."""
        self._process.wait()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. CUDA is not started for it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    n_gpus = torch.cuda.device_count()
    return [name.strip() for name in named.split(",")][:n_gpus] if named else [str(gpu) for gpu in range(n_gpus)]


def _threads_each(n_processes: int) -> int | None:
    """Threads for each of several simultaneous processes; None for a single one, which leaves the choice to torch."""
    if n_processes == 1:
        return None
    n_threads = os.environ.get("OMP_NUM_THREADS", "")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (int(n_threads) if n_threads.isdigit() else available) // n_processes)
