"""All runs of a folder as a table, whatever state each is in."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pandas as pd

from gelora_viz._results import read_json
from gelora_viz.errors import GeloraVizError, StudyError
from gelora_viz.runs.folder import RESULT
from gelora_viz.runs.run import Run, attach
from gelora_viz.runs.spec import RunSpec

_COLUMNS = (
    "run", "status", "message", "method", "seed", "step", "steps", "loss", "accuracy", "perplexity", "seconds",
    "started",
)  # fmt: skip


def list_runs(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The runs in a folder, as a table.

    Args:
        folder: of runs, or of a study, whose runs/ is meant then; folders of runs may lie within it.

    Returns:
        One row per run, by name: run (its folder, as seen from the one given), status, message, method, seed, step
        (the last one logged), steps, loss (the last one logged), accuracy and perplexity (on the test texts, of a
        finished run), seconds (since training began), started. A run that cannot be read has the status
        "unreadable", and the message says why.

    Raises:
        StudyError: if there is no such folder.

    Example:
        >>> list_runs("studies/demo")[["run", "status", "accuracy"]]  # doctest: +SKIP
    """
    top = Path(folder)
    if not top.is_dir():
        raise StudyError(f"no folder {top}; give the folder of a study, or of its runs")
    top = top / "runs" if (top / "runs").is_dir() else top
    rows = [_row(file.parent, file.parent.relative_to(top).as_posix()) for file in sorted(top.rglob("spec.json"))]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _row(path: Path, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {"run": name}
    try:
        run = attach(path)
        row |= {"status": run.status, "message": run.message}
        row |= _describe(run, RunSpec.load(path / "spec.json"))
    except (GeloraVizError, OSError, KeyError, TypeError, ValueError) as error:
        if not row.get("message"):  # a failed run says more about itself than that its files are of another version
            row |= {"status": "unreadable", "message": (str(error).splitlines() or [""])[0]}
    return row


def _describe(run: Run, spec: RunSpec) -> dict[str, Any]:
    started = dt.datetime.fromtimestamp((run.path / "spec.json").stat().st_mtime, tz=dt.UTC).astimezone()
    row: dict[str, Any] = {"method": spec.method, "seed": spec.seed, "steps": spec.steps, "started": started}
    metrics = run.metrics
    if len(metrics):
        losses = metrics["loss"].dropna()
        last = metrics.iloc[-1]
        row |= {"step": int(last["step"]), "seconds": float(last["seconds"])}
        row["loss"] = float(losses.iloc[-1]) if len(losses) else None
    if run.status == "finished":
        numbers = read_json(run.path / "result.json", RESULT)["numbers"]
        row |= {name: numbers.get(name) for name in ("accuracy", "perplexity")} | {"seconds": numbers["seconds"]}
    return row
