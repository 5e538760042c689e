"""All estimates of one layer: one graph, its halves for the intervals, and each estimator on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gelora_viz.dimension.covariance import eigenvalues, moments
from gelora_viz.dimension.formulas import Estimator
from gelora_viz.dimension.graph import NeighborGraph, build_graph
from gelora_viz.dimension.halving import halve
from gelora_viz.dimension.profile import interval, split_half_error
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
    wanted = max(each.neighbors(k) for each in chosen)
    # Duplicates do not break a covariance, but an estimate must not depend on which others are asked for.
    graph, halves = (
        graph_and_halves(points, sides, wanted, device)
        if wanted
        else (build_graph(points, 1, at_least=1, device=device), None)
    )
    result: dict[str, Estimate] = {}
    on_covariance = [each for each in chosen if each.kind == "covariance"]
    if on_covariance:
        n_splits = len(sides) if points.shape[1] <= _WIDE else N_SPLITS_DEAR
        spectrum, spectra = _spectra(points[graph.kept], sides[:n_splits, graph.kept])
        for each in on_covariance:
            gaps = np.array([each.compute(one) - each.compute(other) for one, other in spectra])
            result[each.name] = Estimate(each.compute(spectrum), gaps, graph.n_points)
    for each in chosen:
        if each.kind == "distances":
            gaps = np.array([each.apply(one, k) - each.apply(other, k) for one, other in halves or ()])
            if each.own_interval is None:
                result[each.name] = Estimate(each.apply(graph, k), gaps, graph.n_points)
            else:
                nearest = graph.nearest(each.neighbors(k))
                value, *own = each.own_interval(nearest, points.shape[1], confidence)
                result[each.name] = Estimate(value, gaps, graph.n_points, (own[0], own[1], own[2]))
        elif each.kind in ("neighbourhoods", "pairs", "external"):
            result[each.name] = _estimate_dearly(each, graph, halves, points, sides, k)
    return {each.name: result[each.name] for each in chosen}


def _estimate_dearly(
    each: Estimator,
    graph: NeighborGraph,
    halves: Sequence[tuple[NeighborGraph, NeighborGraph]] | None,
    points: np.ndarray,
    sides: np.ndarray,
    k: int,
) -> Estimate:
    """An estimator that reads coordinates: few splits, and few points where scikit-dimension does the work."""
    kept, n_splits = graph.kept, N_SPLITS_DEAR
    if each.kind == "external":
        kept, n_splits = np.sort(np.random.default_rng(0).permutation(kept)[:_MOST_EXTERNAL]), N_SPLITS_EXTERNAL
    value = each.apply(graph, k, points[kept])
    gaps = []
    for split, side in enumerate(sides[:n_splits]):
        one, other = halves[split] if halves else (graph, graph)
        first, second = (kept[side[kept] == wanted] for wanted in (False, True))
        gaps.append(each.apply(one, k, points[first]) - each.apply(other, k, points[second]))
    return Estimate(value, np.array(gaps), len(kept))


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
    flattest = int(np.abs(np.diff(dimensions)).argmin())
    return float(dimensions[flattest : flattest + 2].mean())


def graph_and_halves(
    points: np.ndarray, sides: np.ndarray, k: int, device: str | None
) -> tuple[NeighborGraph, list[tuple[NeighborGraph, NeighborGraph]]]:
    """The layer's graph and the graphs of both halves of every split, with k neighbours each, all from one search.

    Half of a point's neighbours fall to the other side, so the search finds 3k + 30 (one point in 10^8 then has
    too few); a token cloud whose neighbours mostly belong to one text can need more, and is searched again with twice
    as many.
    """
    wide = 3 * k + 30
    while True:
        graph = build_graph(points, wide, at_least=2 * k, device=device)
        try:
            return graph, [graph.halves(side[graph.kept], k) for side in sides]
        except InputError as error:
            if graph.k < wide or wide >= len(points) - 1:
                raise InputError(
                    f"{graph.n_points} distinct points of {len(points)} are too few for {k} neighbours in each half; "
                    "give more texts, or a smaller k"
                ) from error
        wide *= 2


def _spectra(points: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Covariance eigenvalues, descending, of all points and of both halves of every split.

    Only one half's moments are summed for each split; the other's are what is left of the whole.
    """
    mean = points.mean(axis=0, dtype=np.float64)
    moment, total = moments(points, mean)
    spectra = []
    for side in sides:
        half, sum_half = moments(points[side], mean)
        n_half = int(side.sum())
        spectra.append(
            (
                eigenvalues(half, sum_half, n_half),
                eigenvalues(moment - half, total - sum_half, len(points) - n_half),
            )
        )
    return eigenvalues(moment, total, len(points)), spectra
