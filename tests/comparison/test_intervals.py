"""Intervals over seeds and texts: closed forms, simulated coverage, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gelora_viz.comparison.intervals import crossed_interval, group_numbers, interval_of_extreme


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def alone(n_texts):
    """Every text a group of its own."""
    return np.arange(n_texts)


def test_one_seed_has_the_interval_of_a_mean_over_texts(rng):
    values = rng.normal(size=(1, 50))
    found = crossed_interval(values, alone(50))
    reach = stats.t.ppf(0.975, 49) * values.std(ddof=1) / np.sqrt(50)
    assert found == pytest.approx((values.mean(), values.mean() - reach, values.mean() + reach))


def test_seeds_that_move_all_texts_alike_leave_the_interval_of_a_mean_over_seeds(rng):
    of_seeds = np.array([0.1, 0.4, 0.3, 0.9])
    values = np.repeat(of_seeds[:, None], 30, axis=1)
    found = crossed_interval(values, alone(30))
    reach = stats.t.ppf(0.975, 3) * of_seeds.std(ddof=1) / 2
    assert found == pytest.approx((of_seeds.mean(), of_seeds.mean() - reach, of_seeds.mean() + reach))


def test_a_mean_per_token_is_the_ratio_of_totals_and_does_not_depend_on_how_texts_are_cut(rng):
    sizes = rng.integers(1, 30, size=40).astype(float)
    values = rng.gamma(2.0, size=(3, 40)) * sizes
    groups = np.repeat(np.arange(10), 4)
    found = crossed_interval(values, groups, sizes=sizes)
    assert found.value == pytest.approx(values.sum() / (3 * sizes.sum()))
    cut = crossed_interval(np.repeat(values / 2, 2, axis=1), np.repeat(groups, 2), sizes=np.repeat(sizes / 2, 2))
    assert cut == pytest.approx(found)


@pytest.mark.parametrize(("of_seeds", "of_texts", "rest"), [(0, 1, 1), (0.02, 0.1, 0.3), (0.1, 0.1, 0.3), (0, 0, 1)])
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_intervals_cover_what_they_say_over_new_seeds_and_new_texts(rng, of_seeds, of_texts, rest, n_seeds):
    hits, repeats, n_texts = 0, 600, 120
    for _ in range(repeats):
        values = (
            of_seeds * rng.normal(size=(n_seeds, 1))
            + of_texts * rng.normal(size=(1, n_texts))
            + rest * rng.normal(size=(n_seeds, n_texts))
        )
        found = crossed_interval(values, alone(n_texts))
        hits += found.low <= 0 <= found.high
    assert 0.91 <= hits / repeats <= 0.995


def test_an_interval_over_seeds_alone_would_not_cover(rng):
    # The reason for all this: seeds share the test texts, so their spread says nothing about other texts.
    hits = 0
    for _ in range(300):
        values = rng.normal(size=(1, 100)) + 0.2 * rng.normal(size=(5, 100))
        means = values.mean(axis=1)
        hits += abs(means.mean()) <= stats.t.ppf(0.975, 4) * means.std(ddof=1) / np.sqrt(5)
    assert hits / 300 < 0.6


def test_methods_that_never_differ_differ_by_nothing():
    assert crossed_interval(np.zeros((3, 20)), alone(20)) == (0.0, 0.0, 0.0)


def test_a_single_group_of_texts_says_nothing_about_others():
    found = crossed_interval(np.ones((3, 5)), np.zeros(5, dtype=int))
    assert found.value == 1.0
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_a_perfect_accuracy_is_uncertain_by_wilson():
    z2 = stats.norm.ppf(0.975) ** 2
    assert interval_of_extreme(1.0, 20, 0.95) == pytest.approx((1.0, 20 / (20 + z2), 1.0))
    assert interval_of_extreme(0.0, 20, 0.95) == pytest.approx((0.0, 0.0, z2 / (20 + z2)))


def test_texts_without_a_group_are_groups_of_their_own():
    numbers = group_numbers(np.array(["a", None, "b", "a", None, float("nan")], dtype=object))
    assert list(numbers) == [0, 1, 2, 0, 3, 4]
