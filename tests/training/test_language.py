"""Causal language models: perplexity, kept text by text, of the plain model and with every kind of adapter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel
from small_runs import losses_of, metrics_of, texts_by_step, train_here
from transformers import AutoModelForCausalLM, AutoTokenizer

from gelora_viz import RankPlan, allocate_ranks, load_model, load_texts, uniform_budget
from gelora_viz.errors import InputError
from gelora_viz.runs import RunFolder
from gelora_viz.training import trainer
from gelora_viz.training.adapting import plan_for
from gelora_viz.training.language import LanguageModeling


@pytest.fixture(scope="module")
def plan(tiny):
    """Made, as plans are, for the model without its head."""
    model, _ = tiny("llama")
    return allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))


@pytest.fixture(scope="module")
def trained(language_spec_of, plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    spec = language_spec_of(adapter=plan, steps=8, evaluations=2, learning_rate=1e-2)
    return train_here(spec, folder), folder


@torch.inference_mode()
def nll_of(model, tokenizer, texts):
    """Transformers' own loss of each text alone, times its tokens."""
    summed = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        summed.append(float(model(ids, labels=ids).loss) * (ids.shape[1] - 1))
    return summed


def test_predictions_keep_every_text_s_tokens_and_likelihood_as_transformers_computes_them(
    trained, language_model, data_file
):
    result, folder = trained
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(language_model), folder / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    texts = load_texts(str(data_file)).texts("test")
    np.testing.assert_allclose(result.predictions["nll"], nll_of(model, tokenizer, texts), rtol=1e-4)
    assert result.predictions["n_tokens"].tolist() == [len(tokenizer(text)["input_ids"]) - 1 for text in texts]


def test_perplexity_is_that_of_a_token(trained):
    result, _ = trained
    predictions, numbers = result.predictions, result.numbers
    mean = predictions["nll"].sum() / predictions["n_tokens"].sum()
    assert numbers["perplexity"] == pytest.approx(math.exp(mean))
    assert numbers["n_test_tokens"] == predictions["n_tokens"].sum()
    assert numbers["n_test"] == len(predictions) == 36
    assert "accuracy" not in numbers


def test_evaluations_tell_perplexity_and_the_loss_of_a_token(trained):
    evaluated = metrics_of(trained[1]).dropna(subset="eval_perplexity")
    assert evaluated["step"].tolist() == [4, 8]
    np.testing.assert_allclose(np.exp(evaluated["eval_loss"].astype(float)), evaluated["eval_perplexity"])
    assert evaluated["eval_accuracy"].isna().all()


def test_a_plan_for_the_model_without_head_finds_its_matrices(trained, plan):
    result, _ = trained
    assert result.numbers["n_parameters"] == plan.n_parameters
    assert set(result.spectrum.frame["module"]) == {f"model.{module}" for module in plan.ranks}
    assert result.numbers["n_head_parameters"] == 0


def test_training_lowers_perplexity(trained, language_spec_of, tmp_path):
    plain = train_here(language_spec_of("plain", adapter="frozen"), tmp_path / "plain")
    assert trained[0].numbers["perplexity"] < plain.numbers["perplexity"]


def test_frozen_is_the_model_as_it_is_and_trains_nothing(language_spec_of, language_model, data_file, tmp_path):
    result = train_here(language_spec_of(adapter="frozen"), tmp_path / "run")
    assert result.numbers["steps"] == result.numbers["n_parameters"] == 0
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(language_model),
        AutoTokenizer.from_pretrained(language_model),
    )
    texts = load_texts(str(data_file)).texts("test")
    np.testing.assert_allclose(result.predictions["nll"], nll_of(model, tokenizer, texts), rtol=1e-4)
    assert metrics_of(tmp_path / "run")["step"].tolist() == [0]
    assert list((tmp_path / "run" / "adapter").iterdir()) == []


