"""All estimates of one layer: one graph, its halves for the intervals, and each estimator on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from gelora_viz.dimension._catalog import Estimator
from gelora_viz.dimension._covariance import eigenvalues, moments
from gelora_viz.dimension._graph import GraphTooSmallError, NeighborGraph, build_graph
from gelora_viz.dimension._halving import halve
from gelora_viz.dimension._profile import interval, split_half_error
from gelora_viz.dimension._search import one_blas_thread
from gelora_viz.errors import InputError

N_SPLITS_DEAR = 6
"""Splits where each one costs as much as a search: coordinates are read, or a covariance of over 1,024 features."""
N_SPLITS_EXTERNAL = 3
_WIDE = 1024
_MOST_EXTERNAL = 2000
"""Points that scikit-dimension's slow estimators get, a uniform choice: DANCo takes half a minute for as many."""


class Estimate(NamedTuple):
    """Of one layer by one estimator.

    Attributes:
        value: the dimension.
        gaps: (n_splits,) estimates from one half of the texts minus those from the other.
        n_points: points used.
        own_interval: standard error and ends, where the estimator has its own.
    """

    value: float
    gaps: np.ndarray
    n_points: int
    own_interval: tuple[float, float, float] | None = None

    def interval(self, confidence: float) -> tuple[float, float, float]:
        """Standard error, lower and upper end: the estimator's own where it has one, otherwise from the halves."""
        if self.own_interval is not None:
            return self.own_interval
        std_error = split_half_error(self.gaps)
        low, high = interval(self.value, std_error, len(self.gaps), confidence)
        return std_error, max(low, 0.0), high  # a dimension is not negative


def estimate_layer(
    points: np.ndarray, sides: np.ndarray, chosen: Sequence[Estimator], k: int, confidence: float, device: str | None
) -> dict[str, Estimate]:
    """Every estimate of one layer, by name, from one graph and its halves.

    Args:
        points: (n_points, n_features).
        sides: (n_splits, n_points) which half each point falls into.
        chosen: estimators.
        k: neighbours of those that leave it open.
        confidence: of intervals that are the estimator's own.
        device: of the neighbour search.
    """
    furthest = max(each.neighbors(k) for each in chosen)
    on_graph = [each for each in chosen if each.neighbors(k)]

    def gaps_between(split: int, one: NeighborGraph, other: NeighborGraph) -> list[float]:
        """NaN after the last split of an estimator that reads coordinates."""
        return [
            _gap(each, one, other, k, points) if each.kind == "distances" or split < N_SPLITS_DEAR else np.nan
            for each in on_graph
        ]

    # Duplicates do not break a covariance, but an estimate must not depend on which others are asked for.
    graph, gaps = (
        graph_and_gaps(points, sides, furthest, device, gaps_between)
        if furthest
        else (build_graph(points, 1, at_least=1, device=device), np.empty((0, 0)))
    )
    result: dict[str, Estimate] = {}
    for each, of_each in zip(on_graph, gaps.T, strict=True):
        n_splits = len(sides) if each.kind == "distances" else N_SPLITS_DEAR
        result[each.name] = _estimate(each, graph, of_each[:n_splits], k, points, confidence)
    on_covariance = [each for each in chosen if each.kind == "covariance"]
    if on_covariance:
        n_splits = len(sides) if points.shape[1] <= _WIDE else N_SPLITS_DEAR
        spectrum, spectra = _spectra(points[graph.kept], sides[:n_splits, graph.kept])
        for each in on_covariance:
            between = np.array([each.compute(one) - each.compute(other) for one, other in spectra])
            result[each.name] = Estimate(each.compute(spectrum), between, graph.n_points)
    for each in chosen:
        if each.name not in result:
            result[each.name] = _estimate_without_neighbors(each, graph, points, sides, k)
    return {each.name: result[each.name] for each in chosen}


def _gap(each: Estimator, one: NeighborGraph, other: NeighborGraph, k: int, points: np.ndarray) -> float:
    """The estimate from one half minus that from the other; NaN where one is beyond what the estimator can tell."""
    if each.kind == "distances":
        gap = each.apply(one, k) - each.apply(other, k)
    else:
        gap = each.apply(one, k, points[one.kept]) - each.apply(other, k, points[other.kept])
    return gap if np.isfinite(gap) else float("nan")


