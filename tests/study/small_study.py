"""Settings and short cuts that make a study take a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gelora_viz import Run, RunSpec, launch
from gelora_viz.runs import RunFolder, take_place
from gelora_viz.runs.liveness import identify
from gelora_viz.training import train

PROFILING = {
    "poolings": ["mean", "tokens"],
    "estimators": ["twonn", "mle"],
    "k": 5,
    "max_points": 400,
    "progress": False,
}
QUICK = {"steps": 3, "batch_size": 16, "evaluations": 1, "threads": 1, "progress": False}
WORK = ("load_model", "capture", "estimate_dimension", "allocate_ranks", "launch")
"""Everything that takes time in a study."""


def write_csv(path: Path, texts: Sequence[str], labels: Sequence[object]) -> Path:
    """Columns text and label, every cell quoted."""
    rows = [f'"{text}","{label}"' for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(['"text","label"', *rows]) + "\n", encoding="utf-8")
    return path


class Here:
    """An executor that trains in this process: what a worker does, without the seconds that it takes to start."""

    def __init__(self) -> None:
        self.who = {**identify(), "is_worker": False}
        self.is_finished = False

    def prepare(self) -> None:
        pass

    def submit(self, run_dir: Path, spec: RunSpec) -> Here:
        n_threads = torch.get_num_threads()
        try:
            self.is_finished = train(spec, RunFolder(run_dir))
        finally:
            torch.set_num_threads(n_threads)
        return self

    def ended(self) -> str | None:
        return None

    def kill(self) -> None:
        pass

    def reap(self) -> None:
        pass


def launch_here(spec: RunSpec, *, run_dir: Path, replace: bool = False) -> Run:
    """As `launch`, but trained in this process."""
    here = Here()
    path = launch(spec, run_dir=run_dir, replace=replace, executor=here).path
    path = take_place(path) if here.is_finished else path
    RunFolder(path).write_status("finished" if here.is_finished else "cancelled")
    return Run(path)
