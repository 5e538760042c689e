"""Methods compared over seeds: real runs of a tiny model, the sweep, what is refused, and what survives."""

from __future__ import annotations

import dataclasses
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
from peft import AdaLoraConfig, EvaConfig, LoraConfig
from small_runs import train_here

from gelora_viz import Comparison, RunSpec, attach, compare, list_runs
from gelora_viz.comparison import rounds
from gelora_viz.comparison.sweep import Method, choose_rates, validation_score
from gelora_viz.errors import InputError, RunError
from gelora_viz.runs import LocalExecutor, RunFolder


def launch_here(spec, *, run_dir, executor):
    """As `launch`, but trained in this process: what a worker does, without the seconds that it takes to start."""
    assert executor is not None
    train_here(spec, run_dir)
    RunFolder(run_dir).write_status("finished")
    return attach(run_dir)


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs are trained in this process for the length of a test."""
    monkeypatch.setattr(rounds, "launch", launch_here)


@pytest.fixture(scope="module")
def compared(spec_of, tmp_path_factory):
    """Three methods, two seeds, two rates or more: (comparison, folder)."""
    folder = tmp_path_factory.mktemp("comparison")
    adalora = AdaLoraConfig(
        init_r=3, target_r=2, tinit=1, tfinal=1, lora_alpha=4, target_modules=["query", "value"], total_step=6
    )
    specs = [spec_of("uniform", steps=6), spec_of("frozen", adapter="frozen", steps=6)]
    specs += [spec_of("adalora", adapter=adalora, steps=6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "launch", launch_here)
        found = compare(specs, seeds=(3, 4), learning_rates=(1e-3, 1e-2), folder=folder, progress=False)
    return found, folder


def test_every_method_is_swept_alike_and_repeated_at_its_best_rate(compared):
    found, _ = compared
    for name, mine in found.runs.groupby("run"):
        assert (mine["status"] == "finished").all()
        swept = mine[mine["seed"] == 3]
        chosen = mine[mine["chosen"]]
        assert sorted(chosen["seed"]) == [3, 4]
        assert chosen["learning_rate"].nunique() == 1
        by_validation = swept.sort_values(["validation_accuracy", "validation_loss"], ascending=[False, True])
        assert by_validation.iloc[0]["learning_rate"] == chosen.iloc[0]["learning_rate"], name
        if name != "frozen":
            assert {1e-3, 1e-2} <= set(swept["learning_rate"])
            assert len(swept) <= 4


def test_a_sweep_goes_on_beyond_an_end_that_is_the_best(compared):
    found, _ = compared
    for _, mine in found.runs.groupby("run"):
        rates = sorted(set(mine["learning_rate"]))
        best = mine[mine["chosen"]]["learning_rate"].iloc[0]
        assert best not in (rates[0], rates[-1]) or len(rates) == 4 or best * 10 >= 1
        ratios = np.diff(np.log(rates))
        np.testing.assert_allclose(ratios, np.log(10), rtol=1e-3)


def test_the_frozen_probe_is_swept_over_its_heads_rate(compared, spec_of):
    found, folder = compared
    assert choose_rates(spec_of(adapter="frozen"), (1e-3, 2e-3, 8e-3), sweeps=True) == [5e-3, 1e-2, 4e-2]
    mine = found.runs[found.runs["run"] == "frozen"]
    for row in mine.itertuples():
        assert RunSpec.load(folder / row.folder / "spec.json").head_learning_rate == row.learning_rate


def test_the_table_is_paired_over_seeds_and_texts(compared):
    found, folder = compared
    table = found.frame.set_index("run")
    assert list(table.index) == ["uniform", "frozen", "adalora"]
    assert (table["n_seeds"] == 2).all()
    assert table.loc["uniform", "verdict"] == "baseline"
    per_seed = {
        name: {row.seed: attach(folder / row.folder).result() for row in mine[mine["chosen"]].itertuples()}
        for name, mine in found.runs.groupby("run")
    }
    for name, results in per_seed.items():
        accuracy = np.mean([result.numbers["accuracy"] for result in results.values()])
        assert table.loc[name, "accuracy"] == pytest.approx(accuracy)
        assert table.loc[name, "ci_low"] <= accuracy <= table.loc[name, "ci_high"]
        if name != "uniform":
            gaps = [results[s].numbers["accuracy"] - per_seed["uniform"][s].numbers["accuracy"] for s in (3, 4)]
            assert table.loc[name, "difference"] == pytest.approx(np.mean(gaps))
        memory = np.mean([result.numbers["peak_memory_mb"] for result in results.values()])
        assert table.loc[name, "peak_memory_mb"] == pytest.approx(memory)
    assert table.loc["adalora", "n_parameters_kept"] < table.loc["adalora", "n_parameters"]
    assert np.isnan(table.loc["frozen", "mean_effective_rank"])
    assert 1 <= table.loc["uniform", "mean_effective_rank"] <= 2


def test_all_methods_read_the_same_texts_in_the_same_order(compared):
    _, folder = compared
    data = {RunSpec.load(file).data for file in folder.rglob("spec.json")}
    seeds = {(RunSpec.load(file).data_seed, RunSpec.load(file).batch_size) for file in folder.rglob("spec.json")}
    assert len(data) == len(seeds) == 1


def test_a_finished_comparison_is_not_repeated_and_one_that_lost_runs_is_completed(
    compared, spec_of, in_this_process
):
    found, folder = compared
    specs = [RunSpec.from_dict(method["spec"]) for method in found.settings["methods"].values()]
    options = {"seeds": (3, 4), "learning_rates": (1e-3, 1e-2), "folder": folder, "progress": False}
    lost = folder / found.runs.iloc[-1]["folder"] / "result.json"
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("result.json") if file != lost}
    lost.unlink()
    again = compare(specs, **options)
    assert lost.exists()
    assert times == {file: file.stat().st_mtime_ns for file in times}
    timed = ["seconds", "peak_memory_mb"]
    assert again.frame.drop(columns=timed).equals(found.frame.drop(columns=timed))


def test_runs_are_repeated_where_the_data_has_changed_since(compared, spec_of, data_file, tmp_path, in_this_process):
    copied = tmp_path / "texts.jsonl"
    copied.write_text(data_file.read_text())
    specs = [spec_of("uniform", data=str(copied), steps=2)]
    options = {"seeds": (0,), "sweep_rates": False, "folder": tmp_path / "c", "progress": False}
    compare(specs, **options)
    result = next((tmp_path / "c").rglob("result.json"))
    before = result.stat().st_mtime_ns
    os.utime(copied, (time.time() + 5, time.time() + 5))
    compare(specs, **options)
    assert result.stat().st_mtime_ns == before, "the same texts"
    copied.write_text("".join(data_file.read_text().splitlines(keepends=True)[1:]))
    compare(specs, **options)
    assert result.stat().st_mtime_ns > before


def test_a_saved_comparison_is_the_same_and_needs_no_kernel(compared, tmp_path):
    found, _ = compared
    loaded = Comparison.load(found.save(tmp_path / "comparison.json"))
    assert loaded.frame.equals(found.frame)
    assert loaded.runs.equals(found.runs)
    assert loaded.notes == found.notes
    page = found._repr_html_()
    assert "uniform" in page
    assert all(word in page for word in ("adalora", "seeds 3, 4"))


def test_the_notes_say_in_words_what_the_numbers_mean(compared):
    found, _ = compared
    words = " ".join(found.notes)
    for row in found.frame.itertuples():
        assert row.verdict == "baseline" or f"{row.run} against uniform" in words
        assert row.verdict == "baseline" or row.verdict in words
    assert "2 seeds say little" in words
    assert "Sizes differ: uniform trains" in words


def test_all_runs_are_in_the_folders_table(compared):
    found, folder = compared
    assert len(list_runs(folder)) == len(found.runs)


def test_one_seed_says_that_it_is_one(spec_of, tmp_path, in_this_process):
    found = compare(
        [spec_of("uniform", steps=2)], seeds=[0], sweep_rates=False, folder=tmp_path / "c", progress=False
    )
    assert any(note.startswith("One seed:") for note in found.notes)
    assert len(found.runs) == 1


def test_a_method_that_fails_is_in_the_table_with_the_cause_and_loses_no_other_run(spec_of, tmp_path):
    wrong = LoraConfig(r=2, target_modules=["nothing"])
    specs = [spec_of("wrong", adapter=wrong, steps=2), spec_of("uniform", steps=2)]
    options = {"seeds": [0, 1], "sweep_rates": False, "folder": tmp_path / "c", "progress": False, "at_once": 2}
    with pytest.raises(RunError, match=r"no run of 'wrong', which the others are compared with, finished: .*nothing"):
        compare(specs, **options)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "c").rglob("result.json")}
    assert len(times) == 2
    found = compare(specs, baseline="uniform", **options)
    assert times == {file: file.stat().st_mtime_ns for file in times}
    row = found.frame.set_index("run").loc["wrong"]
    assert row["n_seeds"] == 0
    assert np.isnan(row["accuracy"])
    assert row["verdict"].startswith("failed: target_modules has 'nothing'")
    assert any(note.startswith("wrong at learning rate 0.005, seed 0: target_modules has") for note in found.notes)
    assert "–" in found._repr_html_()


def test_an_interrupted_comparison_cancels_its_runs_and_goes_on_later(spec_of, tmp_path, monkeypatch):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "time", SimpleNamespace(sleep=interrupt))
    specs = [spec_of("uniform", steps=4)]
    options = {"seeds": (0, 1), "sweep_rates": False, "folder": tmp_path / "c", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        compare(specs, **options)
    assert list(list_runs(tmp_path / "c")["status"]) == ["cancelled"]
    monkeypatch.undo()
    assert (compare(specs, **options).runs["status"] == "finished").all()


@pytest.mark.parametrize(
    ("differing", "options", "message"),
    [
        ({}, {"seeds": ()}, r"seeds are \[\]; give at least one"),
        ({}, {"seeds": (1, 1)}, "give at least one, and none twice"),
        ({}, {"seeds": (-1,)}, "seed is -1"),
        ({}, {"learning_rates": (2.0,)}, "a learning rate is 2.0; give a number between 0 and 1"),
        ({}, {"learning_rates": (1e-3,), "sweep_rates": False}, "give one of them"),
        ({}, {"baseline": "unifrom"}, "no method 'unifrom' to compare with; did you mean uniform"),
        ({}, {"confidence": 95}, "confidence is 95"),
        ({}, {"executor": "slurm"}, "unknown executor 'slurm'"),
        ({"name": "uniform"}, {}, "several specifications are named uniform"),
        ({"max_texts": 20}, {}, r"'other' and 'uniform' differ in max_texts \(20, None\)"),
        ({"task": "causal-lm"}, {}, "differ in task"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(spec_of, tmp_path, differing, options, message):
    specs = [spec_of("uniform"), spec_of(**{"name": "other"} | differing)]
    with pytest.raises(InputError, match=message):
        compare(specs, folder=tmp_path / "c", progress=False, **options)
    assert not (tmp_path / "c").exists()


def test_nothing_to_compare_is_refused(tmp_path):
    with pytest.raises(InputError, match="no specifications"):
        compare([], folder=tmp_path)


def test_language_models_are_compared_by_perplexity(language_spec_of, tmp_path, in_this_process):
    eva = LoraConfig(
        r=2, lora_alpha=4, target_modules=["q_proj"], init_lora_weights="eva", eva_config=EvaConfig(rho=1)
    )
    lora = dataclasses.replace(eva, init_lora_weights=True, eva_config=None)
    specs = [language_spec_of("lora", adapter=lora, steps=3), language_spec_of("eva", adapter=eva, steps=3)]
    specs += [language_spec_of("frozen", adapter="frozen", steps=3)]
    found = compare(specs, seeds=(0, 1), sweep_rates=False, baseline="frozen", folder=tmp_path / "c", progress=False)
    assert found.metric == "perplexity"
    table = found.frame.set_index("run")
    seeds = {s: attach(tmp_path / "c" / f"lora/lr{specs[0].learning_rate:.4g}-seed{s}").result() for s in (0, 1)}
    log_mean = np.mean([np.log(each.numbers["perplexity"]) for each in seeds.values()])
    assert table.loc["lora", "perplexity"] == pytest.approx(np.exp(log_mean))
    gap = table.loc["lora", "perplexity"] / table.loc["frozen", "perplexity"] - 1
    assert table.loc["lora", "difference"] == pytest.approx(gap)
    better = table.loc["lora", "difference_high"] < 0
    assert (table.loc["lora", "verdict"] == "better than the baseline") is bool(better)
    assert "%" in found._repr_html_()


def test_of_equal_accuracies_the_lower_loss_is_chosen():
    a = {"validation_accuracy": 0.5, "validation_loss": 1.0}
    b = {"validation_accuracy": 0.5, "validation_loss": 0.9}
    assert validation_score(b) > validation_score(a)
    assert validation_score({"validation_loss": 2.0, "validation_perplexity": 7.4}) == (-2.0, -2.0)


def test_a_sweep_stops_below_one(spec_of, tmp_path, monkeypatch):
    method = Method(spec_of(), tmp_path, [0], [0.1, 0.4])
    monkeypatch.setattr(method, "best", lambda: 0.4)
    assert not method.try_further()
    assert method.rates == [0.1, 0.4]


def test_an_executor_can_be_given_as_an_object(spec_of, tmp_path, in_this_process):
    executor = LocalExecutor(at_once=1)
    found = compare(
        [spec_of("uniform", steps=2)],
        seeds=[0],
        sweep_rates=False,
        folder=tmp_path,
        executor=executor,
        progress=False,
    )
    assert found.frame["accuracy"].notna().all()
