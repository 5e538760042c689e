"""A cloud of points and its halves, with what estimators read of them: computed on first use, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch

from gelora_viz._checks import check_whole
from gelora_viz.dimension._covariance import eigenvalues, moments
from gelora_viz.dimension._graph import GraphTooSmallError, NeighborGraph, as_array, build_graph
from gelora_viz.dimension._search import one_blas_thread
from gelora_viz.dimension._splits import affordable_splits
from gelora_viz.errors import InputError

SAMPLE_SIZE = 2000
"""Points of `Cloud.sample`: DANCo takes half a minute for as many."""


class Cloud:
    """Points, and what estimators read of them: their neighbor graph, their covariance, a sample.

    Near-duplicates are dropped but for the first, whatever is read.

    Args:
        points: array or tensor of shape (n_given, n_features).
        reach: number of neighbors of each point that the first search finds: the most that will be read. Reading
            more searches again; 0 if only eigenvalues, samples or the points themselves are read.
        device: where to search neighbors: None for the CPU, or a torch device such as "cuda".

    Example:
        >>> from gelora_viz.dimension import ESTIMATORS
        >>> cloud = Cloud(np.random.default_rng(0).normal(size=(500, 3)), reach=20)
        >>> [round(ESTIMATORS[name](cloud, k=20), 1) for name in ("mle", "lpca_participation_ratio")]
        [3.1, 3.0]
    """

    def __init__(self, points: Any, reach: int = 0, *, device: str | None = None) -> None:  # noqa: ANN401 - as arrays
        self.points = as_array(points)
        self._reach, self._device = check_whole(reach, "reach", at_least=0), device
        self._found: NeighborGraph | None = None

    @property
    def rows(self) -> np.ndarray:
        """(n_points,) rows of `points` that are not near-duplicates of earlier ones, ascending."""
        return self.graph().kept

    @property
    def n_points(self) -> int:
        """Number of points without near-duplicates."""
        return len(self.rows)

    @property
    def n_features(self) -> int:
        """Number of coordinates of each point."""
        return self.points.shape[1]

    @cached_property
    def distinct(self) -> np.ndarray:
        """(n_points, n_features) the points without near-duplicates."""
        return self.points if self.n_points == len(self.points) else self.points[self.rows]

    def graph(self, k: int = 1) -> NeighborGraph:
        """Graph of the k nearest neighbors of each point; raises `InputError` as `neighbor_graph` does."""
        check_whole(k, "k")
        if self._found is None or self._found.k < k:
            wanted = max(self._reach, k)
            self._found = self._search(wanted, at_least=wanted)
        return self._found.nearest(k)

    def _search(self, k: int, *, at_least: int) -> NeighborGraph:
        """Search for k neighbors, or as many as there are; the first search decides which points are dropped."""
        if self._found is None:
            return build_graph(self.points, k, at_least=at_least, device=self._device)
        wider = build_graph(self.distinct, k, at_least=at_least, device=self._device)
        return replace(wider, kept=self._found.kept, n_duplicates=self._found.n_duplicates)

    def radius(self, k: int) -> float:
        """Mean distance to the k-th neighbor; NaN for k = 0."""
        return float(self.graph(k).distances.mean(axis=0)[-1]) if k else float("nan")

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of the covariance, descending; at most n_points - 1 of them."""
        _, moment, total = self._moments
        with one_blas_thread():
            return eigenvalues(moment, total, self.n_points)

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The mean, and the sums of x x^T and of x about it."""
        mean = self.distinct.mean(axis=0, dtype=np.float64)
        with one_blas_thread():
            return mean, *moments(self.distinct, mean)

    @property
    def sample(self) -> np.ndarray:
        """(n_sample, n_features) at most `SAMPLE_SIZE` points, a uniform choice."""
        return self.points[self.sample_rows]

    @cached_property
    def sample_rows(self) -> np.ndarray:
        """The sample's rows: the same in every layer, but for those dropped there, so that differences are paired."""
        order = np.random.default_rng(0).permutation(len(self.points))
        return np.sort(order[np.isin(order, self.rows)][:SAMPLE_SIZE])

    def subset(self, members: np.ndarray) -> Cloud:
        """Cloud of those points alone for which `members`, (n_given,), is true."""
        return Cloud(self.points[members], self._reach, device=self._device)

    # Halves

    def halves(self, sides: np.ndarray) -> Iterator[tuple[Half, Half]]:
        """Iterate over the two halves of every split, each as if the other half did not exist, from one search.

        Half of a point's neighbors fall to the other side, so the search finds 3 reach + 30: with a reach of 20 about
        one layer of 10,000 points in a hundred has a point with too few. That, or a token cloud whose neighbors
        mostly belong to one text, is searched again with twice as many. Graphs are thinned one split at a time, as
        they are read; the eigenvalues of all splits are computed at once, on as many threads as torch has.

        Args:
            sides: which half each point falls into, false for the first, (n_splits, n_given).

        Raises:
            InputError: when the graph of a half is read that has too few points for it.
        """
        if self._reach and (self._found is None or self._found.k < 2 * self._reach):
            self._found = self._search(3 * self._reach + 30, at_least=2 * self._reach)
        spectra = cache(partial(self._spectra_of_halves, sides))
        for split, side in enumerate(sides):
            graphs = cache(partial(self._thin, side))
            yield Half(self, ~side, split, 0, graphs, spectra), Half(self, side, split, 1, graphs, spectra)

    def _thin(self, side: np.ndarray) -> tuple[NeighborGraph, NeighborGraph]:
        """Thin the graph to those of both halves, with `reach` neighbors."""
        while True:
            graph = self._found or self.graph()
            try:
                return graph.halves(side[graph.kept], self._reach)
            except GraphTooSmallError as error:
                if graph.k >= graph.n_points - 1:
                    raise InputError(
                        f"{graph.n_points} distinct points of {len(self.points)} are too few for {self._reach} "
                        "neighbors in each half; give more texts, or a smaller k"
                    ) from error
                self._found = self._search(2 * graph.k, at_least=graph.k)

    def _spectra_of_halves(self, sides: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Compute the eigenvalues of both halves, for as many splits as are affordable.

        Only one half's moments are summed for each split; the other's are what is left of the whole. Splits run on
        threads of their own: two BLAS threads inside one eigenvalue problem took up to eight times as long as one.
        """
        mean, moment, total = self._moments

        def of_halves(side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            half, sum_half = moments(self.distinct[side], mean)
            n_half = int(side.sum())
            return (
                eigenvalues(moment - half, total - sum_half, self.n_points - n_half),
                eigenvalues(half, sum_half, n_half),
            )

        n_splits = affordable_splits(len(sides), self.n_features)
        with one_blas_thread(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(of_halves, sides[:n_splits, self.rows]))


@dataclass(frozen=True, eq=False)
class Half:
    """One half of a cloud: what estimators read of it, taken from the whole's search and sums.

    Attributes:
        whole: all points.
        members: (n_given,) which of them are in this half.
        split: number of the split.
        number: 0 for the first half, 1 for the second.
        graphs: makes the graphs of both halves, once.
        spectra: makes the eigenvalues of both halves of every split, once.
    """

    whole: Cloud
    members: np.ndarray
    split: int
    number: int
    graphs: Callable[[], tuple[NeighborGraph, NeighborGraph]]
    spectra: Callable[[], list[tuple[np.ndarray, np.ndarray]]]

    def graph(self, k: int) -> NeighborGraph:
        """As `Cloud.graph`, up to the reach of the whole."""
        return self.graphs()[self.number].nearest(k)

    @property
    def eigenvalues(self) -> np.ndarray:
        """As `Cloud.eigenvalues`."""
        return self.spectra()[self.split][self.number]

    @cached_property
    def distinct(self) -> np.ndarray:
        """As `Cloud.distinct`."""
        return self._of_these(self.whole.rows)

    @property
    def sample(self) -> np.ndarray:
        """The points of the whole's sample that are in this half."""
        return self._of_these(self.whole.sample_rows)

    def _of_these(self, rows: np.ndarray) -> np.ndarray:
        return self.whole.points[rows[self.members[rows]]]
