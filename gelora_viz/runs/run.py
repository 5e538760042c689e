"""Watch a run through its folder, stop it, and read its result."""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gelora_viz._checks import check_flag, check_number, check_path
from gelora_viz._results import read_json
from gelora_viz.errors import GeloraVizError, RunError, StudyError
from gelora_viz.runs.executors import Handle
from gelora_viz.runs.folder import ENDED, RESULT, RunFolder, last_of
from gelora_viz.runs.machine import describe_wait
from gelora_viz.runs.places import existing, replaced_by
from gelora_viz.runs.result import RunResult
from gelora_viz.runs.spec import RunSpec

_LOOK = 0.25
"""Seconds between two checks of a run that is waited for."""


class Run:
    """A handle on a run's folder; it works from any process, also after the one that launched it is gone.

    Args:
        path: the run's folder.
        handle: what the executor knows about the worker, in the process that launched it.
    """

    def __init__(self, path: str | os.PathLike[str], handle: Handle | None = None) -> None:
        self.path = Path(path)
        self._folder = RunFolder(path)
        self._handle = handle
        self._target = replaced_by(self.path)

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
        """The cause of a failure, or what a queued run waits for, in one line; empty otherwise."""
        status, message = self._state()
        return message or (describe_wait(self._folder) if status == "queued" else "")

    def _state(self) -> tuple[str, str]:
        how = None if self._handle is None else self._handle.ended()
        state = self._folder.read_status()
        if self._has_moved():
            return self._folder.read_status()
        if self._handle is None or how is None:
            return state
        with suppress(StudyError):  # a full disk, or a folder that has been removed
            # The executor knows more than the folder, so the folder is told.
            self._folder.record_death(how, self._handle.who["pid"] if self._handle.who["is_worker"] else None)
        return self._folder.read_status()

    def _has_moved(self) -> bool:
        """Follow a run that has taken the place of another since the last look."""
        if self._target is None or self.path.exists():
            return False
        self.path, self._target = self._target, None
        self._folder = RunFolder(self.path)
        return True

    @property
    def metrics(self) -> pd.DataFrame:
        """What has been logged so far.

        One row per logged step or evaluation: step, loss, learning_rate, seconds, eval_loss, eval_accuracy, eval_f1,
        eval_perplexity, tokens_per_second, memory_mb, gpu_memory_mb, eta_seconds; NaN where a row has no such number.
        """
        self._has_moved()
        return self._folder.read_metrics()

    def cancel(self, *, grace: float = 10.0) -> None:
        """Ask the run to stop after its current step and wait for it; what is trained so far is kept.

        A run that waits for its turn is withdrawn at once.

        Args:
            grace: seconds before a worker that does not answer is killed.

        Raises:
            RunError: if it does not answer and is on another machine, where it cannot be killed from here.
        """
        check_number(grace, "grace", at_least=0)
        if self.status in ENDED:
            return
        self._folder.ask_to_stop()
        deadline = time.monotonic() + grace
        while self.status not in ENDED:
            if not self._folder.has_worker:
                self._kill("")
                return
            if time.monotonic() > deadline:
                self._kill("killed: the worker did not stop in time")
                return
            time.sleep(0.05)
        self._reap()

    def _kill(self, message: str) -> None:
        is_out_of_reach = self._folder.has_worker and self._folder.worker_pid is None
        if self._handle is None and is_out_of_reach and self.status not in ENDED:
            raise RunError(
                f"run {self.name!r} is on {self._folder.host} and does not answer; it will stop once it does, or "
                "kill it there"
            )
        self._folder.kill_worker()
        if self._handle is not None:
            self._handle.kill()
            self._reap()
        if self._folder.read_status()[0] not in ("finished", "failed"):  # it may have ended by itself in the meantime
            self._folder.write_status("cancelled", message)

    def _reap(self) -> None:
        """Wait for the process of a worker that has ended its run, after which its folder is free."""
        if self._handle is not None:
            self._handle.reap()

    def wait(self, *, timeout: float | None = None, progress: bool = True) -> Run:
        """Wait until the run has ended, with a bar of its steps.

        Raises:
            RunError: when `timeout` seconds have passed; the run goes on.
        """
        if timeout is not None:
            check_number(timeout, "timeout", at_least=0)
        check_flag(progress, "progress")
        started = time.monotonic()
        with tqdm(total=self._n_steps(), unit="step", disable=not progress) as bar:
            while (status := self.status) not in ENDED:
                self._show(bar, status)
                if timeout is not None and time.monotonic() - started > timeout:
                    raise RunError(
                        f"run {self.name!r} is still {status} after {timeout:g} s; wait longer, or cancel it"
                        + (f" ({message})" if (message := self.message) else "")
                    )
                time.sleep(_LOOK)
            self._show(bar, status)
        self._reap()
        return self

    def _n_steps(self) -> int | None:
        spec = _spec_in(self.path)  # if it cannot be read, the worker will say so
        return None if spec is None else spec.steps

    def _show(self, bar: tqdm[Any], status: str) -> None:
        rows = self._folder.read_rows()
        if not rows:
            bar.set_description(f"{'starting' if status == 'running' else status} {self.name}", refresh=False)
            bar.set_postfix_str(describe_wait(self._folder) if status == "queued" else "")
            return
        step = int(rows[-1]["step"] or 0)
        if not bar.n:
            bar.reset()  # what was done before this look says nothing about the speed
            bar.initial = bar.n = bar.last_print_n = step
            bar.set_description(f"training {self.name}")
        loss = last_of(rows, "loss")
        if loss is not None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update(max(0, step - bar.n))

    def result(self) -> RunResult:
        """The numbers of the finished run.

        Raises:
            RunError: if it failed or was cancelled (with the cause), or has not ended.
        """
        status, message = self._state()
        if status != "finished":
            cause = f": {message}" if message else ""
            remedy = "wait for it first" if status in ("queued", "running") else f"see {self.path / 'log.txt'}"
            raise RunError(f"run {self.name!r} has no result, its status is {status}{cause}; {remedy}")
        return RunResult.load(self.path)

    def __repr__(self) -> str:
        status, message = self._state()
        return f"Run({self.name!r}: {status}{', ' + message if message else ''})"


