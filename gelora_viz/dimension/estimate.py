"""The intrinsic dimension of every layer: one graph, every estimator on it, halves of the texts for the intervals."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from gelora_viz._checks import check_seed, resolve_device
from gelora_viz.activations import Activations
from gelora_viz.dimension.covariance import eigenvalues, moments
from gelora_viz.dimension.formulas import Estimator, choose_estimators
from gelora_viz.dimension.graph import NeighborGraph, as_array, build_graph, check_finite
from gelora_viz.dimension.halving import SMALLEST_PART, count_levels, halve, text_orders
from gelora_viz.dimension.profile import COLUMNS, DimensionProfile, interval, split_half_error
from gelora_viz.errors import InputError

DEFAULT_K = 20
"""Neighbours of MLE, as in scikit-dimension."""
N_SPLITS = 30
"""Random splits of the texts into halves; the standard error is then known to about 13 % (chi-square, 30 degrees)."""
FEWEST_TEXTS = 10
"""With fewer texts, splits into halves repeat each other and show nothing."""
FEW_TEXTS = 50
N_SPLITS_DEAR = 6
"""Splits where each one costs as much as a search: coordinates are read, or a covariance of over 1,024 features."""
N_SPLITS_EXTERNAL = 3
_WIDE = 1024
_MOST_EXTERNAL = 2000
"""Points that scikit-dimension's slow estimators get, a uniform choice: DANCo takes half a minute for as many."""


def estimate_dimension(
    activations: Activations,
    estimators: Sequence[str] | str | None = None,
    *,
    k: int = DEFAULT_K,
    confidence: float = 0.95,
    plateau: bool = False,
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
        estimators: names from `gelora_viz.estimators()`; None takes `DEFAULT_ESTIMATORS`, "all" all that are not
            external. Those that read coordinates have intervals from 6 splits (external ones: 3, and 2,000 points).
        k: neighbours of the estimators that leave it open; TwoNN always reads 2. 20, as in scikit-dimension.
        confidence: of the intervals.
        plateau: instead of the estimate from all points, the mean of the two adjacent sizes whose dimensions differ
            least, the texts halved from all down to 128. So an implementation of GeLoRA by others chooses the scale;
            the rule of the paper's authors is not known.
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
    check_confidence(confidence)
    check_points(activations, chosen, k)
    resolve_device(device)
    check_seed(seed)
    texts = activations.provenance["text"].to_numpy()
    sides = split_texts(texts, seed)
    n_levels = _levels_of_plateau(texts, chosen, k) if plateau else 0
    orders = text_orders(texts, seed)
    rows: list[dict[str, Any]] = []
    half_gaps: dict[tuple[str, str], np.ndarray] = {}
    layers = activations.layer_frame.itertuples(index=False)
    for layer in tqdm(
        layers, total=len(activations), desc="estimating dimensions", unit="layer", disable=not progress
    ):
        points = as_array(activations[layer.layer])
        with naming_layer(str(layer.layer)):
            estimates = _estimate_layer(points, sides, chosen, k, device)
            if plateau:
                estimates = _on_plateau(estimates, points, orders, chosen, k, n_levels, device)
        for name, (value, gaps, n_used) in estimates.items():
            std_error = split_half_error(gaps)
            low, high = interval(value, std_error, len(gaps), confidence)
            low = max(low, 0.0)  # as a dimension is
            half_gaps[str(layer.layer), name] = gaps
            where = {"layer": layer.layer, "stack": layer.stack, "depth": layer.depth, "estimator": name}
            size = {"n_points": n_used, "n_dropped": len(points) - n_used}
            rows.append({**where, "dimension": value, "std_error": std_error, "ci_low": low, "ci_high": high, **size})
    settings = {
        "k": k,
        "seed": seed,
        "n_splits": len(sides),
        "plateau": plateau,
        "capture": dict(activations.settings),
    }
    return DimensionProfile(pd.DataFrame(rows, columns=COLUMNS), half_gaps, activations.pooling, confidence, settings)


def check_confidence(confidence: float) -> None:
    """Raise `InputError` unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; it must lie between 0 and 1")


@contextmanager
def naming_layer(layer: str) -> Iterator[None]:
    """Put the layer's name into errors about its points."""
    try:
        yield
    except InputError as error:
        raise InputError(f"layer {layer!r}: {error}") from error


def check_number(n_points: int, n_texts: int, chosen: Sequence[Estimator], k: int) -> None:
    """Raise `InputError` where there are too few points or texts, before anything is captured or searched."""
    needed = max(each.neighbors(k) for each in chosen)
    enough = 2 * needed + 3  # each half needs more points than neighbours
    if n_points < enough:
        raise InputError(
            f"{n_points} points are too few for {needed} neighbours with an interval; give at least {enough} texts, "
            "or a smaller k"
        )
    if n_texts < FEWEST_TEXTS:
        raise InputError(f"{n_texts} texts are too few for an interval; give at least {FEWEST_TEXTS}")


def check_points(activations: Activations, chosen: Sequence[Estimator], k: int) -> None:
    """Everything that can be refused before the first graph is built."""
    if k < 3:
        raise InputError(f"k is {k}; MLE and the like need at least 3 neighbours")
    n_points, n_texts = activations.n_points, activations.provenance["text"].nunique()
    check_number(n_points, n_texts, chosen, k)
    for layer in activations:
        points = as_array(activations[layer])
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


def split_texts(texts: np.ndarray, seed: int) -> np.ndarray:
    """(n_splits, n_points): which half each point falls into; all points of a text fall into the same."""
    distinct, member = np.unique(texts, return_inverse=True)
    generator = np.random.default_rng(seed)
    return np.array([(generator.permutation(len(distinct)) % 2 == 1)[member] for _ in range(N_SPLITS)])


def _estimate_layer(
    points: np.ndarray, sides: np.ndarray, chosen: Sequence[Estimator], k: int, device: str | None
) -> dict[str, tuple[float, np.ndarray, int]]:
    """For each estimator its value, the gaps (n_splits,) between halves, and the number of points used."""
    wanted = max(each.neighbors(k) for each in chosen)
    # Duplicates do not break a covariance, but an estimate must not depend on which others are asked for.
    graph, halves = (
        graph_and_halves(points, sides, wanted, device)
        if wanted
        else (build_graph(points, 1, at_least=1, device=device), None)
    )
    result: dict[str, tuple[float, np.ndarray, int]] = {}
    on_covariance = [each for each in chosen if each.kind == "covariance"]
    if on_covariance:
        n_splits = len(sides) if points.shape[1] <= _WIDE else N_SPLITS_DEAR
        spectrum, spectra = _spectra(points[graph.kept], sides[:n_splits, graph.kept])
        for each in on_covariance:
            gaps = [each.compute(one) - each.compute(other) for one, other in spectra]
            result[each.name] = (each.compute(spectrum), np.array(gaps), graph.n_points)
    for each in chosen:
        if each.kind == "distances":
            gaps = [each.apply(one, k) - each.apply(other, k) for one, other in halves or ()]
            result[each.name] = (each.apply(graph, k), np.array(gaps), graph.n_points)
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
) -> tuple[float, np.ndarray, int]:
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
    return value, np.array(gaps), len(kept)


