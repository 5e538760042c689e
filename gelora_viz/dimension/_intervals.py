"""Intervals from random splits of the texts into halves, which share nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from gelora_viz.dimension._cloud import Cloud
from gelora_viz.dimension._estimator import Estimator

N_SPLITS = 30
"""Random splits of the texts into halves; the standard error is then known to about 13 % (chi-square, 30 degrees)."""


def split_texts(texts: np.ndarray, seed: int) -> np.ndarray:
    """Draw (n_splits, n_points) which half each point falls into; all points of a text fall into the same."""
    distinct, member = np.unique(texts, return_inverse=True)
    generator = np.random.default_rng(seed)
    return np.array([(generator.permutation(len(distinct)) % 2 == 1)[member] for _ in range(N_SPLITS)])


def gaps_between_halves(cloud: Cloud, sides: np.ndarray, steps: Sequence[tuple[Estimator, int]]) -> list[np.ndarray]:
    """Subtract the estimates from the second half of each split from those from the first; NaN if one is infinite.

    Args:
        cloud: all points of a layer, whose reach covers the steps' numbers of neighbors.
        sides: halves of the texts from `split_texts`, (n_splits, n_points).
        steps: estimators, each with its number of neighbors.

    Returns:
        The (n_splits,) gaps of each step, from the first few splits only where each costs as much as a search.
    """
    counts = [each.reads.count_splits(len(sides), cloud.n_features) for each, _ in steps]
    gaps: list[list[float]] = [[] for _ in steps]
    for split, (one, other) in enumerate(cloud.halves(sides[: max(counts)])):
        for (each, k), n_splits, found in zip(steps, counts, gaps, strict=True):
            if split < n_splits:
                gap = each(one, k) - each(other, k)
                found.append(gap if np.isfinite(gap) else float("nan"))
    return [np.array(found) for found in gaps]


def split_half_error(gaps: np.ndarray) -> float:
    """Compute a standard error from (n_splits,) gaps between the estimates of two random halves of the texts.

    The halves share no text, so a gap has twice the variance of an estimate from half the texts, which is four times
    the variance of the estimate from all of them. A jackknife would not do: on nearest-neighbor estimates it counts
    the interplay of points several times and was measured 1.4 to 1.7 times too wide.
    """
    return float(np.sqrt(np.square(gaps).mean()) / 2)


def interval(value: float, std_error: float, n_splits: int, confidence: float) -> tuple[float, float]:
    """Compute the two-sided interval with Student's t of n_splits degrees of freedom."""
    reach = float(stats.t.ppf(0.5 + confidence / 2, n_splits)) * std_error
    return value - reach, value + reach


def dimension_interval(value: float, gaps: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Compute standard error, lower and upper end; NaN without gaps. A dimension is not negative."""
    if not len(gaps):
        return (float("nan"),) * 3
    std_error = split_half_error(gaps)
    low, high = interval(value, std_error, len(gaps), confidence)
    return std_error, max(low, 0.0), high