def attach(run_dir: str | os.PathLike[str]) -> Run:
    """A handle on a run that another process, or this one before a restart, has launched."""
    if not (check_path(run_dir, "run_dir") / "spec.json").exists():
        raise StudyError(f"no run at {run_dir}; give the folder of a run, the one that holds spec.json")
    return Run(run_dir)


def find_going_on(run_dir: str | os.PathLike[str], spec: RunSpec) -> Run | None:
    """The run of `spec` that waits or trains in a folder or in one numbered after it; None if there is none."""
    for path in existing(Path(run_dir)):
        known = _spec_in(path)
        if known is not None and _is_same(known, spec) and RunFolder(path).is_going_on:
            return Run(path)
    return None


def find_finished(run_dir: str | os.PathLike[str], spec: RunSpec) -> Run | None:
    """The run in a folder, or in one numbered after it, that has finished what `spec` describes; otherwise None.

    Data files count as the same if their content is, so that a study can be moved.
    """
    for path in existing(Path(run_dir)):
        known = _spec_in(path)
        if known is None or not _is_same(dataclasses.replace(known, data=spec.data), spec):
            continue
        try:
            run = Run(path)
            is_done = run.status == "finished" and read_json(path / "result.json", RESULT)["data"] == spec.data_digest
        except (GeloraVizError, KeyError):  # damaged, or from another version
            continue
        if is_done and run.path == path:
            return run
    return None


def _is_same(known: RunSpec, spec: RunSpec) -> bool:
    """Whether one describes what the other does, whatever number its name has."""
    return dataclasses.replace(known, name=spec.name).to_dict() == spec.to_dict()


def _spec_in(folder: Path) -> RunSpec | None:
    """The specification of the run in a folder; None if it is missing or cannot be read."""
    try:
        return RunSpec.load(folder / "spec.json")
    except GeloraVizError:
        return None
