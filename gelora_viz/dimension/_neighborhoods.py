"""Estimators that look at the shape of each point's neighborhood: they read the neighbors' coordinates as well.

`local_...` gives (n_points,) estimates around each point; the estimate is their mean.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from gelora_viz.dimension._graph import NeighborGraph
from gelora_viz.dimension._kernels import write_skewness, write_tight_estimates
from gelora_viz.dimension._search import on_threads

_EPSILON = 1e-4
"""TLE leaves out measurements below this fraction of the neighborhood's radius."""
_LARGEST_SKEWNESS_DIMENSION = 5000
"""ESS is a table look-up; neighborhoods that look wider than this count as this wide."""


def tle(graph: NeighborGraph, points: np.ndarray) -> float:
    """Tight local estimate: maximum likelihood that also reads distances between the neighbors; mean over points.

    Amsaleg, Chelly, Houle, Kawarabayashi, Radovanovic & Treeratanajaru 2019, doi:10.1137/1.9781611975673.21.
    Unlike scikit-dimension's, the cut-off for tiny measurements is relative to the neighborhood, so that
    scale does not matter.
    """
    return float(local_tle(graph, points).mean())


def local_tle(graph: NeighborGraph, points: np.ndarray) -> np.ndarray:
    """Tight local estimate around each point, from k neighbors.

    Args:
        graph: neighbor graph, read with all its neighbors.
        points: the graph's points, (n_points, n_features).
    """
    out = np.empty((graph.n_points, 1))
    on_threads(
        lambda rows: write_tight_estimates(points, graph.distances[rows], graph.indices[rows], out[rows], _EPSILON),
        len(out),
    )
    return out[:, 0]


def ess(graph: NeighborGraph, points: np.ndarray) -> float:
    """Expected simplex skewness: mean angle between the neighbors as seen from their center; mean over points.

    Johnsson, Soneson & Fontes 2015, doi:10.1109/TPAMI.2014.2343220, version a with d = 1, all pairs.
    """
    return float(local_ess(graph, points).mean())


def local_ess(graph: NeighborGraph, points: np.ndarray) -> np.ndarray:
    """Look up the dimension whose expected simplex skewness each neighborhood has."""
    skewness = np.empty((graph.n_points, 1))
    on_threads(lambda rows: write_skewness(points, graph.indices[rows], skewness[rows]), len(skewness))
    dimensions = np.arange(1, _LARGEST_SKEWNESS_DIMENSION + 1)
    return np.interp(skewness[:, 0], _expected_skewness(dimensions), dimensions)


def _expected_skewness(dimensions: np.ndarray) -> np.ndarray:
    """Compute the mean sine of the angle between directions, weighted by length, in balls of each dimension."""
    half = dimensions / 2
    with np.errstate(invalid="ignore"):
        values = np.exp(2 * gammaln(half) - gammaln(half + 0.5) - gammaln(half - 0.5))
    return np.where(dimensions == 1, 0.0, values)