def _estimate(
    each: Estimator, graph: NeighborGraph, gaps: np.ndarray, k: int, points: np.ndarray, confidence: float
) -> Estimate:
    """From the layer's graph, with an interval of the estimator's own where it has one."""
    if each.own_interval is None:
        return Estimate(each.apply(graph, k, points[graph.kept]), gaps, graph.n_points)
    value, *own = each.own_interval(graph.nearest(each.neighbors(k)), points.shape[1], confidence)
    return Estimate(value, gaps, graph.n_points, (own[0], own[1], own[2]))


def _estimate_without_neighbors(
    each: Estimator, graph: NeighborGraph, points: np.ndarray, sides: np.ndarray, k: int
) -> Estimate:
    """An estimator that reads all points: few splits, and few points where scikit-dimension does the work."""
    kept, n_splits = graph.kept, N_SPLITS_DEAR
    if each.kind == "external":
        # The same rows in every layer, but for those that are dropped there, so that differences are paired.
        order = np.random.default_rng(0).permutation(len(points))
        kept, n_splits = np.sort(order[np.isin(order, kept)][:_MOST_EXTERNAL]), N_SPLITS_EXTERNAL
    gaps = []
    for side in sides[:n_splits]:
        first, second = (each.apply(graph, k, points[kept[side[kept] == half]]) for half in (False, True))
        gaps.append(first - second)
    return Estimate(each.apply(graph, k, points[kept]), np.array(gaps), len(kept))


def on_plateau(
    estimates: Mapping[str, Estimate],
    points: np.ndarray,
    orders: np.ndarray,
    chosen: Sequence[Estimator],
    k: int,
    n_levels: int,
    device: str | None,
) -> dict[str, Estimate]:
    """The estimates by the plateau rule; each gap is between the two halves' own plateaus."""
    parts = halve(points, orders, chosen, k, n_levels, device)
    result = {}
    for name, whole in estimates.items():
        halves = parts.halves[name]
        gaps = np.array([_plateau(one) - _plateau(other) for one, other in halves])
        result[name] = Estimate(_plateau(np.array([whole.value, *halves.mean(axis=(0, 1))])), gaps, whole.n_points)
    return result


def _plateau(dimensions: np.ndarray) -> float:
    """Mean of the adjacent pair that differs least, of (n_sizes,) estimates from all points, half of them, ..."""
    steps = np.abs(np.diff(dimensions))
    if np.isnan(steps).all():
        return float("nan")
    flattest = int(np.nanargmin(steps))
    return float(dimensions[flattest : flattest + 2].mean())


def graph_and_gaps(
    points: np.ndarray,
    sides: np.ndarray,
    k: int,
    device: str | None,
    gaps_between: Callable[[int, NeighborGraph, NeighborGraph], Sequence[float]],
) -> tuple[NeighborGraph, np.ndarray]:
    """The layer's graph, and what `gaps_between` makes of both halves of every split, all from one search.

    Half of a point's neighbours fall to the other side, so the search finds 3k + 30: with k = 20 about one layer of
    10,000 points in a hundred has a point with too few. That, or a token cloud whose neighbours mostly belong to one
    text, is searched again with twice as many. Halves are made and read one split at a time.

    Args:
        points: (n_points, n_features).
        sides: (n_splits, n_points) which half each point falls into.
        k: neighbours in each half.
        device: of the search.
        gaps_between: from the number of a split and the graphs of its halves to the gaps wanted.

    Returns:
        The graph, and (n_splits, n_gaps).
    """
    wide = 3 * k + 30
    while True:
        graph = build_graph(points, wide, at_least=2 * k, device=device)
        try:
            gaps = [gaps_between(split, *graph.halves(side[graph.kept], k)) for split, side in enumerate(sides)]
        except GraphTooSmallError as error:
            if graph.k < wide or wide >= len(points) - 1:
                raise InputError(
                    f"{graph.n_points} distinct points of {len(points)} are too few for {k} neighbours in each half; "
                    "give more texts, or a smaller k"
                ) from error
            wide *= 2
        else:
            return graph, np.array(gaps)


def _spectra(points: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Covariance eigenvalues, descending, of all points and of both halves of every split.

    Only one half's moments are summed for each split; the other's are what is left of the whole. Splits run on
    threads of their own: two BLAS threads inside one eigenvalue problem took up to eight times as long as one.
    """
    mean = points.mean(axis=0, dtype=np.float64)

    def of_halves(side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half, sum_half = moments(points[side], mean)
        n_half = int(side.sum())
        return (
            eigenvalues(half, sum_half, n_half),
            eigenvalues(moment - half, total - sum_half, len(points) - n_half),
        )

    with one_blas_thread(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        moment, total = moments(points, mean)
        return eigenvalues(moment, total, len(points)), list(pool.map(of_halves, sides))
