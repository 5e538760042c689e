"""The worker's command line and environment, the same for every executor."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gelora_viz.runs.queue import Queue


def worker_command(
    run_dir: Path,
    *,
    processes: int = 1,
    queue: Queue | None = None,
    with_parent: bool = False,
    trust_remote_code: bool = False,
) -> list[str]:
    """What starts the worker.

    Args:
        run_dir: the run's folder.
        processes: that train this run together.
        queue: its place in this machine's queue.
        trust_remote_code: run Python code that comes with the model.
        with_parent: end the worker when its standard input ends, and so with the process that holds the other end.
    """
    folder = str(run_dir.absolute())  # which begins with no dash, whatever its name is
    command = [sys.executable, "-m", "gelora_viz.training.worker", folder, "--processes", str(processes)]
    if queue is not None:
        command += ["--queue", queue.to_json()]
    options = {"--with-parent": with_parent, "--trust-remote-code": trust_remote_code}
    return command + [option for option, is_on in options.items() if is_on]


def worker_environment(threads: int | None) -> dict[str, str]:
    """The worker's environment.

    Idle OpenMP threads sleep instead of spinning. Measured on two cores, 25 steps of MiniLM, one run each: two
    trainings at once take 10 s instead of 57 s, whose spinning threads keep each other's cores busy; a training alone
    takes 6.5 s instead of 5.5 s. Set OMP_WAIT_POLICY=ACTIVE yourself for a machine that runs nothing else.

    Args:
        threads: threads of each process; None leaves it to what is set already, or to what the machine offers.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
