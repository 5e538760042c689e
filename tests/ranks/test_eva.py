"""EVA's ranks are PEFT's own, padding or not, and the model never notices that it was asked."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.config import EvaConfig
from peft.tuners.lora.eva import initialize_lora_eva_weights
from tiny_models import ARCHITECTURES

from gelora_viz import allocate_ranks, find_matrices, uniform_budget
from gelora_viz.errors import InputError
from gelora_viz.ranks import eva
from gelora_viz.ranks.eva import _EVA_RHO, eva_ranks

QUIET = {"progress": False}


def hooks_of(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def padded(batch, width=9):
    """The batch with further columns of padding."""
    return {name: torch.nn.functional.pad(tensor, (0, width)) for name, tensor in batch.items()}


def test_the_ranks_are_those_that_peft_gives_its_own_adapter(tiny, batches_of):
    model, tokenizer = tiny("bert")
    batches = batches_of(model, tokenizer)
    matrices = find_matrices(model, "all-linear")
    found = eva_ranks(model, matrices, batches, mean_rank=4, **QUIET)

    config = LoraConfig(
        r=4,
        target_modules=[matrix.module for matrix in matrices],
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=2.0),
    )
    adapted = get_peft_model(model, config)
    initialize_lora_eva_weights(adapted, batches, show_progress_bar=False)
    by_peft = {
        name: module.lora_A["default"].weight.shape[0]
        for name, module in adapted.base_model.model.named_modules()
        if isinstance(module, LoraLayer)
    }
    assert len(set(found.values())) > 2
    assert {module: rank for module, rank in found.items() if rank} == by_peft


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_eva_s_sum_of_ranks_is_kept_for_every_architecture_and_no_matrix_exceeds_its_share(
    tiny, batches_of, architecture
):
    model, tokenizer = tiny(architecture)
    matrices = find_matrices(model)
    found = eva_ranks(model, matrices, batches_of(model, tokenizer), mean_rank=3, **QUIET)
    assert set(found) == {matrix.module for matrix in matrices}
    assert sum(found.values()) == 3 * len(matrices)
    assert max(found.values()) <= _EVA_RHO * 3


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_padding_does_not_count(tiny, batches_of, architecture):
    model, tokenizer = tiny(architecture)
    batches = batches_of(model, tokenizer)
    matrices = find_matrices(model)
    plain = eva_ranks(model, matrices, batches, mean_rank=4, **QUIET)
    assert eva_ranks(model, matrices, [padded(batch) for batch in batches], mean_rank=4, **QUIET) == plain


def test_a_decoder_s_own_padding_counts_for_what_the_decoder_reads(tiny, batches_of):
    model, tokenizer = tiny("t5")
    batches = batches_of(model, tokenizer)
    shorter = [
        {**batch, **{name: batch[name][:, :5] for name in ("decoder_input_ids", "decoder_attention_mask")}}
        for batch in batches
    ]
    matrices = find_matrices(model)
    found = eva_ranks(model, matrices, shorter, mean_rank=3, **QUIET)
    longer = [
        {**batch, **padded({name: batch[name] for name in ("decoder_input_ids", "decoder_attention_mask")})}
        for batch in shorter
    ]
    assert eva_ranks(model, matrices, longer, mean_rank=3, **QUIET) == found


def test_positions_without_a_label_do_not_count(tiny_folder, tiny, batches_of):
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_folder("gpt2")), tiny("gpt2")[1]
    matrices = find_matrices(model)
    batches = batches_of(model, tokenizer)
    first_half = [batch["attention_mask"].clone() for batch in batches]
    for mask in first_half:
        mask[:, 8:] = 0
    labelled = [
        {**batch, "labels": batch["input_ids"].masked_fill(mask == 0, -100)}
        for batch, mask in zip(batches, first_half, strict=True)
    ]
    cut = [{name: tensor[:, :8] for name, tensor in batch.items()} for batch in batches]
    options = {"mean_rank": 3, **QUIET}
    # A causal model reads the same up to there, whatever follows.
    assert eva_ranks(model, matrices, labelled, **options) == eva_ranks(model, matrices, cut, **options)


def test_the_plan_spends_the_budget_of_parameters_in_eva_s_proportions_matrix_by_matrix(tiny, batches_of):
    model, tokenizer = tiny("llama")
    batches = [{**batch, "labels": torch.zeros(16)} for batch in batches_of(model, tokenizer)]  # not for this model
    targets = "all-linear"
    budget = uniform_budget(model, 4, targets)
    plan = allocate_ranks(
        None, model, strategy="eva", budget=budget, target_modules=targets, batches=batches, **QUIET
    )
    ranks = eva_ranks(model, find_matrices(model, targets), batches, mean_rank=4, **QUIET)
    assert dict(zip(plan.frame["module"], plan.frame["weight"], strict=True)) == ranks
    assert plan.frame.groupby("layer")["rank"].nunique().min() > 1
    assert budget - 48 < plan.n_parameters <= budget
    assert plan.settings["n_batches"] == 4


def test_what_eva_gives_nothing_stays_at_min_rank(tiny, batches_of, monkeypatch):
    model, tokenizer = tiny("bert")
    first = find_matrices(model)[0].module
    ranks = {matrix.module: int(matrix.module != first) for matrix in find_matrices(model)}
    monkeypatch.setattr(eva, "eva_ranks", lambda *_, **__: ranks)
    options = {"strategy": "eva", "budget": uniform_budget(model, 3), "batches": batches_of(model, tokenizer)}
    assert allocate_ranks(None, model, **options).ranks[first] == 1
    plan = allocate_ranks(None, model, min_rank=0, **options)
    assert plan.ranks[first] == 0
    assert first not in plan.to_peft_config().target_modules


def test_the_model_is_left_as_it_was(tiny, batches_of):
    model, tokenizer = tiny("bert")
    model.train()
    model.encoder.layer[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks, state = hooks_of(model), torch.get_rng_state()
    eva_ranks(model, find_matrices(model), batches_of(model, tokenizer), mean_rank=3, **QUIET)
    assert [module.training for module in model.modules()] == modes
    assert hooks_of(model) == hooks
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_directions_that_never_settle_end_in_an_error_and_leave_no_hook(tiny, batches_of, monkeypatch, capsys):
    model, tokenizer = tiny("bert")
    monkeypatch.setattr(eva, "_MOST_PASSES", 1)
    model.train()
    with pytest.raises(InputError, match="have not settled after 1 passes over 1 batches; give more"):
        eva_ranks(model, find_matrices(model), batches_of(model, tokenizer, n_batches=1), mean_rank=4, **QUIET)
    assert not any(isinstance(hook, eva.SVDHook | eva.HashHook) for hook in hooks_of(model))
    assert model.training
    assert capsys.readouterr().out == ""


def test_batches_smaller_than_the_number_of_directions_are_refused_before_the_model_runs(tiny, batches_of):
    model, tokenizer = tiny("bert")
    batches = [{name: tensor[:1, :4] for name, tensor in batch.items()} for batch in batches_of(model, tokenizer)]
    with pytest.raises(InputError, match="the largest batch has 4 tokens, and EVA needs 8, one"):
        eva_ranks(model, find_matrices(model), batches, mean_rank=4, **QUIET)


def test_hidden_states_that_are_not_finite_are_refused_in_one_line(tiny, batches_of):
    model, tokenizer = tiny("bert")
    torch.nn.init.constant_(model.encoder.layer[0].output.dense.weight, float("nan"))
    with pytest.raises(InputError, match="PEFT's EVA cannot read these batches"):
        eva_ranks(model, find_matrices(model), batches_of(model, tokenizer), mean_rank=4, **QUIET)
    assert not any(isinstance(hook, eva.SVDHook | eva.HashHook) for hook in hooks_of(model))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (None, "needs batches; give a list of model inputs"),
        ([], "batches is empty"),
        ({"input_ids": torch.zeros(1, 3)}, r"batches is \{.*; give a list"),
        (["a text"], "batch 0 of batches is 'a text', not a mapping"),
        ([{"input_ids": [1, 2]}], r"batch 0 of batches is \{.*, not a mapping of names to tensors"),
    ],
)
def test_what_is_no_list_of_batches_is_refused(tiny, batches, message):
    model, _ = tiny("bert")
    for strategy in ("eva", "gradient"):
        with pytest.raises(InputError, match=message):
            allocate_ranks(None, model, strategy=strategy, budget=uniform_budget(model, 2), batches=batches)


def test_a_budget_that_is_too_small_is_refused_before_the_model_runs(tiny, batches_of, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the model ran")

    model, tokenizer = tiny("bert")
    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(InputError, match="is below rank 1 everywhere"):
        allocate_ranks(None, model, strategy="eva", budget=100, batches=batches_of(model, tokenizer))
