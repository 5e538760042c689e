"""Start a run, or start it again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gelora_viz._checks import check_folder
from gelora_viz.errors import RunError, StudyError
from gelora_viz.runs.executors import Executor, choose_executor
from gelora_viz.runs.folder import RunFolder
from gelora_viz.runs.run import Run, attach
from gelora_viz.runs.spec import RunSpec


def launch(
    spec: RunSpec,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    executor: str | Executor = "local",
    **options: Any,  # noqa: ANN401 - the executor's own
) -> Run:
    """Start a run in a worker process and return at once.

    The run waits for its turn where others are being trained; it goes on when this process ends, and `attach` finds
    it again.

    Args:
        spec: what to train.
        run_dir: the run's folder, by default runs/<name>. What an earlier run left there is removed.
        executor: "local" for processes of this machine, as in `LocalExecutor`; "ray" for a cluster, as in
            `RayExecutor`; or such an object.
        options: options of the executor that is named, such as at_once=2 or processes=2.

    Raises:
        InputError: for an unknown executor or option, or one that is not installed; if the folder's name begins with
            a dash.
        RunError: if a run is going on in that folder.
        StudyError: if the folder cannot be written; what was in it is still there.

    Example:
        >>> run = launch(RunSpec("probe", adapter="frozen", steps=50))  # doctest: +SKIP
        >>> run.wait().result().numbers["accuracy"]  # doctest: +SKIP
        0.71
    """
    chosen = choose_executor(executor, options)
    path = check_folder(Path("runs") / spec.name if run_dir is None else run_dir, "run folder")
    folder = RunFolder(path)
    chosen.prepare()
    try:
        _refuse_if_going_on(folder)
        with folder.claim():
            _refuse_if_going_on(folder)
            new = spec.save(path / ".spec.json.new")  # a full disk shows here, before anything is removed
            folder.clear()
            new.replace(path / "spec.json")
            try:
                handle = chosen.submit(path, spec)
            except Exception as error:
                folder.write_status("failed", f"the worker could not be started ({error})")
                raise
            folder.write_status("queued", who=handle.who)
    except OSError as error:
        raise StudyError(
            f"cannot write {path}: {error.strerror or error}; choose a folder you can write to"
        ) from error
    return Run(path, handle)


def relaunch(run_dir: str | os.PathLike[str], *, executor: str | Executor = "local", **options: Any) -> Run:  # noqa: ANN401
    """Restart a run that was cancelled or has failed, for instance because its machine was restarted.

    Args:
        run_dir: its folder, whose spec.json says what to train.
        executor: what starts the runs: "local", "ray" or an executor (see `launch`).
        options: further options (see `launch`).

    Raises:
        RunError: if the run is finished, so that its result is not lost, or is going on.
        StudyError: if there is no run, or one from another version.
    """
    run = attach(run_dir)
    if run.status == "finished":
        raise RunError(f"run {run.name!r} is finished; to train it again anyway, launch its specification")
    return launch(RunSpec.load(run.path / "spec.json"), run_dir=run_dir, executor=executor, **options)


def _refuse_if_going_on(folder: RunFolder) -> None:
    if folder.is_going_on:
        raise RunError(f"a run is going on in {folder.path}; cancel it, or choose another folder")
