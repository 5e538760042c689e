"""Estimators that look at all pairs of points: as expensive as another neighbor search, or more."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from scipy.special import lambertw

from gelora_viz.dimension._graph import NeighborGraph
from gelora_viz.dimension._search import ROUNDING, centered_in_single, exact_distances
from gelora_viz.errors import InputError

_BLOCK = 1024
_FISHER_CONDITION = 10.0
"""FisherS keeps principal directions with more than a tenth of the largest variance."""
_FISHER_MARGINS = np.arange(0.6, 1.0, 0.02)
"""Margins alpha at which separability is measured, as in the reference implementation."""
_FISHER_CHOSEN = 0.9
"""FisherS reads its estimate at this fraction of the largest margin at which some point is not separable."""


def corrint(graph: NeighborGraph, points: np.ndarray) -> float:
    """Correlation dimension between two radii: slope of log C(r) on log r, C the share of pairs closer than r.

    The radii are the median distances to the (k/2)-th and k-th neighbor. Grassberger & Procaccia 1983,
    doi:10.1016/0167-2789(83)90298-1; radii as in scikit-dimension.
    """
    radii = np.median(graph.distances[:, [graph.k // 2 - 1, graph.k - 1]], axis=0)
    if radii[0] == radii[1]:
        raise InputError("the median distances to the (k/2)-th and k-th neighbor are equal; choose a larger k")
    inner, outer = _pairs_within(points, radii)
    if inner == 0:
        raise InputError(f"no two points are closer than {radii[0]:g}; choose a larger k")
    return float(np.log(outer / inner) / np.log(radii[1] / radii[0]))


def _pairs_within(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Count the pairs of points strictly closer than each radius, exactly, from half of the matrix product.

    Where rounding of the product could have moved a pair across a radius, coordinates decide.
    """
    single, unit = centered_in_single(points)
    squares = np.einsum("ij,ij->i", single, single)
    norms, rounding = np.sqrt(squares), ROUNDING * np.sqrt(points.shape[1])
    counts = np.zeros(len(radii), dtype=np.int64)
    starts = range(0, len(points), _BLOCK)
    for first, second in combinations_with_replacement(starts, 2):
        rows, columns = slice(first, first + _BLOCK), slice(second, second + _BLOCK)
        block = squares[rows, None] + squares[columns] - 2 * (single[rows] @ single[columns].T)
        if first == second:
            block[np.tril_indices(len(block))] = np.inf
        error = float(rounding * (norms[rows].max() + norms[columns].max()) ** 2)
        for at, radius in enumerate(radii):
            limit = (radius / unit) ** 2
            counts[at] += np.count_nonzero(block < limit - error)
            near = np.argwhere(np.abs(block - limit) <= error)
            if len(near):
                exact = exact_distances(points, first + near[:, 0], second + near[:, 1:])
                counts[at] += np.count_nonzero(exact < radius)
    return counts


def fishers(points: np.ndarray) -> float:
    """FisherS: the dimension of the sphere on which points are as often linearly inseparable as these.

    NaN where every point is separable at every margin, as in high dimensions with few points. Albergante, Bac &
    Zinovyev 2019, doi:10.1109/IJCNN.2019.8852450.
    """
    directions = _on_sphere(points)
    n_points = len(directions)
    inseparable = np.zeros(len(_FISHER_MARGINS), dtype=np.int64)
    for start in range(0, n_points, _BLOCK):
        products = directions[start : start + _BLOCK] @ directions.T
        products[np.arange(len(products)), np.arange(start, start + len(products))] = -np.inf
        high = np.sort(products[products >= _FISHER_MARGINS[0]])
        inseparable += len(high) - np.searchsorted(high, _FISHER_MARGINS)
    share = inseparable / (n_points * (n_points - 1))
    seen = np.flatnonzero(share > 0)
    if not len(seen):
        return float("nan")
    chosen = seen[np.argmin(np.abs(_FISHER_MARGINS[seen] - _FISHER_CHOSEN * _FISHER_MARGINS[seen[-1]]))]
    squared = _FISHER_MARGINS[chosen] ** 2
    log = np.log(1 - squared)
    inner = -log / (2 * np.pi * share[chosen] ** 2 * squared * (1 - squared))
    return float(lambertw(inner).real / -log)


def _on_sphere(points: np.ndarray) -> np.ndarray:
    """Project points onto their main principal directions, whiten them, and scale each to length 1."""
    centered = points - points.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    main = variances > variances[-1] / _FISHER_CONDITION
    kept = centered @ (directions[:, main] / np.sqrt(variances[main]))
    return kept / np.linalg.norm(kept, axis=1, keepdims=True)
