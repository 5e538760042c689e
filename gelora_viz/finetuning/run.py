"""Start a run in a worker process and watch it through its folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gelora_viz.errors import InputError, RunError, StudyError
from gelora_viz.finetuning.folder import ENDED, RunFolder, RunResult
from gelora_viz.finetuning.spec import RunSpec

_WRITTEN_BY_WORKER = (
    "status.json", "metrics.jsonl", "cancel", "adapter", "predictions.json", "spectrum.json", "result.json",
    "log.txt", "trainer",
)  # fmt: skip


class Run:
    """A handle on a run's folder; it works from any process, and after the one that launched it is gone.

    Args:
        path: the run's folder.
    """

    def __init__(self, path: str | os.PathLike[str], process: subprocess.Popen[bytes] | None = None) -> None:
        self.path = Path(path)
        self._folder = RunFolder(path)
        self._process = process

    @property
    def name(self) -> str:
        """Name of the run: its folder's."""
        return self.path.name

    @property
    def status(self) -> str:
        """queued, running, finished, failed or cancelled."""
        return self._state()[0]

    @property
    def message(self) -> str:
        """The cause of a failure in one line; empty otherwise."""
        return self._state()[1]

    def _state(self) -> tuple[str, str]:
        status, message = self._folder.read_status()
        code = self._process.poll() if self._process is not None else None
        if status == "queued" and code is not None:
            status, message = self._folder.read_status()
            if status == "queued":
                return "failed", f"the worker ended with status {code} before it began; see {self.path / 'log.txt'}"
        return status, message

    @property
    def metrics(self) -> pd.DataFrame:
        """What has been logged so far: step, loss, learning_rate, seconds, eval_loss, eval_accuracy."""
        return self._folder.read_metrics()

    def cancel(self, *, grace: float = 10.0) -> None:
        """Ask the run to stop after its current step and wait for it; what is trained so far is kept.

        Args:
            grace: seconds before a worker that does not answer is killed.
        """
        if self.status in ENDED:
            return
        (self.path / "cancel").touch()
        deadline = time.monotonic() + grace
        while self.status not in ENDED:
            pid = self._process.pid if self._process is not None else self._folder.worker_pid
            if time.monotonic() > deadline:
                if pid is not None:
                    _send(pid, signal.SIGKILL)
                self._reap()
                self._folder.write_status("cancelled", "killed: the worker did not stop in time")
                return
            time.sleep(0.1)
        self._reap()

    def _reap(self) -> None:
        """Wait for a worker of ours that has ended its run to end itself; its folder is free then."""
        if self._process is not None:
            self._process.wait()

    def wait(self, *, timeout: float | None = None, progress: bool = True) -> Run:
        """Wait until the run has ended, with a bar of its steps.

        Raises:
            RunError: when `timeout` seconds have passed; the run goes on.
        """
        total = RunSpec.load(self.path / "spec.json").steps
        started = time.monotonic()
        with tqdm(total=total, desc=f"training {self.name}", unit="step", disable=not progress) as bar:
            while (status := self.status) not in ENDED:
                self._show(bar)
                if timeout is not None and time.monotonic() - started > timeout:
                    raise RunError(
                        f"run {self.name!r} is still {status} after {timeout:g} s; wait longer, or cancel it"
                    )
                time.sleep(0.25)
            self._show(bar)
        self._reap()
        return self

    def _show(self, bar: tqdm[Any]) -> None:
        metrics = self.metrics
        if len(metrics):
            bar.update(max(0, int(metrics["step"].iloc[-1]) - bar.n))
            loss = metrics["loss"].dropna()
            if len(loss):
                bar.set_postfix(loss=f"{loss.iloc[-1]:.3f}")

    def result(self) -> RunResult:
        """The numbers of the finished run.

        Raises:
            RunError: if it failed or was cancelled (with the cause), or has not ended.
        """
        status, message = self._state()
        if status != "finished":
            cause = f": {message}" if message else ""
            remedy = "wait for it first" if status in ("queued", "running") else f"see {self.path / 'log.txt'}"
            raise RunError(f"run {self.name!r} has no result, it is {status}{cause}; {remedy}")
        return RunResult.load(self.path)

    def __repr__(self) -> str:
        status, message = self._state()
        return f"Run({self.name!r}: {status}{', ' + message if message else ''})"


def launch(spec: RunSpec, *, run_dir: str | os.PathLike[str] | None = None, executor: str = "local") -> Run:
    """Start a run in a worker process and return at once.

    Args:
        spec: what to train.
        run_dir: the run's folder, by default runs/<name>. What an earlier run left there is removed.
        executor: "local", a process on this machine.

    Raises:
        InputError: for an unknown executor.
        RunError: if a run is going on in that folder.
        StudyError: if the folder cannot be written.

    Example:
        >>> run = launch(RunSpec("probe", adapter="frozen", steps=50))  # doctest: +SKIP
        >>> run.wait().result().numbers["accuracy"]  # doctest: +SKIP
        0.71
    """
    if executor != "local":
        raise InputError(f'unknown executor {executor!r}; there is "local"')
    path = Path(run_dir) if run_dir is not None else Path("runs") / spec.name
    if (path / "spec.json").exists() and RunFolder(path).worker_pid is not None:
        raise RunError(f"a run is going on in {path}; cancel it, or choose another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name in _WRITTEN_BY_WORKER:
            _remove(path / name)
        spec.save(path / "spec.json")
        with (path / "log.txt").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own worker, no shell
                [sys.executable, "-m", "gelora_viz.finetuning.worker", str(path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=_environment(spec.threads),
            )  # fmt: skip
    except OSError as error:
        raise StudyError(
            f"cannot write {path}: {error.strerror or error}; choose a folder you can write to"
        ) from error
    return Run(path, process)


def attach(run_dir: str | os.PathLike[str]) -> Run:
    """A handle on a run that another process, or this one before a restart, has launched."""
    if not (Path(run_dir) / "spec.json").exists():
        raise StudyError(f"no run at {run_dir}; give the folder of a run, the one that holds spec.json")
    return Run(run_dir)


def _environment(threads: int | None) -> dict[str, str]:
    """The worker's environment.

    Idle OpenMP threads sleep instead of spinning. Measured on two cores, 25 steps of MiniLM, one run each: two
    trainings at once take 10 s instead of 57 s, whose spinning threads keep each other's cores busy; a training alone
    takes 6.5 s instead of 5.5 s. Set OMP_WAIT_POLICY=ACTIVE yourself for a machine that runs nothing else.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    # One run, one GPU: Trainer would split every batch over all it sees, and "texts a step" would no longer be true.
    environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _send(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, what)
