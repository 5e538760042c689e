"""Estimators as functions of a cloud, and what each kind of them reads.

This file and `_catalog` load neither numpy nor torch, so that the command line can list the estimators at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gelora_viz.dimension._splits import N_SPLITS_EXPENSIVE, N_SPLITS_EXTERNAL, affordable_splits
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from gelora_viz.dimension._cloud import Cloud, Half
    from gelora_viz.dimension._graph import NeighborGraph

SCALE_NEIGHBORS = 33
"""Neighbors for `calibrated_dimension`: five shells, from the nearest neighbor to the 33rd. What other numbers do
is measured in benchmarks/results/bias_correction.txt."""


@dataclass(frozen=True)
class Reading:
    """What estimators of one kind read of a cloud.

    Attributes:
        kind: name of the kind in the catalog.
        of: function of a cloud and a number of neighbors; returns the arguments of a formula.
        count_splits: function of the number of splits and of features; returns how many splits to spend time on.
        whole: description of what is read by estimators that read no neighbors.
        is_external: whether scikit-dimension does the work, which takes minutes, on a sample.
    """

    kind: Literal["distances", "neighborhoods", "covariance", "pairs", "external"]
    of: Callable[[Cloud | Half, int], tuple[Any, ...]]
    count_splits: Callable[[int, int], int] = lambda n_splits, _n_features: min(n_splits, N_SPLITS_EXPENSIVE)
    whole: str = "all points"
    is_external: bool = False


def _every_split(n_splits: int, _n_features: int) -> int:
    return n_splits


DISTANCES = Reading("distances", lambda cloud, k: (cloud.graph(k),), _every_split)
"""The distances of the neighbor graph, and nothing else: what the bias correction can simulate."""
LINKS = Reading("distances", lambda cloud, k: (cloud.graph(k),), _every_split)
"""The graph's distances, and which points they lead to."""
NEIGHBORHOODS = Reading("neighborhoods", lambda cloud, k: (cloud.graph(k), cloud.distinct))
COVARIANCE = Reading("covariance", lambda cloud, _: (cloud.eigenvalues,), affordable_splits, "covariance")
PAIRS_WITHIN = Reading("pairs", lambda cloud, k: (cloud.graph(k), cloud.distinct))
PAIRS = Reading("pairs", lambda cloud, _: (cloud.distinct,))
EXTERNAL = Reading(
    "external",
    lambda cloud, _: (cloud.sample,),
    lambda n_splits, _n_features: min(n_splits, N_SPLITS_EXTERNAL),
    is_external=True,
)


@dataclass(frozen=True)
class Estimator:
    """One way to estimate an intrinsic dimension: call it with a cloud and k.

    Attributes:
        name: name in frames.
        title: name in pictures.
        reads: the part of a cloud that it reads.
        needs_k: number of neighbors that it reads: a number, None for the k that the caller chose, or 0.
        formula: function of what it reads; returns the dimension.
        cost: operations for n points of D features and k neighbors, besides the graph's own n^2 D.
        paper: authors and year of its source.
        smooth: whether a small change of the data changes the estimate a little. Where not (an argmax, a count), an
            interval says whether the choice is stable and little more.
        local: function of what it reads; returns (n_points,) estimates around each point, if there are such.
        fewest: smallest number of neighbors at which it is not the same as another estimator.
        own_interval: function of a graph, the number of features and a confidence; returns the estimate, its standard
            error, and its interval, if halves of the texts do not show all of the error.
    """

    name: str
    title: str
    reads: Reading
    needs_k: int | None
    formula: Callable[..., float]
    cost: str
    paper: str
    smooth: bool = True
    local: Callable[..., np.ndarray] | None = None
    fewest: int = 3
    own_interval: Callable[[NeighborGraph, int, float], tuple[float, float, float, float]] | None = None

    def __call__(self, cloud: Cloud | Half, k: int) -> float:
        """Estimate the dimension of a cloud, from k neighbors if the estimator leaves their number open.

        Raises:
            InputError: if the points have no such estimate, with the estimator's name.
        """
        given = self.reads.of(cloud, self.neighbors(k))
        try:
            return self.formula(*given)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error

    @property
    def kind(self) -> str:
        """What it reads, in a word.

        "distances": those of the neighbor graph; "neighborhoods": the neighbors' coordinates as well; "covariance":
        its eigenvalues; "pairs": all pairs of points; "external": scikit-dimension searches neighbors of its own.
        """
        return self.reads.kind

    @property
    def needs(self) -> str:
        """Description of the neighbors it reads, or of what it reads instead."""
        return self.reads.whole if self.needs_k == 0 else f"{self.needs_k or 'k'} neighbors"

    def neighbors(self, k: int) -> int:
        """Number of neighbors that it reads if the caller chose k."""
        return k if self.needs_k is None else self.needs_k

    def count_points(self, cloud: Cloud) -> int:
        """Number of points of a cloud that it reads."""
        return len(cloud.sample_rows) if self.reads.is_external else cloud.n_points

    @property
    def can_be_corrected(self) -> bool:
        """Whether `correct_bias` knows its finite-sample bias: it reads distances alone, and is not corrected yet."""
        return self.reads is DISTANCES and self.own_interval is None

    @property
    def can_grow(self) -> bool:
        """Whether its neighborhood can be made larger, from scale to scale."""
        return self.reads is DISTANCES and self.needs_k is None


def most_neighbors(chosen: Sequence[Estimator], k: int) -> int:
    """Largest number of neighbors that one of the estimators reads."""
    return max(each.neighbors(k) for each in chosen)
