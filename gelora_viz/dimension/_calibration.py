"""Undo the finite-sample bias of distance-based dimension estimators: what would they read where the truth is known?

With finitely many points every such estimator reads high dimensions too low: in 70 dimensions the nearest of 2,500
points are nearly as far away as the farthest, and ratios of distances see the edge of the cloud. How much too low
depends on the number of points, on the number of neighbors and on the shape of the cloud, and can be computed for
two shapes, the uniform ball and the isotropic Gaussian, in any dimension. `calibrate` tabulates what an estimator
reads there, `correct_bias` looks an estimate up in that table. No cloud is drawn and no neighbors are searched (see
`_distance_laws`); tests/dimension/test_calibration.py and benchmarks/bias_correction.py compare with real clouds and
real neighbor graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gelora_viz._checks import check_whole
from gelora_viz.dimension._distance_laws import DIMENSIONS, FAMILIES, Family, distances_within, smallest_shares
from gelora_viz.dimension._estimator import Estimator
from gelora_viz.dimension._graph import NeighborGraph
from gelora_viz.errors import InputError

_N_DISTANCES = 400_000
_FEWEST_QUERIES, _MOST_QUERIES = 20_480, 102_400
_MOST_CLOUDS = 64
"""Simulated clouds at most: their mean then has an eighth of the error of one cloud's estimate."""
_FEWEST_CLOUDS = 8


@dataclass(frozen=True, eq=False)
class Calibration:
    """What an estimator reads, on average, on clouds of known dimension.

    Attributes:
        estimator: name of the estimator.
        n_points: number of points in each cloud.
        k: number of neighbors that the estimator reads.
        family: shape of the clouds, "ball" or "gaussian".
        dimensions: (n_grid,) true dimensions, ascending; shorter than `DIMENSIONS` where the estimator saturates.
        expected: (n_grid,) mean estimate on clouds of each of these dimensions, strictly ascending.
        std_error: (n_grid,) Monte-Carlo standard error of `expected`.
    """

    estimator: str
    n_points: int
    k: int
    family: Family
    dimensions: np.ndarray
    expected: np.ndarray
    std_error: np.ndarray

    def corrected(self, raw: float) -> float:
        """Look up the true dimension at which the estimator reads `raw` on average.

        Below the estimate at dimension 1, proportional to `raw`; +inf above the grid's end; NaN for NaN.
        """
        if not raw > 0:
            return 0.0 if raw <= 0 else float("nan")
        if raw > self.expected[-1]:
            return float("inf")
        if raw < self.expected[0]:
            return float(raw / self.expected[0] * self.dimensions[0])
        return float(np.exp(np.interp(np.log(raw), np.log(self.expected), np.log(self.dimensions))))

    def gain(self, raw: float) -> float:
        """Percent by which the corrected dimension grows when the estimate grows by one percent; 1 without bias."""
        log_dimensions = np.log(self.dimensions)
        gains = np.gradient(log_dimensions, np.log(self.expected))
        return float(np.interp(np.log(raw), np.log(self.expected), gains))

    def relative_error(self, raw: float) -> float:
        """Monte-Carlo standard error of the logarithm of the corrected dimension."""
        relative = np.interp(np.log(raw), np.log(self.expected), self.std_error / self.expected)
        return float(relative) * self.gain(raw)


