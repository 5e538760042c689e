"""Runs of a folder as a table, however each of them ended."""

from __future__ import annotations

import pandas as pd
import pytest

from gelora_viz import attach, list_runs
from gelora_viz.errors import StudyError
from gelora_viz.runs import RunFolder


@pytest.fixture
def folder_of(spec_of, tmp_path):
    """`folder_of("name", seed=1)`: the folder of a run, within runs/ of a study."""

    def make(name, **differing):
        spec_of(name.rpartition("/")[2], **differing).save(tmp_path / "runs" / name / "spec.json")
        return RunFolder(tmp_path / "runs" / name)

    return make


def test_every_run_is_a_row_with_what_is_known_of_it(folder_of, tmp_path):
    finished = folder_of("finished", seed=3)
    finished.append_metrics({"step": 5, "loss": 1.25, "seconds": 2.0})
    finished.append_metrics({"step": 10, "eval_loss": 1.0, "seconds": 4.0})
    finished.write_result({"accuracy": 0.75, "n_test": 4, "seconds": 3.5})
    finished.write_status("finished")
    folder_of("sweep/failed", adapter="frozen").write_status("failed", "the cause")
    folder_of("waiting")
    table = list_runs(tmp_path).set_index("run")
    assert table.index.tolist() == ["finished", "sweep/failed", "waiting"]
    assert table["status"].tolist() == ["finished", "failed", "queued"]
    row = table.loc["finished"]
    assert (row["method"], row["seed"], row["step"], row["steps"]) == ("LoRA, uniform", 3, 10, 10)
    assert (row["loss"], row["accuracy"], row["seconds"]) == (1.25, 0.75, 3.5)
    assert pd.isna(row["perplexity"])
    assert (table.loc["sweep/failed", "method"], table.loc["sweep/failed", "message"]) == ("frozen", "the cause")
    assert table["started"].is_monotonic_increasing
    pd.testing.assert_frame_equal(list_runs(tmp_path / "runs"), list_runs(tmp_path))


def test_a_run_that_cannot_be_read_is_a_row_that_says_so(folder_of, tmp_path):
    (folder_of("garbled").path / "spec.json").write_bytes(b"\xff\x00")
    (folder_of("status").path / "status.json").write_text("{")
    result = folder_of("result")
    result.write_status("finished")
    (result.path / "result.json").write_text('{"kind": "run result", "schema_version": 99}')
    folder_of("fine")
    table = list_runs(tmp_path).set_index("run")
    assert table["status"].to_dict() == {
        "fine": "queued", "garbled": "unreadable", "result": "unreadable", "status": "unreadable",
    }  # fmt: skip
    assert "cannot read" in table.loc["garbled", "message"]
    assert "cannot read" in table.loc["status", "message"]
    assert "schema version 99" in table.loc["result", "message"]


def test_a_folder_without_runs_is_an_empty_table_and_one_that_is_not_there_is_refused(tmp_path):
    assert list_runs(tmp_path).empty
    assert "accuracy" in list_runs(tmp_path).columns
    with pytest.raises(StudyError, match=r"no folder .*nothing; give the folder of a study, or of its runs"):
        list_runs(tmp_path / "nothing")


def test_the_bar_ends_with_the_run_s_last_step_and_loss(folder_of, capsys):
    folder = folder_of("run")
    run = attach(folder.path)
    folder.write_result({"seconds": 1.0})
    folder.append_metrics({"step": 10, "loss": 0.5, "seconds": 1.0})
    folder.write_status("finished")
    assert run.wait() is run
    bar = capsys.readouterr().err
    assert "training run" in bar
    assert "10/10" in bar
    assert "loss=0.500" in bar
