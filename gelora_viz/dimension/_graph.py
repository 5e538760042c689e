"""The exact nearest-neighbour graph of a cloud of points, audited for near-duplicates: what estimators stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gelora_viz._checks import resolve_device
from gelora_viz.dimension._kernels import pick_own_side
from gelora_viz.dimension._search import nearest
from gelora_viz.errors import InputError

NEAR_DUPLICATE = 1e-3
"""Two points closer than this fraction of the median nearest-neighbour distance count as one.

Measured on 10,000 sentences: two exact duplicates turn scikit-dimension's MLE into 0; with this rule up to 10 %
duplicates change it by about 1 %.
"""
_INT64 = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
_ROWS = 4096
"""Rows of one block where all points are read once."""


class GraphTooSmallError(InputError):
    """A graph has too few neighbours to be halved; one with more may do."""


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
        distances, indices = np.empty((self.n_points, k)), np.empty((self.n_points, k), dtype=self.indices.dtype)
        if not pick_own_side(self.distances, self.indices, side, distances, indices):
            raise GraphTooSmallError(f"a graph of {self.k} neighbours is too small to find {k} within each half")
        renumbered = (np.where(side, np.cumsum(side), np.cumsum(~side)) - 1).astype(np.int32)
        first, second = (
            NeighborGraph(distances[half], renumbered[indices[half]], self.kept[half], self.n_duplicates)
            for half in (~side, side)
        )
        return first, second


def neighbor_graph(x: Any, k: int, *, device: str | None = None) -> NeighborGraph:  # noqa: ANN401 - array or tensor
    """The exact k-nearest-neighbour graph of a cloud of points.

    Points are centred first, so that a large offset in some coordinate (the "massive activations" of large models)
    costs no precision; candidates come from float32 matrix products, their distances are recomputed from the
    coordinates in float64, and points whose neighbours rounding could have hidden are searched again. Beside the
    points, memory holds one copy of them in float32, and n_points x k distances. Near-duplicates (closer than 1e-3
    times the median nearest-neighbour distance) are dropped but for the first, and counted.

    Args:
        x: (n_points, n_features) array or tensor.
        k: neighbours of each point, at least 1.
        device: None or "cpu" for the CPU; a torch device such as "cuda" for blocked products and top-k there, in
            smaller blocks where memory runs out. Apple's "mps" knows no float64, so that the CPU searches for it.

    Raises:
        InputError: for NaN or infinite values, for points that are all equal, where k is not smaller than the
            number of distinct points, or where the accelerator's memory does not hold the points.

    Example:
        >>> graph = neighbor_graph(np.array([[0.0], [1.0], [3.0], [3.0]]), k=1)
        >>> graph.distances.ravel().tolist(), graph.n_duplicates
        ([1.0, 1.0, 2.0], 1)
    """
    return build_graph(x, k, at_least=k, device=device)


def build_graph(x: Any, k: int, *, at_least: int, device: str | None = None) -> NeighborGraph:  # noqa: ANN401
    """As `neighbor_graph`, but content with fewer than `k` neighbours, down to `at_least`, where points are few."""
    points = as_array(x)
    if points.ndim != 2:
        raise InputError(f"points have shape {points.shape}; give (n_points, n_features)")
    if at_least < 1:
        raise InputError(f"k is {at_least}; it must be at least 1")
    check_finite(points)
    where = resolve_device(device)
    if where.type == "mps":
        where = resolve_device("cpu")  # Apple's devices know no float64
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
        distinct = points if len(kept) == len(points) else points[kept]
        distances, indices = nearest(distinct, min(k, len(kept) - 1), where)
        twins = _later_twins(distances, indices)
        if not twins.any():
            return NeighborGraph(distances, indices, kept, len(points) - len(kept))
        kept = kept[~twins]


def as_array(x: Any) -> np.ndarray:  # noqa: ANN401 - array or tensor
    """Contiguous float32 or float64, without a copy where it is that already."""
    array = x.detach().cpu() if isinstance(x, torch.Tensor) else np.asarray(x)
    if isinstance(array, torch.Tensor):
        # numpy knows no bfloat16.
        array = array.numpy() if array.dtype == torch.float64 else array.float().numpy()
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype in (np.float16, np.float32) else np.float64)


def check_finite(points: np.ndarray, *, name: str = "the points") -> None:
    """Raise `InputError` with the number of rows that hold NaN or an infinity."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name} have NaN or infinite values in {int((~finite).sum())} of {len(points)} rows; "
            "capture in float32, or drop those rows"
        )


def _first_of_equal_rows(points: np.ndarray) -> np.ndarray:
    """Rows that equal no earlier row, in order, found by checksums of their bits."""
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
    """True for each point within the near-duplicate radius of an earlier point that stays."""
    close = distances < NEAR_DUPLICATE * np.median(distances[:, 0])
    twins = np.zeros(len(indices), dtype=bool)
    for row in np.flatnonzero(close.any(axis=1)):
        earlier = indices[row, close[row]]
        twins[row] = bool((~twins[earlier[earlier < row]]).any())
    return twins
