"""Studies for the tests of panels: a small one with a plan, and one with profiles and finished runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

from gelora_viz import Run, RunSpec, Study
from gelora_viz.runs import RunFolder
from gelora_viz.study import runs
from gelora_viz.training import train


def make_planned_study(
    path: Path,
    model: Path,
    texts: Sequence[str],
    labels: Sequence[int],
    name: Callable[[int], str] = "class {}".format,
) -> Study:
    """A study of 180 texts of three classes, with the plan "uniform" and nothing else."""
    frame = pd.DataFrame({"text": texts[:180], "label": [name(label) for label in labels[:180]]})
    study = Study.create(path, model=str(model), data=frame)
    study.allocate("uniform", strategy="uniform", budget_rank=2)
    return study


def finish(study: Study) -> None:
    """Profile a planned study, and add the plan "gelora" and three finished runs."""
    study.profile(poolings=["mean"], estimators=["twonn", "mle"], k=5, progress=False)
    study.allocate("gelora", budget_rank=2)
    with mock.patch.object(runs, "launch", train_here):
        for name in ("frozen", "uniform", "gelora"):
            study.finetune(name, steps=3, batch_size=16, evaluations=1, threads=1, progress=False)


def train_here(spec: RunSpec, *, run_dir: Path) -> Run:
    """As `launch`, but trained in this process, without the seconds that a worker takes to start."""
    folder = RunFolder(run_dir)
    spec.save(folder.path / "spec.json")
    n_threads = torch.get_num_threads()
    try:
        train(spec, folder)
    finally:
        torch.set_num_threads(n_threads)
    folder.write_status("finished")
    return Run(run_dir)
