"""Estimates from ever fewer points: the texts halved again and again, every part estimated on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gelora_viz.dimension._cloud import Cloud
from gelora_viz.dimension._estimator import Estimator
from gelora_viz.errors import InputError

N_HALVINGS = 6
"""Random orders in which texts are halved; each costs about as much as one graph of all points."""
SMALLEST_PART = 128
"""Texts of the smallest part, as in the plateau rule."""


@dataclass(frozen=True)
class Halvings:
    """Estimates of one layer from all texts, and from ever smaller parts of them.

    Attributes:
        whole: (n_estimators,) from all texts.
        halves: (n_estimators, n_halvings, 2, n_levels) mean over the parts of each half of the texts; at level j a
            part holds 1 / 2^(j + 1) of all texts.
        radii: (n_levels + 1, n_estimators) mean distance to the furthest neighbor each one reads, all texts first.
        n_points: (n_levels + 1,) mean number of points of a part, all texts first.
    """

    whole: np.ndarray
    halves: np.ndarray
    radii: np.ndarray
    n_points: np.ndarray


def text_orders(texts: np.ndarray, seed: int) -> np.ndarray:
    """Draw (n_halvings, n_points) places of each point's text in random orders, the same in all layers."""
    distinct, member = np.unique(texts, return_inverse=True)
    generator = np.random.default_rng(seed)
    return np.array([generator.permutation(len(distinct))[member] for _ in range(N_HALVINGS)])


def refuse_slow(chosen: Sequence[Estimator]) -> None:
    """Raise `InputError` for estimators that are too slow for hundreds of parts."""
    slow = [each.name for each in chosen if each.reads.is_external]
    if slow:
        raise InputError(f"{', '.join(slow)} would take hours on this many parts; leave it out")


def count_levels(n_texts: int, smallest: int) -> int:
    """Count how often texts can be halved before parts get smaller than `smallest`."""
    return max(int(np.log2(n_texts / smallest)), 0)


def halve(cloud: Cloud, orders: np.ndarray, chosen: Sequence[Estimator], k: int, n_levels: int) -> Halvings:
    """Estimate from all texts, and from halves, quarters, ... of them.

    Args:
        cloud: all points of a layer.
        orders: random orders of the texts from `text_orders`, (n_halvings, n_points).
        chosen: the estimators, none of them external.
        k: number of neighbors of the estimators that leave it open.
        n_levels: number of halvings; 0 for all texts alone.
    """
    n_chosen = len(chosen)
    whole = _estimate_all(cloud, chosen, k)
    found = np.empty((len(orders), 2, n_levels, 2 * n_chosen + 1))
    for split, order in enumerate(orders if n_levels else ()):
        n_texts = int(order.max()) + 1
        for side, (first, last) in enumerate(((0, n_texts // 2), (n_texts // 2, n_texts))):
            found[split, side] = _estimate_parts(cloud, order, first, last, chosen, k, n_levels)
    sizes = np.concatenate([whole[None], found.mean(axis=(0, 1))])
    return Halvings(
        whole=whole[:n_chosen],
        halves=np.moveaxis(found[..., :n_chosen], -1, 0),
        radii=sizes[:, n_chosen:-1],
        n_points=sizes[:, -1],
    )


def _estimate_parts(
    cloud: Cloud, order: np.ndarray, first: int, last: int, chosen: Sequence[Estimator], k: int, n_levels: int
) -> np.ndarray:
    """Estimate from the texts in these places, then from their halves, quarters, ...: (n_levels, 2 n_chosen + 1)."""
    own = _estimate_all(cloud.subset((order >= first) & (order < last)), chosen, k)[None]
    if n_levels == 1:
        return own
    middle = (first + last) // 2
    below = [
        _estimate_parts(cloud, order, start, end, chosen, k, n_levels - 1)
        for start, end in ((first, middle), (middle, last))
    ]
    return np.concatenate([own, np.mean(below, axis=0)])


def _estimate_all(cloud: Cloud, chosen: Sequence[Estimator], k: int) -> np.ndarray:
    """List every estimate of a cloud, each one's mean distance to its furthest neighbor, and the number of points."""
    estimates = [each(cloud, k) for each in chosen]
    return np.array([*estimates, *(cloud.radius(each.neighbors(k)) for each in chosen), cloud.n_points])


def find_plateau(dimensions: np.ndarray) -> float:
    """Average the adjacent pair that differs least, of (n_sizes,) estimates from all points, half of them, ..."""
    steps = np.abs(np.diff(dimensions))
    if np.isnan(steps).all():
        return float("nan")
    flattest = int(np.nanargmin(steps))
    return float(dimensions[flattest : flattest + 2].mean())
