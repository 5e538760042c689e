"""A mean over seeds and test texts, with an interval that covers the choice of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A number and the ends of its interval, NaN if they are unknown."""

    value: float
    low: float
    high: float


def crossed_interval(
    values: np.ndarray, groups: np.ndarray, *, sizes: np.ndarray | None = None, confidence: float = 0.95
) -> Estimate:
    """The mean over all seeds and test texts, and its interval over the choice of both.

    Seeds and groups of texts are two crossed random factors: each mean square says how much one of them moves the
    mean. The variance of the mean is (MS_seeds + MS_groups - MS_rest) / (n_seeds n_groups), or with only one of the
    two if that is larger, so that a negative estimate of a part never narrows the interval; degrees of freedom by
    Satterthwaite. With one seed it is the variance of group totals (Cochran 1977, section 9A.2), and then the
    interval covers only the texts. In simulations a 95 % interval covered 92 to 98 % from three seeds on, and 87 to
    98 % with two, which say little about the variation between seeds.

    Args:
        values: (n_seeds, n_texts) numbers, such as 1 for right and 0 for wrong.
        groups: (n_texts,) group number of each text; texts of a group (siblings of a category) count as one draw.
        sizes: (n_texts,) the units that the mean is per, such as tokens, equal for all seeds; by default texts.
        confidence: level of the intervals, between 0 and 1.

    References:
        Cornfield and Tukey 1956, Average values of mean squares in factorials. Satterthwaite 1946, An approximate
        distribution of estimates of variance components.
    """
    n_seeds, n_texts = values.shape
    weights = np.ones(n_texts) if sizes is None else sizes.astype(np.float64)
    mean = float(values.sum() / (n_seeds * weights.sum()))
    n_groups = int(groups.max()) + 1
    if n_groups < 2:
        return Estimate(mean, np.nan, np.nan)
    residuals = values - mean * weights
    # One number for each seed and group, linearized so that a seed's mean over groups is its distance from the mean.
    table = np.stack([np.bincount(groups, weights=row) for row in residuals]) * n_groups / weights.sum()
    variance, freedom = _variance_of_mean(table)
    reach = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * variance**0.5
    return Estimate(mean, mean - reach, mean + reach)


def _variance_of_mean(table: np.ndarray) -> tuple[float, float]:
    """Variance of the mean of (n_seeds, n_groups) numbers, and its degrees of freedom."""
    n_seeds, n_groups = table.shape
    of_seeds, of_groups = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    mean = float(table.mean())
    between_groups = float(n_seeds * np.square(of_groups - mean).sum() / (n_groups - 1))
    if n_seeds == 1 or between_groups == 0 == float(np.ptp(of_seeds)):
        return between_groups / (n_seeds * n_groups), n_groups - 1
    between_seeds = float(n_groups * np.square(of_seeds - mean).sum() / (n_seeds - 1))
    freedom_of_rest = (n_seeds - 1) * (n_groups - 1)
    rest = float(np.square(table - of_seeds - of_groups + mean).sum() / freedom_of_rest)
    total = max(between_seeds + between_groups - rest, between_seeds, between_groups)
    spread = between_seeds**2 / (n_seeds - 1) + between_groups**2 / (n_groups - 1) + rest**2 / freedom_of_rest
    return total / (n_seeds * n_groups), total**2 / spread


def interval_of_extreme(share: float, n_groups: int, confidence: float) -> Estimate:
    """Wilson's interval (1927), for when all texts or none were right and the variance is uninformative."""
    z2 = float(stats.norm.ppf(0.5 + confidence / 2)) ** 2
    reach = z2 / (n_groups + z2)
    return Estimate(share, 1 - reach, 1.0) if share == 1.0 else Estimate(share, 0.0, reach)


def group_numbers(groups: np.ndarray) -> np.ndarray:
    """The group number of each text, (n_texts,); a text without a group forms its own."""
    numbers: dict[object, int] = {}
    return np.array(
        [numbers.setdefault(("alone", place) if _is_missing(group) else group, len(numbers))
         for place, group in enumerate(groups)]
    )  # fmt: skip


def _is_missing(group: object) -> bool:
    return group is None or group != group
