"""Start a run, or start it again."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

from gelora_viz._checks import check_flag, check_folder, check_path, check_result
from gelora_viz.errors import GeloraVizWarning, RunError, StudyError
from gelora_viz.runs.executors import Executor, choose_executor
from gelora_viz.runs.folder import RunFolder
from gelora_viz.runs.places import add_number, free_place, is_finished, replacement_of
from gelora_viz.runs.run import Run, attach
from gelora_viz.runs.spec import RunSpec


def launch(
    spec: RunSpec,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    replace: bool = False,
    executor: str | Executor = "local",
    **options: Any,  # noqa: ANN401 - the executor's own
) -> Run:
    """Start a run in a worker process and return at once.

    The run waits for its turn where others are being trained; it goes on when this process ends, and `attach` finds
    it again. A finished run is never lost: where one is in the folder, the new run gets a folder, and a name, with a
    number (runs/probe-2), and a warning says so.

    Args:
        spec: what to train.
        run_dir: the run's folder, by default runs/<name>. What an unfinished run left there is removed.
        replace: where a finished run is in the folder, train in runs/<name>-replacement and, once that has finished
            too, put it in the place of the old one. If it fails or is cancelled, the old one stays.
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
    check_result(spec, RunSpec, "spec")
    check_flag(replace, "replace")
    chosen = choose_executor(executor, options)
    named = Path("runs") / spec.name if run_dir is None else check_path(run_dir, "run_dir")
    asked = check_folder(named, "run folder")
    chosen.prepare()
    try:
        path, number = (replacement_of(asked), 1) if replace and is_finished(asked) else free_place(asked)
        if number > 1:
            spec = dataclasses.replace(spec, name=add_number(spec.name, number))
            warnings.warn(
                f"{asked} holds a finished run, which is kept; this one is {path} (replace=True puts it in the place "
                "of the other)",
                GeloraVizWarning,
                stacklevel=2,
            )
        return _submit(spec, path, asked if path == replacement_of(asked) else None, chosen)
    except OSError as error:
        raise StudyError(
            f"cannot write {asked}: {error.strerror or error}; choose a folder you can write to"
        ) from error


def _submit(spec: RunSpec, path: Path, replaces: Path | None, executor: Executor) -> Run:
    """Prepare a run's folder and start its worker."""
    folder = RunFolder(path)
    _refuse_if_going_on(folder)
    with folder.claim():
        _refuse_if_going_on(folder)
        if is_finished(path) and replaces is None:
            raise RunError(f"a run has just finished in {path}; launch this one again, and it gets a number")
        new = spec.save(path / ".spec.json.new")  # a full disk shows here, before anything is removed
        folder.clear()
        new.replace(path / "spec.json")
        if replaces is not None:
            folder.mark_as_replacement()
        try:
            handle = executor.submit(path, spec)
        except Exception as error:
            folder.write_status("failed", f"the worker could not be started ({error})")
            raise
        folder.write_status("queued", who=handle.who)
    return Run(path, handle)


def relaunch(
    run_dir: str | os.PathLike[str],
    *,
    trust_remote_code: bool = False,
    executor: str | Executor = "local",
    **options: Any,  # noqa: ANN401 - the executor's own
) -> Run:
    """Restart a run that was cancelled or has failed, for instance because its machine was restarted.

    Args:
        run_dir: its folder, whose spec.json says what to train.
        trust_remote_code: run Python code that comes with the model (see `load_model`). It is asked for anew each
            time, since the folder may be somebody else's.
        executor: what starts the runs: "local", "ray" or an executor (see `launch`).
        options: further options (see `launch`).

    Raises:
        RunError: if the run is finished, so that its result is not lost, or is going on.
        StudyError: if there is no run, or one from another version.
    """
    check_flag(trust_remote_code, "trust_remote_code")
    run = attach(run_dir)
    if run.status == "finished":
        raise RunError(f"run {run.name!r} is finished; to train it again anyway, launch its specification")
    spec = dataclasses.replace(RunSpec.load(run.path / "spec.json"), trust_remote_code=trust_remote_code)
    return launch(spec, run_dir=run_dir, executor=executor, **options)


def _refuse_if_going_on(folder: RunFolder) -> None:
    if folder.is_going_on:
        raise RunError(f"a run is going on in {folder.path}; cancel it, or choose another folder")