def _levels_of_plateau(texts: np.ndarray, chosen: Sequence[Estimator], k: int) -> int:
    """How often the texts are halved for the plateau rule; each half needs two sizes to choose from."""
    slow = [each.name for each in chosen if each.kind == "external"]
    if slow:
        raise InputError(f"{', '.join(slow)} would take hours on so many parts; leave it out, or plateau=False")
    if max(each.neighbors(k) for each in chosen) + 2 > SMALLEST_PART:
        raise InputError(f"k is {k}; the plateau rule goes down to {SMALLEST_PART} texts, so choose a smaller k")
    n_texts = len(np.unique(texts))
    n_levels = count_levels(n_texts, SMALLEST_PART)
    if n_levels < 2:
        raise InputError(
            f"{n_texts} texts cannot be halved twice with {SMALLEST_PART} left, as the plateau rule needs; give "
            f"at least {4 * SMALLEST_PART} texts"
        )
    return n_levels


def _on_plateau(
    estimates: Mapping[str, tuple[float, np.ndarray, int]],
    points: np.ndarray,
    orders: np.ndarray,
    chosen: Sequence[Estimator],
    k: int,
    n_levels: int,
    device: str | None,
) -> dict[str, tuple[float, np.ndarray, int]]:
    """The estimates by the plateau rule; each gap is between the two halves' own plateaus."""
    parts = halve(points, orders, chosen, k, n_levels, device)
    result = {}
    for name, (value, _, n_used) in estimates.items():
        halves = parts.halves[name]
        gaps = np.array([_plateau(one) - _plateau(other) for one, other in halves])
        result[name] = (_plateau(np.array([value, *halves.mean(axis=(0, 1))])), gaps, n_used)
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
