"""Runs on a Ray cluster: each holds its share of processors and GPUs, and the others wait in Ray's own queue."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz.errors import InputError, RunError, StudyError, first_line
from gelora_viz.runs.causes import OCCUPIED
from gelora_viz.runs.executors.command import begin_log, worker_command, worker_environment
from gelora_viz.runs.folder import ENDED, RunFolder
from gelora_viz.runs.liveness import identify

if TYPE_CHECKING:
    from gelora_viz.runs.spec import RunSpec

_NAMESPACE = "gelora_viz"
_OWN = f"started_by_process_{os.getpid()}"
"""The resource that marks a cluster which ends with this process."""


@dataclass(frozen=True)
class RayExecutor:
    """Starts runs on a Ray cluster (extra `ray`).

    The run's folder, and the model and data that its specification names, must be at the same path on every node: on
    a shared file system. On an existing cluster, runs go on training and waiting when this process ends.
    Without one, Ray is started on this machine for this process alone, without its dashboard and without usage
    statistics, and ends with it; the first launch waits for that, perhaps half a minute.

    Attributes:
        num_gpus: GPUs of each run, such as 0.5 for two runs on one GPU; None means one for each process where the
            cluster has any, otherwise none. Ray assigns GPUs, not their memory: choose batch sizes that fit together.
        num_cpus: CPUs of each run, and so threads, divided among its processes; None means one for each process.
        processes: number of processes that train one run together, on one node. `batch_size` still counts all texts
            of an optimizer step.
        address: address of the cluster; None means RAY_ADDRESS or a cluster on this machine, otherwise a new one.

    Example:
        >>> launch(spec, executor=RayExecutor(num_gpus=0.5))  # doctest: +SKIP
        >>> launch(spec, executor="ray", num_gpus=0.5)  # the same  # doctest: +SKIP
    """

    num_gpus: float | None = None
    num_cpus: float | None = None
    processes: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        from gelora_viz._checks import check_number, check_whole

        if importlib.util.find_spec("ray") is None:
            raise InputError("Ray is not installed; pip install 'gelora_viz[ray]'")
        check_whole(self.processes, "processes")
        for name in ("num_gpus", "num_cpus"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name, at_least=0)

    def prepare(self) -> None:
        """Connect to the cluster, or start one; raises `InputError` if it cannot be reached or is too small."""
        # Read by Ray when it is imported, and by every process that it starts.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if not ray.is_initialized():
            _connect(self.address)
        resources = ray.cluster_resources()
        for name, asked in (("CPU", self._cpus()), ("GPU", self._gpus())):
            available = resources.get(name, 0)
            if asked > available:
                raise InputError(
                    f"a run needs {asked:g} {name}s, and the whole Ray cluster has {available:g}; ask for less"
                )

    def submit(self, run_dir: Path, spec: RunSpec) -> _RayHandle:
        """Let Ray start the worker as soon as there is room for it."""
        import ray

        threads = spec.threads or max(1, int(self._cpus() // self.processes))
        command = worker_command(
            run_dir, processes=self.processes, with_parent=True, trust_remote_code=spec.trust_remote_code
        )
        options = {"num_cpus": self._cpus(), "num_gpus": self._gpus(), "lifetime": "detached", "max_restarts": 0}
        name = f"{run_dir.absolute()} {uuid.uuid4().hex[:8]}"
        keeper = ray.remote(_Keeper).options(namespace=_NAMESPACE, name=name, **options)
        return _RayHandle(keeper.remote(command, str(run_dir.absolute()), str(Path.cwd()), threads))

    def _cpus(self) -> float:
        return float(self.processes if self.num_cpus is None else self.num_cpus)

    def _gpus(self) -> float:
        import ray

        if self.num_gpus is not None:
            return float(self.num_gpus)
        return float(self.processes) if ray.cluster_resources().get("GPU", 0) else 0.0


class _Keeper:
    """A Ray actor that only keeps one worker: the worker starts, runs and ends inside the actor's constructor.

    An actor, because one that is detached outlives whoever launched it, and waits in the cluster's queue rather than
    in the launching process; a task ends with its owner. A process of its own for the worker, because it then has
    its own signals, its own memory and its own exit, and dies with this one when its standard input does.
    """

    def __init__(self, command: list[str], run_dir: str, directory: str, threads: int) -> None:
        import ray

        folder = RunFolder(run_dir)
        if not (folder.path / "spec.json").exists():
            raise StudyError(f"{run_dir} is not on {socket.gethostname()}; choose a folder that all nodes share")
        with begin_log(folder.path / "log.txt") as log:
            worker = subprocess.Popen(  # noqa: S603 - our own worker, no shell
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                env=worker_environment(threads), cwd=directory if Path(directory).is_dir() else None,
            )  # fmt: skip
        if (code := worker.wait()) not in (0, OCCUPIED):  # what is plain here must be said to other machines
            status, message = folder.read_status()
            if status not in ENDED:
                status, message = "failed", f"the worker ended with status {code} before the run began; see log.txt"
            folder.write_status(status, message)
        ray.actor.exit_actor()


class _RayHandle:
    """A worker that Ray watches."""

    def __init__(self, keeper: Any) -> None:  # noqa: ANN401 - an actor handle, of a library that is imported late
        import ray

        self._keeper = keeper
        self._end = keeper.__ray_ready__.remote()  # answered, with an error, once the keeper has gone
        # A cluster of our own ends with this process; of another one, nobody can tell from here whether it lives.
        lives = identify() if _OWN in ray.cluster_resources() else {**identify(), "pid": None}
        self.who: Mapping[str, Any] = {**lives, "is_worker": False}

    def ended(self) -> str | None:
        """As in `Handle`."""
        import ray

        try:
            done, _ = ray.wait([self._end], timeout=0)
            if not done:
                return None
            ray.get(done)
        except Exception as error:  # noqa: BLE001 - whatever it was, Ray has lost the worker
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            cause = next((line for line in lines if line.startswith("The actor is dead because")), lines[-1])
            return f"Ray: {cause.split('. ')[0]}"
        return "Ray lost the worker"

    def kill(self) -> None:
        """As in `Handle`."""
        import ray

        with suppress(Exception):
            ray.kill(self._keeper)

    def reap(self) -> None:
        """As in `Handle`; Ray does it."""


def _connect(address: str | None) -> None:
    """Connect to this cluster, to RAY_ADDRESS, or to one on this machine; start one here if there is none."""
    import ray

    common: dict[str, Any] = {"namespace": _NAMESPACE, "log_to_driver": False, "configure_logging": False}
    asked = address or os.environ.get("RAY_ADDRESS") or _standing_cluster()
    if asked is None:
        _start(common)
        return
    try:
        ray.init(address=asked, **common)
    except Exception as error:
        raise InputError(f"no Ray cluster at {asked} ({first_line(error)})") from error


def _standing_cluster() -> str | None:
    """Address of the cluster that `ray start` has started on this machine, if it still answers.

    Not "auto", which also finds clusters that are another process's own, and waits for minutes for dead ones.
    """
    file = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    try:
        address = file.read_text(encoding="utf-8").strip()
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except (OSError, ValueError):
        return None
    return None if host in ("127.0.0.1", "localhost", "[::1]") else address


def _start(common: Mapping[str, Any]) -> None:
    """Start a cluster for this process alone, which listens on this machine only."""
    # What Ray does by default on Windows and macOS, and has no public option for.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(address="local", include_dashboard=False, resources={_OWN: 1}, **common)
    except Exception as error:  # of many kinds; on a busy machine it gives up after half a minute
        raise RunError(
            f"Ray could not be started ({first_line(error)}); try again when the machine is less "
            "busy, or start a cluster with ray start --head"
        ) from error
