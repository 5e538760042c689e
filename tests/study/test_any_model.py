"""The whole walk, from a CSV file to the report, for every architecture."""

from __future__ import annotations

import pytest
from small_study import PROFILING, QUICK, launch_here
from tiny_models import ARCHITECTURES, N_BLOCKS

from gelora_viz import Study, uniform_budget
from gelora_viz.study import runs

IN_WORKERS = ("gpt2", "t5")
"""Trained in processes of their own, as a user's runs are; the others here, for speed."""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_from_a_csv_file_to_the_report(tiny_folder, csv_file, tmp_path, monkeypatch, architecture):
    if architecture not in IN_WORKERS:
        monkeypatch.setattr(runs, "launch", launch_here)
    study = Study.create(tmp_path / "study", model=str(tiny_folder(architecture)), data=csv_file)

    profiles = study.profile(**PROFILING)
    n_stacks = 2 if architecture == "t5" else 1
    for profile in profiles.values():
        assert len(profile.layers) == n_stacks * (N_BLOCKS + 1)
        assert (profile.frame["dimension"] > 0).all()

    budget = uniform_budget(study.loaded.model, 2)
    uniform = study.allocate("uniform", strategy="uniform", budget_rank=2)
    gelora = study.allocate("gelora", pooling="tokens", budget_rank=2)
    assert uniform.n_parameters == budget
    assert budget - gelora.frame[["in_features", "out_features"]].sum(axis=1).min() < gelora.n_parameters <= budget

    for name in ("frozen", "gelora"):
        study.finetune(name, **QUICK)
    table = study.tabulate_results().set_index("run")
    assert table.loc["frozen", "n_parameters"] == 0
    assert table.loc["gelora", "n_parameters"] == gelora.n_parameters
    assert table.loc["gelora", "mean_effective_rank"] > 0
    assert table["accuracy"].between(0, 1).all()

    report = study.report()
    assert (study.path / "figures" / "rank_profile_gelora.pdf").exists()
    assert "gelora" in report.read_text(encoding="utf-8")
