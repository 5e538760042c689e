"""Trainings in this process, and what they read at every step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gelora_viz import Run, RunResult, RunSpec, launch
from gelora_viz.runs import RunFolder, take_place
from gelora_viz.runs.liveness import identify
from gelora_viz.training import trainer

TIMES = ["seconds", "tokens_per_second", "memory_mb", "eta_seconds"]
"""Columns of the metrics that are never twice the same."""


def train_here(spec: RunSpec, path: Path) -> RunResult:
    """Train in this process, as the worker would; returns the result."""
    path.mkdir(parents=True, exist_ok=True)
    spec.save(path / "spec.json")
    n_threads = torch.get_num_threads()
    try:
        assert trainer.train(spec, RunFolder(path))
    finally:
        torch.set_num_threads(n_threads)
    return RunResult.load(path)


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
            self.is_finished = trainer.train(spec, RunFolder(run_dir))
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


def metrics_of(path: Path) -> Any:
    """What a training logged."""
    return RunFolder(path).read_metrics()


def losses_of(path: Path) -> Any:
    """The training losses, in order."""
    return metrics_of(path)["loss"].dropna().to_numpy()


@contextmanager
def before_each_step(monkeypatch: pytest.MonkeyPatch, look: Callable[[Any, dict[str, Any]], None]) -> Iterator[None]:
    """Call `look(trainer, inputs)` before every piece of every optimizer step."""
    original = trainer.CountingTrainer.training_step

    def step(trainer: Any, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        look(trainer, inputs)
        return original(trainer, model, inputs, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.CountingTrainer, "training_step", step)
        yield


def texts_by_step(monkeypatch: pytest.MonkeyPatch, spec: RunSpec, path: Path) -> list[list[list[int]]]:
    """The token ids of every text, without padding, that each optimizer step of the training read."""
    steps: dict[int, list[list[int]]] = defaultdict(list)

    def look(trainer: Any, inputs: dict[str, Any]) -> None:
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            steps[trainer.state.global_step].append(ids[mask.bool()].tolist())

    with before_each_step(monkeypatch, look):
        train_here(spec, path)
    return [steps[number] for number in sorted(steps)]
