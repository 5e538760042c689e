"""A study compares methods over seeds, keeps the comparison, shows it in its report and on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from peft import LoraConfig
from small_study import launch_here
from typer.testing import CliRunner

from gelora_viz import Study, list_runs
from gelora_viz.cli import app
from gelora_viz.comparison import rounds
from gelora_viz.errors import InputError, StudyError

FEW = {"steps": 3, "batch_size": 16, "progress": False, "seeds": (0, 1), "sweep_rates": False}


def launch_instead(spec, *, run_dir, executor):
    """For `launch`: in this process, whatever the executor."""
    assert executor is not None
    return launch_here(spec, run_dir=run_dir)


@pytest.fixture(scope="session")
def compared_study(finished_study, tmp_path_factory):
    """Folder of a study with a comparison of two methods over two seeds; read it, do not write to it."""
    folder = Path(shutil.copytree(finished_study, tmp_path_factory.mktemp("studies") / "compared"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "launch", launch_instead)
        Study.open(folder).compare(["frozen", "uniform"], **FEW)
    return folder


@pytest.fixture
def refuse_to_launch(monkeypatch):
    """Nothing may be trained any more."""

    def launch(spec, **_options):
        raise AssertionError(f"{spec.name} was launched")

    monkeypatch.setattr(rounds, "launch", launch)


def test_uniform_is_the_baseline_where_it_takes_part(compared_study):
    (comparison,) = Study.open(compared_study).comparisons().values()
    assert comparison.settings["baseline"] == "uniform"
    assert list(comparison.frame["verdict"])[1] == "baseline"
    assert (comparison.frame["n_seeds"] == 2).all()


def test_a_finished_comparison_is_read_back(compared_study, refuse_to_launch):
    again = Study.open(compared_study).compare(["frozen", "uniform"], **FEW)
    (kept,) = Study.open(compared_study).comparisons().values()
    assert again.frame.equals(kept.frame)


def test_single_runs_and_those_of_the_comparison_stand_side_by_side(compared_study):
    names = set(list_runs(compared_study)["run"])
    assert {"frozen", "uniform", "gelora", "comparison/uniform/lr0.002-seed1"} <= names
    assert [result.spec.name for result in Study.open(compared_study).results()] == ["frozen", "uniform", "gelora"]


def test_further_adapters_take_part_by_name(finished_study, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(finished_study, tmp_path / "study"))
    monkeypatch.setattr(rounds, "launch", launch_instead)
    dora = LoraConfig(r=2, target_modules=["query"], use_dora=True)
    found = Study.open(folder).compare({"dora": dora}, name="further", **FEW | {"seeds": [0]})
    assert list(found.frame["method"]) == ["LORA, DoRA"]
    assert (folder / "runs" / "further" / "comparison.json").exists()


def test_the_report_shows_the_comparison_with_its_words_and_tables(compared_study, tmp_path):
    folder = Path(shutil.copytree(compared_study, tmp_path / "study"))
    page = Study.open(folder).report().read_text()
    assert "Over seeds: comparison" in page
    assert "2 seeds say little about the variation between seeds" in page
    for file in ("tables/comparisons.csv", "tables/comparison_runs.csv", "figures/comparison_comparison.pdf"):
        assert (folder / file).exists()


def test_the_command_line_compares_and_says_what_it_means(compared_study, refuse_to_launch):
    asked = ["compare", str(compared_study), "--plan", "frozen", "--plan", "uniform", "--seeds", "2", "--no-sweep"]
    outcome = CliRunner().invoke(app, [*asked, "--steps", "3", "--batch-size", "16", "--quiet"])
    assert outcome.exit_code == 0, outcome.output
    assert "Test accuracy with 95 % intervals over seeds and test texts; seeds 0, 1" in outcome.output
    assert "- frozen against uniform: " in outcome.output
    table = CliRunner().invoke(app, ["results", str(compared_study)])
    assert "frozen" in table.output
    assert "Test accuracy with 95 % intervals over test texts; seed 0" in table.output


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        (["nothing"], {}, StudyError, "has no plan 'nothing'"),
        (["uniform"], {"name": "gelora"}, StudyError, "runs/gelora is a run; give the comparison another name"),
        (["uniform"], {"stepz": 3}, InputError, "stepz.*; options are the fields of RunSpec"),
        (["uniform"], {"baseline": "gelora"}, InputError, "no method 'gelora' to compare with"),
    ],
)
def test_what_cannot_be_compared_is_refused(finished_study, methods, options, error, message):
    with pytest.raises(error, match=message):
        Study.open(finished_study).compare(methods, **options)


def test_texts_without_labels_can_still_train_a_language_model(tmp_path, tiny_folder, texts):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("llama")), data=texts[:60])
    with pytest.raises(InputError, match='name its label column to train a classifier, or give task="causal-lm"'):
        study.compare(["frozen"])
    assert study._runs.spec("frozen", "frozen", {"task": "causal-lm"}).task == "causal-lm"