def calibrate(estimator: Estimator, n_points: int, k: int, *, family: Family = "ball", seed: int = 0) -> Calibration:
    """Tabulate what an estimator reads on clouds of `n_points` points, dimension by dimension from 1 to 1,024.

    Takes half a second to two seconds; made once in a process. The number of points is rounded to two
    digits, so that layers that lost a few near-duplicates share one; up to 100 dimensions that changes a corrected
    estimate by less than 0.7 % from 1,000 points on, and by less than 2 % with 100. All dimensions see the same
    random numbers, so that the curve is smooth.

    Args:
        estimator: one that reads the graph's distances alone (TwoNN, MLE, Gride, MOM, MADA, MiND, not kNN or TLE).
        n_points: number of points in the cloud whose estimate is to be corrected, without near-duplicates.
        k: number of neighbors that the estimator reads.
        family: shape of the simulated clouds, "ball" or "gaussian".
        seed: seed of the simulation.

    Raises:
        InputError: if the family is unknown, k is not smaller than the number of points, or the estimator's bias
            cannot be simulated from distances.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r}; families are {', '.join(FAMILIES)}")
    if not estimator.can_be_corrected:
        raise InputError(
            f"{estimator.name} is corrected already, or reads more than distances, such as which points are "
            "neighbors, so its bias cannot be simulated; choose one like twonn, gride, mle, mom, mada or mind_ml"
        )
    check_sizes(n_points, k)
    return _calibrate(estimator, rounded_number(n_points, k), k, family, seed)


def correct_bias(
    estimator: Estimator,
    value: float,
    ci_low: float,
    ci_high: float,
    *,
    n_points: int,
    k: int,
    n_features: int,
    family: Family = "ball",
    seed: int = 0,
) -> tuple[float, float, float]:
    """Correct an estimate and its interval for the finite-sample bias.

    The value is looked up in the family's calibration. The interval's ends are looked up as well, and then moved out,
    on a logarithmic scale: each side's reach is sqrt(r^2 + (1.96 e)^2) + s, where r is what the sampling error alone
    would give, e the calibration's own error, and s the error of assuming the wrong shape: the largest difference
    between what the two families make of one estimate, over all dimensions up to this one. s is added in full, as
    systematic errors are, so that the other family's interval is held as well. It counts on both sides, and never
    falls with the dimension, because two shapes do not bound all others: cubes have more of an edge than balls,
    spheres none, and where the curves of ball and Gaussian happen to cross, those of cube and sphere do not.

    Args:
        estimator: one that reads the graph's distances alone, as `calibrate` takes.
        value: its estimate.
        ci_low: lower end of the interval of its sampling error.
        ci_high: upper end.
        n_points: number of points in the cloud.
        k: number of neighbors that the estimator read.
        n_features: number of features of the points; no dimension can be larger.
        family: the shape that the value is looked up for: "ball", because the estimators assume points that are
            uniform around each point.
        seed: seed of the simulation.

    Returns:
        The corrected dimension, the lower and the upper end of its interval; NaN where the value is.

    Example:
        >>> from gelora_viz.dimension import ESTIMATORS
        >>> value, low, high = correct_bias(ESTIMATORS["twonn"], 40.6, 39.0, 42.2, n_points=2500, k=2, n_features=100)
        >>> 65 < value < 71 and low < 62 and high > 74
        True
    """
    calibration = calibrate(estimator, n_points, k, family=family, seed=seed)
    corrected = calibration.corrected(value)
    if np.isnan(corrected):
        return corrected, corrected, corrected
    low, high = calibration.corrected(ci_low), calibration.corrected(ci_high)
    if corrected > 0:
        others = [calibrate(estimator, n_points, k, family=each, seed=seed) for each in FAMILIES if each != family]
        # Beyond the table nothing is known but that the dimension is at least its end.
        within = min(corrected, float(calibration.dimensions[-1]))
        shape = max(largest_distance(calibration, other, within) for other in others)
        own_error = 1.96 * calibration.relative_error(min(value, float(calibration.expected[-1])))
        low = within * np.exp(-shape - np.hypot(own_error, _log_ratio(within, min(low, within))))
        high = corrected * np.exp(shape + np.hypot(own_error, _log_ratio(high, corrected)))
    return min(corrected, n_features), float(min(low, n_features)), float(min(high, n_features))


def largest_distance(one: Calibration, other: Calibration, dimension: float) -> float:
    """Compute the largest log ratio between two calibrations' corrections of one estimate, up to this dimension."""
    log_dimensions = np.log(one.dimensions)
    dimension = max(dimension, float(one.dimensions[0]))  # below, both are proportional to the estimate
    up_to = np.append(one.dimensions[one.dimensions < dimension], dimension)
    estimates = np.exp(np.interp(np.log(up_to), log_dimensions, np.log(one.expected)))
    pairs = [(other.corrected(raw), true) for raw, true in zip(estimates, up_to, strict=True)]
    # Where the other's table has ended, there is nothing to compare.
    return max(abs(float(np.log(made / true))) for made, true in pairs if np.isfinite(made))


def _log_ratio(larger: float, smaller: float) -> float:
    if larger == smaller:
        return 0.0
    return float(np.log(larger / smaller)) if smaller > 0 else float("inf")


def check_sizes(n_points: int, k: int) -> None:
    """Raise `InputError` unless both are whole numbers, and 1 <= k < n_points."""
    if not check_whole(k, "k") < check_whole(n_points, "n_points"):
        raise InputError(f"{n_points} points have no {k} nearest neighbors; k must lie between 1 and {n_points - 1}")


def rounded_number(n_points: int, k: int) -> int:
    """Round to two significant digits, but always more than k."""
    step = 10 ** max(len(str(n_points)) - 2, 0)
    return max(round(n_points / step) * step, k + 1)


# What estimators read on simulated clouds


@lru_cache(maxsize=256)
def _calibrate(estimator: Estimator, n_points: int, k: int, family: Family, seed: int) -> Calibration:
    def read(distances: np.ndarray) -> np.ndarray:
        unknown = np.empty((len(distances), 0), dtype=np.int32)  # which points they lead to is not simulated
        return np.array([estimator.formula(NeighborGraph(distances, unknown, np.arange(len(distances)), 0))])

    return tabulate([estimator.name], read, n_points, k, family, seed)[0]


def tabulate(
    names: list[str],
    read: Callable[[np.ndarray], np.ndarray],
    n_points: int,
    k: int,
    family: Family,
    seed: int,
) -> list[Calibration]:
    """Tabulate a calibration for each of the numbers that `read` computes from distances (n_points, k)."""
    n_queries = min(max(_N_DISTANCES // k, _FEWEST_QUERIES), _MOST_QUERIES, _MOST_CLOUDS * n_points)
    size = min(n_points, n_queries // _FEWEST_CLOUDS)
    log_shares = smallest_shares(n_points, k, n_queries // size * size, seed)
    reads = np.array(
        [
            [read(cloud) for cloud in distances_within(log_shares, dimension, family).reshape(-1, size, k)]
            for dimension in DIMENSIONS.tolist()
        ]
    )  # (n_grid, n_clouds, n_numbers)
    expected = reads.mean(axis=1)
    std_error = reads.std(axis=1, ddof=1) / np.sqrt(reads.shape[1])
    calibrations = []
    for name, curve, error in zip(names, expected.T, std_error.T, strict=True):
        falls = np.flatnonzero(np.diff(curve) <= 0)
        end = falls[0] + 1 if len(falls) else len(curve)
        calibrations.append(Calibration(name, n_points, k, family, DIMENSIONS[:end], curve[:end], error[:end]))
    return calibrations
