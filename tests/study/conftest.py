"""One small finished study, made once and copied for every test that wants to change something in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_study import PROFILING, QUICK, launch_here, write_csv

from gelora_viz import Study
from gelora_viz.study import plans, profiles, runs, source

STEPS = {
    "load_model": source,
    "load_texts": source,
    "capture": profiles,
    "estimate_dimension": profiles,
    "allocate_ranks": plans,
    "launch": runs,
}
"""Function that takes a step -> the module of the study that calls it."""


@pytest.fixture(scope="session")
def csv_file(labelled_texts, tmp_path_factory) -> Path:
    """240 texts of three classes."""
    texts, labels = labelled_texts
    return write_csv(tmp_path_factory.mktemp("csv") / "texts.csv", texts[:240], labels[:240])


@pytest.fixture
def train_in_process(monkeypatch) -> None:
    """Studies train in this process for the length of a test."""
    monkeypatch.setattr(runs, "launch", launch_here)


@pytest.fixture(scope="session")
def finished_study(tiny_folder, csv_file, tmp_path_factory) -> Path:
    """Folder of a study of the tiny BERT with two profiles, two plans and three runs; read it, do not write to it."""
    study = Study.create(tmp_path_factory.mktemp("studies") / "bert", model=str(tiny_folder("bert")), data=csv_file)
    study.profile(**PROFILING)
    study.allocate("uniform", strategy="uniform", budget_rank=2)
    study.allocate("gelora", pooling="tokens", budget_rank=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "launch", launch_here)
        for name in ("frozen", "uniform", "gelora"):
            study.finetune(name, **QUICK)
    return study.path


@pytest.fixture
def copied_study(finished_study, tmp_path) -> Path:
    """A copy of `finished_study` to write to."""
    return Path(shutil.copytree(finished_study, tmp_path / "study"))


@pytest.fixture
def forbid(monkeypatch) -> Callable[..., None]:
    """`forbid("capture", "launch")`: a study that takes one of these steps fails the test."""

    def make(*names: str) -> None:
        for name in names:

            def refuse(*_args: Any, _name: str = name, **_options: Any) -> None:
                raise AssertionError(f"{_name} was called")

            monkeypatch.setattr(STEPS[name], name, refuse)

    return make
