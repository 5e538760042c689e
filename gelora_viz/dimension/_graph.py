"""The exact nearest-neighbor graph of a cloud of points, without near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gelora_viz._checks import check_whole, describe, resolve_device
from gelora_viz.dimension._kernels import pick_own_side
from gelora_viz.dimension._search import nearest
from gelora_viz.errors import InputError

NEAR_DUPLICATE = 1e-3
"""Two points closer than this fraction of the median nearest-neighbor distance count as one.

Measured on 10,000 sentences: two exact duplicates turn scikit-dimension's MLE into 0; with this rule up to 10 %
duplicates change it by about 1 %.
"""
_INT64 = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
_ROWS = 4096
"""Rows checksummed at a time."""


class GraphTooSmallError(InputError):
    """A graph has too few neighbors to be split into halves; a wider one may have enough."""


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """The k nearest neighbors of each point, near-duplicates dropped.

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
        """Number of neighbors of each point."""
        return self.distances.shape[1]

    def nearest(self, k: int) -> NeighborGraph:
        """Keep only the k nearest neighbors of each point."""
        if check_whole(k, "k") > self.k:
            raise InputError(f"the graph has {self.k} neighbors a point, not {k}; build it with a larger k")
        return NeighborGraph(self.distances[:, :k], self.indices[:, :k], self.kept, self.n_duplicates)

    def halves(self, side: np.ndarray, k: int) -> tuple[NeighborGraph, NeighborGraph]:
        """Split into the graphs of two halves of the points, each as if the other half did not exist.

        Exact as long as every point has k neighbors on its own side, and cheap: no distance is computed.

        Args:
            side: (n_points,) false for the first half, true for the second.
            k: neighbors wanted of each point; about half of the graph's own k minus what chance takes.

        Raises:
            InputError: if a point has fewer than k of its neighbors on its own side.
        """
        distances, indices = np.empty((self.n_points, k)), np.empty((self.n_points, k), dtype=self.indices.dtype)
        if not pick_own_side(self.distances, self.indices, side, distances, indices):
            raise GraphTooSmallError(f"a graph of {self.k} neighbors is too small to find {k} within each half")
        renumbered = (np.where(side, np.cumsum(side), np.cumsum(~side)) - 1).astype(np.int32)
        first, second = (
            NeighborGraph(distances[half], renumbered[indices[half]], self.kept[half], self.n_duplicates)
            for half in (~side, side)
        )
        return first, second


def neighbor_graph(x: Any, k: int, *, device: str | None = None) -> NeighborGraph:  # noqa: ANN401 - array or tensor
    """Build the exact k-nearest-neighbor graph of a cloud of points.

    Points are centered first, so that a large offset in some coordinate (the "massive activations" of large models)
    costs no precision. Candidates come from float32 matrix products, their distances are recomputed from the
    coordinates in float64, and points whose neighbors rounding could have hidden are searched again. Besides the
    points, memory holds one copy of them in float32, and n_points x k distances. Near-duplicates (closer than 1e-3
    times the median nearest-neighbor distance) are dropped but for the first, and counted.

    Args:
        x: points, an array or tensor of shape (n_points, n_features).
        k: number of neighbors of each point, at least 1.
        device: None or "cpu" for the CPU; a torch device such as "cuda" for blocked products and top-k there, in
            smaller blocks where memory runs out. Apple's "mps" has no float64, so the CPU is used instead.

    Raises:
        InputError: if values are NaN or infinite, all points are equal, k is not smaller than the number of distinct
            points, or the points do not fit into the accelerator's memory.

    Example:
        >>> graph = neighbor_graph(np.array([[0.0], [1.0], [3.0], [3.0]]), k=1)
        >>> graph.distances.ravel().tolist(), graph.n_duplicates
        ([1.0, 1.0, 2.0], 1)
    """
    return build_graph(x, k, at_least=k, device=device)


def build_graph(x: Any, k: int, *, at_least: int, device: str | None = None) -> NeighborGraph:  # noqa: ANN401
    """Build a graph like `neighbor_graph`, of fewer than `k` neighbors, down to `at_least`, if points are few."""
    check_whole(at_least, "k")
    where = resolve_device(device)
    points = as_array(x)
    check_finite(points)
    if where.type == "mps":
        where = resolve_device("cpu")  # Apple's devices have no float64
    kept = _first_of_equal_rows(points)
    while True:
        if len(kept) == 1:
            raise InputError(
                f"all {len(points)} points are equal, so they have no dimension; check the layer and the texts"
            )
        if at_least >= len(kept):
            raise InputError(
                f"k = {at_least} neighbors need more than {len(kept)} distinct points ({len(points)} given); "
                "give more texts or a smaller k"
            )
        distinct = points if len(kept) == len(points) else points[kept]
        distances, indices = nearest(distinct, min(k, len(kept) - 1), where)
        twins = _later_twins(distances, indices)
        if not twins.any():
            return NeighborGraph(distances, indices, kept, len(points) - len(kept))
        kept = kept[~twins]


def as_array(x: Any) -> np.ndarray:  # noqa: ANN401 - array or tensor
    """Convert points to contiguous float32 or float64, without a copy if possible; they must be a table."""
    try:
        array = x.detach().cpu() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=getattr(x, "dtype", float))
    except (TypeError, ValueError) as error:
        raise InputError(f"x is {describe(x)}; give points as an array of numbers, (n_points, n_features)") from error
    if isinstance(array, torch.Tensor):
        # numpy has no bfloat16.
        array = array.numpy() if array.dtype == torch.float64 else array.float().numpy()
    if array.ndim != 2:
        raise InputError(f"the points x have shape {tuple(array.shape)}; give (n_points, n_features)")
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype in (np.float16, np.float32) else np.float64)


def check_finite(points: np.ndarray, *, name: str = "the points x") -> None:
    """Raise `InputError` if rows contain NaN or infinity, with their number."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name} have NaN or infinite values in {int((~finite).sum())} of {len(points)} rows; "
            "capture in float32, or drop those rows"
        )


def _first_of_equal_rows(points: np.ndarray) -> np.ndarray:
    """Find the rows that equal no earlier row, by checksums of their bits."""
    bits = np.int32 if points.dtype == np.float32 else np.int64
    weights = np.random.default_rng(0).integers(*_INT64, size=points.shape[1], dtype=np.int64)
    checksums = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), _ROWS):
        block = points[start : start + _ROWS] + 0.0  # no negative zeros
        checksums[start : start + _ROWS] = block.view(bits).astype(np.int64) @ weights
    _, first, member = np.unique(checksums, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[member] != np.arange(len(points)))
    equal = [row for row in later if np.array_equal(points[row], points[first[member[row]]])]
    return np.delete(np.arange(len(points)), equal)


def _later_twins(distances: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Mark each point within the near-duplicate radius of an earlier point that stays."""
    close = distances < NEAR_DUPLICATE * np.median(distances[:, 0])
    twins = np.zeros(len(indices), dtype=bool)
    for row in np.flatnonzero(close.any(axis=1)):
        earlier = indices[row, close[row]]
        twins[row] = bool((~twins[earlier[earlier < row]]).any())
    return twins
