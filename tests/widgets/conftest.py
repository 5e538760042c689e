"""A small study to start runs in: texts of three classes and one plan for the tiny BERT."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from gelora_viz import Study


@pytest.fixture(scope="session")
def planned_study(tiny_folder, labelled_texts, tmp_path_factory) -> Path:
    """Folder of a study with the plan "uniform" and no runs; read it, do not write to it."""
    texts, labels = labelled_texts
    frame = pd.DataFrame({"text": texts[:180], "label": [f"class {label}" for label in labels[:180]]})
    study = Study(tmp_path_factory.mktemp("studies") / "planned", model=str(tiny_folder("bert")), data=frame)
    study.allocate("uniform", strategy="uniform", budget_rank=2)
    return study.path


@pytest.fixture
def study(planned_study, tmp_path) -> Study:
    """A copy of it to write to."""
    return Study(shutil.copytree(planned_study, tmp_path / "study"))
