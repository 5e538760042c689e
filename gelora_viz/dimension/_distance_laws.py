"""The distribution of distances in a ball and in a Gaussian: the share of the cloud within a radius of a point.

Around a query point at distance rho from the center, the distances to all other points are independent draws from
one law. In a ball, its distribution function is the share of the ball that a ball around the query holds; for a
Gaussian it is that of the noncentral chi-square. So the k nearest of n - 1 points need no cloud and no search: they
are the smallest of n - 1 uniform numbers, mapped through the inverse of the distribution function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import special

Family = Literal["ball", "gaussian"]
FAMILIES: tuple[Family, ...] = ("ball", "gaussian")
"""Shapes of clouds for which the bias is computed: one of even density with an edge, one of uneven without."""
DIMENSIONS = np.geomspace(1, 1024, 45)
"""The grid of true dimensions, each 17 % above the last; in between, tables are linear in logarithms."""

_N_QUERY_RADII = 64
"""Equally likely distances of a query from the center; twice as many change none by more than 0.11 %."""
_N_TABLE = 128
_LEAST_SHARE, _LARGEST_SHARE = 1e-12, 0.999
"""Shares of a cloud between which the law of distances is tabulated; n_points times queries simulated stay above."""


def smallest_shares(n_points: int, k: int, n_queries: int, seed: int) -> np.ndarray:
    """Draw logarithms (n_queries, k) of the k smallest of n_points - 1 uniform numbers: ratios of waiting times."""
    generator = np.random.default_rng(seed)
    waiting = np.cumsum(generator.standard_exponential((n_queries, k)), axis=1)
    remaining = generator.standard_gamma(n_points - k, size=(n_queries, 1))
    return np.log(waiting / (waiting[:, -1:] + remaining))


def distances_within(log_shares: np.ndarray, dimension: float, family: Family) -> np.ndarray:
    """Compute (n_queries, k) distances at which balls around the queries hold these shares of the cloud."""
    log_radii, table = law_of_distances(dimension, family)
    log_distances = np.empty_like(log_shares)
    for at in range(_N_QUERY_RADII):
        queries = slice(at, None, _N_QUERY_RADII)
        log_distances[queries] = np.interp(log_shares[queries], table[at], log_radii[at])
    return np.exp(log_distances)


@lru_cache(maxsize=len(FAMILIES) * len(DIMENSIONS))
def law_of_distances(dimension: float, family: Family) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate log radii around each query and log shares of the cloud within, both (n_query_radii, n_table)."""
    log_share = _log_share_of_ball if family == "ball" else _log_share_of_gaussian
    quantiles = (np.arange(_N_QUERY_RADII) + 0.5) / _N_QUERY_RADII
    if family == "ball":
        query_radii = quantiles ** (1 / dimension)
        shortest, longest = np.log(_LEAST_SHARE) / dimension - 1, np.log(3.0)
    else:
        query_radii = np.sqrt(2 * special.gammaincinv(dimension / 2, quantiles))
        shortest = np.log(_LEAST_SHARE) / dimension + np.log(dimension) / 2 - 2
        longest = np.log(3 * (8 + 2 * np.sqrt(dimension)))
    low, high = (
        _solve(log_share, np.log(share), query_radii, dimension, shortest, longest)
        for share in (_LEAST_SHARE, _LARGEST_SHARE)
    )
    log_radii = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _N_TABLE)
    return log_radii, log_share(log_radii, query_radii[:, None], dimension)


def _solve(
    log_share: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
    target: float,
    query_radii: np.ndarray,
    dimension: float,
    shortest: float,
    longest: float,
) -> np.ndarray:
    """Find the (n_query_radii,) log radius at which each query's ball holds the share, by bisection."""
    low, high = np.full_like(query_radii, shortest), np.full_like(query_radii, longest)
    for _ in range(25):
        middle = (low + high) / 2
        too_small = log_share(middle, query_radii, dimension) < target
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    return high


def _log_share_of_ball(log_radius: np.ndarray, query_radius: np.ndarray, dimension: float) -> np.ndarray:
    """Compute the log share of the unit ball that a ball around one of its points holds: two caps, one plane."""
    radius = np.exp(log_radius)
    from_query = (query_radius**2 + radius**2 - 1) / (2 * query_radius * radius)
    from_center = (query_radius**2 - radius**2 + 1) / (2 * query_radius)
    with np.errstate(divide="ignore"):
        own_cap = dimension * log_radius + np.log(_cap(from_query, dimension))
        other_cap = np.log(_cap(from_center, dimension))
    caps = np.logaddexp(own_cap, other_cap)
    return np.select([radius <= 1 - query_radius, radius >= 1 + query_radius], [dimension * log_radius, 0.0], caps)


def _cap(height: np.ndarray, dimension: float) -> np.ndarray:
    """Compute the share of a unit ball beyond a plane at this signed distance from its center."""
    half = 0.5 * special.betainc((dimension + 1) / 2, 0.5, np.clip(1 - height**2, 0.0, 1.0))
    return np.where(height >= 0, half, 1 - half)


def _log_share_of_gaussian(log_radius: np.ndarray, query_radius: np.ndarray, dimension: float) -> np.ndarray:
    """Compute the log share of a standard Gaussian within a radius of a point: noncentral chi-square."""
    with np.errstate(divide="ignore"):
        return np.log(special.chndtr(np.exp(2 * log_radius), dimension, query_radius**2))
