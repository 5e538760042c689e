"""What each strategy makes of a profile, worked out by hand; and the controls, which spend what GeLoRA spends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gelora_viz import allocate_ranks, uniform_budget
from gelora_viz.errors import InputError
from gelora_viz.ranks import STRATEGIES
from gelora_viz.ranks.strategies import find_strategy, list_strategies

DIMENSIONS = [5.0, 7.3, 6.0, 6.4]  # differences 2.3, -1.3, 0.4; bounds 3.3, 1.0, 1.4
CONTROLS = ("random", "reversed")


@pytest.fixture
def bert(tiny):
    return tiny("bert")[0]


def weight_of_each_block(plan):
    weights = plan.frame.groupby("layer", sort=False)["weight"]
    assert weights.nunique().eq(1).all()
    return weights.first().tolist()


def test_proportional_follows_the_dimension_of_the_block_s_output(bert, profile_of):
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, strategy="proportional", budget=uniform_budget(bert, 6))
    assert weight_of_each_block(plan) == pytest.approx(DIMENSIONS[1:])
    assert plan.by_layer()["rank"].tolist() == [7, 5, 6]
    assert plan.settings["rounding"] is None


def test_reversed_gives_the_highest_bound_to_the_block_that_rises_least(bert, profile_of):
    profile = profile_of(bert, DIMENSIONS)
    plan = allocate_ranks(profile, bert, strategy="reversed", budget=uniform_budget(bert, 8))
    assert weight_of_each_block(plan) == pytest.approx([1.0, 3.3, 1.4])
    assert allocate_ranks(profile, bert, strategy="reversed").by_layer()["rank"].tolist() == [1, 4, 2]


def test_random_deals_the_same_bounds_as_its_seed_decides_and_can_deal_them_in_every_way(bert, profile_of):
    profile = profile_of(bert, DIMENSIONS)

    def dealt(seed):
        return tuple(
            weight_of_each_block(allocate_ranks(profile, bert, strategy="random", rounding="round", seed=seed))
        )

    assert dealt(3) == dealt(3)
    ways = {dealt(seed) for seed in range(60)}
    assert {tuple(sorted(way)) for way in ways} == {(1.0, 1.0, 3.0)}
    assert len(ways) == 3


@pytest.mark.parametrize("architecture", ["bert", "llama", "t5"])
@pytest.mark.parametrize("strategy", CONTROLS)
def test_a_control_spends_what_gelora_spends_and_shows_the_true_bounds(tiny, profile_of, architecture, strategy):
    model, _ = tiny(architecture)
    stacks = [DIMENSIONS, [6.0, 6.1, 9.9, 3.0]] if architecture == "t5" else [DIMENSIONS]
    profile = profile_of(model, *stacks)
    gelora, control = (allocate_ranks(profile, model, strategy=name, seed=1) for name in ("gelora", strategy))
    assert control.n_parameters == gelora.n_parameters
    assert control.frame["lower_bound"].tolist() == gelora.frame["lower_bound"].tolist()
    for stack, rows in control.frame.groupby("stack"):
        of_gelora = gelora.frame[gelora.frame["stack"] == stack]
        assert sorted(rows["rank"]) == sorted(of_gelora["rank"])


@pytest.mark.parametrize("strategy", CONTROLS)
def test_a_control_keeps_the_budget_too(bert, profile_of, strategy):
    budget = uniform_budget(bert, 4)
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, strategy=strategy, budget=budget)
    assert budget - 64 < plan.n_parameters <= budget


def test_only_the_seed_of_what_is_random_is_noted(bert, profile_of):
    profile = profile_of(bert, DIMENSIONS)
    seeds = {
        name: allocate_ranks(profile, bert, strategy=name, seed=7).settings["seed"] for name in ("gelora", *CONTROLS)
    }
    assert seeds == {"gelora": None, "random": 7, "reversed": None}


def test_every_strategy_is_listed_with_its_meaning_and_an_unknown_one_answered_with_all():
    assert all(f"{name}: {strategy.meaning}" in list_strategies() for name, strategy in STRATEGIES.items())
    with pytest.raises(
        InputError, match="'magic'; choose gelora, proportional, uniform, eva, gradient, random or rev"
    ):
        find_strategy("magic")


def test_listing_the_strategies_loads_neither_torch_nor_peft():
    code = (
        "import sys; from gelora_viz.ranks.strategies import list_strategies; list_strategies()\n"
        "print([name for name in ('torch', 'peft', 'pandas') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_name_that_the_room_does_not_have_is_an_attribute_error():
    import gelora_viz.ranks

    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = gelora_viz.ranks.magic
