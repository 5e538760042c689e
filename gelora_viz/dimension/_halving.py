"""Estimates from ever fewer points: the texts halved again and again, every part estimated on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gelora_viz.dimension._catalog import Estimator
from gelora_viz.dimension._covariance import eigenvalues_of
from gelora_viz.dimension._graph import build_graph
from gelora_viz.dimension._search import one_blas_thread

N_HALVINGS = 6
"""Random orders in which texts are halved; each costs about as much as one graph of all points."""
SMALLEST_PART = 128
"""Texts of the smallest part, as in the plateau rule."""


@dataclass(frozen=True)
class Halvings:
    """Estimates of one layer from parts of the texts.

    Attributes:
        halves: estimator -> (n_halvings, 2, n_levels) mean over the parts of each half of the texts; at level j
            a part holds 1 / 2^(j + 1) of all texts.
        radii: estimator -> (n_levels,) mean distance to the furthest neighbour it reads.
        n_points: (n_levels,) mean number of points of a part.
    """

    halves: dict[str, np.ndarray]
    radii: dict[str, np.ndarray]
    n_points: np.ndarray


def text_orders(texts: np.ndarray, seed: int) -> np.ndarray:
    """(n_halvings, n_points) place of each point's text in a random order, for one seed the same in all layers."""
    distinct, member = np.unique(texts, return_inverse=True)
    generator = np.random.default_rng(seed)
    return np.array([generator.permutation(len(distinct))[member] for _ in range(N_HALVINGS)])


def count_levels(n_texts: int, smallest: int) -> int:
    """How often texts can be halved before parts get smaller than `smallest`."""
    return max(int(np.log2(n_texts / smallest)), 0)


def halve(
    points: np.ndarray, orders: np.ndarray, chosen: Sequence[Estimator], k: int, n_levels: int, device: str | None
) -> Halvings:
    """Estimate from halves, quarters, ... of the texts.

    Args:
        points: (n_points, n_features).
        orders: (n_halvings, n_points) from `text_orders`.
        chosen: estimators, none of them external.
        k: neighbours.
        n_levels: how often to halve, at least 1.
        device: of the neighbour search.
    """
    found = np.empty((len(orders), 2, n_levels, 2 * len(chosen) + 1))
    for split, order in enumerate(orders):
        n_texts = int(order.max()) + 1
        for side in (0, 1):
            first, last = (0, n_texts // 2) if side == 0 else (n_texts // 2, n_texts)
            found[split, side] = _parts(points, order, first, last, chosen, k, n_levels, device)
    means = found.mean(axis=(0, 1))
    halves = {each.name: found[..., at] for at, each in enumerate(chosen)}
    radii = {each.name: means[:, len(chosen) + at] for at, each in enumerate(chosen)}
    return Halvings(halves, radii, n_points=means[:, -1])


def _parts(
    points: np.ndarray,
    order: np.ndarray,
    first: int,
    last: int,
    chosen: Sequence[Estimator],
    k: int,
    n_levels: int,
    device: str | None,
) -> np.ndarray:
    """(n_levels, 2 n_estimators + 1): of the texts in these places, then the mean over their halves, quarters, ..."""
    part = points[(order >= first) & (order < last)]
    own = estimate_all(part, chosen, k, device)[None]
    if n_levels == 1:
        return own
    middle = (first + last) // 2
    below = [
        _parts(points, order, start, end, chosen, k, n_levels - 1, device)
        for start, end in ((first, middle), (middle, last))
    ]
    return np.concatenate([own, np.mean(below, axis=0)])


def estimate_all(points: np.ndarray, chosen: Sequence[Estimator], k: int, device: str | None) -> np.ndarray:
    """Every estimate of one cloud, each one's mean distance to its furthest neighbour, and the number of points."""
    furthest = max(max(each.neighbors(k) for each in chosen), 1)
    graph = build_graph(points, furthest, at_least=furthest, device=device)
    distinct = points[graph.kept]
    with one_blas_thread():
        eigenvalues = eigenvalues_of(distinct) if any(each.kind == "covariance" for each in chosen) else None
    values = [
        each.compute(eigenvalues) if each.kind == "covariance" else each.apply(graph, k, distinct) for each in chosen
    ]
    mean_distances = graph.distances.mean(axis=0)
    radii = [mean_distances[each.neighbors(k) - 1] if each.neighbors(k) else np.nan for each in chosen]
    return np.array([*values, *radii, graph.n_points])
