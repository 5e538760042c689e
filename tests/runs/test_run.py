"""Real runs of a tiny BERT: the numbers, the files, and every way in which a run can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from small_runs import train_here
from transformers import AutoModel
from watching import ENDLESS, PATIENCE, wait_until, wait_until_training, worker_of

from gelora_viz import LocalExecutor, attach, launch, load_texts, measure_spectra
from gelora_viz.errors import InputError, RunError, StudyError
from gelora_viz.runs import RunFolder
from gelora_viz.training import trainer


@pytest.fixture(scope="module")
def ended(spec_of, tmp_path_factory):
    """Name -> Run of workers that ended in different ways; side by side, because each takes long to start."""
    folder = tmp_path_factory.mktemp("runs")
    unlabelled = folder / "unlabelled.jsonl"
    unlabelled.write_text("".join(json.dumps({"text": f"text {number}"}) + "\n" for number in range(50)))
    specs = {
        "finished": spec_of("finished"),
        "failed": spec_of("failed", data=str(unlabelled)),
        "cancelled": spec_of("cancelled", **ENDLESS),
        "killed": spec_of("killed", **ENDLESS),
    }
    side_by_side = LocalExecutor(at_once=len(specs), queue=folder / "queue")
    runs = {name: launch(spec, run_dir=folder / name, executor=side_by_side) for name, spec in specs.items()}
    cancelled, killed = runs["cancelled"], runs["killed"]
    for run in (cancelled, killed):
        wait_until_training(run)
    with pytest.raises(RunError, match=r"a run is going on in .*cancelled; cancel it, or choose another folder"):
        launch(spec_of("cancelled"), run_dir=cancelled.path)
    with pytest.raises(RunError, match="is still running after 0 s"):
        cancelled.wait(timeout=0, progress=False)
    os.kill(worker_of(killed).pid, signal.SIGKILL)
    started = time.monotonic()
    cancelled.cancel(grace=60)
    seconds = time.monotonic() - started
    for name in ("finished", "failed"):
        runs[name].wait(timeout=PATIENCE, progress=False)
    return runs, seconds


# A run that finishes


@pytest.fixture(scope="module")
def finished(ended):
    return ended[0]["finished"]


def test_a_finished_run_leaves_the_files_of_the_protocol_and_nothing_half_written(finished):
    assert (finished.status, finished.message) == ("finished", "")
    names = {path.name for path in finished.path.iterdir() if path.name != "trainer"}
    assert names == {
        "spec.json", "status.json", "metrics.jsonl", "adapter", "predictions.json", "spectrum.json", "result.json",
        "log.txt", "lock",
    }  # fmt: skip


def test_metrics_hold_every_step_s_loss_and_as_many_evaluations_as_asked_for(finished):
    metrics = finished.metrics
    losses = metrics.dropna(subset="loss")
    assert losses["step"].tolist() == list(range(1, 11))
    assert np.isfinite(losses["loss"]).all()
    assert metrics["seconds"].is_monotonic_increasing
    scored = metrics.dropna(subset="eval_accuracy")
    assert scored["step"].tolist() == [5, 10]
    assert scored["eval_accuracy"].between(0, 1).all()
    assert np.isfinite(scored["eval_loss"]).all()


def test_the_learning_rate_reaches_its_value_at_once_and_then_falls_evenly(finished):
    rates = finished.metrics["learning_rate"].dropna().to_numpy()
    assert rates.max() == pytest.approx(5e-3)
    falling = rates[rates.argmax() :]
    assert len(falling) >= 9
    np.testing.assert_allclose(np.diff(falling), -5e-3 / 9, rtol=1e-6)


def test_the_numbers_are_those_of_the_predictions(finished):
    result = finished.result()
    labels, predicted = result.predictions["label"], result.predictions["predicted"]
    assert result.numbers["n_test"] == len(labels) == 36
    assert result.numbers["n_train"] == len(load_texts(result.spec.data).texts("train"))
    assert set(labels) == {"weather", "kitchen", "journey"}
    assert set(predicted) <= set(labels)
    assert result.numbers["accuracy"] == pytest.approx((labels == predicted).mean())
    assert result.numbers["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert result.numbers["steps"] == 10
    assert result.numbers["seconds"] > 0


def test_parameters_are_counted_as_planned_and_the_head_apart(finished, bert_plan):
    numbers = finished.result().numbers
    assert numbers["n_parameters"] == bert_plan.n_parameters
    assert numbers["n_head_parameters"] == 3 * 32 + 3


def test_the_spectrum_is_that_of_the_saved_adapter(finished, bert_plan, tiny_folder):
    spectrum = finished.result().spectrum
    assert set(spectrum.frame["module"]) == set(bert_plan.ranks)
    assert (spectrum.frame["norm"] > 0).all()
    assert spectrum.frame["utilisation"].between(0, 1.0001).all()
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_folder("bert")), finished.path / "adapter")
    for module, values in measure_spectra(model).singular_values.items():
        np.testing.assert_allclose(values, spectrum.singular_values[module], rtol=1e-6)


def test_the_adapter_folder_is_peft_s_own_with_safetensors_only(finished, tiny_folder, texts):
    folder = finished.path / "adapter"
    weights = {path.name for path in folder.iterdir()} - {"README.md", "adapter_config.json"}
    assert weights == {"adapter_model.safetensors", "head.safetensors"}
    base = AutoModel.from_pretrained(tiny_folder("bert")).eval()
    tokens = torch.arange(5, 15)[None]
    with torch.inference_mode():
        before = base(tokens).last_hidden_state
        adapted = PeftModel.from_pretrained(base, folder).eval()
        assert not torch.allclose(adapted(tokens).last_hidden_state, before)
    head = load_file(folder / "head.safetensors")
    assert {name: tuple(value.shape) for name, value in head.items()} == {"weight": (3, 32), "bias": (3,)}


def test_from_another_process_the_run_reads_the_same(finished):
    script = (
        "import sys, gelora_viz as gv; run = gv.attach(sys.argv[1]);"
        "print(run.status, run.name, len(run.metrics), run.result().numbers['accuracy'])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(finished.path)], capture_output=True, text=True, check=True
    ).stdout.split()
    here = attach(finished.path)
    assert told == [here.status, here.name, str(len(here.metrics)), str(here.result().numbers["accuracy"])]


def test_the_same_specification_and_seed_give_the_same_numbers_in_any_process(finished, spec_of, tmp_path):
    again = train_here(spec_of("finished"), tmp_path / "again")
    result = finished.result()
    same = ["accuracy", "macro_f1", "n_parameters", "steps", "n_train", "n_test"]
    assert {name: again.numbers[name] for name in same} == {name: result.numbers[name] for name in same}
    assert again.predictions.equals(result.predictions)
    first, second = finished.metrics["loss"].dropna(), attach(tmp_path / "again").metrics["loss"].dropna()
    np.testing.assert_allclose(second, first, rtol=1e-4)
    other = train_here(spec_of("finished", seed=1), tmp_path / "other")
    assert other.spec.seed == 1
    assert not np.allclose(attach(tmp_path / "other").metrics["loss"].dropna(), first, rtol=1e-3)


def test_cancelling_or_waiting_for_a_run_that_has_ended_changes_nothing(finished):
    finished.cancel()
    assert finished.wait(progress=False).status == "finished"
    assert not (finished.path / "cancel").exists()


# Runs that do not


def test_cancel_stops_a_run_within_seconds_and_keeps_the_adapter_but_has_no_result(ended):
    runs, seconds = ended
    cancelled = runs["cancelled"]
    assert seconds < 20
    assert cancelled.status == "cancelled"
    assert RunFolder(cancelled.path).worker_pid is None
    assert (cancelled.path / "adapter" / "adapter_model.safetensors").exists()
    assert not (cancelled.path / "result.json").exists()
    with pytest.raises(RunError, match="no result, its status is cancelled"):
        cancelled.result()


def test_a_killed_worker_is_a_failed_run_with_a_message(ended):
    killed = ended[0]["killed"]
    wait_until(lambda: killed.status != "running", 10)
    assert killed.status == attach(killed.path).status == "failed"
    assert "killed by SIGKILL, perhaps because memory ran out" in killed.message
    assert len(killed.metrics) > 0
    with pytest.raises(RunError, match=r"its status is failed: the worker died without reporting why .*log\.txt"):
        killed.result()


def test_a_run_without_labels_fails_with_the_cause_in_one_line(ended):
    failed = ended[0]["failed"]
    assert failed.status == "failed"
    assert "unlabelled.jsonl' has no labels" in failed.message
    assert "\n" not in failed.message
    assert "Traceback" in (failed.path / "log.txt").read_text()
    with pytest.raises(RunError, match=r"its status is failed: the data set .* has no labels"):
        failed.result()


def test_a_single_class_is_no_task(spec_of, tmp_path):
    file = tmp_path / "single.jsonl"
    file.write_text("".join(json.dumps({"text": f"text {n}", "label": "only"}) + "\n" for n in range(50)))
    with pytest.raises(
        InputError, match=r"single\.jsonl has the single class .*only.*; a classifier needs at least two"
    ):
        trainer.train(spec_of(data=str(file)), RunFolder(tmp_path))


def test_too_few_texts_to_hold_any_out_are_refused(spec_of, tmp_path):
    file = tmp_path / "few.jsonl"
    file.write_text("".join(json.dumps({"text": f"text {n}", "label": n % 2}) + "\n" for n in range(4)))
    with pytest.raises(InputError, match=r"few\.jsonl has no validation and no test texts"):
        trainer.train(spec_of(data=str(file)), RunFolder(tmp_path))


def test_a_plan_for_another_model_fails_before_training(spec_of, tiny_folder, tmp_path):
    with pytest.raises(InputError, match="the plan was made for another model"):
        trainer.train(spec_of(model=str(tiny_folder("gpt2"))), RunFolder(tmp_path))


@pytest.mark.cold
def test_a_run_can_be_started_again_in_its_folder_as_soon_as_it_has_ended(spec_of, tmp_path):
    spec = spec_of("again", adapter="frozen", steps=2)
    first = launch(spec, run_dir=tmp_path / "run")
    first.cancel(grace=0)  # it may not even have a worker yet
    assert first.status == "cancelled"
    again = launch(spec, run_dir=tmp_path / "run")  # no waiting for the worker to clean up after itself
    assert again.path == first.path
    assert again.wait(timeout=PATIENCE, progress=False).status == "finished"


def test_a_folder_that_cannot_be_written_is_refused_before_a_worker_starts(spec_of, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match="cannot write"):
        launch(spec_of(), run_dir=tmp_path / "file" / "run")


def test_an_unknown_executor_is_refused(spec_of, tmp_path):
    with pytest.raises(InputError, match="unknown executor 'cloud'; there is local, ray"):
        launch(spec_of(), run_dir=tmp_path / "run", executor="cloud")
    with pytest.raises(InputError, match=r"unexpected keyword argument 'at_one'.*; see LocalExecutor"):
        launch(spec_of(), run_dir=tmp_path / "run", at_one=2)
    with pytest.raises(InputError, match="at_once belong in the executor; give them to LocalExecutor"):
        launch(spec_of(), run_dir=tmp_path / "run", executor=LocalExecutor(), at_once=2)
    with pytest.raises(InputError, match="at_once is 0; give a whole number of at least 1"):
        launch(spec_of(), run_dir=tmp_path / "run", at_once=0)
    assert not (tmp_path / "run").exists()
