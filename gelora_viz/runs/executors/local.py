"""Runs as processes on this machine: one per GPU at a time, while the others wait for their turn."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz.errors import InputError
from gelora_viz.runs.causes import describe_exit
from gelora_viz.runs.dispatching import Environment, call_dispatcher, waiting_for
from gelora_viz.runs.executors.command import begin_log, worker_command, worker_environment
from gelora_viz.runs.liveness import identify
from gelora_viz.runs.queue import Job, Queue, Slot, lock_queue, own_queue, read_ticket

if TYPE_CHECKING:
    from gelora_viz.runs.executors.protocol import Handle
    from gelora_viz.runs.spec import RunSpec

# No torch up here: a dispatcher starts workers, and is to stay small.


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
        from gelora_viz._checks import check_path, check_whole

        if self.queue is not None:
            check_path(self.queue, "queue")
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

    def submit(self, run_dir: Path, spec: RunSpec) -> Handle:
        """Start the worker if there is room for it; otherwise have it started when its turn comes."""
        slots, folder = self.slots(), self._folder()
        threads = spec.threads or _threads_each(len(slots) * self.processes)
        environment = Environment.here(trust_remote_code=spec.trust_remote_code)
        job = Job(str(run_dir.absolute()), str(Path.cwd()), environment.digest, self.processes, threads)
        with lock_queue(folder):
            place = Queue.join(folder, slots)
            if (slot := place.find_free(job.environment)) is not None:
                place = replace(place, slots=(slot,))
                process = start_worker(job, place, trust_remote_code=spec.trust_remote_code)
                place.draw(identify(process.pid), run=job.run)
                return _Child(process, place)
            (run_dir / "log.txt").touch()
            dispatcher = call_dispatcher(folder, environment)
            place.draw(dispatcher, job=job)
        return _Waiting(place, environment, dispatcher)


def start_worker(job: Job, place: Queue, *, trust_remote_code: bool) -> subprocess.Popen[bytes]:
    """Start the worker of a run that is next for a slot, which it then takes itself.

    Args:
        job: what to start.
        place: its place in the queue, with this slot alone.
        trust_remote_code: whether it may run Python code that comes with the model.
    """
    run_dir = Path(job.run)
    command = worker_command(run_dir, processes=job.processes, queue=place, trust_remote_code=trust_remote_code)
    with begin_log(run_dir / "log.txt") as log:
        return subprocess.Popen(  # noqa: S603 - our own worker, no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=worker_environment(job.threads), cwd=job.directory if Path(job.directory).is_dir() else None,
        )  # fmt: skip


class _Child:
    """A worker that is a child of this process."""

    def __init__(self, process: subprocess.Popen[bytes], place: Queue) -> None:
        self._process = process
        self.who: Mapping[str, Any] = {**identify(process.pid), "is_worker": True, "ticket": place.ticket}

    def ended(self) -> str | None:
        """As in `Handle`."""
        code = self._process.poll()
        return None if code is None else describe_exit(code)

    def kill(self) -> None:
        """As in `Handle`."""
        self._process.kill()

    def reap(self) -> None:
        """As in `Handle`."""
        self._process.wait()


class _Waiting:
    """A run whose worker is started by a dispatcher."""

    def __init__(self, place: Queue, environment: Environment, dispatcher: Mapping[str, Any]) -> None:
        self._place = place
        self._environment = environment
        self.who: Mapping[str, Any] = waiting_for(dispatcher, place)

    def ended(self) -> str | None:
        """As in `Handle`; calls another dispatcher where the first has been killed."""
        ticket = read_ticket(self._place.file)
        if ticket is not None and ticket.job is not None and not ticket.is_waited_for:
            with lock_queue(self._place.folder):
                call_dispatcher(self._place.folder, self._environment)
        return None

    def kill(self) -> None:
        """As in `Handle`."""
        self._place.leave()

    def reap(self) -> None:
        """As in `Handle`."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. CUDA is not started for it."""
    import torch

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
