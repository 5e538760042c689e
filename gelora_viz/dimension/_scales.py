"""All scales at once: a dimension fitted to the neighbors from the nearest to the 33rd, corrected for its bias."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import special, stats

from gelora_viz._checks import check_confidence
from gelora_viz.dimension._calibration import Calibration, check_sizes, largest_distance, rounded_number, tabulate
from gelora_viz.dimension._distance_laws import FAMILIES, Family
from gelora_viz.dimension._graph import NeighborGraph
from gelora_viz.errors import InputError

# What `calibrated_dimension` assumes before it sees the data. Not blind: that the dimension is extrapolated to scale
# 0, the number of neighbors and the odds of a slope were settled with scikit-dimension's BenchmarkManifolds in view
# (some thirty settings were tried; with even odds their cubes of 17 to 24 dimensions passed for curved, at a mean
# error of 1.19 instead of 0.53), so the figures on them are those of a development set.
_FAMILY_MEAN, _FAMILY_SPREAD = 0.5, 0.5
"""Position of a cloud between ball (0) and Gaussian (1): each lies one standard deviation from the middle."""
_SLOPE_SPREAD = 0.3
"""Standard deviation of what bending and uneven density do to the logarithmic dimension at the nearest neighbor."""
_SLOPE_ODDS = 1 / 20
"""Odds that they do anything: strong evidence, a Bayes factor of 20, brings them level (Kass & Raftery 1995)."""
_NEXT_TERM = 0.5
"""Standard deviation of what the square of the scale leaves out, as a share of the extrapolation from the nearest
neighbor to scale 0: an expansion cut after one term."""
_SHARED_NEIGHBORS = 2.0
"""Variance of a shell's estimate over that of independent points: two points share neighbors. Measured 1 to 2, on
balls and Gaussians of 2 to 70 dimensions."""
_SHAPE_ERROR = 0.01
"""Error of a real cloud's logarithmic dimension at one scale that no mixture of ball and Gaussian describes."""
_MISFIT = 0.01
"""Probability of the residuals below which the largest scale is left out."""
_FEWEST_SHELLS = 2


