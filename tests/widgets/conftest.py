"""Two small studies of the tiny BERT: one to start runs in, and one with finished runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from study_examples import finish, make_planned_study

from gelora_viz import Study


@pytest.fixture(scope="session")
def planned_study(tiny_folder, labelled_texts, tmp_path_factory) -> Path:
    """Folder of a study with the plan "uniform" and no runs; read it, do not write to it."""
    return make_planned_study(
        tmp_path_factory.mktemp("studies") / "planned", tiny_folder("bert"), *labelled_texts
    ).path


@pytest.fixture
def study(planned_study, tmp_path) -> Study:
    """A copy of it to write to."""
    return Study.open(shutil.copytree(planned_study, tmp_path / "study"))


@pytest.fixture(scope="session")
def finished_study(planned_study, tmp_path_factory) -> Path:
    """The same with a profile, the plan "gelora" and three finished runs; read it, do not write to it."""
    folder = Path(shutil.copytree(planned_study, tmp_path_factory.mktemp("studies") / "finished"))
    finish(Study.open(folder))
    return folder
