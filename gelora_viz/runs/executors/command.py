"""The worker's command line and environment, the same for every executor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from gelora_viz.runs.queue import Queue

_ROLES = frozenset({
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK",
    "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NODEID",
    "MPI_LOCALRANKID",
})  # fmt: skip
_PREFIXES_OF_ROLES = ("ROLE_", "TORCHELASTIC_", "PET_", "ACCELERATE_", "PMI_", "PMIX_", "OMPI_COMM_", "MV2_COMM_")


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
    """The worker's environment: this process's, without the roles that others have given to this process.

    Idle OpenMP threads sleep instead of spinning. Measured on two cores, 25 steps of MiniLM, one run each: two
    trainings at once take 10 s instead of 57 s, whose spinning threads keep each other's cores busy; a training alone
    takes 6.5 s instead of 5.5 s. Set OMP_WAIT_POLICY=ACTIVE yourself for a machine that runs nothing else.

    Args:
        threads: threads of each process; None leaves it to what is set already, or to what the machine offers.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    for name in inherited_roles():
        del environment[name]
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def inherited_roles() -> list[str]:
    """Variables by which Slurm, torchrun, MPI or accelerate tell this process its part in a group of its own.

    A worker that inherited them would wait for the other processes of that group. One that is itself started by
    those, by hand, reads them as usual.
    """
    return sorted(name for name in os.environ if name in _ROLES or name.startswith(_PREFIXES_OF_ROLES))


def begin_log(path: Path) -> IO[bytes]:
    """A new log for a worker, which begins with the variables that it does not get."""
    log = path.open("wb", buffering=0)
    if dropped := inherited_roles():
        log.write(f"dropped from the environment: {', '.join(dropped)}\n".encode())
    return log
