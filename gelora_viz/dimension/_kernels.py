"""Loops over points and neighbors, compiled by numba; each works on a share of the points and releases the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_FAST = {"reassoc", "contract"}
"""Sums in any order, so that they vectorize; no other fast-math option."""


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401 - numba's own
    """Compile without the GIL, and cache on disk if there is a writable folder."""

    def compile_loop(loop: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(nogil=True, cache=True, **options)(loop)
        except RuntimeError:  # neither the package's folder nor the user's can be written, as in some containers
            return numba.njit(nogil=True, **options)(loop)

    return compile_loop


@_compiled()
def keep_nearest_in_rows(
    products: np.ndarray, squares: np.ndarray, first: int, heaps: np.ndarray, indices: np.ndarray
) -> None:
    """Update each row's heap with the block's columns as neighbors, numbered from `first`."""
    for row in range(products.shape[0]):
        worst = heaps[row, 0]
        for column in range(products.shape[1]):
            value = squares[column] - 2 * products[row, column]
            if value < worst:
                _replace_worst(heaps[row], indices[row], value, first + column)
                worst = heaps[row, 0]


@_compiled()
def keep_nearest_in_columns(
    products: np.ndarray, squares: np.ndarray, first: int, heaps: np.ndarray, indices: np.ndarray
) -> None:
    """Update each column's heap with the block's rows as neighbors, numbered from `first`, in memory order."""
    worst = heaps[:, 0].copy()
    for row in range(products.shape[0]):
        square = squares[row]
        for column in range(products.shape[1]):
            value = square - 2 * products[row, column]
            if value < worst[column]:
                _replace_worst(heaps[column], indices[column], value, first + row)
                worst[column] = heaps[column, 0]


@_compiled()
def _replace_worst(heap: np.ndarray, members: np.ndarray, value: float, member: int) -> None:
    """Replace the largest value of a max-heap."""
    size = heap.shape[0]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[at] = heap[child]
        members[at] = members[child]
        at = child
    heap[at] = value
    members[at] = member


@_compiled(fastmath=_FAST)
def write_distances(points: np.ndarray, rows: np.ndarray, others: np.ndarray, out: np.ndarray) -> None:
    """Write Euclidean distances of some rows to others, from coordinate differences in float64."""
    for at in range(len(rows)):
        own = points[rows[at]]
        for column in range(others.shape[1]):
            other = points[others[at, column]]
            total = 0.0
            for feature in range(points.shape[1]):
                difference = np.float64(other[feature]) - np.float64(own[feature])
                total += difference * difference
            out[at, column] = np.sqrt(total)


@_compiled()
def pick_own_side(
    distances: np.ndarray,
    indices: np.ndarray,
    side: np.ndarray,
    picked_distances: np.ndarray,
    picked_indices: np.ndarray,
) -> bool:
    """Write each point's first neighbors on its own side; return false if some point has too few of them."""
    for row in range(distances.shape[0]):
        found = 0
        for column in range(distances.shape[1]):
            if side[indices[row, column]] == side[row]:
                picked_distances[row, found] = distances[row, column]
                picked_indices[row, found] = indices[row, column]
                found += 1
                if found == picked_distances.shape[1]:
                    break
        if found < picked_distances.shape[1]:
            return False
    return True


@_compiled()
def thinned_over_whole(distances: np.ndarray, indices: np.ndarray, side: np.ndarray, n_neighbors: int) -> float:
    """Divide the length of the edges to two neighbors, after half of the points are removed, by that before.

    One point in 50,000 has fewer than two of its twenty neighbors left, and is left out of both.
    """
    thinned = whole = 0.0
    for row in range(distances.shape[0]):
        found, length = 0, 0.0
        for column in range(distances.shape[1]):
            if side[indices[row, column]] == side[row]:
                length += distances[row, column]
                found += 1
                if found == n_neighbors:
                    break
        if found == n_neighbors:
            thinned += length
            for column in range(n_neighbors):
                whole += distances[row, column]
    return thinned / whole


@_compiled(fastmath=_FAST)
def write_skewness(points: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
    """Write the areas that pairs of neighbors span with their center, over the products of their lengths."""
    k, n_features = indices.shape[1], points.shape[1]
    centered = np.empty((k, n_features))
    lengths = np.empty(k)
    for at in range(indices.shape[0]):
        for feature in range(n_features):
            mean = 0.0
            for j in range(k):
                mean += points[indices[at, j], feature]
            mean /= k
            for j in range(k):
                centered[j, feature] = points[indices[at, j], feature] - mean
        for j in range(k):
            total = 0.0
            for feature in range(n_features):
                total += centered[j, feature] * centered[j, feature]
            lengths[j] = total
        area = weight = 0.0
        for i in range(k):
            for j in range(i + 1, k):
                product = 0.0
                for feature in range(n_features):
                    product += centered[i, feature] * centered[j, feature]
                both = lengths[i] * lengths[j]
                area += np.sqrt(abs(both - product * product))
                weight += np.sqrt(both)
        out[at, 0] = area / weight


@_compiled(fastmath=_FAST)
def write_tight_estimates(
    points: np.ndarray, distances: np.ndarray, indices: np.ndarray, out: np.ndarray, epsilon: float
) -> None:
    """Write the paper's sums over pairs (i, j) of neighbors; u is a distance to the center, v between the two."""
    k, n_features = indices.shape[1], points.shape[1]
    for at in range(indices.shape[0]):
        r = distances[at, k - 1]
        smallest = epsilon * r
        logs = 0.0
        n_measured = 0
        for i in range(k):
            u_i = distances[at, i]
            if u_i >= smallest:
                logs += 2 * np.log(u_i / r)
                n_measured += 1
            for j in range(k):
                if i == j:
                    continue
                u_j = distances[at, j]
                v_squared = 0.0
                for feature in range(n_features):
                    difference = np.float64(points[indices[at, i], feature]) - points[indices[at, j], feature]
                    v_squared += difference * difference
                # w is the distance from j to the mirror image of i.
                w_squared = max(2 * u_i * u_i + 2 * u_j * u_j - v_squared, 0.0)
                s = _tight(u_i, u_j, v_squared, r)
                t = _tight(u_i, u_j, w_squared, r)
                if s >= smallest and t >= smallest:
                    logs += np.log(s / r) + np.log(t / r)
                    n_measured += 1
        out[at, 0] = -2 * n_measured / logs if logs < 0 else 0.0


@_compiled()
def _tight(u_i: float, u_j: float, squared: float, r: float) -> float:
    """Distance of j from i, scaled to the ball through i that touches the neighborhood's sphere from within."""
    gap = r * r - u_i * u_i
    b = u_i * u_i + squared - u_j * u_j
    if gap <= 1e-12 * r * r:
        denominator = r * r + squared - u_j * u_j
        return r * squared / denominator if denominator > 0 else 0.0
    return r * (np.sqrt(b * b + 4 * squared * gap) - b) / (2 * gap)
