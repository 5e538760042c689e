"""Every strategy over a study's folder: a plan is made once, and again for other options."""

from __future__ import annotations

import pytest
from small_study import WORK

from gelora_viz import Study, allocate_ranks, fit_probe, sample_batches, uniform_budget
from gelora_viz.errors import InputError, StudyError
from gelora_viz.ranks import STRATEGIES
from gelora_viz.study import allocation

QUIET = {"budget_rank": 2, "n_texts": 40, "progress": False}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_makes_a_plan_that_keeps_the_budget_and_is_not_made_twice(copied_study, forbid, strategy):
    study = Study.open(copied_study)
    plan = study.allocate(strategy, strategy=strategy, **QUIET)
    budget = uniform_budget(study.loaded.model, 2)
    assert budget - 64 < plan.n_parameters <= budget
    assert plan.strategy == strategy
    assert plan.frame["lower_bound"].notna().all()  # the profile is there, and shown beside any plan
    forbid(*WORK)
    assert Study.open(copied_study).allocate(strategy, strategy=strategy, **QUIET).ranks == plan.ranks


def test_eva_and_gradient_read_the_study_s_own_texts_and_gradient_the_loss_of_a_probe_on_them(copied_study):
    study = Study.open(copied_study)
    model, tokenizer, _ = study.loaded
    batches = sample_batches(study.data, model, tokenizer, n_texts=40, seed=3)
    probe = fit_probe(model, batches)
    for strategy in ("eva", "gradient"):
        expected = allocate_ranks(
            None, model, strategy=strategy, budget=uniform_budget(model, 2), batches=batches,
            loss=lambda _, batch: probe(**batch).loss, progress=False,
        )  # fmt: skip
        made = study.allocate(strategy, strategy=strategy, seed=3, **QUIET)
        assert made.frame["weight"].tolist() == pytest.approx(expected.frame["weight"].tolist(), rel=1e-4)
        assert made.ranks == expected.ranks


@pytest.mark.parametrize(
    ("strategy", "change"),
    [
        ("gelora", {"min_rank": 2}),
        ("gelora", {"rounding": "ceil"}),
        ("random", {"seed": 1}),
        ("eva", {"seed": 1}),
        ("eva", {"n_texts": 60}),
        ("gradient", {"n_texts": 60}),
    ],
)
def test_an_option_that_makes_a_difference_makes_the_plan_anew(copied_study, forbid, strategy, change):
    options = {"strategy": strategy, **QUIET, "n_texts": 48}
    Study.open(copied_study).allocate("plan", **options)
    forbid("allocate_ranks")
    with pytest.raises(AssertionError, match="allocate_ranks was called"):
        Study.open(copied_study).allocate("plan", **options | change)


def test_an_option_that_makes_none_does_not(copied_study, forbid):
    made = Study.open(copied_study).allocate("plan", **QUIET)
    forbid(*WORK)
    again = Study.open(copied_study).allocate("plan", budget_rank=2, n_texts=7, seed=5)
    assert again.to_dict() == made.to_dict()


def test_what_reads_no_dimensions_needs_no_profile(tiny_folder, csv_file, tmp_path):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)
    for strategy, made in STRATEGIES.items():
        if made.reads == "profile":
            with pytest.raises(StudyError, match="no profile of pooling 'mean'"):
                study.allocate(strategy, strategy=strategy, **QUIET)
        else:
            assert study.allocate(strategy, strategy=strategy, **QUIET).frame["lower_bound"].isna().all()


def test_without_labels_there_is_no_gradient_but_eva(tiny_folder, texts, tmp_path):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=texts[:60])
    with pytest.raises(InputError, match="'list of 60 texts' has no labels; name its label column"):
        study.allocate("gradient", strategy="gradient", **QUIET)
    assert study.allocate("eva", strategy="eva", **QUIET).n_parameters > 0


def test_unusable_options_are_refused_before_the_model_runs(copied_study, monkeypatch):
    study = Study.open(copied_study)
    monkeypatch.setattr(allocation, "fit_probe", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(InputError, match="unknown strategy 'best'"):
        study.allocate("plan", strategy="best", **QUIET)
    with pytest.raises(InputError, match="needs a budget"):
        study.allocate("plan", strategy="gradient")
    with pytest.raises(InputError, match="n_texts is 0"):
        study.allocate("plan", strategy="gradient", budget_rank=2, n_texts=0)
    with pytest.raises(InputError, match="is below rank 3 everywhere"):
        study.allocate("plan", strategy="gradient", budget_rank=2, min_rank=3)