@dataclass(frozen=True)
class ScaleFit:
    """The dimension fitted to the estimates at every scale, with what was assumed about the largest scales.

    Attributes:
        dimension: the fitted dimension; the number of features (inf where not given) for estimates beyond those of
            the largest dimension in the tables, and then with an unknown error (NaN).
        std_error: standard error of its logarithm, from sampling, the shape of the cloud, and whether and how the
            dimension changes with scale.
        slope_probability: how sure it is that the dimension changes with scale beyond the finite-sample bias, as on a
            curved sheet or under an uneven density; `dimension` is then that at scale 0.
        n_shells: how many shells of neighbors were used; the largest are left out where they do not fit.
        shells: (n_shells,) dimension at each scale corrected for a uniform ball, smallest scale first.
    """

    dimension: float
    std_error: float
    slope_probability: float
    n_shells: int
    shells: tuple[float, ...]

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Compute the two-sided interval, symmetric in the logarithm."""
        if not np.isfinite(self.std_error):
            return float("nan"), float("nan")
        reach = float(stats.norm.ppf(0.5 + check_confidence(confidence) / 2)) * self.std_error
        return self.dimension * float(np.exp(-reach)), self.dimension * float(np.exp(reach))


def calibrated_dimension(graph: NeighborGraph, n_features: int | None = None, *, seed: int = 0) -> float:
    """Estimate the dimension at scale 0, from the distances at all scales, corrected for the number of points.

    Arguments and errors are those of `fit_scales`. As a function of a graph it gives split-half intervals as any
    estimator does: each half is calibrated for its own number of points. `ScaleFit.interval` needs no halves, and
    also covers the unknown shape.
    """
    return fit_scales(graph, n_features, seed=seed).dimension


def interval_of_fit(graph: NeighborGraph, n_features: int, confidence: float) -> tuple[float, float, float, float]:
    """Fit all scales: dimension, standard error and ends of an interval that also covers the unknown shape."""
    fit = fit_scales(graph, n_features)
    low, high = fit.interval(confidence)
    return fit.dimension, fit.dimension * fit.std_error, low, min(high, float(n_features))


def fit_scales(graph: NeighborGraph, n_features: int | None = None, *, seed: int = 0) -> ScaleFit:
    r"""Fit one dimension to the neighbors at every scale.

    Neighbors are read in shells j = 1, 2-3, 4-7, 8-15, ... Where points are uniform around each point, the steps
    j log(r_(j+1) / r_j) are independent and exponential with mean 1 / d for every j, so each shell has its own
    maximum-likelihood estimate, independent of the others. Each is corrected as by `calibrate`, for a ball and for a
    Gaussian, and the logarithms b_s and g_s of the results are fitted by

        b_s + w (g_s - b_s) = log d + c (R_s / R_1)^2 + error,

    R_s the geometric mean distance in shell s. w is the cloud's unknown position between ball and Gaussian, normal
    around 1/2 with standard deviation 1/2. c is what bending and uneven density do, which to leading order grows
    with the square of the scale (the expansion behind GeoMLE: Gomtsyan et al. 2019, arXiv:1904.06151): either 0, or,
    with odds 1 to 20 before the data speak, normal around 0 with standard deviation 0.3. The two answers are
    averaged by their posterior probabilities. Errors are independent: the sampling variance of independent points,
    doubled because neighbors share neighbors, and 1 % for other shapes. An extrapolation is trusted to half of its
    length. Cubes and spheres, beyond ball and Gaussian, are allowed for in the standard error by half the largest
    distance between those two at the smallest scale. While residuals fit worse than 1 in 100, the largest shell is
    left out, down to two: far from scale 0, a spiral meets its next turn.

    Args:
        graph: neighbor graph, read with all its neighbors; `SCALE_NEIGHBORS` of them are best.
        n_features: number of features of the points, an upper limit.
        seed: seed of the simulation.

    Raises:
        InputError: if there are fewer than 3 neighbors, or every point's neighbors are equally far away.
    """
    if len(_shell_edges(graph.k)) <= _FEWEST_SHELLS:
        raise InputError(f"the graph has {graph.k} neighbors; a fit to several scales needs at least 3")
    check_sizes(graph.n_points, graph.k)
    estimates = _shell_estimates(graph.distances)
    tables = {
        family: _calibrate_shells(rounded_number(graph.n_points, graph.k), graph.k, family, seed)
        for family in FAMILIES
    }
    ball, gaussian = (
        np.array([table.corrected(raw) for table, raw in zip(tables[family], estimates, strict=True)])
        for family in FAMILIES
    )
    limit = float("inf") if n_features is None else float(n_features)
    if not (np.isfinite(ball).all() and np.isfinite(gaussian).all()):
        return ScaleFit(limit, float("nan"), 0.0, len(ball), tuple(ball.tolist()))
    gains = np.array([table.gain(raw) for table, raw in zip(tables["ball"], estimates, strict=True)])
    sizes = np.diff(_shell_edges(graph.k))
    variances = _SHARED_NEIGHBORS / (graph.n_points * sizes) * gains**2 + _SHAPE_ERROR**2
    log_dimension, std_error, probability, n_used = _fit(
        np.log(ball), np.log(gaussian / ball), _squared_scales(graph.distances), variances
    )
    other_shapes = _FAMILY_SPREAD * largest_distance(
        tables["ball"][0], tables["gaussian"][0], float(np.exp(log_dimension))
    )
    return ScaleFit(
        dimension=min(float(np.exp(log_dimension)), limit),
        std_error=float(np.hypot(std_error, other_shapes)),
        slope_probability=probability,
        n_shells=n_used,
        shells=tuple(ball.tolist()),
    )


def _fit(
    log_ball: np.ndarray, to_gaussian: np.ndarray, squared_scales: np.ndarray, variances: np.ndarray
) -> tuple[float, float, float, int]:
    """Fit log dimension, its standard error, the probability of a slope, and the number of shells used."""
    for n_used in range(len(log_ball), _FEWEST_SHELLS - 1, -1):
        shape, scale = to_gaussian[:n_used], squared_scales[:n_used]
        observed = log_ball[:n_used] + _FAMILY_MEAN * shape
        flat = np.diag(variances[:n_used]) + _FAMILY_SPREAD**2 * np.outer(shape, shape)
        sloped = flat + _SLOPE_SPREAD**2 * np.outer(scale, scale)
        fits = [_weighted_mean(observed, covariance) for covariance in (flat, sloped)]
        if stats.chi2.sf(min(fit.misfit for fit in fits), n_used - 1) > _MISFIT:
            break
    means = np.array([fit.mean for fit in fits])
    slope = float(special.expit(fits[1].log_evidence - fits[0].log_evidence + np.log(_SLOPE_ODDS)))
    probabilities = np.array([1 - slope, slope])
    mean = float(probabilities @ means)
    extrapolated = _SLOPE_SPREAD**2 * scale @ fits[1].weighted_residuals
    variances_of_fits = np.array([fits[0].variance, fits[1].variance + (_NEXT_TERM * extrapolated) ** 2])
    variance = probabilities @ (variances_of_fits + (means - mean) ** 2)
    return mean, float(np.sqrt(variance)), slope, n_used


@dataclass(frozen=True)
class _WeightedMean:
    mean: float
    variance: float
    misfit: float
    log_evidence: float
    weighted_residuals: np.ndarray


def _weighted_mean(observed: np.ndarray, covariance: np.ndarray) -> _WeightedMean:
    """Average correlated observations; the evidence is up to a constant, under a flat prior."""
    inverse = np.linalg.inv(covariance)
    weight = inverse.sum()
    mean = inverse.sum(axis=0) @ observed / weight
    residuals = observed - mean
    weighted_residuals = inverse @ residuals
    misfit = residuals @ weighted_residuals
    log_evidence = -0.5 * (np.linalg.slogdet(covariance)[1] + np.log(weight) + misfit)
    return _WeightedMean(float(mean), float(1 / weight), float(misfit), float(log_evidence), weighted_residuals)


def _shell_edges(k: int) -> list[int]:
    """List the edges 1, 2, 4, 8, ... and k; the last shell is at least half as wide as doubling makes it."""
    edges = [1]
    while edges[-1] * 3 <= k:
        edges.append(edges[-1] * 2)
    return edges if edges[-1] == k else [*edges, k] if edges[-1] * 3 <= 2 * k else [*edges[:-1], k]


def _shells(values: np.ndarray, edges: list[int]) -> np.ndarray:
    return np.array([values[low - 1 : high - 1].mean() for low, high in pairwise(edges)])


def _shell_estimates(distances: np.ndarray) -> np.ndarray:
    """Estimate the (n_shells,) maximum-likelihood dimension of each shell, from distances (n_points, k)."""
    k = distances.shape[1]
    steps = np.diff(np.log(distances), axis=1).mean(axis=0) * np.arange(1, k)
    spreads = _shells(steps, _shell_edges(k))
    if not (spreads > 0).all():
        raise InputError("every point's neighbors are equally far away at some scale, as on a grid")
    return 1 / spreads


def _squared_scales(distances: np.ndarray) -> np.ndarray:
    """Compute the (n_shells,) squared geometric mean distance of each shell's neighbors, 1 for the first."""
    mean_logs = np.log(distances).mean(axis=0)
    edges = _shell_edges(len(mean_logs))
    scales = np.array([mean_logs[low - 1 : high].mean() for low, high in pairwise(edges)])
    return np.exp(2 * (scales - scales[0]))


@lru_cache(maxsize=64)
def _calibrate_shells(n_points: int, k: int, family: Family, seed: int) -> list[Calibration]:
    edges = _shell_edges(k)
    names = [f"neighbors {low} to {high}" for low, high in pairwise(edges)]
    return tabulate(names, _shell_estimates, n_points, k, family, seed)
