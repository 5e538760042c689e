"""The intrinsic dimension of every layer: one graph, every estimator on it, halves of the texts for the intervals."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from gelora_viz._checks import check_seed, resolve_device
from gelora_viz.activations import Activations
from gelora_viz.dimension.formulas import Estimator, choose_estimators
from gelora_viz.dimension.graph import NeighborGraph, build_graph, check_finite
from gelora_viz.dimension.profile import COLUMNS, DimensionProfile, interval, split_half_error
from gelora_viz.errors import InputError

DEFAULT_K = 20
"""Neighbours of MLE, as in scikit-dimension."""
N_SPLITS = 30
"""Random splits of the texts into halves; the standard error is then known to about 13 % (chi-square, 30 degrees)."""
FEWEST_TEXTS = 10
"""With fewer texts, splits into halves repeat each other and show nothing."""
FEW_TEXTS = 50
_WIDE = 1024
_N_SPLITS_WIDE = 6
"""Splits for covariance spectra of more than 1,024 features, where each one costs seconds."""


def estimate_dimension(
    activations: Activations,
    estimators: Sequence[str] | str | None = None,
    *,
    k: int = DEFAULT_K,
    confidence: float = 0.95,
    seed: int = 0,
    device: str | None = None,
    progress: bool = True,
) -> DimensionProfile:
    """Intrinsic dimension of every layer, by several estimators, each with a standard error and an interval.

    One exact neighbour graph is built per layer and shared. Standard errors come from 30 random splits of the texts
    into halves, the same in every layer: the two halves share nothing, so the gap between their estimates shows the
    sampling error (the graph is thinned for them, not rebuilt). Tokens stay with their text, because tokens of one
    text are not independent. The interval is about the estimator's sampling error only: that every distance-based
    estimator reads high dimensions too low with finitely many points is a bias which no interval of this kind covers.

    Args:
        activations: captured points, or `Activations.from_arrays({...})`.
        estimators: names from `gelora_viz.estimators()`; None takes all.
        k: neighbours of MLE; TwoNN always reads 2.
        confidence: of the intervals.
        seed: of the splits into halves.
        device: where to search neighbours: None for the CPU, or a torch device such as "cuda".
        progress: show a tqdm bar.

    Raises:
        InputError: for an unknown estimator; fewer distinct points than the neighbours need; NaN, infinite or
            constant points, with the layer's name.

    Warns:
        UserWarning: with fewer than 50 texts, whose intervals are wide and only roughly right.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(500, 3))
        >>> cloud = Activations.from_arrays({"x": points})
        >>> estimate_dimension(cloud, "twonn", progress=False).frame["dimension"].round(1)
        0    2.9
        Name: dimension, dtype: float64
    """
    chosen = choose_estimators(estimators)
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; it must lie between 0 and 1")
    if k < 3:
        raise InputError(f"k is {k}; MLE needs at least 3 neighbours")
    _check_points(activations, chosen, k)
    resolve_device(device)
    check_seed(seed)
    sides = _split_texts(activations.provenance["text"].to_numpy(), seed)
    rows: list[dict[str, Any]] = []
    half_gaps: dict[tuple[str, str], np.ndarray] = {}
    layers = activations.layer_frame.itertuples(index=False)
    for layer in tqdm(
        layers, total=len(activations), desc="estimating dimensions", unit="layer", disable=not progress
    ):
        points = activations[layer.layer].numpy().astype(np.float64)
        for name, (value, gaps, n_used) in _estimate_layer(
            points, sides, chosen, k, device, str(layer.layer)
        ).items():
            std_error = split_half_error(gaps)
            low, high = interval(value, std_error, len(gaps), confidence)
            low = max(low, 0.0)  # as a dimension is
            half_gaps[str(layer.layer), name] = gaps
            where = {"layer": layer.layer, "stack": layer.stack, "depth": layer.depth, "estimator": name}
            size = {"n_points": n_used, "n_dropped": len(points) - n_used}
            rows.append({**where, "dimension": value, "std_error": std_error, "ci_low": low, "ci_high": high, **size})
    settings = {"k": k, "seed": seed, "n_splits": len(sides), "capture": dict(activations.settings)}
    return DimensionProfile(pd.DataFrame(rows, columns=COLUMNS), half_gaps, activations.pooling, confidence, settings)


def check_number(n_points: int, n_texts: int, chosen: Sequence[Estimator], k: int) -> None:
    """Raise `InputError` where there are too few points or texts, before anything is captured or searched."""
    needed = max((k if each.needs_k is None else each.needs_k) for each in chosen)
    enough = 2 * needed + 3  # each half needs more points than neighbours
    if n_points < enough:
        raise InputError(
            f"{n_points} points are too few for {needed} neighbours with an interval; give at least {enough} texts, "
            "or a smaller k"
        )
    if n_texts < FEWEST_TEXTS:
        raise InputError(f"{n_texts} texts are too few for an interval; give at least {FEWEST_TEXTS}")


def _check_points(activations: Activations, chosen: Sequence[Estimator], k: int) -> None:
    """Everything that can be refused before the first graph is built."""
    n_points, n_texts = activations.n_points, activations.provenance["text"].nunique()
    check_number(n_points, n_texts, chosen, k)
    for layer in activations:
        points = activations[layer].numpy()
        check_finite(points, name=f"the points of layer {layer!r}")
        if (points == points[0]).all():
            raise InputError(
                f"all {n_points} points of layer {layer!r} are equal, so they have no dimension; check the texts"
            )
    if n_texts < FEW_TEXTS:
        warnings.warn(
            f"only {n_texts} texts: intervals are wide and only roughly right; give a few hundred texts",
            stacklevel=3,
        )


def _split_texts(texts: np.ndarray, seed: int) -> np.ndarray:
    """(n_splits, n_points): which half each point falls into; all points of a text fall into the same."""
    distinct, member = np.unique(texts, return_inverse=True)
    generator = np.random.default_rng(seed)
    return np.array([(generator.permutation(len(distinct)) % 2 == 1)[member] for _ in range(N_SPLITS)])


def _estimate_layer(
    points: np.ndarray, sides: np.ndarray, chosen: Sequence[Estimator], k: int, device: str | None, layer: str
) -> dict[str, tuple[float, np.ndarray, int]]:
    """For each estimator its value, the gaps (n_splits,) between halves, and the number of points used."""
    result: dict[str, tuple[float, np.ndarray, int]] = {}
    on_graph = [each for each in chosen if each.kind == "neighbours"]
    if on_graph:
        neighbours = {each.name: k if each.needs_k is None else each.needs_k for each in on_graph}
        try:
            graph, halves = _graph_and_halves(points, sides, max(neighbours.values()), device)
        except InputError as error:
            raise InputError(f"layer {layer!r}: {error}") from error
        for each in on_graph:
            n_read = neighbours[each.name]
            try:
                value = each.compute(graph.nearest(n_read))
                gaps = [
                    each.compute(one.nearest(n_read)) - each.compute(other.nearest(n_read)) for one, other in halves
                ]
            except InputError as error:
                raise InputError(f"layer {layer!r}: {error}") from error
            result[each.name] = (value, np.array(gaps), graph.n_points)
    on_spectrum = [each for each in chosen if each.kind == "spectrum"]
    if on_spectrum:
        # Duplicates do not break a covariance, but an estimate must not depend on which others are asked for.
        kept = graph.kept if on_graph else build_graph(points, 1, at_least=1, device=device).kept
        n_splits = len(sides) if points.shape[1] <= _WIDE else _N_SPLITS_WIDE
        spectrum, spectra = _spectra(points[kept], sides[:n_splits, kept])
        for each in on_spectrum:
            gaps = [each.compute(one) - each.compute(other) for one, other in spectra]
            result[each.name] = (each.compute(spectrum), np.array(gaps), len(kept))
    return {each.name: result[each.name] for each in chosen}


def _graph_and_halves(
    points: np.ndarray, sides: np.ndarray, k: int, device: str | None
) -> tuple[NeighborGraph, list[tuple[NeighborGraph, NeighborGraph]]]:
    """The layer's graph and the graphs of both halves of every split, with k neighbours each, all from one search.

    Half of a point's neighbours fall to the other side, so the search finds 3k + 20; a token cloud whose neighbours
    mostly belong to one text can need more, and is searched again with twice as many.
    """
    wide = 3 * k + 20
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
    points = points - points.mean(axis=0)
    moment, n_points = points.T @ points, len(points)
    spectra = []
    for side in sides:
        half = points[side]
        total, own = half.sum(axis=0), half.T @ half
        spectra.append(
            (
                _eigenvalues(own, total, len(half)),
                _eigenvalues(moment - own, -total, n_points - len(half)),
            )
        )
    return _eigenvalues(moment, np.zeros(points.shape[1]), n_points), spectra


def _eigenvalues(moment: np.ndarray, total: np.ndarray, n_points: int) -> np.ndarray:
    """Of the covariance of points with this second moment (sum of x x^T) and this sum; n - 1 at most are not 0."""
    mean = total / n_points
    eigenvalues = np.linalg.eigvalsh(moment / n_points - np.outer(mean, mean))[::-1]
    return np.clip(eigenvalues[: n_points - 1], 0.0, None)
