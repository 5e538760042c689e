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
from gelora_viz.dimension._calibration import correct_bias
from gelora_viz.dimension._catalog import Estimator, choose_estimators
from gelora_viz.dimension._graph import as_array, check_finite
from gelora_viz.dimension._halving import SMALLEST_PART, count_levels, text_orders
from gelora_viz.dimension._layer import estimate_layer, on_plateau
from gelora_viz.dimension._profile import CORRECTED_COLUMNS, PROFILE_COLUMNS, DimensionProfile
from gelora_viz.errors import InputError

DEFAULT_K = 20
"""Neighbours of MLE, as in scikit-dimension."""
N_SPLITS = 30
"""Random splits of the texts into halves; the standard error is then known to about 13 % (chi-square, 30 degrees)."""
FEWEST_TEXTS = 10
"""With fewer texts, splits into halves repeat each other and show nothing."""
FEW_TEXTS = 50


def estimate_dimension(
    activations: Activations,
    estimators: Sequence[str] | str | None = None,
    *,
    k: int = DEFAULT_K,
    confidence: float = 0.95,
    correct: bool = False,
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
    estimator reads high dimensions too low with finitely many points is a bias which no interval of this kind covers
    (`correct=True` estimates it; the estimator "calibrated" has an interval that covers it).

    Args:
        activations: captured points, or `Activations.from_arrays({...})`.
        estimators: names from `gelora_viz.list_estimators()`; None takes `DEFAULT_ESTIMATORS`, "all" all that are not
            external. Those that read coordinates have intervals from 6 splits (external ones: 3, and 2,000 points).
        k: neighbours of the estimators that leave it open; TwoNN always reads 2. 20, as in scikit-dimension.
        confidence: of the intervals.
        correct: add columns corrected, corrected_low and corrected_high: the estimate freed of the bias that it has
            on a uniform ball with as many points and neighbours, and an interval that also covers the calibration's
            error and the choice of ball or Gaussian. For estimators that read distances alone; NaN for the others.
        plateau: instead of the estimate from all points, the mean of the two adjacent sizes whose dimensions
            differ least, the texts halved from all down to 128. So an implementation of GeLoRA by others chooses the
            scale; the rule of the paper's authors is not known.
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
        0    3.1
        Name: dimension, dtype: float64
    """
    chosen = choose_estimators(estimators)
    check_confidence(confidence)
    if correct and plateau:
        raise InputError("a plateau mixes numbers of points, and a correction is for one; choose correct or plateau")
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
            estimates = estimate_layer(points, sides, chosen, k, confidence, device)
            if plateau:
                estimates = on_plateau(estimates, points, orders, chosen, k, n_levels, device)
        where = {"layer": layer.layer, "stack": layer.stack, "depth": layer.depth}
        for each in chosen:
            estimate = estimates[each.name]
            half_gaps[str(layer.layer), each.name] = estimate.gaps
            std_error, low, high = estimate.interval(confidence)
            row = {**where, "estimator": each.name, "dimension": estimate.value, "std_error": std_error}
            row |= {"ci_low": low, "ci_high": high}
            row |= {"n_points": estimate.n_points, "n_dropped": len(points) - estimate.n_points}
            if correct:
                row |= _corrected(each, row, k, points.shape[1])
            rows.append(row)
    columns = [*PROFILE_COLUMNS, *CORRECTED_COLUMNS] if correct else PROFILE_COLUMNS
    settings = {
        "k": k,
        "seed": seed,
        "n_splits": len(sides),
        "plateau": plateau,
        "capture": dict(activations.settings),
    }
    return DimensionProfile(pd.DataFrame(rows, columns=columns), half_gaps, activations.pooling, confidence, settings)


def _corrected(each: Estimator, row: Mapping[str, Any], k: int, n_features: int) -> dict[str, float]:
    """The row's estimate and interval, corrected; NaN where the estimator's bias is not known."""
    if not each.can_be_corrected:
        return dict.fromkeys(CORRECTED_COLUMNS, float("nan"))
    corrected = correct_bias(
        each, row["dimension"], row["ci_low"], row["ci_high"], n_points=row["n_points"], k=each.neighbors(k),
        n_features=n_features,
    )  # fmt: skip
    return dict(zip(CORRECTED_COLUMNS, corrected, strict=True))


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


def check_enough_points(n_points: int, n_texts: int, chosen: Sequence[Estimator], k: int) -> None:
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
    check_enough_points(n_points, n_texts, chosen, k)
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


def _levels_of_plateau(texts: np.ndarray, chosen: Sequence[Estimator], k: int) -> int:
    """How often the texts are halved for the plateau rule; each half needs two sizes to choose from."""
    own = [each.name for each in chosen if each.own_interval]
    if own:
        raise InputError(f"{', '.join(own)} chooses its scale itself; leave it out, or plateau=False")
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
