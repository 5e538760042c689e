"""Finished runs compared by hand-made predictions; intervals against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gelora_viz import RunResult, RunSpec, UpdateSpectrum, compare_runs
from gelora_viz.errors import InputError
from gelora_viz.spectra.spectrum import COLUMNS


def result_of(name, correct, groups=None, spectrum=None, labels=None):
    """A run that got these texts right; `correct` and `groups` hold one entry for each test text."""
    labels = ["yes"] * len(correct) if labels is None else labels
    predicted = [label if right else "no" for label, right in zip(labels, correct, strict=True)]
    predictions = pd.DataFrame({"label": labels, "predicted": predicted, "group": groups or [None] * len(correct)})
    numbers = {
        "accuracy": float(np.mean(correct)), "macro_f1": 0.5, "n_parameters": 100, "seconds": 1.5,
        "n_test": len(correct),
    }  # fmt: skip
    return RunResult(RunSpec(name, adapter="frozen"), numbers, predictions, spectrum)


def row_of(table, name):
    return table.set_index("run").loc[name]


def test_an_accuracy_has_the_interval_of_a_mean_of_independent_texts():
    correct = [True] * 70 + [False] * 30
    row = row_of(compare_runs([result_of("a", correct)]), "a")
    reach = stats.t.ppf(0.975, 99) * np.sqrt(0.7 * 0.3 / 99)
    assert row.accuracy == pytest.approx(0.7)
    assert (row.ci_low, row.ci_high) == pytest.approx((0.7 - reach, 0.7 + reach))
    assert row.verdict == "baseline"
    assert np.isnan(row.difference)


def test_texts_that_repeat_each_other_count_as_one():
    # Every group holds 5 texts with one fate: the interval is that of 40 independent texts, not of 200.
    fates = [True] * 25 + [False] * 15
    grouped = result_of("a", np.repeat(fates, 5), [f"g{number // 5}" for number in range(200)])
    alone = compare_runs([result_of("a", fates)]).iloc[0]
    row = compare_runs([grouped]).iloc[0]
    assert (row.accuracy, row.ci_low, row.ci_high) == pytest.approx((alone.accuracy, alone.ci_low, alone.ci_high))


def test_groups_of_unequal_size_weigh_by_their_texts():
    # Cochran 1977, 9A.2: the standard error of a ratio of totals, here of groups with 1, 2 and 3 texts.
    correct = [True, True, False, False, False, True]
    row = compare_runs([result_of("a", correct, ["a", "b", "b", "c", "c", "c"])], confidence=0.9).iloc[0]
    totals = np.array([1 - 0.5, 1 - 2 * 0.5, 1 - 3 * 0.5])
    reach = stats.t.ppf(0.95, 2) * np.sqrt(3 / 2 * (totals**2).sum()) / 6
    assert (row.ci_low, row.ci_high) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_a_difference_is_paired_on_the_same_texts():
    # b differs from a in 4 of 100 texts, all for the better: unpaired intervals would drown that.
    a = [True] * 60 + [False] * 40
    b = [True] * 68 + [False] * 32
    table = compare_runs([result_of("a", a), result_of("b", b)])
    row = row_of(table, "b")
    reach = stats.t.ppf(0.975, 99) * np.sqrt(0.08 * 0.92 / 99)
    assert row.difference == pytest.approx(0.08)
    assert (row.difference_low, row.difference_high) == pytest.approx((0.08 - reach, 0.08 + reach))
    assert row_of(table, "a").ci_high > row.ci_low
    assert row.verdict.startswith("better than the baseline")


def test_the_verdict_says_worse_and_inside_the_noise_where_that_is_so():
    base = [True] * 60 + [False] * 40
    worse = [True] * 40 + [False] * 60
    shuffled = [*([True] * 59), False, True, *([False] * 39)]  # one won, one lost
    table = compare_runs([result_of("base", base), result_of("worse", worse), result_of("same", shuffled)])
    assert row_of(table, "worse").verdict.startswith("worse than the baseline")
    assert row_of(table, "same").verdict == "inside the noise"
    assert row_of(table, "same").difference == 0


def test_the_baseline_is_the_first_run_or_the_one_that_is_named():
    runs = [result_of("a", [True] * 30), result_of("b", [True] * 20 + [False] * 10)]
    assert row_of(compare_runs(runs), "a").verdict == "baseline"
    named = compare_runs(runs, baseline="b")
    assert row_of(named, "b").verdict == "baseline"
    assert row_of(named, "a").difference == pytest.approx(1 / 3)
    assert list(named["run"]) == ["a", "b"]


def test_an_unknown_baseline_is_refused_with_the_runs_there_are():
    with pytest.raises(InputError, match="no run 'best' to compare with; runs are a, b"):
        compare_runs([result_of("a", [True, False]), result_of("b", [True, False])], baseline="best")


def test_runs_on_other_test_texts_cannot_be_compared():
    one = result_of("a", [True] * 4, labels=["x", "y", "x", "y"])
    other = result_of("b", [True] * 4, labels=["x", "x", "x", "y"])
    with pytest.raises(InputError, match="'b' and 'a' were tested on different texts"):
        compare_runs([one, other])
    with pytest.raises(InputError, match="different texts"):
        compare_runs([one, result_of("b", [True] * 3)])


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="no finished runs"):
        compare_runs([])


def test_effective_ranks_are_averaged_over_the_updates_and_missing_for_the_probe():
    rows = [["q", 4, 2.0, 1, 1, 2, 0.5, 1.0, 0.5], ["v", 4, 3.0, 1, 1, 3, 0.75, 1.0, 0.5]]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    spectrum = UpdateSpectrum(frame, {}, "LORA")
    table = compare_runs([result_of("frozen", [True, False]), result_of("lora", [True, False], spectrum=spectrum)])
    assert np.isnan(row_of(table, "frozen").mean_effective_rank)
    assert row_of(table, "lora").mean_effective_rank == pytest.approx(2.5)
    assert row_of(table, "lora").mean_utilisation == pytest.approx(0.625)
