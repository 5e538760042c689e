"""From a profile to ranks: GeLoRA's rule worked out by hand, the budget kept, and everything unusable refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, N_BLOCKS
from torch import nn
from transformers import AutoModelForSequenceClassification

from gelora_viz import Activations, allocate_ranks, estimate_dimension, find_matrices, uniform_budget
from gelora_viz.errors import InputError

DIMENSIONS = [5.0, 7.3, 6.0, 6.4]  # differences 2.3, -1.3, 0.4; bounds 3.3, 1.0, 1.4


@pytest.fixture
def bert(tiny):
    return tiny("bert")[0]


def rank_of_each_block(plan):
    frame = plan.by_layer()
    assert plan.frame.groupby("layer")["rank"].nunique().eq(1).all()
    return frame["rank"].astype(int).tolist()


@pytest.mark.parametrize(("rounding", "expected"), [("ceil", [4, 1, 2]), ("round", [3, 1, 1])])
def test_without_a_budget_a_block_gets_the_rise_of_dimension_plus_one_rounded(bert, profile_of, rounding, expected):
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, rounding=rounding)
    assert rank_of_each_block(plan) == expected
    assert plan.by_layer()["lower_bound"].tolist() == pytest.approx([3.3, 1.0, 1.4])
    assert plan.budget is None
    assert plan.settings["rounding"] == rounding


def test_the_rule_reads_what_estimation_found_on_points_of_known_dimension(bert):
    generator = np.random.default_rng(0)
    names = ["embeddings", *(f"block {depth}" for depth in range(1, N_BLOCKS + 1))]
    points = {
        name: generator.normal(size=(1500, d)) @ generator.normal(size=(d, 12))
        for name, d in zip(names, (2, 6, 3, 3), strict=True)
    }
    profile = estimate_dimension(Activations.from_arrays(points), "twonn", progress=False)
    plan = allocate_ranks(profile, bert, rounding="round")
    ranks = rank_of_each_block(plan)
    assert ranks[0] in (4, 5)  # from 2 to 6; TwoNN reads 6 dimensions a little low
    assert ranks[1:] == [1, 1]
    evidence = plan.by_layer()
    assert evidence["difference"].tolist() == profile.differences("twonn")["difference"].tolist()
    assert evidence["within_noise"].tolist()[:2] == [False, False]
    assert (evidence["ci_low"] < evidence["difference"]).all()


@pytest.mark.parametrize("rank", [2, 4, 7])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_under_a_budget_gelora_spends_all_of_it_but_for_less_than_one_rank(tiny, profile_of, architecture, rank):
    model, _ = tiny(architecture)
    stacks = [DIMENSIONS, [6.0, 6.1, 9.9, 3.0]] if architecture == "t5" else [DIMENSIONS]
    budget = uniform_budget(model, rank)
    plan = allocate_ranks(profile_of(model, *stacks), model, budget=budget)
    cheapest = min(matrix.cost for matrix in find_matrices(model))
    assert budget - cheapest < plan.n_parameters <= budget
    assert plan.frame["rank"].min() >= 1
    assert (
        plan.frame["n_parameters"] == plan.frame["rank"] * plan.frame[["in_features", "out_features"]].sum(axis=1)
    ).all()


@st.composite
def models(draw):
    """Blocks of two or three matrices of any shapes, also from block to block, and a dimension for every depth."""
    names = ["query", "value", "dense"][: draw(st.integers(2, 3))]
    side = st.integers(1, 24)
    blocks = [
        nn.ModuleDict({name: nn.Linear(draw(side), draw(side)) for name in names})
        for _ in range(draw(st.integers(1, 4)))
    ]
    dimensions = draw(st.lists(st.floats(0.5, 40.0), min_size=len(blocks) + 1, max_size=len(blocks) + 1))
    return nn.ModuleDict({"layers": nn.ModuleList(blocks)}), dimensions


@settings(max_examples=300, deadline=None)
@given(
    models(),
    st.sampled_from(["gelora", "proportional", "uniform", "random", "reversed"]),
    st.sampled_from(["none", "ceil", "round"]),
    st.integers(0, 3),
    st.integers(3, 30),
    st.data(),
)
def test_whatever_the_shapes_a_plan_keeps_its_budget_and_bounds_and_leaves_less_than_a_rank(
    profile_of, made, strategy, rounding, min_rank, max_rank, data
):
    model, dimensions = made
    matrices = find_matrices(model, "all-linear")
    min_rank = min(min_rank, *(matrix.max_rank for matrix in matrices))
    least = sum(min_rank * matrix.cost for matrix in matrices)
    budget = data.draw(st.integers(max(least, 1), 2 * uniform_budget(model, 24, "all-linear")))
    plan = allocate_ranks(
        profile_of(model, dimensions), model, strategy=strategy, budget=budget, target_modules="all-linear",
        rounding=rounding, min_rank=min_rank, max_rank=max_rank, seed=data.draw(st.integers(0, 9)),
    )  # fmt: skip
    limits = [min(matrix.max_rank, max_rank) for matrix in matrices]
    ranks = [plan.ranks[matrix.module] for matrix in matrices]
    assert all(min_rank <= rank <= limit for rank, limit in zip(ranks, limits, strict=True))
    assert (
        plan.n_parameters == sum(rank * matrix.cost for rank, matrix in zip(ranks, matrices, strict=True)) <= budget
    )
    further = [m.cost for m, rank, limit in zip(matrices, ranks, limits, strict=True) if rank < limit]
    assert not further or budget - plan.n_parameters < min(further)


def test_a_larger_rise_of_dimension_never_gets_a_smaller_rank(bert, profile_of):
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, budget=uniform_budget(bert, 8))
    ordered = plan.frame.sort_values("lower_bound")["rank"].tolist()
    assert ordered == sorted(ordered)
    assert ordered[-1] / ordered[0] == pytest.approx(3.3, rel=0.2)


@pytest.mark.parametrize("rank", [1, 3, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_uniform_at_the_budget_of_rank_r_is_rank_r_everywhere(tiny, architecture, rank):
    model, _ = tiny(architecture)
    budget = uniform_budget(model, rank)
    plan = allocate_ranks(None, model, strategy="uniform", budget=budget)
    assert set(plan.frame["rank"]) == {rank}
    assert plan.n_parameters == budget


def test_uniform_does_not_look_at_the_dimensions_but_shows_them(bert, profile_of):
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, strategy="uniform", budget=uniform_budget(bert, 3))
    assert set(plan.frame["rank"]) == {3}
    assert plan.by_layer()["lower_bound"].tolist() == pytest.approx([3.3, 1.0, 1.4])


def test_no_matrix_gets_more_than_max_rank_or_than_its_smaller_side(tiny, profile_of):
    model, _ = tiny("llama")
    plan = allocate_ranks(profile_of(model, [1.0, 30.0, 2.0, 2.0]), model, budget=uniform_budget(model, 30))
    assert (plan.frame["rank"] <= plan.frame[["in_features", "out_features"]].min(axis=1)).all()
    capped = allocate_ranks(profile_of(model, [1.0, 30.0, 2.0, 2.0]), model, max_rank=5)
    assert rank_of_each_block(capped) == [5, 1, 1]


def test_an_encoder_decoder_is_ranked_by_each_stack_s_own_depths(tiny, profile_of):
    model, _ = tiny("t5")
    plan = allocate_ranks(profile_of(model, [5.0, 8.0, 8.0, 8.0], [5.0, 5.0, 5.0, 7.0]), model)
    ranks = plan.frame.groupby(["stack", "depth"])["rank"].agg(["min", "max"])
    expected = {("encoder", 1): 4, ("encoder", 2): 1, ("encoder", 3): 1}
    expected |= {("decoder", 1): 1, ("decoder", 2): 1, ("decoder", 3): 3}
    assert ranks["min"].to_dict() == ranks["max"].to_dict() == expected


def test_the_profile_of_a_model_with_a_task_head_fits_the_model_without(tiny, tiny_folder, profile_of):
    headed = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=2)
    assert rank_of_each_block(allocate_ranks(profile_of(headed, DIMENSIONS), tiny("bert")[0])) == [4, 1, 2]


def test_a_profile_of_another_kind_of_model_is_refused_with_its_layers(tiny, profile_of):
    bert, gpt2 = tiny("bert")[0], tiny("gpt2")[0]
    with pytest.raises(InputError, match=r"another model: .* has h\.0 for encoder\.layer\.0"):
        allocate_ranks(profile_of(gpt2, DIMENSIONS), bert)


def test_a_profile_of_a_shallower_model_is_refused_with_the_layers_it_lacks(bert, profile_of):
    profile = profile_of(bert, DIMENSIONS)
    shallow = dataclasses.replace(profile, frame=profile.frame[profile.frame["depth"] < N_BLOCKS])
    with pytest.raises(InputError, match=r"another model: it lacks encoder\.layer\.2"):
        allocate_ranks(shallow, bert)
    with pytest.raises(InputError, match="another model"):
        allocate_ranks(shallow, bert, strategy="uniform", budget=uniform_budget(bert, 2))


def test_a_profile_of_a_single_stack_does_not_fit_an_encoder_decoder(tiny, profile_of):
    with pytest.raises(InputError, match=r"lacks encoder\.block\.0"):
        allocate_ranks(profile_of(tiny("bert")[0], DIMENSIONS), tiny("t5")[0])


def test_nan_dimensions_are_refused(bert, profile_of):
    with pytest.raises(InputError, match="twonn estimates hold NaN"):
        allocate_ranks(profile_of(bert, [5.0, float("nan"), 6.0, 6.0]), bert)


@pytest.mark.parametrize("strategy", ["gelora", "proportional", "random", "reversed"])
def test_what_reads_dimensions_needs_a_profile(bert, strategy):
    with pytest.raises(InputError, match=f'"{strategy}" needs a dimension profile.*uniform, eva, gradient'):
        allocate_ranks(None, bert, strategy=strategy, budget=10_000)


@pytest.mark.parametrize("strategy", ["proportional", "uniform", "eva", "gradient"])
def test_weights_that_are_no_bounds_need_a_budget(bert, profile_of, strategy):
    with pytest.raises(InputError, match=f'"{strategy}" needs a budget; uniform_budget'):
        allocate_ranks(profile_of(bert, DIMENSIONS), bert, strategy=strategy)


@pytest.mark.parametrize("rounding", [None, "none", "ceil", "round"])
def test_under_a_budget_bounds_are_scaled_as_they_are_unless_rounding_is_asked_for(bert, profile_of, rounding):
    budget = uniform_budget(bert, 8)
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, budget=budget, rounding=rounding)
    expected = {"ceil": [4, 1, 2], "round": [3, 1, 1]}.get(rounding, [3.3, 1.0, 1.4])
    assert plan.frame["weight"].tolist()[::2] == pytest.approx(expected)
    assert plan.by_layer()["lower_bound"].tolist() == pytest.approx([3.3, 1.0, 1.4])
    assert plan.settings["rounding"] == (rounding or "none")


def test_every_matrix_gets_at_least_min_rank_with_and_without_a_budget(bert, profile_of):
    profile = profile_of(bert, DIMENSIONS)
    assert rank_of_each_block(allocate_ranks(profile, bert, min_rank=2)) == [4, 2, 2]
    under_budget = allocate_ranks(profile, bert, min_rank=3, budget=uniform_budget(bert, 4))
    assert under_budget.frame["rank"].min() == 3
    with pytest.raises(InputError, match="is below rank 3 everywhere"):
        allocate_ranks(profile, bert, min_rank=3, budget=uniform_budget(bert, 2))


def test_with_min_rank_0_a_small_budget_leaves_matrices_out_instead_of_being_refused(bert, profile_of):
    budget = 2 * find_matrices(bert)[0].cost
    plan = allocate_ranks(profile_of(bert, DIMENSIONS), bert, min_rank=0, budget=budget)
    assert rank_of_each_block(plan) == [1, 0, 0]
    assert set(plan.to_peft_config().target_modules) == {m for m, rank in plan.ranks.items() if rank}


@pytest.mark.parametrize("budget", [0, -5, 1000.0, "1000", True, float("nan")])
def test_a_budget_is_a_whole_positive_number(bert, budget):
    with pytest.raises(InputError, match=r"budget is .*whole number"):
        allocate_ranks(None, bert, strategy="uniform", budget=budget)


def test_a_numpy_integer_is_a_budget_too_and_is_kept_as_a_plain_one(bert):
    plan = allocate_ranks(None, bert, strategy="uniform", budget=np.int64(uniform_budget(bert, 2)))
    assert set(plan.frame["rank"]) == {2}
    assert type(plan.budget) is int


def test_a_budget_below_rank_one_everywhere_says_what_rank_one_takes(bert):
    least = uniform_budget(bert, 1)
    with pytest.raises(InputError, match=rf"budget of {least - 1:,} parameters is below rank 1 .* takes {least:,}"):
        allocate_ranks(None, bert, strategy="uniform", budget=least - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "best"}, "unknown strategy 'best'; choose gelora, proportional, uniform, .* or reversed"),
        ({"rounding": "floor"}, "unknown rounding 'floor'; choose ceil, round or none"),
        ({"rounding": "none"}, 'rounding "none" leaves fractions, .*; give a budget'),
        ({"estimator": "mle"}, "no estimates of 'mle'; it has twonn"),
        ({"max_rank": 0}, "max_rank is 0"),
        ({"min_rank": -1}, "min_rank is -1; give a whole number of at least 0"),
        ({"min_rank": 3, "max_rank": 2}, "min_rank is 3 and max_rank 2"),
        ({"min_rank": 33}, r"min_rank is 33, and encoder.* can take no more than min\(in, out\) = 32"),
        ({"seed": -1}, "seed is -1"),
        ({"target_modules": ["qeury"]}, "did you mean .*query"),
    ],
)
def test_an_option_that_does_not_exist_is_named_with_those_that_do(bert, profile_of, options, message):
    with pytest.raises(InputError, match=message):
        allocate_ranks(profile_of(bert, DIMENSIONS), bert, **options)


@pytest.mark.parametrize("rank", [0, -1, 2.5, True])
def test_a_uniform_budget_is_of_a_whole_rank(bert, rank):
    with pytest.raises(InputError, match="rank is"):
        uniform_budget(bert, rank)


def test_a_uniform_budget_is_the_sum_of_rank_times_inputs_and_outputs(tiny):
    model, _ = tiny("llama")  # per block q_proj 32 x 32 and v_proj 32 x 16
    assert uniform_budget(model, 3) == 3 * N_BLOCKS * (64 + 48)
    # v_proj can take no more than its 16 outputs.
    assert uniform_budget(model, 20) == N_BLOCKS * (20 * 64 + 16 * 48)


def test_the_matrices_do_as_well_as_the_model_unless_a_strategy_runs_it(tiny, profile_of, batches_of):
    model, tokenizer = tiny("gpt2")
    profile = profile_of(model, [5.0, 7.3, 6.0, 6.4])
    matrices = find_matrices(model)
    plan, expected = (allocate_ranks(profile, each, budget=9_000) for each in (matrices, model))
    pd.testing.assert_frame_equal(plan.frame, expected.frame)
    assert plan.settings == expected.settings
    with pytest.raises(InputError, match="give the model itself"):
        allocate_ranks(None, matrices, strategy="eva", budget=9_000, batches=batches_of(model, tokenizer))
    with pytest.raises(InputError, match="target_modules were given with matrices"):
        allocate_ranks(profile, matrices, budget=9_000, target_modules=["c_attn"])
