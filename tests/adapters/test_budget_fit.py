"""Adapters of every method at one parameter budget: what PEFT really trains, never more, and not a rank less."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    RandLoraConfig,
    VeraConfig,
    get_peft_model,
)
from torch import nn

from gelora_viz import GenLoraConfig, add_adapter, find_matrices, fit_budget, uniform_budget
from gelora_viz.adapters import budget as budgets
from gelora_viz.errors import InputError

CONFIGS = {
    "lora": LoraConfig(),
    "dora": LoraConfig(use_dora=True),
    "vera": VeraConfig(),
    "loha": LoHaConfig(),
    "genlora": GenLoraConfig(r=8, num_groups=2, num_rbfs=8),
}


def trained(model, config):
    """Parameters that the adapter trains on a copy of the model."""
    adapted = add_adapter(copy.deepcopy(model), config)
    return sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("method", "architecture"), [*((method, "bert") for method in CONFIGS), ("lora", "gpt2"), ("dora", "t5")]
)
def test_the_budget_is_kept_and_one_rank_more_would_not(tiny, method, architecture):
    model, _ = tiny(architecture)
    config, budget = CONFIGS[method], uniform_budget(model, 4) + 7
    fitted = fit_budget(config, model, budget)
    assert trained(model, fitted) <= budget
    fitted.r += getattr(config, "num_groups", 1)
    assert trained(model, fitted) > budget


def test_a_uniform_budget_gives_back_its_rank(tiny):
    model, _ = tiny("bert")
    assert fit_budget(LoraConfig(lora_alpha=16), model, uniform_budget(model, 3)).r == 3


def test_alpha_keeps_its_proportion_to_the_rank(tiny):
    model, _ = tiny("bert")
    fitted = fit_budget(LoraConfig(r=8, lora_alpha=16), model, uniform_budget(model, 3))
    assert fitted.lora_alpha == pytest.approx(6)


def test_what_adalora_keeps_is_within_the_budget_and_it_begins_with_more(tiny):
    model, _ = tiny("bert")
    matrices = find_matrices(model)
    budget = sum(2 * (matrix.cost + 1) for matrix in matrices)
    fitted = fit_budget(AdaLoraConfig(total_step=10), model, budget)
    assert (fitted.target_r, fitted.init_r) == (2, 3)
    assert fit_budget(AdaLoraConfig(total_step=10), model, budget - 1).target_r == 1


def test_the_model_and_the_configuration_stay_as_they_are(tiny):
    model, _ = tiny("bert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = LoraConfig(r=8)
    fit_budget(config, model, uniform_budget(model, 2))
    assert config.r == 8
    assert config.target_modules is None
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_counting_takes_no_memory_for_large_models(monkeypatch):
    # Shapes of a 70B model's block: 30 s and 6 GB, were its matrices made.
    monkeypatch.setattr(budgets, "find_matrices", lambda model, _targets: matrices_of(model))
    fitted = fit_budget(LoraConfig(use_dora=True), nn.Module(), 8 * (8192 + 28672) * 80 + 28672 * 80)
    assert fitted.r == 8


def matrices_of(_model):
    from gelora_viz.activations.layers import Block
    from gelora_viz.ranks.matrices import Matrix

    blocks = [Block(f"layers.{number}", "", number + 1) for number in range(80)]
    return [Matrix(f"{block.name}.mlp.up_proj", block, 8192, 28672) for block in blocks]


def test_a_method_that_stops_growing_is_given_the_rank_from_which_it_does(tiny):
    model, _ = tiny("bert")
    fitted = fit_budget(LoKrConfig(), model, 10**9)
    assert fitted.r < 10**4


@pytest.mark.parametrize(
    ("config", "budget", "message"),
    [
        (IA3Config(), 100, "IA3Config has no rank r"),
        (RandLoraConfig(), 10**5, "the size of RandLoraConfig does not grow with its rank"),
        (LoraConfig(rank_pattern={"query": 2}), 100, "rank_pattern sets ranks one by one"),
        (LoraConfig(), 3, "budget 3 does not pay for LoraConfig's lowest rank, which takes [0-9,]+ parameters"),
        (LoraConfig(), 0, "budget is 0; give a whole number of at least 1"),
        (LoraConfig(target_modules=["qurey"]), 100, r"did you mean query"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_remedy(tiny, config, budget, message):
    model, _ = tiny("bert")
    with pytest.raises(InputError, match=message):
        fit_budget(config, model, budget)


def test_the_shapes_it_counts_on_are_those_of_the_model(tiny):
    model, _ = tiny("gpt2")
    matrices = find_matrices(model)
    shapes = budgets._shapes(matrices)
    assert {name for name, module in shapes.named_modules() if isinstance(module, nn.Linear)} == {
        matrix.module for matrix in matrices
    }
    config = LoraConfig(r=2, target_modules=[matrix.module for matrix in matrices])
    counted = sum(each.numel() for each in get_peft_model(shapes, config).parameters() if each.requires_grad)
    assert counted == uniform_budget(model, 2)
