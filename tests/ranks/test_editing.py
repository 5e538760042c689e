"""Ranks changed by hand or after a run: what was asked for holds, the rest keeps to the budget."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_plans import could_rise, plan_of, plans, spectrum_of

from gelora_viz import RankPlan, add_adapter, allocate_ranks, measure_spectra, uniform_budget
from gelora_viz.errors import InputError

hundreds = settings(max_examples=300, deadline=None)


@pytest.fixture
def plan(tiny):
    """Rank 4 for query and value (32 x 32) of three blocks."""
    model, _ = tiny("bert")
    return allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 4))


def ranks(plan):
    return plan.frame["rank"].tolist()


QUERY = "encoder.layer.1.attention.self.query"


# By hand


def test_a_module_a_layer_or_several_of_both_get_the_rank_they_are_given(plan):
    assert ranks(plan.with_rank(QUERY, 7)) == [4, 4, 7, 4, 4, 4]
    assert ranks(plan.with_rank("encoder.layer.1", 7)) == [4, 4, 7, 7, 4, 4]
    several = {QUERY: 9, "encoder.layer.1": 2, "encoder.layer.2": np.int64(3)}
    assert ranks(plan.with_rank(several)) == [4, 4, 9, 2, 3, 3]  # the module's own entry counts


def test_an_edit_lets_go_of_the_budget_is_noted_and_leaves_the_plan_it_was_made_from(plan, tmp_path):
    edited = plan.with_rank(QUERY, 7).with_rank("encoder.layer.0", 1)
    assert edited.budget is None
    assert edited.n_parameters == plan.n_parameters + (3 - 6) * 64
    assert (edited.frame["n_parameters"] == edited.frame["rank"] * 64).all()
    assert edited.settings["edits"] == {QUERY: 7} | {
        f"encoder.layer.0.attention.self.{name}": 1 for name in ("query", "value")
    }
    assert edited.strategy == "uniform, edited"
    assert ranks(plan) == [4] * 6
    assert "edits" not in plan.settings
    loaded = RankPlan.load(edited.save(tmp_path / "edited.json"))
    assert loaded.ranks == edited.ranks
    assert dict(loaded.settings) == dict(edited.settings)


def test_rank_0_takes_a_matrix_out_of_the_adapter(plan, tiny):
    edited = plan.with_rank("encoder.layer.1", 0)
    adapted = add_adapter(tiny("bert")[0], edited)
    assert not any("layer.1." in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)
    assert edited.n_parameters == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_rebalanced_the_others_pay_for_a_rise_and_share_what_a_fall_sets_free(plan):
    risen = plan.with_rank("encoder.layer.1", 8, rebalance=True)
    assert ranks(risen) == [2, 2, 8, 8, 2, 2]
    fallen = plan.with_rank("encoder.layer.1", 0, rebalance=True)
    assert ranks(fallen) == [6, 6, 0, 0, 6, 6]
    assert risen.budget == fallen.budget == plan.budget == risen.n_parameters == fallen.n_parameters


def test_without_a_budget_the_present_number_of_parameters_is_kept(plan):
    free = plan.with_rank(QUERY, 7)
    again = free.with_rank("encoder.layer.2", 2, rebalance=True)
    assert again.budget == again.n_parameters == free.n_parameters
    assert again.frame.set_index("module")["rank"].filter(like="layer.2").tolist() == [2, 2]


def test_matrices_of_a_block_stay_alike_and_only_the_rest_goes_to_single_ones():
    plan = plan_of(
        [(f"layer.{block}", name, 8, 8, rank) for block, rank in enumerate((8, 4, 4)) for name in "qv"], budget=512
    )
    assert ranks(plan.with_rank("layer.2", 6, rebalance=True)) == [7, 7, 3, 3, 6, 6]
    assert ranks(plan.with_rank("layer.2.q", 5, rebalance=True)) == [7, 8, 4, 4, 5, 4]


@hundreds
@given(plans(), st.data())
def test_rebalanced_edits_hold_and_the_budget_is_kept_whatever_the_shapes(plan, data):
    limits = {row.module: min(row.in_features, row.out_features) for row in plan.frame.itertuples()}
    chosen = data.draw(st.lists(st.sampled_from(sorted(limits)), min_size=1, max_size=3, unique=True))
    edits = {module: data.draw(st.integers(0, limits[module])) for module in chosen}
    budget = plan.n_parameters if plan.budget is None else plan.budget
    others = {module for module, rank in plan.ranks.items() if module not in edits and rank > 0}
    if plan.with_rank(edits | dict.fromkeys(others, 1)).n_parameters > budget:
        with pytest.raises(InputError, match=f"more than the budget of {budget:,};"):
            plan.with_rank(edits, rebalance=True)
        return
    edited = plan.with_rank(edits, rebalance=True)
    assert all(edited.ranks[module] == rank for module, rank in edits.items())
    assert all(1 <= edited.ranks[module] <= limits[module] for module in others)
    assert {module for module, rank in edited.ranks.items() if rank == 0} == {
        module for module, rank in (plan.ranks | edits).items() if rank == 0
    }
    left = budget - edited.n_parameters
    further = could_rise(edited, others)
    assert left >= 0
    assert not further or left < min(further)


@hundreds
@given(plans(lowest=1))
def test_an_edit_that_changes_nothing_moves_only_what_the_budget_had_left(plan):
    module, rank = next(iter(plan.ranks.items()))
    edited = plan.with_rank(module, rank, rebalance=True)
    assert all(edited.ranks[each] >= before for each, before in plan.ranks.items())
    if plan.budget is None:
        assert edited.ranks == plan.ranks


def test_max_rank_holds_for_what_is_moved_and_not_for_what_is_set_by_hand(tiny):
    model, _ = tiny("bert")
    plan = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 4), max_rank=5)
    edited = plan.with_rank({"encoder.layer.0": 0, "encoder.layer.1": 6}, rebalance=True)
    assert ranks(edited) == [0, 0, 6, 6, 5, 5]


@pytest.mark.parametrize(
    ("where", "rank", "message"),
    [
        ("encoder.layer.1.attention.self.qeury", 2, "no module or layer 'encoder.*qeury'; did you mean .*self.query"),
        ("encoder.layer.7", 2, "no module or layer 'encoder.layer.7'; did you mean encoder.layer.2"),
        (QUERY, 33, rf"rank 33 is more than {QUERY} can take, min\(in, out\) = 32; lower it"),
        (QUERY, -1, f"rank of {QUERY} is -1; give a whole number of at least 0"),
        (QUERY, 2.5, "is 2.5; give a whole number"),
        (QUERY, True, "is True; give a whole number"),
        (QUERY, None, "no rank for"),
        ({QUERY: 2}, 3, "rank 3 was given with a mapping"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_with_the_remedy(plan, where, rank, message):
    for rebalance in (False, True):
        with pytest.raises(InputError, match=message):
            plan.with_rank(where, rank, rebalance=rebalance)


def test_an_edit_that_the_budget_cannot_pay_for_is_refused_with_the_numbers(plan):
    with pytest.raises(
        InputError, match=r"edited matrices take 1,408 .* rank 1 for the others 256, more .* of 1,536;"
    ):
        plan.with_rank("encoder.layer.1", 11, rebalance=True)
    assert plan.with_rank("encoder.layer.1", 11).n_parameters == 38 * 64


# Compared


def test_plans_are_compared_matrix_by_matrix_and_what_one_does_not_name_has_rank_0_there(tiny):
    model, _ = tiny("bert")
    mine = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))
    other = allocate_ranks(
        None, model, strategy="uniform", target_modules=["key", "value"], budget=uniform_budget(model, 3)
    )
    table = mine.compared_with(other)
    assert table.columns.tolist() == [
        "module", "layer", "rank", "other_rank", "difference", "n_parameters", "other_n_parameters"
    ]  # fmt: skip
    assert table["module"].tolist() == [*mine.frame["module"], *(m for m in other.ranks if m.endswith("key"))]
    first = table[table["layer"] == "encoder.layer.0"]  # query, value, key
    assert first[["rank", "other_rank", "difference"]].to_numpy().tolist() == [[2, 0, 2], [2, 3, -1], [0, 3, -3]]
    assert (table["n_parameters"].sum(), table["other_n_parameters"].sum()) == (mine.n_parameters, other.n_parameters)
    assert other.compared_with(mine)["difference"].sum() == -table["difference"].sum()


def test_plans_for_different_models_are_not_compared(plan, tiny):
    model, _ = tiny("gpt2")
    other = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))
    with pytest.raises(InputError, match=r"different models, with layers such as encoder\.layer\.0 and h\.0"):
        plan.compared_with(other)


# After a run


def test_budget_moves_from_under_used_to_saturated_matrices_and_is_kept(plan):
    used = spectrum_of(plan, {module: 3.9 if "layer.2" in module else 1.2 for module in plan.ranks})
    refined = plan.refined(used)
    assert ranks(refined) == [2, 2, 2, 2, 8, 8]
    assert refined.n_parameters == refined.budget == plan.budget
    assert refined.strategy == "uniform, refined"
    assert refined.frame["weight"].tolist() == [1.2, 1.2, 1.2, 1.2, 3.9, 3.9]


def test_a_trained_adapter_s_spectrum_refines_its_plan(plan, tiny):
    adapted = add_adapter(tiny("bert")[0], plan)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # of rank 1 in the first block, of full rank elsewhere
            values = (
                np.ones(parameter.shape)
                if "layer.0" in name
                else np.random.default_rng(0).normal(size=parameter.shape)
            )
            parameter.data.copy_(parameter.new_tensor(values))
    refined = plan.refined(measure_spectra(adapted))
    first, *others = (rows["rank"].mean() for _, rows in refined.frame.groupby("layer"))
    assert first < 4 < min(others)
    assert refined.n_parameters <= plan.budget


@hundreds
@given(plans(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_refined_plans_keep_the_budget_and_adapt_what_was_adapted_whatever_the_shapes(plan, min_rank, random):
    assume(any(plan.ranks.values()))
    budget = plan.n_parameters if plan.budget is None else plan.budget
    limits = {row.module: min(row.in_features, row.out_features) for row in plan.frame.itertuples()}
    used = spectrum_of(
        plan, {module: random.choice([0.0, random.uniform(1, max(rank, 1))]) for module, rank in plan.ranks.items()}
    )
    assume(used.frame["entropy_rank"].any())
    adapted = {module for module, rank in plan.ranks.items() if rank > 0}
    if plan.with_rank({module: min(min_rank, limits[module]) for module in adapted}).n_parameters > budget:
        with pytest.raises(InputError, match=f"budget of {budget:,} parameters is below"):
            plan.refined(used, min_rank=min_rank)
        return
    refined = plan.refined(used, min_rank=min_rank)
    assert all(refined.ranks[module] == 0 for module in limits if module not in adapted)
    assert all(min(min_rank, limits[module]) <= refined.ranks[module] <= limits[module] for module in adapted)
    claiming = adapted if min_rank else set(used.frame["module"][used.frame["entropy_rank"] > 0])
    left = budget - refined.n_parameters
    further = could_rise(refined, claiming)
    assert left >= 0
    assert not further or left < min(further)


def test_of_matrices_of_one_size_the_one_that_used_more_never_gets_less(plan):
    reached = {module: 1 + 0.4 * number for number, module in enumerate(plan.ranks)}
    refined = plan.refined(spectrum_of(plan, reached))
    assert ranks(refined) == sorted(ranks(refined))


def test_with_min_rank_0_an_update_that_stayed_zero_is_given_up(plan):
    used = spectrum_of(plan, {module: 0.0 if module == QUERY else 2.0 for module in plan.ranks})
    assert plan.refined(used).ranks[QUERY] == 1
    assert plan.refined(used, min_rank=0).ranks[QUERY] == 0


def test_matrices_of_rank_0_are_not_in_the_spectrum_and_stay_out(plan):
    edited = plan.with_rank("encoder.layer.0", 0)
    refined = edited.refined(spectrum_of(edited, 2.0))
    assert ranks(refined) == [0, 0, 4, 4, 4, 4]
    assert refined.strategy == "uniform, edited, refined"


def test_a_fresh_adapter_s_spectrum_is_refused(plan, tiny):
    with pytest.raises(InputError, match="every update of the spectrum is zero, as before training"):
        plan.refined(measure_spectra(add_adapter(tiny("bert")[0], plan)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda plan: plan.with_rank("encoder.layer.0", 0), "layer.0.*query .planned, not measured."),
        (
            lambda plan: plan.with_rank("encoder.layer.0", 3),
            r"query .rank 3, planned 4., .*value .rank 3, planned 4.",
        ),
    ],
)
def test_a_spectrum_of_another_plan_is_refused_with_the_modules_that_differ(plan, other, message):
    with pytest.raises(InputError, match=f"spectrum is of another plan: .*{message}"):
        plan.refined(spectrum_of(other(plan)))


def test_a_spectrum_with_further_modules_is_refused_with_them(plan):
    smaller = plan.with_rank("encoder.layer.0", 0)
    with pytest.raises(InputError, match=r"another plan: encoder.layer.0.*query \(measured, not planned\)"):
        smaller.refined(spectrum_of(plan))


def test_a_spectrum_that_knows_no_ranks_will_do_and_one_that_is_not_finite_will_not(plan):
    used = spectrum_of(plan)
    used.frame["rank"] = np.nan
    assert plan.refined(used).ranks == plan.ranks
    del used.frame["rank"]
    assert plan.refined(used).ranks == plan.ranks
    used.frame.loc[2, "entropy_rank"] = np.nan
    with pytest.raises(InputError, match=f"entropy rank of {QUERY} is nan"):
        plan.refined(used)
    with pytest.raises(InputError, match="min_rank is -1"):
        plan.refined(spectrum_of(plan), min_rank=-1)


def test_a_language_model_has_its_transformer_one_level_deeper(plan):
    used = spectrum_of(plan, {module: 3.9 if "layer.2" in module else 1.2 for module in plan.ranks})
    deeper = used.frame.assign(module=["model." + module for module in used.frame["module"]])
    assert ranks(plan.refined(SimpleNamespace(frame=deeper))) == ranks(plan.refined(used))


@pytest.mark.parametrize("strategy", ["gelora", "proportional", "uniform", "random", "reversed"])
def test_another_budget_gives_what_an_allocation_with_it_gives(tiny, profile_of, strategy):
    model, _ = tiny("bert")
    profile = profile_of(model, [5.0, 7.3, 6.0, 6.4])
    plan = allocate_ranks(profile, model, strategy=strategy, budget=9_000, max_rank=20)
    for budget in (1_000, 2_500, 7_777, 50_000):
        expected = allocate_ranks(profile, model, strategy=strategy, budget=budget, max_rank=20)
        pd.testing.assert_frame_equal(plan.with_budget(budget).frame, expected.frame)
        assert plan.with_budget(budget).settings == expected.settings


def test_another_budget_gives_up_edits_and_keeps_a_refinement(tiny, profile_of):
    model, _ = tiny("bert")
    plan = allocate_ranks(profile_of(model, [5.0, 7.3, 6.0, 6.4]), model, budget=9_000)
    edited = plan.with_rank("encoder.layer.0", 9)
    assert edited.with_budget(9_000).ranks == plan.ranks
    assert (edited.with_budget(9_000).strategy, "edits" in edited.with_budget(9_000).settings) == ("gelora", False)
    frame = plan.frame.assign(entropy_rank=[1.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    refined = plan.refined(SimpleNamespace(frame=frame))
    assert refined.with_budget(9_000).ranks == refined.ranks
    assert refined.with_budget(4_000).strategy == "gelora, refined"


def test_another_budget_must_pay_for_the_lowest_ranks(tiny, profile_of):
    model, _ = tiny("bert")
    plan = allocate_ranks(profile_of(model, [5.0, 7.3, 6.0, 6.4]), model, budget=9_000)
    with pytest.raises(InputError, match="below rank 1 everywhere"):
        plan.with_budget(10)