def test_full_fine_tuning_saves_a_whole_language_model(language_spec_of, language_model, tmp_path):
    result = train_here(language_spec_of(adapter="full", steps=2), tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "adapter")
    assert result.numbers["n_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    base = AutoModelForCausalLM.from_pretrained(language_model)
    assert not torch.equal(model.lm_head.weight, base.lm_head.weight)


def test_adalora_and_task_types_of_peft_serve_language_models(language_spec_of, tmp_path):
    adalora = AdaLoraConfig(init_r=4, target_r=2, total_step=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    for name, config in (("adalora", adalora), ("lora", lora)):
        train_here(language_spec_of(name, adapter=config), tmp_path / name)
    # Both updates start at zero, and AdaLoRA's penalty is not part of the loss that is logged.
    assert losses_of(tmp_path / "adalora")[0] == pytest.approx(losses_of(tmp_path / "lora")[0], rel=1e-6)


def test_a_step_read_in_pieces_has_the_loss_of_all_its_tokens(language_spec_of, tmp_path):
    # Texts differ in length, so that a mean of the pieces' means would be another number.
    for name, pieces in (("whole", 1), ("pieces", 8)):
        train_here(language_spec_of(name, gradient_accumulation=pieces), tmp_path / name)
    np.testing.assert_allclose(losses_of(tmp_path / "pieces"), losses_of(tmp_path / "whole"), rtol=1e-5)


def test_every_method_reads_the_same_texts_in_the_same_order(language_spec_of, tmp_path, monkeypatch):
    def read(name, **differing):
        return texts_by_step(monkeypatch, language_spec_of(name, steps=18, **differing), tmp_path / name)

    lora = read("lora")
    assert len(lora) == 18
    assert lora[17] != lora[0], "no new order in the second pass"
    assert read("full", adapter="full", gradient_accumulation=2) == lora


def test_the_same_specification_gives_the_same_numbers_to_the_last_digit(language_spec_of, tmp_path):
    first, second = (train_here(language_spec_of(), tmp_path / name) for name in ("a", "b"))
    assert first.predictions.equals(second.predictions)
    assert losses_of(tmp_path / "a").tolist() == losses_of(tmp_path / "b").tolist()


def test_texts_without_labels_are_enough_and_some_are_held_out(language_spec_of, texts, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts[:60]))
    task = LanguageModeling(language_spec_of(data=str(file)))
    assert {split: len(part) for split, part in task.parts.items()} == {"train": 42, "validation": 6, "test": 12}
    assert LanguageModeling(language_spec_of(data=str(file), seed=5)).data.digest == task.data.digest
    assert len(LanguageModeling(language_spec_of(data=str(file), max_texts=20)).parts["train"]) == 20


def test_too_few_texts_to_hold_any_out_are_refused(language_spec_of, tmp_path):
    file = tmp_path / "few.txt"
    file.write_text("one text\nanother text\n")
    with pytest.raises(InputError, match=r"few\.txt has no validation and no test texts; give more"):
        LanguageModeling(language_spec_of(data=str(file)))


def test_padding_and_the_first_token_are_not_predicted(language_spec_of):
    task = LanguageModeling(language_spec_of())
    rows = sorted((task.parts["train"][position] for position in range(8)), key=lambda example: len(example[0].ids))
    batch = task.collate([rows[0], rows[-1]])
    assert (batch["labels"][:, 0] == -100).all()
    kept = batch["labels"][0, 1 : len(rows[0][0].ids)]
    assert kept.tolist() == rows[0][0].ids[1:]
    assert (batch["labels"][0, len(rows[0][0].ids) :] == -100).all()


def test_an_encoder_is_refused_in_words(language_spec_of, tiny_folder, tmp_path):
    with pytest.raises(InputError, match=r"reads the tokens after the one it scores.*; name a decoder"):
        trainer.train(language_spec_of(model=str(tiny_folder("bert"))), RunFolder(tmp_path))


# A plan's names


def test_a_plan_keeps_its_names_where_the_model_has_them(plan, tiny):
    assert plan_for(plan, tiny("llama")[0]) is plan


def test_a_planned_name_that_several_modules_end_in_is_refused(language_model):
    model = load_model(language_model, head="causal-lm").model
    frame = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2)).frame
    ambiguous = RankPlan(frame.head(1).assign(module="self_attn.q_proj"), "by hand")
    with pytest.raises(
        InputError, match=r"names self_attn\.q_proj, and 3 modules of the LlamaForCausalLM end in that"
    ):
        plan_for(ambiguous, model)
