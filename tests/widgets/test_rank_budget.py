"""The panel RankBudget without a page: its plan follows its controls and keeps the budget; steps can be undone."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panel_examples import make_profile, make_spectrum, tiny_model

from gelora_viz import allocate_ranks, uniform_budget
from gelora_viz.errors import InputError
from gelora_viz.ranks import STRATEGIES
from gelora_viz.widgets import RankBudget

LAYER = "encoder.layer.1"


@pytest.fixture
def model():
    return tiny_model("bert")


@pytest.fixture
def panel(model):
    return RankBudget(make_profile(model), model)


def from_page(panel, **values):
    """What the page sends when the reader moves a control."""
    panel.set_state(values)


def test_it_begins_with_the_budget_of_rank_four(panel, model):
    assert panel.budget == uniform_budget(model, rank=4)
    assert panel.plan.strategy == "gelora"
    assert panel.plan.n_parameters <= panel.budget


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_every_strategy_and_estimator_gives_what_allocate_ranks_gives(architecture):
    model = tiny_model(architecture)
    profile = make_profile(model)
    panel = RankBudget(profile, model, seed=3)
    for strategy, _ in panel.strategies:
        for estimator, _ in panel.estimators:
            panel.strategy, panel.estimator, panel.budget = strategy, estimator, uniform_budget(model, 3)
            expected = allocate_ranks(
                profile, model, strategy=strategy, estimator=estimator, budget=panel.budget, seed=3
            )
            assert panel.plan.ranks == expected.ranks
            assert panel.plan.settings == expected.settings
    assert {name for name, _ in panel.strategies} == {"gelora", "proportional", "uniform", "random", "reversed"}


def test_each_stop_of_the_slider_is_a_budget_that_can_be_spent(panel):
    ranks = [rank for _, rank in panel.stops]
    assert ranks[0] == 1
    assert {2, 4, 8, 16} <= set(ranks)
    for budget, _ in panel.stops:
        from_page(panel, budget=budget)
        assert panel.error == ""
        assert panel.plan.n_parameters <= budget


def test_the_model_is_not_kept(model):
    profile = make_profile(model)
    copy = tiny_model("gpt2")
    panel = RankBudget(make_profile(copy), copy)
    alive = weakref.ref(copy)
    del copy
    gc.collect()
    assert alive() is None
    panel.strategy = "random"
    assert panel.plan.strategy == "random"
    assert profile is not None


def test_a_rank_set_by_hand_stays_while_the_others_keep_the_budget(panel):
    from_page(panel, edits={LAYER: 7})
    assert set(panel.plan.frame.set_index("layer").loc[LAYER, "rank"]) == {7}
    assert panel.plan.n_parameters <= panel.budget
    panel.strategy = "uniform"
    assert set(panel.plan.frame.set_index("layer").loc[LAYER, "rank"]) == {7}
    assert panel.ranks["edited"] == [False, True, False]
    assert "1 block is set by hand" in panel.status


def test_with_the_budget_released_the_others_stay_as_they_are(panel):
    before = panel.plan.ranks
    from_page(panel, keep_budget=False)
    from_page(panel, edits={LAYER: 30})
    after = panel.plan.ranks
    assert {module for module in after if after[module] != before[module]} == {
        module for module in after if module.startswith(LAYER)
    }
    assert "more than the budget" in panel.status


def test_what_the_budget_does_not_pay_for_is_not_done_and_said(panel):
    before = panel.plan
    from_page(panel, edits={LAYER: 32})
    assert "more than the budget" in panel.error
    assert panel.edits == {}
    assert panel.plan is before
    from_page(panel, budget=5)
    assert "below rank 1 everywhere" in panel.error
    assert panel.budget == before.budget
    assert not panel.can_undo


def test_from_python_the_same_is_an_exception_and_nothing_changes(panel):
    before = panel.plan
    with pytest.raises(InputError, match="did you mean gelora"):
        panel.strategy = "gelara"
    with pytest.raises(InputError, match="readings="):
        panel.strategy = "eva"
    with pytest.raises(InputError, match="has no estimates of 'nothing'"):
        panel.estimator = "nothing"
    with pytest.raises(InputError, match="did you mean"):
        panel.edits = {"encoder.layer.11": 2}
    assert (panel.strategy, panel.estimator, panel.edits) == ("gelora", "twonn", {})
    assert panel.plan is before


def test_steps_are_undone_one_by_one_and_redone(panel):
    plans = [panel.plan]
    for change in ({"strategy": "uniform"}, {"edits": {LAYER: 5}}, {"budget": panel.stops[20][0]}):
        from_page(panel, **change)
        plans.append(panel.plan)
    for plan in reversed(plans[:-1]):
        panel._handle_custom_msg({"call": "undo"}, [])
        assert panel.plan.ranks == plan.ranks
    assert (panel.strategy, panel.edits, panel.can_undo, panel.can_redo) == ("gelora", {}, False, True)
    for plan in plans[1:]:
        panel.redo()
        assert panel.plan.ranks == plan.ranks
    panel.undo()
    panel.keep_budget = False
    assert not panel.can_redo


def test_all_of_one_drag_is_one_step(panel):
    before = panel.plan
    for rank in (3, 4, 5, 6):
        from_page(panel, edits={LAYER: rank}, movement=17)
    from_page(panel, edits={LAYER: 2}, movement=18)
    panel.undo()
    assert panel.edits == {LAYER: 6}
    panel.undo()
    assert panel.plan.ranks == before.ranks


def test_a_drag_whose_first_request_is_refused_is_one_step_too(panel):
    from_page(panel, edits={LAYER: 32}, movement=5)
    from_page(panel, edits={LAYER: 6}, movement=5)
    from_page(panel, edits={LAYER: 5}, movement=5)
    assert panel.error == ""
    panel.undo()
    assert panel.edits == {}
    assert not panel.can_undo


def test_clearing_edits_is_a_step(panel):
    panel.edits = {LAYER: 6}
    panel.clear_edits()
    assert panel.edits == {}
    panel.undo()
    assert panel.edits == {LAYER: 6}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("budget"), st.integers(0, 40_000)),
            st.tuples(st.just("strategy"), st.sampled_from(["gelora", "uniform", "random", "nonsense"])),
            st.tuples(
                st.just("edits"),
                st.dictionaries(st.sampled_from([f"encoder.layer.{i}" for i in range(3)]), st.integers(-1, 40)),
            ),
        ),
        max_size=8,
    )
)
def test_whatever_the_page_sends_the_budget_is_kept(moves):
    model = tiny_model("bert")
    panel = RankBudget(make_profile(model), model)
    for name, value in moves:
        from_page(panel, **{name: value})
        assert panel.plan.n_parameters <= panel.budget
        assert "Traceback" not in panel.error


def test_plans_of_other_strategies_are_spent_on_every_budget(panel, model, monkeypatch):
    profile = make_profile(model)
    plan = allocate_ranks(profile, model, budget=uniform_budget(model, 8), strategy="proportional")
    panel = RankBudget(profile, model, readings={"gradient": plan}, strategy="gradient")
    panel.budget = uniform_budget(model, 2)
    assert panel.plan.ranks == allocate_ranks(profile, model, budget=panel.budget, strategy="proportional").ranks
    assert panel.strategies[-1] == ["gradient", STRATEGIES["gradient"].meaning]
    other = allocate_ranks(None, model, strategy="uniform", budget=20_000, target_modules=["key"])
    with pytest.raises(InputError, match="reading 'gradient' is a plan for 3 matrices"):
        RankBudget(profile, model, readings={"gradient": other})


def test_effective_ranks_stand_beside_the_assigned_ones(panel, model):
    shown = RankBudget(panel.profile, model, spectrum=make_spectrum(panel.plan))
    assert len(shown.effective_ranks) == 3
    assert all(used <= high for used, high in zip(shown.effective_ranks, shown.ranks["high"], strict=True))
    other = tiny_model("gpt2")
    foreign = make_spectrum(RankBudget(make_profile(other), other).plan)
    with pytest.raises(InputError, match="are not the panel's"):
        RankBudget(panel.profile, model, spectrum=foreign)


def test_the_copied_text_makes_the_plans_configuration(panel):
    panel.edits = {"encoder.layer.0": 0, "encoder.layer.2.attention.self.query": 5}
    made = {}
    exec(panel.peft_code, made)  # noqa: S102 - our own text
    ours = panel.plan.to_peft_config()
    for name in ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        assert getattr(made["config"], name) == getattr(ours, name)


def test_without_any_rank_there_is_no_configuration_and_the_panel_says_so(panel):
    from_page(panel, keep_budget=False, edits={f"encoder.layer.{i}": 0 for i in range(3)})
    panel._handle_custom_msg({"call": "send_peft_code"}, [])
    assert panel.error.startswith("every matrix has rank 0")


def test_a_snapshot_shows_the_estimator_and_the_plan(panel):
    panel.estimator = "mle"
    shown = panel.snapshot()._repr_html_()
    assert shown.startswith("<svg")
    assert "Assigned rank" in shown
    assert "TwoNN" not in shown


def test_what_is_sent_stays_small(panel):
    state = {name: value for name, value in panel.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state)) < 10_000
