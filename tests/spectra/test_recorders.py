"""Recorders look on while a model trains: what they saw, that they changed nothing, and what survives a crash."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch
from peft import FourierFTConfig, LoraConfig, TaskType, get_peft_model
from small_training import classifier_of, train
from transformers import AutoModelForSequenceClassification, TrainerCallback, set_seed

from gelora_viz import (
    DimensionHistory,
    DimensionRecorder,
    SpectrumHistory,
    SpectrumRecorder,
    capture,
    estimate_dimension,
    measure_spectra,
)
from gelora_viz.errors import InputError, StudyError
from gelora_viz.spectra.recorders import _undisturbed

FAST = {"estimators": ["twonn", "mle"], "k": 5}


@pytest.fixture(scope="module")
def trained(tiny, labelled_texts, tmp_path_factory):
    """A classifier after 12 steps, and what both recorders saw of it every 5 steps."""
    model, tokenizer = tiny("bert")
    classifier = classifier_of(model)
    recorders = SpectrumRecorder(5), DimensionRecorder(tokenizer, labelled_texts[0][:120], 5, **FAST)
    train(classifier, tokenizer, labelled_texts, tmp_path_factory.mktemp("trained"), recorders)
    return classifier, *(recorder.history for recorder in recorders)


# What is recorded


def test_records_are_made_before_training_every_so_many_steps_and_once_at_the_end(trained):
    _, spectra, dimensions = trained
    assert spectra.steps == dimensions.steps == [0, 5, 10, 12]


def test_a_last_step_that_is_due_anyway_is_recorded_once(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(5)
    train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder], steps=10)
    assert recorder.history.steps == [0, 5, 10]


def test_a_training_that_is_stopped_early_is_recorded_where_it_stopped(tiny, labelled_texts, tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, _args, state, control, **_):
            control.should_training_stop = state.global_step == 7

    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(5)
    train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder, Stop()])
    assert recorder.history.steps == [0, 5, 7]


def test_the_last_record_is_of_the_last_step_where_the_best_weights_are_loaded_afterwards(
    tiny, labelled_texts, tmp_path
):
    model, tokenizer = tiny("bert")
    classifier, recorder = classifier_of(model), SpectrumRecorder(50)
    weights = {}

    class Keep(TrainerCallback):
        def on_step_end(self, _args, state, _control, **_):
            weights[state.global_step] = measure_spectra(classifier.backbone).frame

    train(
        classifier, tokenizer, labelled_texts, tmp_path, [Keep(), recorder], steps=6, save_strategy="steps",
        eval_strategy="steps", save_steps=2, eval_steps=2, load_best_model_at_end=True, metric_for_best_model="loss",
        greater_is_better=True,
    )  # fmt: skip
    assert recorder.history.steps == [0, 6]
    pd.testing.assert_frame_equal(recorder.history.at(6).frame, weights[6])
    assert not measure_spectra(classifier.backbone).frame.equals(weights[6])


def test_the_last_records_are_what_is_measured_after_training(trained, tiny, labelled_texts):
    classifier, spectra, dimensions = trained
    pd.testing.assert_frame_equal(spectra.at(12).frame, measure_spectra(classifier.backbone).frame)
    _, tokenizer = tiny("bert")
    activations = capture(classifier.backbone, tokenizer, labelled_texts[0][:120], progress=False)
    profile = estimate_dimension(activations, **FAST, progress=False)
    pd.testing.assert_frame_equal(dimensions.at(12).frame, profile.frame)


def test_the_first_record_is_of_the_adapter_before_it_has_moved(trained):
    _, spectra, _ = trained
    assert (spectra.at(0).frame["entropy_rank"] == 0).all()
    assert (spectra.at(12).frame["entropy_rank"] > 1).all()


def test_frames_have_the_step_before_the_result_s_own_columns(trained):
    _, spectra, dimensions = trained
    assert list(spectra.frame) == ["step", *spectra.at(0).frame]
    assert list(dimensions.frame) == ["step", *dimensions.at(0).frame]
    assert len(spectra.frame) == 4 * 6
    assert len(dimensions.frame) == 4 * 4 * 2
    assert spectra.frame["step"].unique().tolist() == spectra.steps


def test_a_step_that_was_not_recorded_is_refused_with_those_that_were(trained):
    _, spectra, dimensions = trained
    for history in (spectra, dimensions):
        with pytest.raises(InputError, match="step 3 was not recorded; choose among 0, 5, 10, 12"):
            history.at(3)


def test_methods_that_are_measured_as_a_whole_are_recorded_too(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(5)
    config = FourierFTConfig(n_frequency=30, target_modules=["query"])
    train(classifier_of(model, config), tokenizer, labelled_texts, tmp_path, [recorder], steps=5)
    assert recorder.history.at(5).method == "FOURIERFT"
    assert (recorder.history.at(5).frame["norm"] > recorder.history.at(0).frame["norm"]).any()


def test_a_peft_model_that_is_trained_itself_is_found(tiny, tiny_folder, labelled_texts, tmp_path):
    _, tokenizer = tiny("bert")
    headed = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=3)
    adapted = get_peft_model(headed, LoraConfig(r=2, target_modules=["query"], task_type=TaskType.SEQ_CLS))
    adapted.backbone = adapted.get_base_model()
    recorders = SpectrumRecorder(5), DimensionRecorder(tokenizer, labelled_texts[0][:60], 5, **FAST)
    train(adapted, tokenizer, labelled_texts, tmp_path, recorders, steps=5)
    assert recorders[0].history.at(5).frame["module"].tolist() == [
        f"bert.encoder.layer.{block}.attention.self.query" for block in range(3)
    ]
    assert recorders[1].history.at(5).layers[0] == "embeddings"


def test_dimensions_are_recorded_of_a_model_that_is_trained_whole(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = DimensionRecorder(tokenizer, labelled_texts[0][:60], 5, pooling="tokens", max_points=200, **FAST)
    train(classifier_of(model, config=None), tokenizer, labelled_texts, tmp_path, [recorder], steps=5)
    assert recorder.history.pooling == "tokens"
    assert (recorder.history.frame["n_points"] <= 200).all()
    before, after = recorder.history.at(0).of("twonn"), recorder.history.at(5).of("twonn")
    assert (before["dimension"] != after["dimension"]).all()


# What is left alone


def test_weights_after_training_are_the_same_to_the_bit_with_recorders_and_without(
    trained, tiny, labelled_texts, tmp_path
):
    model, tokenizer = tiny("bert")
    alone = classifier_of(model)
    train(alone, tokenizer, labelled_texts, tmp_path)
    watched = trained[0].state_dict()
    assert all(torch.equal(weight, watched[name]) for name, weight in alone.state_dict().items())


def test_modes_gradients_and_random_states_are_given_back(tiny, labelled_texts):
    model, tokenizer = tiny("bert")
    classifier = classifier_of(model).train()
    classifier.backbone.get_base_model().pooler.eval()
    first, last = classifier.backbone.base_model.model.encoder.layer[0], classifier.head
    classifier.head.weight.grad = torch.ones_like(classifier.head.weight)
    modes = {name: module.training for name, module in classifier.named_modules()}
    needs = {name: parameter.requires_grad for name, parameter in classifier.named_parameters()}
    set_seed(1)
    for recorder in (SpectrumRecorder(), DimensionRecorder(tokenizer, labelled_texts[0][:60], **FAST)):
        recorder._record(1, classifier)
    assert {name: module.training for name, module in classifier.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in classifier.named_parameters()} == needs
    assert torch.equal(last.weight.grad, torch.ones_like(last.weight))
    assert all(parameter.grad is None for parameter in first.parameters())
    drawn = draw()
    set_seed(1)
    assert drawn == draw()


def draw():
    """One number from each generator that a training may use."""
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002, S311


def test_what_is_drawn_while_recording_is_not_missed_afterwards():
    set_seed(0)
    expected = draw()
    set_seed(0)
    with _undisturbed():
        draw()
    assert draw() == expected


# Crashes, resumptions and divergence


class Crash(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, _args, state, _control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_crash_loses_no_record(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(5, path=tmp_path / "study" / "spectra.json")
    with pytest.raises(KeyboardInterrupt):
        train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder, Crash(8)])
    assert SpectrumHistory.load(tmp_path / "study" / "spectra.json").steps == [0, 5]
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["spectra.json"]


@pytest.mark.parametrize("kind", ["spectra", "dimensions"])
def test_a_resumed_training_goes_on_with_the_records_of_the_interrupted_one(tiny, labelled_texts, tmp_path, kind):
    model, tokenizer = tiny("bert")

    def recorder():
        path = tmp_path / "history.json"
        if kind == "spectra":
            return SpectrumRecorder(3, path=path)
        return DimensionRecorder(tokenizer, labelled_texts[0][:60], 3, path=path, **FAST)

    saving = {"save_strategy": "steps", "save_steps": 4}
    with pytest.raises(KeyboardInterrupt):
        train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder(), Crash(7)], **saving)
    again = recorder()
    checkpoint = str(tmp_path / "checkpoint-4")
    train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [again], resume=checkpoint, **saving)
    assert again.history.steps == [0, 3, 4, 6, 9, 12]


def test_a_training_from_the_start_begins_a_history_of_its_own(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(5, path=tmp_path / "spectra.json")
    for steps in (10, 5):
        train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder], steps=steps)
    assert SpectrumHistory.load(tmp_path / "spectra.json").steps == recorder.history.steps == [0, 5]


def test_an_adapter_that_diverges_is_reported_and_training_goes_on(tiny, labelled_texts, tmp_path, caplog):
    class Diverge(TrainerCallback):
        def on_step_begin(self, _args, state, _control, model, **_):
            if state.global_step == 6:
                with torch.no_grad():
                    next(p for n, p in model.named_parameters() if "lora_B" in n).fill_(float("nan"))

    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(5)
    trainer = train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder, Diverge()])
    assert trainer.state.global_step == 12
    assert recorder.history.steps == [0, 5]
    assert "nothing recorded at step 10: the update of" in caplog.text


def test_a_history_that_cannot_be_written_is_reported_before_training(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    (tmp_path / "file").touch()
    recorder = SpectrumRecorder(5, path=tmp_path / "file" / "spectra.json")
    with pytest.raises(StudyError, match="cannot write"):
        train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder])


# Histories


@pytest.mark.parametrize("place", [1, 2])
def test_a_history_read_back_is_the_one_that_was_saved(trained, tmp_path, place):
    history = trained[place]
    loaded = type(history).load(history.save(tmp_path / "history.json"))
    pd.testing.assert_frame_equal(loaded.frame, history.frame, check_dtype=False)
    assert loaded.steps == history.steps
    assert repr(loaded) == repr(history)
    assert repr(history).endswith("(4 steps, 0 to 12)")
    assert history._repr_html_().count("<tr>") == len(history.frame) + 1
    other = DimensionHistory if place == 1 else SpectrumHistory
    with pytest.raises(StudyError, match="not a"):
        other.load(tmp_path / "history.json")


def test_an_empty_history_has_the_columns_and_no_rows(tmp_path):
    for history in (SpectrumHistory({}), DimensionHistory({})):
        assert history.frame.empty
        assert "step" in history.frame
        assert type(history).load(history.save(tmp_path / "empty.json")).steps == []
    with pytest.raises(InputError, match="nothing was recorded"):
        DimensionHistory({}).changes()


def test_changes_are_differences_between_steps_with_intervals_from_paired_halves(trained):
    _, _, history = trained
    changes = history.changes("mle")
    assert changes["step"].unique().tolist() == [5, 10, 12]
    last = changes[changes["step"] == 12].reset_index(drop=True)
    before, after = history.at(0).of("mle"), history.at(12).of("mle")
    np.testing.assert_allclose(last["change"], after["dimension"] - before["dimension"])
    assert last["layer"].tolist() == after["layer"].tolist()
    moved = last.iloc[1:]  # the embeddings do not train
    unpaired = np.hypot(before["std_error"], after["std_error"])[1:]
    assert (moved["std_error"] < unpaired).mean() > 0.5
    assert (moved["std_error"] > 0).all()


def test_what_does_not_train_has_not_changed_and_is_within_noise(trained):
    _, _, history = trained
    embeddings = history.changes().query("layer == 'embeddings'")
    assert (embeddings[["change", "std_error", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert embeddings["within_noise"].all()


def test_changes_can_be_counted_from_any_recorded_step(trained):
    _, _, history = trained
    assert history.changes(since=10)["step"].unique().tolist() == [12]
    assert history.changes(since=12).empty
    with pytest.raises(InputError, match="step 7 was not recorded"):
        history.changes(since=7)
    with pytest.raises(InputError, match="no estimates of 'gride'; it has twonn, mle"):
        history.changes("gride")


def test_steps_that_read_other_points_have_no_paired_changes(trained, tiny, texts):
    model, tokenizer = tiny("bert")
    _, _, history = trained
    other = estimate_dimension(capture(model, tokenizer, texts[:119], progress=False), **FAST, progress=False)
    with pytest.raises(InputError, match="steps 0 and 12 were estimated from other points or with other options"):
        DimensionHistory({0: history.at(0), 12: other}).changes()


# What is refused before training


def test_a_model_without_an_adapter_has_no_spectrum_to_record(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match="the TextClassifier being trained holds no PEFT model"):
        train(classifier_of(model, config=None), tokenizer, labelled_texts, tmp_path, [SpectrumRecorder()])


def test_an_adapter_of_another_name_is_refused_before_the_first_step(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = SpectrumRecorder(adapter_name="other")
    with pytest.raises(InputError, match="no adapter 'other'; the model has default"):
        train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder])


def test_texts_too_few_for_an_estimate_are_refused_before_the_first_step(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    recorder = DimensionRecorder(tokenizer, labelled_texts[0][:8])
    with pytest.raises(InputError, match="8 points are too few"):
        train(classifier_of(model), tokenizer, labelled_texts, tmp_path, [recorder])


def test_what_holds_no_transformer_cannot_be_captured(tiny):
    with pytest.raises(InputError, match="the Linear being trained holds no transformer"):
        DimensionRecorder(tiny("bert")[1], ["a", "b"])._record(0, torch.nn.Linear(2, 2))


def test_sharded_weights_are_refused(tiny, labelled_texts, tmp_path):
    model, tokenizer = tiny("bert")
    classifier = classifier_of(model)
    classifier.head.weight.ds_id = 0  # as DeepSpeed marks what each process holds a part of
    with pytest.raises(InputError, match=r"head\.weight is sharded over processes"):
        train(classifier, tokenizer, labelled_texts, tmp_path, [SpectrumRecorder()])


@pytest.mark.parametrize("every", [0, -1, 2.5, True, "10"])
def test_steps_between_records_are_a_whole_number(every):
    with pytest.raises(InputError, match=r"every is .*; give a whole number of at least 1"):
        SpectrumRecorder(every)


def test_a_seed_is_checked_when_the_recorder_is_made(tiny):
    with pytest.raises(InputError, match="seed is -1"):
        DimensionRecorder(tiny("bert")[1], ["a"], seed=-1)
