"""The files between a worker and its watchers: readable at any moment, whatever has died."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from gelora_viz import RunResult, RunSpec, attach, launch
from gelora_viz.errors import InputError, RunError, StudyError
from gelora_viz.runs import RunFolder, explain
from gelora_viz.runs.liveness import identify


@pytest.fixture
def folder(spec_of, tmp_path):
    spec_of("run").save(tmp_path / "run" / "spec.json")
    return RunFolder(tmp_path / "run")


def write_status_of_a_dead_process(folder, status):
    folder.write_status(status)
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    who = identify(process.pid)
    process.wait()
    rewrite(folder.path / "status.json", **who)


def rewrite(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_before_the_worker_says_anything_the_run_is_queued_and_has_no_metrics(folder):
    run = attach(folder.path)
    assert (run.name, run.status, run.message) == ("run", "queued", "")
    assert run.metrics.empty
    with pytest.raises(RunError, match="'run' has no result, its status is queued; wait for it first"):
        run.result()


def test_a_running_worker_that_is_alive_is_running(folder):
    folder.write_status("running")
    assert attach(folder.path).status == "running"


def test_a_running_worker_whose_process_is_gone_has_failed_and_the_message_says_where_to_look(folder):
    write_status_of_a_dead_process(folder, "running")
    run = attach(folder.path)
    assert run.status == "failed"
    assert "died without reporting why" in run.message
    assert "log.txt" in run.message
    with pytest.raises(RunError, match="its status is failed: the worker died without reporting why"):
        run.result()


def test_a_dead_worker_that_had_written_its_result_has_finished(folder):
    write_status_of_a_dead_process(folder, "running")
    folder.write_result({"accuracy": 0.5, "n_test": 2, "seconds": 1.0})
    assert folder.read_status() == ("finished", "")
    folder.write_status("failed", "the process that started the worker was killed")  # too late
    assert folder.read_status() == ("finished", "")


def test_a_dead_worker_that_had_been_asked_to_stop_is_cancelled(folder):
    write_status_of_a_dead_process(folder, "running")
    folder.ask_to_stop()
    assert folder.read_status() == ("cancelled", "killed before the trained weights were saved")
    write_status_of_a_dead_process(folder, "queued")
    assert folder.read_status() == ("cancelled", "")


def test_a_run_on_another_machine_that_does_not_answer_is_not_killed_from_here(folder):
    folder.write_status("running")
    rewrite(folder.path / "status.json", host="elsewhere", pid=os.getpid())
    with pytest.raises(RunError, match="run 'run' is on elsewhere and does not answer; it will stop once it does"):
        attach(folder.path).cancel(grace=0)
    assert folder.is_asked_to_stop


def test_a_run_that_a_cluster_has_found_no_place_for_waits_and_can_be_withdrawn(folder):
    folder.write_status("queued", who={**identify(), "host": "elsewhere", "pid": None, "is_worker": False})
    run = attach(folder.path)
    assert run.status == "queued"
    with pytest.raises(RunError, match="a run is going on in"):
        launch(RunSpec.load(folder.path / "spec.json"), run_dir=folder.path)
    run.cancel()
    assert (run.status, run.message) == ("cancelled", "")


def test_a_folder_is_written_whole_or_not_at_all(folder):
    with folder.write_whole("adapter") as target:
        (target / "one").write_text("first")
    with pytest.raises(FileNotFoundError), folder.write_whole("adapter") as target:
        (target / "missing" / "two").write_text("second")
    with folder.write_whole("other"):
        pass
    assert (folder.path / "adapter" / "one").read_text() == "first"
    assert {path.name for path in folder.path.iterdir()} == {"spec.json", "adapter", "other"}


def test_ballast_makes_room_for_the_last_word(folder, monkeypatch):
    written = []

    def full(path, kind, content):
        written.append(content["message"])
        if (folder.path / ".reserve").exists():
            raise StudyError("no space") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gelora_viz.runs.folder.write_json", full)
    with folder.reserve_disk_space():
        folder.write_status("failed", "the cause")
        assert not (folder.path / ".reserve").exists()
    assert written == ["the cause", "the cause"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), ("out of memory; lower batch_size or max_length", 3)),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            ("out of memory (CUDA out of memory. Tried); lower", 3),
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ("out of memory (DefaultCPUAllocator", 3)),
        (OSError(errno.ENOSPC, "No space left on device"), ("no disk space left for run; free some", 1)),
        (InputError("max_length is 0"), ("max_length is 0", 2)),
        (ZeroDivisionError("division by zero\nsecond line"), ("ZeroDivisionError: division by zero", 1)),
        (KeyError(), ("KeyError: ", 1)),
    ],
)
def test_every_error_is_one_line_and_an_exit_status(error, expected):
    message, code = explain(error, Path("run"))
    assert message.startswith(expected[0])
    assert "\n" not in message
    assert code == expected[1]


def test_metrics_are_the_complete_lines_and_a_half_written_one_is_ignored(folder):
    folder.append_metrics({"step": 1, "loss": 1.5, "learning_rate": 0.01, "seconds": 0.1})
    folder.append_metrics({"step": 2, "eval_loss": 1.25, "eval_accuracy": 0.5, "seconds": 0.2})
    complete = folder.read_metrics()
    assert complete["step"].tolist() == [1, 2]
    assert complete["loss"].tolist()[0] == 1.5
    assert complete["eval_accuracy"].tolist()[1] == 0.5
    with (folder.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')
    pd.testing.assert_frame_equal(folder.read_metrics(), complete)


def test_a_line_that_a_full_disk_cut_off_is_passed_over(folder):
    folder.append_metrics({"step": 1, "loss": 1.5})
    with (folder.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 2, "lo{"step": 3, "loss": 1.0}\n')
    folder.append_metrics({"step": 4, "loss": float("nan")})
    assert folder.read_metrics()["step"].tolist() == [1, 4]
    assert pd.isna(folder.read_metrics()["loss"].iloc[1])


def test_metrics_are_those_of_the_file_that_is_there(folder):
    for step in range(5):
        folder.append_metrics({"step": step})
    assert len(folder.read_metrics()) == 5
    (folder.path / "metrics.jsonl").write_text('{"step": 7}\n')  # of a run that began again
    assert folder.read_metrics()["step"].tolist() == [7]
    (folder.path / "metrics.jsonl").unlink()
    assert folder.read_metrics().empty


def test_a_file_that_is_nothing_but_a_half_written_line_holds_no_metrics(folder):
    (folder.path / "metrics.jsonl").write_text('{"step": 1')
    assert folder.read_metrics().empty
    assert "eval_accuracy" in folder.read_metrics().columns


def test_a_result_comes_back_with_its_specification_and_predictions(folder):
    folder.write_predictions(["text one", "text two"], ["a", "b"], ["a", "a"], ["g", None])
    folder.write_result({"accuracy": 0.5, "n_test": 2, "seconds": 1.0})
    result = RunResult.load(folder.path)
    assert result.numbers["accuracy"] == 0.5
    assert result.spectrum is None
    assert result.predictions["predicted"].tolist() == ["a", "a"]
    assert result.predictions["group"].iloc[0] == "g"
    assert pd.isna(result.predictions["group"].iloc[1])
    assert result.frame.loc[0, "run"] == "run"
    assert "accuracy 0.500 on 2 texts" in repr(result)
    assert "<table" in result._repr_html_()


def test_a_language_model_s_result_keeps_tokens_and_likelihoods_of_every_text(folder):
    folder.write_likelihoods(["text one", "text two"], [3, 4], [2.5, 1.25], ["g", None])
    folder.write_result({"perplexity": 1.708, "n_test": 2, "seconds": 1.0})
    result = RunResult.load(folder.path)
    assert list(result.predictions) == ["n_tokens", "nll", "group"]
    assert result.predictions["nll"].tolist() == [2.5, 1.25]
    assert "perplexity 1.708 on 2 texts" in repr(result)


def test_a_folder_without_a_result_says_so(folder):
    with pytest.raises(StudyError, match="no run result at"):
        RunResult.load(folder.path)


def test_attaching_to_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"no run at .*; give the folder of a run"):
        attach(tmp_path)
