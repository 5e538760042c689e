"""Finished runs compared by hand-made predictions; intervals against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gelora_viz import RunResult, RunSpec, UpdateSpectrum, tabulate_results
from gelora_viz.errors import InputError
from gelora_viz.spectra import SPECTRUM_COLUMNS


def result_of(name, correct, groups=None, spectrum=None, labels=None, seed=0, **differing):
    """A run that got these texts right; `correct` and `groups` hold one entry for each test text."""
    labels = ["yes"] * len(correct) if labels is None else labels
    predicted = [label if right else "no" for label, right in zip(labels, correct, strict=True)]
    predictions = pd.DataFrame({"label": labels, "predicted": predicted, "group": groups or [None] * len(correct)})
    numbers = {
        "accuracy": float(np.mean(correct)), "macro_f1": 0.5, "n_parameters": 100, "n_parameters_kept": 100,
        "learning_rate": None, "seconds": 1.5, "n_test": len(correct),
    }  # fmt: skip
    return RunResult(RunSpec(name, adapter="frozen", seed=seed, **differing), numbers, predictions, spectrum)


def language_result_of(name, nll, n_tokens, seed=0, texts="same"):
    """A language model's run, with the likelihood and length of each test text."""
    predictions = pd.DataFrame({"n_tokens": n_tokens, "nll": nll, "group": [None] * len(nll)})
    numbers = {
        "perplexity": float(np.exp(sum(nll) / sum(n_tokens))), "n_parameters": 0, "n_parameters_kept": 0,
        "learning_rate": None, "seconds": 1.0,
    }  # fmt: skip
    spec = RunSpec(name, adapter="frozen", task="causal-lm", seed=seed)
    return RunResult(spec, numbers, predictions, None, texts)


def row_of(table, name):
    return table.set_index("run").loc[name]


def test_an_accuracy_has_the_interval_of_a_mean_of_independent_texts():
    correct = [True] * 70 + [False] * 30
    row = row_of(tabulate_results([result_of("a", correct)]), "a")
    reach = stats.t.ppf(0.975, 99) * np.sqrt(0.7 * 0.3 / 99)
    assert row.accuracy == pytest.approx(0.7)
    assert (row.ci_low, row.ci_high) == pytest.approx((0.7 - reach, 0.7 + reach))
    assert row.verdict == "baseline"
    assert np.isnan(row.difference)


def test_texts_that_repeat_each_other_count_as_one():
    # Every group holds 5 texts with one fate: the interval is that of 40 independent texts, not of 200.
    fates = [True] * 25 + [False] * 15
    grouped = result_of("a", np.repeat(fates, 5), [f"g{number // 5}" for number in range(200)])
    alone = tabulate_results([result_of("a", fates)]).iloc[0]
    row = tabulate_results([grouped]).iloc[0]
    assert (row.accuracy, row.ci_low, row.ci_high) == pytest.approx((alone.accuracy, alone.ci_low, alone.ci_high))


def test_groups_of_unequal_size_weigh_by_their_texts():
    # Cochran 1977, 9A.2: the standard error of a ratio of totals, here of groups with 1, 2 and 3 texts.
    correct = [True, True, False, False, False, True]
    row = tabulate_results([result_of("a", correct, ["a", "b", "b", "c", "c", "c"])], confidence=0.9).iloc[0]
    totals = np.array([1 - 0.5, 1 - 2 * 0.5, 1 - 3 * 0.5])
    reach = stats.t.ppf(0.95, 2) * np.sqrt(3 / 2 * (totals**2).sum()) / 6
    assert (row.ci_low, row.ci_high) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_a_difference_is_paired_on_the_same_texts():
    # b differs from a in 4 of 100 texts, all for the better: unpaired intervals would drown that.
    a = [True] * 60 + [False] * 40
    b = [True] * 68 + [False] * 32
    table = tabulate_results([result_of("a", a), result_of("b", b)])
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
    table = tabulate_results([result_of("base", base), result_of("worse", worse), result_of("same", shuffled)])
    assert row_of(table, "worse").verdict.startswith("worse than the baseline")
    assert row_of(table, "same").verdict == "inside the noise"
    assert row_of(table, "same").difference == 0


def test_the_baseline_is_the_first_run_or_the_one_that_is_named():
    runs = [result_of("a", [True] * 30), result_of("b", [True] * 20 + [False] * 10)]
    assert row_of(tabulate_results(runs), "a").verdict == "baseline"
    named = tabulate_results(runs, baseline="b")
    assert row_of(named, "b").verdict == "baseline"
    assert row_of(named, "a").difference == pytest.approx(1 / 3)
    assert list(named["run"]) == ["a", "b"]


def test_an_unknown_baseline_is_refused_with_the_runs_there_are():
    with pytest.raises(InputError, match="no run 'best' to compare with; runs are a, b"):
        tabulate_results([result_of("a", [True, False]), result_of("b", [True, False])], baseline="best")


def test_runs_on_other_test_texts_cannot_be_compared():
    one = result_of("a", [True] * 4, labels=["x", "y", "x", "y"])
    other = result_of("b", [True] * 4, labels=["x", "x", "x", "y"])
    with pytest.raises(InputError, match="'b' and 'a' were tested on different texts"):
        tabulate_results([one, other])
    with pytest.raises(InputError, match="different texts"):
        tabulate_results([one, result_of("b", [True] * 3)])


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="no finished runs"):
        tabulate_results([])


