"""The exact nearest-neighbour graph of a cloud of points, audited for near-duplicates: what estimators stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from gelora_viz._checks import resolve_device
from gelora_viz.errors import InputError

NEAR_DUPLICATE = 1e-3
"""Two points closer than this fraction of the median nearest-neighbour distance count as one.

Measured on 10,000 sentences: two exact duplicates turn scikit-dimension's MLE into 0; with this rule up to 10 %
duplicates change it by about 1 %.
"""
_SPARE_CANDIDATES = 4
"""Neighbours found beyond k before distances are recomputed exactly, so that rounding cannot lose one of the k."""
_PRODUCT_BYTES = 256 * 2**20
"""Memory for one block of the matrix products on an accelerator."""
_DIFFERENCE_BYTES = 4 * 2**20
"""Memory for one block of coordinate differences: what stays in the cache was six times as fast as 256 MB."""


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """The k nearest neighbours of each point, near-duplicates dropped.

    Attributes:
        distances: (n_points, k) Euclidean, float64, ascending, the point itself excluded.
        indices: (n_points, k) positions among the kept points.
        kept: (n_points,) rows of the original array that the graph's points are.
        n_duplicates: rows of the original array that were dropped as near-duplicates of an earlier row.
    """

    distances: np.ndarray
    indices: np.ndarray
    kept: np.ndarray
    n_duplicates: int

    @property
    def n_points(self) -> int:
        """Number of points in the graph."""
        return len(self.distances)

    @property
    def k(self) -> int:
        """Number of neighbours of each point."""
        return self.distances.shape[1]

    def nearest(self, k: int) -> NeighborGraph:
        """The same points with only their k nearest neighbours."""
        if not 1 <= k <= self.k:
            raise InputError(f"the graph has {self.k} neighbours a point, not {k}; build it with a larger k")
        return NeighborGraph(self.distances[:, :k], self.indices[:, :k], self.kept, self.n_duplicates)

    def halves(self, side: np.ndarray, k: int) -> tuple[NeighborGraph, NeighborGraph]:
        """The graphs of two halves of the points, each as if the other half had never been there.

        Exact as long as every point has k neighbours on its own side, and cheap: no distance is computed.

        Args:
            side: (n_points,) false for the first half, true for the second.
            k: neighbours wanted of each point; about half of the graph's own k minus what chance takes.

        Raises:
            InputError: if a point has fewer than k of its neighbours on its own side.
        """
        own_side = side[self.indices] == side[:, None]
        if own_side.sum(axis=1).min(initial=k) < k:
            raise InputError(f"a graph of {self.k} neighbours is too small to find {k} within each half")
        columns = np.argsort(~own_side, axis=1, kind="stable")[:, :k]
        distances = np.take_along_axis(self.distances, columns, axis=1)
        indices = np.take_along_axis(self.indices, columns, axis=1)
        renumbered = np.where(side, np.cumsum(side), np.cumsum(~side)) - 1
        first, second = (
            NeighborGraph(distances[half], renumbered[indices[half]], self.kept[half], self.n_duplicates)
            for half in (~side, side)
        )
        return first, second


def neighbor_graph(x: Any, k: int, *, device: str | None = None) -> NeighborGraph:  # noqa: ANN401 - array or tensor
    """The exact k-nearest-neighbour graph of a cloud of points.

    Points are centred first, so that a large offset in some coordinate (the "massive activations" of large models)
    costs no precision; candidates come from float32 matrix products, their distances are recomputed from the
    coordinates in float64. Near-duplicates (closer than 1e-3 times the median nearest-neighbour distance) are dropped
    but for the first, and counted.

    Args:
        x: (n_points, n_features) array or tensor.
        k: neighbours of each point, at least 1.
        device: None or "cpu" for scikit-learn's blocked search; a torch device ("cuda") for blocked products and
            top-k there.

    Raises:
        InputError: for NaN or infinite values, for points that are all equal, or where k is not smaller than the
            number of distinct points.

    Example:
        >>> graph = neighbor_graph(np.array([[0.0], [1.0], [3.0], [3.0]]), k=1)
        >>> graph.distances.ravel().tolist(), graph.n_duplicates
        ([1.0, 1.0, 2.0], 1)
    """
    return build_graph(x, k, at_least=k, device=device)


def build_graph(x: Any, k: int, *, at_least: int, device: str | None = None) -> NeighborGraph:  # noqa: ANN401
    """As `neighbor_graph`, but content with fewer than `k` neighbours, down to `at_least`, where points are few."""
    points = _as_array(x)
    if points.ndim != 2:
        raise InputError(f"points have shape {points.shape}; give (n_points, n_features)")
    if at_least < 1:
        raise InputError(f"k is {at_least}; it must be at least 1")
    check_finite(points)
    points = points - points.mean(axis=0, dtype=np.float64)
    kept = _first_of_equal_rows(points)
    while True:
        if len(kept) == 1:
            raise InputError(
                f"all {len(points)} points are equal, so they have no dimension; check the layer and the texts"
            )
        if at_least >= len(kept):
            raise InputError(
                f"k = {at_least} neighbours need more than {len(kept)} distinct points ({len(points)} given); "
                "give more texts or a smaller k"
            )
        distances, indices = _search(points[kept], min(k, len(kept) - 1), device)
        twins = _later_twins(distances, indices)
        if not twins.any():
            return NeighborGraph(distances, indices, kept, len(points) - len(kept))
        kept = kept[~twins]


def _as_array(x: Any) -> np.ndarray:  # noqa: ANN401 - array or tensor
    if not isinstance(x, torch.Tensor):
        return np.asarray(x)
    # numpy knows no bfloat16.
    return x.detach().to("cpu", x.dtype if x.dtype == torch.float64 else torch.float32).numpy()


def check_finite(points: np.ndarray, *, name: str = "the points") -> None:
    """Raise `InputError` with the number of rows that hold NaN or an infinity."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name} have NaN or infinite values in {int((~finite).sum())} of {len(points)} rows; "
            "capture in float32, or drop those rows"
        )


