"""Training in this process: comparable whatever the adapter, repeatable, and told about while it goes on."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, VeraConfig
from small_runs import TIMES, before_each_step, losses_of, metrics_of, texts_by_step, train_here

from gelora_viz import SpectrumHistory
from gelora_viz.errors import InputError, RunError
from gelora_viz.runs import METRICS, RunFolder
from gelora_viz.training import trainer
from gelora_viz.training.adapting import adapt
from gelora_viz.training.classification import Classification

NO_DROPOUT = {"model": "llama", "adapter": LoraConfig(r=2, target_modules=["q_proj"])}


# The same for every method


def test_every_method_reads_the_same_texts_in_the_same_order(spec_of, bert_plan, tmp_path, monkeypatch):
    # 126 texts in batches of 16: passes begin at the first, ninth and seventeenth step, so later shuffles count.
    def read(name, adapter, **differing):
        return texts_by_step(monkeypatch, spec_of(name, adapter=adapter, steps=20, **differing), tmp_path / name)

    frozen = read("frozen", "frozen")
    assert [len(texts) for texts in frozen] == ([16] * 7 + [14]) * 2 + [16] * 4
    assert frozen[8] != frozen[0], "no new order in the second pass"
    assert read("plan", bert_plan) == frozen
    assert read("dropout", LoraConfig(target_modules=["query"], lora_dropout=0.3)) == frozen
    assert read("vera", VeraConfig(target_modules=["query"], r=4)) == frozen
    assert read("full", "full", gradient_accumulation=4) == frozen


def test_every_method_starts_from_the_same_head(spec_of, bert_plan):
    def head(**differing):
        return Classification(spec_of(**differing)).head[0]

    first = head(adapter="frozen")
    for adapter in (bert_plan, VeraConfig(target_modules=["query"], r=4), "full"):
        assert torch.equal(head(adapter=adapter), first)
    assert not torch.equal(head(adapter="frozen", seed=1), first)


def test_another_seed_trains_and_tests_on_the_same_texts(spec_of):
    tasks = [Classification(spec_of(adapter="frozen", seed=seed)) for seed in (0, 1)]
    assert tasks[0].data.digest == tasks[1].data.digest
    assert Classification(spec_of(adapter="frozen", data_seed=1)).data.digest != tasks[0].data.digest


def test_the_frozen_probe_trains_the_head_alone_and_has_no_spectrum(spec_of, tmp_path):
    result = train_here(spec_of("frozen", adapter="frozen", steps=3), tmp_path / "frozen")
    assert result.numbers["n_parameters"] == 0
    assert result.numbers["n_head_parameters"] == 99
    assert result.numbers["learning_rate"] is None
    assert result.spectrum is None
    assert not (tmp_path / "frozen" / "spectrum.json").exists()
    assert [path.name for path in (tmp_path / "frozen" / "adapter").iterdir()] == ["head.safetensors"]


def test_the_same_specification_gives_the_same_metrics_and_predictions_to_the_last_digit(spec_of, tmp_path):
    first, second = (train_here(spec_of(steps=4, gradient_accumulation=2), tmp_path / name) for name in ("a", "b"))
    pd.testing.assert_frame_equal(
        metrics_of(tmp_path / "a").drop(columns=TIMES), metrics_of(tmp_path / "b").drop(columns=TIMES)
    )
    assert first.predictions.equals(second.predictions)
    assert first.numbers["accuracy"] == second.numbers["accuracy"]


# Told while it goes on


@pytest.fixture(scope="module")
def trained(spec_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train_here(spec_of(steps=6, batch_size=8), folder), metrics_of(folder)


def test_every_log_tells_speed_memory_and_the_time_to_go(trained):
    _, metrics = trained
    assert tuple(metrics.columns) == METRICS
    logged = metrics.dropna(subset="loss")
    assert logged["step"].tolist() == list(range(1, 7))
    assert (logged["tokens_per_second"] > 0).all()
    assert logged["memory_mb"].between(50, 100_000).all()
    assert logged["gpu_memory_mb"].isna().all(), "there is no GPU"
    left = logged["eta_seconds"].to_numpy(dtype=float)
    assert left[-1] == 0 < left[0]


def test_every_evaluation_tells_loss_accuracy_and_macro_f1(trained):
    evaluated = trained[1].dropna(subset="eval_loss")
    assert evaluated["step"].tolist() == [3, 6]
    assert evaluated["eval_accuracy"].between(0, 1).all()
    assert evaluated["eval_f1"].between(0, 1).all()
    assert evaluated["eval_perplexity"].isna().all()


def test_the_result_keeps_speed_and_peak_memory(trained):
    result, metrics = trained
    assert result.numbers["peak_memory_mb"] >= metrics["memory_mb"].max()
    assert result.numbers["tokens_per_second"] > 0
    assert result.numbers["precision"] == "float32"
    assert result.numbers["micro_batch_size"] == 8
    assert result.numbers["n_parameters_kept"] == result.numbers["n_parameters"]


def test_speed_counts_the_tokens_that_were_trained_on_and_no_padding(spec_of, tmp_path, monkeypatch):
    seen = []
    counted = []
    original = trainer.CountingTrainer.tokens_per_second
    monkeypatch.setattr(
        trainer.CountingTrainer,
        "tokens_per_second",
        lambda trainer, seconds: counted.append(int(trainer.n_tokens)) or original(trainer, seconds),
    )
    with before_each_step(monkeypatch, lambda _, inputs: seen.append(int(inputs["attention_mask"].sum()))):
        train_here(spec_of(adapter="frozen", steps=3), tmp_path / "run")
    assert counted == [sum(seen)]


def test_a_loss_that_is_no_number_stops_the_run_with_its_step_and_learning_rate(spec_of, tmp_path, monkeypatch):
    original, losses = Classification.mean_loss, []

    def diverge(*inputs):
        losses.append(original(*inputs))
        return losses[-1] * (math.nan if len(losses) > 1 else 1)

    monkeypatch.setattr(Classification, "mean_loss", diverge)
    with pytest.raises(RunError, match=r"the loss became nan by step 2 at learning rate .* \(at most 0\.005, head"):
        train_here(spec_of(steps=3), tmp_path / "run")


def test_cancel_ends_an_evaluation_too_and_keeps_the_adapter(spec_of, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    spec_of().save(folder.path / "spec.json")
    original = trainer.CountingTrainer.evaluate

    def evaluate(trainer, *rest, **options):
        (folder.path / "cancel").touch()
        return original(trainer, *rest, **options)

    monkeypatch.setattr(trainer.CountingTrainer, "evaluate", evaluate)
    assert not trainer.train(spec_of(steps=6), folder)
    assert folder.read_metrics()["step"].max() == 3, "evaluated once, after half of the steps"
    assert (folder.path / "adapter" / "adapter_model.safetensors").exists()
    assert not (folder.path / "result.json").exists()


# How it is computed


def test_a_step_read_in_pieces_has_the_same_losses(spec_of, tiny_folder, tmp_path):
    options = {
        **NO_DROPOUT,
        "model": str(tiny_folder("llama")),
        "steps": 9,
    }  # the eighth has 14 texts, in pieces of 4, 4, 4 and 2
    train_here(spec_of(**options), tmp_path / "whole")
    train_here(spec_of(**options, gradient_accumulation=4), tmp_path / "pieces")
    np.testing.assert_allclose(losses_of(tmp_path / "pieces"), losses_of(tmp_path / "whole"), rtol=2e-5)


def test_hidden_states_computed_a_second_time_give_the_same_losses(spec_of, tiny, tiny_folder, tmp_path):
    options = {**NO_DROPOUT, "model": str(tiny_folder("llama")), "steps": 3}
    model = adapt(spec_of(**options, gradient_checkpointing=True), tiny("llama")[0], list)
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    for name, checkpointing in (("kept", False), ("again", True)):
        train_here(spec_of(**options, gradient_checkpointing=checkpointing), tmp_path / name)
    np.testing.assert_allclose(losses_of(tmp_path / "again"), losses_of(tmp_path / "kept"), rtol=1e-5)


def test_bfloat16_is_computed_in_where_asked_for(spec_of, tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        result = train_here(spec_of(adapter="frozen", steps=2, precision=precision), tmp_path / precision)
        assert result.numbers["precision"] == precision
        losses[precision] = losses_of(tmp_path / precision)
    assert not np.array_equal(losses["bfloat16"], losses["float32"])
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=2e-2)


def test_float16_without_a_gpu_is_refused_before_anything_is_read(spec_of, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="precision float16 needs a GPU, and there is none; choose bfloat16 or"):
        trainer.train(spec_of(data="nowhere", precision="float16"), RunFolder(tmp_path))


def test_the_schedule_is_transformers_of_that_name(spec_of, tmp_path):
    train_here(spec_of(adapter="frozen", steps=8, schedule="cosine", warmup=0.25), tmp_path / "run")
    rates = metrics_of(tmp_path / "run")["learning_rate"].dropna().to_numpy(dtype=float)
    cosine = [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    np.testing.assert_allclose(rates, 5e-3 * np.array([0, 0.5, *cosine]), rtol=1e-6)


# Spectra on the way


def test_spectra_are_recorded_every_so_many_steps_without_changing_the_training(spec_of, tmp_path):
    watched = train_here(spec_of(steps=5, spectra_every=2), tmp_path / "watched")
    history = SpectrumHistory.load(tmp_path / "watched" / "spectra.json")
    assert list(history.spectra) == [0, 2, 4, 5]
    assert (history.spectra[0].frame["norm"] == 0).all()
    pd.testing.assert_frame_equal(history.spectra[5].frame, watched.spectrum.frame)
    alone = train_here(spec_of(steps=5), tmp_path / "alone")
    assert losses_of(tmp_path / "watched").tolist() == losses_of(tmp_path / "alone").tolist()
    assert alone.predictions.equals(watched.predictions)
    assert not (tmp_path / "alone" / "spectra.json").exists()


# Out of memory


def out_of_memory_above(n_texts, at_step=0):
    """A GPU that holds so many texts at a time."""

    def look(trainer, inputs):
        if len(inputs["input_ids"]) > n_texts and trainer.state.global_step == at_step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return look


def test_out_of_memory_begins_again_with_half_the_texts_at_a_time_and_the_same_steps(
    spec_of, tmp_path, monkeypatch, caplog
):
    options = {"steps": 4, "batch_size": 12}
    with before_each_step(monkeypatch, out_of_memory_above(4, at_step=2)):
        result = train_here(spec_of(**options), tmp_path / "small")
    assert result.numbers["micro_batch_size"] == 3, "12, 6, 3"
    assert [record.args for record in caplog.records if "out of memory" in record.message] == [(12, 6), (6, 3)]
    told = train_here(spec_of(**options, gradient_accumulation=4), tmp_path / "told")
    pd.testing.assert_frame_equal(
        metrics_of(tmp_path / "small").drop(columns=TIMES), metrics_of(tmp_path / "told").drop(columns=TIMES)
    )
    assert result.predictions.equals(told.predictions)


def test_what_cannot_be_halved_goes_on_with_the_next_divisor(spec_of, tmp_path, monkeypatch):
    with before_each_step(monkeypatch, out_of_memory_above(5)):
        result = train_here(spec_of(adapter="frozen", steps=2, batch_size=15), tmp_path / "run")
    assert result.numbers["micro_batch_size"] == 5


def test_memory_that_does_not_hold_a_single_text_fails_as_it_did(spec_of, tmp_path, monkeypatch):
    with (
        before_each_step(monkeypatch, out_of_memory_above(0)),
        pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"),
    ):
        train_here(spec_of(adapter="frozen", steps=2, batch_size=4), tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