@pytest.mark.parametrize("confidence", [0, 1, 95, float("nan"), "0.95", None])
def test_a_confidence_that_is_not_between_0_and_1_is_refused(confidence):
    with pytest.raises(InputError, match=f"confidence is {confidence!r}; give a number between 0 and 1"):
        tabulate_results([result_of("a", [True, False])], confidence=confidence)


def test_effective_ranks_are_averaged_over_the_updates_and_missing_for_the_probe():
    rows = [["q", 4, 2.0, 1, 1, 2, 0.5, 1.0, 0.5], ["v", 4, 3.0, 1, 1, 3, 0.75, 1.0, 0.5]]
    frame = pd.DataFrame(rows, columns=SPECTRUM_COLUMNS)
    spectrum = UpdateSpectrum(frame, {}, "LORA")
    table = tabulate_results(
        [result_of("frozen", [True, False]), result_of("lora", [True, False], spectrum=spectrum)]
    )
    assert np.isnan(row_of(table, "frozen").mean_effective_rank)
    assert row_of(table, "lora").mean_effective_rank == pytest.approx(2.5)
    assert row_of(table, "lora").mean_utilisation == pytest.approx(0.625)


# Several seeds


def test_runs_of_one_name_are_one_method_under_several_seeds():
    runs = [result_of("a", [True] * (60 + 5 * seed) + [False] * (40 - 5 * seed), seed=seed) for seed in range(3)]
    (row,) = tabulate_results(runs).itertuples()
    assert (row.run, row.seeds, row.n_seeds) == ("a", "0, 1, 2", 3)
    assert row.accuracy == pytest.approx(0.65)
    single = tabulate_results(runs[1:2]).iloc[0]
    assert row.ci_high - row.ci_low > 0
    assert single.n_seeds == 1


def test_differences_are_paired_by_seed_whatever_the_order_of_runs():
    # Seeds move both methods alike; unpaired, that would drown the difference.
    rights = {0: 40, 1: 60, 2: 80}
    a = [result_of("a", [True] * n + [False] * (100 - n), seed=seed) for seed, n in rights.items()]
    b = [result_of("b", [True] * (n + 6) + [False] * (94 - n), seed=seed) for seed, n in rights.items()]
    row = row_of(tabulate_results([*a, *reversed(b)]), "b")
    assert row.difference == pytest.approx(0.06)
    assert row.verdict == "better than the baseline"
    assert row_of(tabulate_results([*a, *b]), "b").ci_low < row_of(tabulate_results([*a, *b]), "a").ci_high


def test_a_gap_that_one_seed_shows_and_others_undo_is_noise():
    def flipped(n):
        return [True] * n + [False] * (100 - n)

    one = tabulate_results([result_of("a", flipped(60)), result_of("b", flipped(72))])
    assert row_of(one, "b").verdict == "better than the baseline"
    a = [result_of("a", flipped(60), seed=seed) for seed in range(3)]
    b = [result_of("b", flipped(n), seed=seed) for seed, n in enumerate((72, 52, 62))]
    assert row_of(tabulate_results([*a, *b]), "b").verdict == "inside the noise"


def test_a_difference_is_over_the_seeds_that_both_have():
    a = [result_of("a", [True] * 50 + [False] * 50, seed=seed) for seed in (0, 1)]
    b = [result_of("b", [True] * n + [False] * (100 - n), seed=seed) for seed, n in ((1, 55), (2, 90))]
    row = row_of(tabulate_results([*a, *b]), "b")
    assert row.difference == pytest.approx(0.05)
    assert row.accuracy == pytest.approx(0.725)


def test_without_a_common_seed_there_is_no_difference():
    row = row_of(tabulate_results([result_of("a", [True, False]), result_of("b", [True, False], seed=1)]), "b")
    assert row.verdict == "unknown: no seed in common with the baseline"
    assert np.isnan(row.difference)


def test_runs_of_one_name_that_differ_in_more_than_the_seed_are_refused():
    with pytest.raises(InputError, match="runs named 'a' differ in learning_rate, steps"):
        tabulate_results([result_of("a", [True]), result_of("a", [True], seed=1, steps=3, learning_rate=0.1)])
    with pytest.raises(InputError, match="'a' appears twice with seed 0"):
        tabulate_results([result_of("a", [True]), result_of("a", [True])])


# Language models


def test_perplexities_are_compared_as_shares_and_lower_is_better():
    n_tokens = list(range(5, 45))
    base = [2.0 * n + (n % 3) * 0.1 for n in n_tokens]
    better = [value - 0.1 * n for value, n in zip(base, n_tokens, strict=True)]
    runs = [language_result_of("base", base, n_tokens), language_result_of("tuned", better, n_tokens)]
    row = row_of(tabulate_results(runs), "tuned")
    assert row.perplexity == pytest.approx(np.exp(sum(better) / sum(n_tokens)))
    assert row.ci_low < row.perplexity < row.ci_high
    assert row.difference == pytest.approx(np.expm1(-0.1))
    assert row.verdict == "better than the baseline"
    assert row_of(tabulate_results(runs, baseline="tuned"), "base").verdict == "worse than the baseline"


def test_tokens_of_another_tokenizer_cannot_be_compared():
    one, other = language_result_of("a", [1.0, 2.0], [3, 4]), language_result_of("b", [1.0, 2.0], [3, 5])
    with pytest.raises(InputError, match="different texts, or as other tokens"):
        tabulate_results([one, other])


def test_runs_of_two_tasks_cannot_be_compared():
    with pytest.raises(InputError, match="'b' is of task 'causal-lm', and 'a' of 'classification'"):
        tabulate_results([result_of("a", [True, False]), language_result_of("b", [1.0, 2.0], [3, 4])])