def _first_of_equal_rows(points: np.ndarray) -> np.ndarray:
    _, first = np.unique(points, axis=0, return_index=True)
    return np.sort(first)


def _later_twins(distances: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """True for each point that lies within the near-duplicate radius of an earlier point."""
    close = distances < NEAR_DUPLICATE * np.median(distances[:, 0])
    return np.any(close & (indices < np.arange(len(indices))[:, None]), axis=1)


def _search(points: np.ndarray, k: int, device: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n_points, k) of the nearest neighbours of centred, distinct points."""
    n_candidates = min(k + _SPARE_CANDIDATES, len(points) - 1)
    single = np.ascontiguousarray(points, dtype=np.float32)
    where = resolve_device(device)
    if where.type == "cpu":
        search = NearestNeighbors(n_neighbors=n_candidates, algorithm="brute").fit(single)
        candidates = search.kneighbors(return_distance=False)
    else:
        candidates = _torch_candidates(single, n_candidates, where)
    distances = _exact_distances(points, candidates)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _torch_candidates(points: np.ndarray, n_candidates: int, device: torch.device) -> np.ndarray:
    """Nearest neighbours by squared distances |a|^2 + |b|^2 - 2ab, a block of rows at a time."""
    x = torch.as_tensor(points, device=device)
    squares = x.square().sum(dim=1)
    rows = max(1, _PRODUCT_BYTES // (4 * len(x)))
    found = []
    for start in range(0, len(x), rows):
        block = slice(start, min(start + rows, len(x)))
        squared = torch.addmm(squares[None, :], x[block], x.T, alpha=-2.0)
        squared[torch.arange(len(squared), device=device), torch.arange(block.start, block.stop, device=device)] = (
            torch.inf
        )
        found.append(squared.topk(n_candidates, dim=1, largest=False).indices.cpu())
    return torch.cat(found).numpy()


def _exact_distances(points: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Distances (n_points, n_candidates) from coordinate differences in float64, a block of rows at a time."""
    n_points, n_candidates = candidates.shape
    rows = max(1, _DIFFERENCE_BYTES // (8 * n_candidates * points.shape[1]))
    distances = np.empty((n_points, n_candidates))
    for start in range(0, n_points, rows):
        block = slice(start, start + rows)
        difference = points[candidates[block]]
        difference -= points[block, None]
        distances[block] = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference, optimize=False))
    return distances
