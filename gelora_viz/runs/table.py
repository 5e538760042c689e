"""All runs of a folder as a table, whatever their state."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gelora_viz._checks import check_path
from gelora_viz._reading import Fields
from gelora_viz._results import read_json
from gelora_viz.errors import GeloraVizError, StudyError, first_line
from gelora_viz.runs.folder import RESULT, RunFolder, last_of
from gelora_viz.runs.machine import find_runs_here
from gelora_viz.runs.spec import RunSpec

_COLUMNS = (
    "run", "status", "message", "method", "seed", "step", "steps", "loss", "accuracy", "perplexity", "seconds",
    "started",
)  # fmt: skip
_COLUMNS_HERE = ("run", "status", "message", "since", "pid")


def list_runs(folder: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """The runs in a folder, or those that train and wait on this machine, as a table.

    Args:
        folder: a folder of runs, or of a study, whose runs/ is meant then; folders of runs may lie within it. None
            means all that train or wait on this machine for this user, whatever study they belong to.

    Returns:
        One row per run, by name: run (its folder, as seen from the one given), status, message, method, seed, step
        (the last one logged), steps, loss (the last one logged), accuracy and perplexity (on the test texts, of a
        finished run), seconds (since training began), started. A run that cannot be read has the status
        "unreadable", and the message says why. Without a folder: run (its whole path), status, message (what it waits
        for), since (when it began to train, or to wait), pid (of its worker); those that train first.

    Raises:
        StudyError: if there is no such folder.

    Example:
        >>> list_runs("studies/demo")[["run", "status", "accuracy"]]  # doctest: +SKIP
        >>> list_runs()  # doctest: +SKIP
    """
    if folder is None:
        here = pd.DataFrame(find_runs_here(), columns=_COLUMNS_HERE)
        return here.astype({"pid": "Int64"})
    top = check_path(folder, "folder")
    if not top.is_dir():
        raise StudyError(f"no folder {top}; give the folder of a study, or of its runs")
    top = top / "runs" if (top / "runs").is_dir() else top
    return pd.DataFrame([_row(name, path) for name, path in find_runs(top).items()], columns=_COLUMNS)


def find_runs(folder: Path) -> dict[str, Path]:
    """The folders of the runs under a folder, by their names as seen from it; none where it does not exist."""
    files = sorted(folder.rglob("spec.json")) if folder.is_dir() else []
    return {file.parent.relative_to(folder).as_posix(): file.parent for file in files}


@dataclass(frozen=True)
class RunReading:
    """What a run's folder says at one moment.

    Attributes:
        status: as `Run.status`, or "unreadable".
        message: why it failed or cannot be read; empty otherwise.
        spec: what was asked for; None where that, or anything else, cannot be read.
        rows: all lines of its metrics.
        numbers: the numbers of its result, where they were asked for and it has finished.
    """

    status: str
    message: str
    spec: RunSpec | None = None
    rows: Sequence[Mapping[str, float | None]] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def read_run(folder: RunFolder, spec: RunSpec | None = None, *, with_result: bool = False) -> RunReading:
    """Read a run's folder, whatever its state.

    Args:
        folder: the run's folder.
        spec: what was asked for, where it has been read before.
        with_result: read the numbers of a finished run too.
    """
    status = message = ""
    try:
        status, message = folder.read_status()
        spec = spec or RunSpec.load(folder.path / "spec.json")
        finished = with_result and status == "finished"
        file = folder.path / "result.json"
        numbers = Fields(read_json(file, RESULT), RESULT).mapping("numbers") if finished else {}
        return RunReading(status, message, spec, folder.read_rows(), numbers)
    except (GeloraVizError, OSError, KeyError, TypeError, ValueError) as error:
        if message:  # a failed run says more about itself than that its files are from another version
            return RunReading(status, message)
        return RunReading("unreadable", first_line(error))


def _row(name: str, path: Path) -> dict[str, Any]:
    found = read_run(RunFolder(path), with_result=True)
    row: dict[str, Any] = {"run": name, "status": found.status, "message": found.message}
    if found.spec is None:
        return row
    started = dt.datetime.fromtimestamp((path / "spec.json").stat().st_mtime, tz=dt.UTC).astimezone()
    row |= {"method": found.spec.method, "seed": found.spec.seed, "steps": found.spec.steps, "started": started}
    if found.rows:
        last = found.rows[-1]
        row |= {"step": last.get("step"), "seconds": last.get("seconds"), "loss": last_of(found.rows, "loss")}
    known = ("accuracy", "perplexity", "seconds")
    return row | {name: found.numbers[name] for name in known if name in found.numbers}
