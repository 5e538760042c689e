"""The intrinsic dimension of every layer: one graph for all estimators, halves of the texts for the intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from gelora_viz._checks import check_confidence, check_flag, check_result, check_seed, check_whole, resolve_device
from gelora_viz.activations import Activations
from gelora_viz.dimension._calibration import correct_bias
from gelora_viz.dimension._catalog import choose_estimators
from gelora_viz.dimension._cloud import Cloud
from gelora_viz.dimension._estimator import Estimator, most_neighbors
from gelora_viz.dimension._halving import SMALLEST_PART, count_levels, find_plateau, halve, refuse_slow, text_orders
from gelora_viz.dimension._intervals import dimension_interval, gaps_between_halves, split_texts
from gelora_viz.dimension._points import DEFAULT_K, check_one_rule, check_points, naming_layer
from gelora_viz.dimension._profile import CORRECTED_COLUMNS, PROFILE_COLUMNS, DimensionProfile
from gelora_viz.errors import InputError


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
    """Estimate the intrinsic dimension of every layer by several estimators, with standard errors and intervals.

    One exact neighbor graph is built per layer and shared. Standard errors come from 30 random splits of the texts
    into halves, the same in every layer: the two halves share nothing, so the gap between their estimates shows the
    sampling error (the graph is thinned for them, not rebuilt). Tokens stay with their text, because tokens of one
    text are not independent. The interval is about the estimator's sampling error only: that every distance-based
    estimator reads high dimensions too low with finitely many points is a bias which no interval of this kind covers
    (`correct=True` estimates it; the estimator "calibrated" has an interval that covers it).

    Args:
        activations: captured points, or `Activations.from_arrays({...})`.
        estimators: names from `gelora_viz.list_estimators()`; None takes `DEFAULT_ESTIMATORS`, "all" all that are not
            external. Those that read coordinates have intervals from 6 splits (external ones: 3, and 2,000 points).
        k: number of neighbors of the estimators that leave it open (TwoNN always reads 2), at least 3; 20, as in
            scikit-dimension.
        confidence: level of the intervals, between 0 and 1.
        correct: add columns corrected, corrected_low and corrected_high: the estimate freed of the bias that it has
            on a uniform ball with as many points and neighbors, and an interval that also covers the calibration's
            error and the choice of ball or Gaussian. For estimators that read distances alone; NaN for the others.
        plateau: instead of the estimate from all points, the mean of the two adjacent sizes whose dimensions
            differ least, the texts halved from all down to 128. A third-party implementation of GeLoRA chooses the
            scale in this way; the rule of the paper's authors is not known.
        seed: seed of the splits into halves.
        device: where to search neighbors: None for the CPU, or a torch device such as "cuda".
        progress: show a tqdm bar.

    Raises:
        InputError: if an estimator is unknown, distinct points are too few for the neighbors, or points are NaN,
            infinite or constant, with the layer's name.

    Warns:
        UserWarning: if there are fewer than 50 texts, because intervals are then wide and only roughly right.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(500, 3))
        >>> cloud = Activations.from_arrays({"x": points})
        >>> estimate_dimension(cloud, "twonn", progress=False).frame["dimension"].round(1)
        0    3.1
        Name: dimension, dtype: float64
    """
    check_result(activations, Activations, "activations")
    chosen = choose_estimators(estimators)
    check_confidence(confidence)
    for flag, name in ((correct, "correct"), (plateau, "plateau"), (progress, "progress")):
        check_flag(flag, name)
    seed = check_seed(seed)
    resolve_device(device)
    check_rules(activations.provenance["text"].nunique(), chosen, k, correct=correct, plateau=plateau)
    check_points(activations, chosen, k)
    texts = activations.provenance["text"].to_numpy()
    sides = split_texts(texts, seed)
    orders = text_orders(texts, seed)
    n_levels = count_levels(len(np.unique(texts)), SMALLEST_PART) if plateau else 0
    rows: list[dict[str, Any]] = []
    half_gaps: dict[tuple[str, str], np.ndarray] = {}
    layers = activations.layer_frame.itertuples(index=False)
    for layer in tqdm(
        layers, total=len(activations), desc="estimating dimensions", unit="layer", disable=not progress
    ):
        cloud = Cloud(activations[layer.layer], most_neighbors(chosen, k), device=device)
        with naming_layer(str(layer.layer)):
            if plateau:
                estimates = _estimate_on_plateau(cloud, orders, chosen, k, confidence, n_levels)
            else:
                estimates = _estimate_layer(cloud, sides, chosen, k, confidence)
        for each, estimate in zip(chosen, estimates, strict=True):
            half_gaps[str(layer.layer), each.name] = estimate.gaps
            n_points = each.count_points(cloud)
            row = {
                "layer": layer.layer, "stack": layer.stack, "depth": layer.depth, "estimator": each.name,
                "dimension": estimate.value, "std_error": estimate.std_error, "ci_low": estimate.low,
                "ci_high": estimate.high, "n_points": n_points, "n_dropped": len(texts) - n_points,
            }  # fmt: skip
            rows.append(row | _corrected(each, row, k, cloud.n_features) if correct else row)
    columns = [*PROFILE_COLUMNS, *CORRECTED_COLUMNS] if correct else PROFILE_COLUMNS
    settings = {
        "k": k, "seed": seed, "n_splits": len(sides), "plateau": plateau, "capture": dict(activations.settings)
    }  # fmt: skip
    return DimensionProfile(pd.DataFrame(rows, columns=columns), half_gaps, activations.pooling, confidence, settings)


class _LayerEstimate(NamedTuple):
    """The dimension of one layer by one estimator, its interval, and the (n_splits,) gaps between halves."""

    value: float
    std_error: float
    low: float
    high: float
    gaps: np.ndarray


def _estimate_layer(
    cloud: Cloud, sides: np.ndarray, chosen: Sequence[Estimator], k: int, confidence: float
) -> list[_LayerEstimate]:
    """Estimate by every estimator, with intervals from halves where the estimator has none of its own."""
    estimates = []
    for each, gaps in zip(chosen, gaps_between_halves(cloud, sides, [(each, k) for each in chosen]), strict=True):
        if each.own_interval is None:
            value = each(cloud, k)
            estimate = _LayerEstimate(value, *dimension_interval(value, gaps, confidence), gaps)
        else:
            graph = cloud.graph(each.neighbors(k))
            estimate = _LayerEstimate(*each.own_interval(graph, cloud.n_features, confidence), gaps)
        estimates.append(estimate)
    return estimates


def _estimate_on_plateau(
    cloud: Cloud, orders: np.ndarray, chosen: Sequence[Estimator], k: int, confidence: float, n_levels: int
) -> list[_LayerEstimate]:
    """Estimate by the plateau rule; each gap is between the two halves' own plateaus."""
    parts = halve(cloud, orders, chosen, k, n_levels)
    estimates = []
    for whole, halves in zip(parts.whole, parts.halves, strict=True):
        value = find_plateau(np.array([whole, *halves.mean(axis=(0, 1))]))
        gaps = np.array([find_plateau(one) - find_plateau(other) for one, other in halves])
        estimates.append(_LayerEstimate(value, *dimension_interval(value, gaps, confidence), gaps))
    return estimates


def _corrected(each: Estimator, row: Mapping[str, Any], k: int, n_features: int) -> dict[str, float]:
    """Correct the row's estimate and interval; NaN if the estimator's bias is not known."""
    if not each.can_be_corrected:
        return dict.fromkeys(CORRECTED_COLUMNS, float("nan"))
    corrected = correct_bias(
        each, row["dimension"], row["ci_low"], row["ci_high"], n_points=row["n_points"], k=each.neighbors(k),
        n_features=n_features,
    )  # fmt: skip
    return dict(zip(CORRECTED_COLUMNS, corrected, strict=True))


def check_rules(n_texts: int, chosen: Sequence[Estimator], k: int, *, correct: bool, plateau: bool) -> None:
    """Raise `InputError` if the correction or the plateau rule cannot be had with these texts and estimators."""
    check_one_rule(correct=correct, plateau=plateau)
    if not plateau:
        return
    check_whole(k, "k", at_least=3)
    own = [each.name for each in chosen if each.own_interval is not None]
    if own:
        raise InputError(f"{', '.join(own)} chooses its scale itself; leave it out, or plateau=False")
    refuse_slow(chosen)
    if most_neighbors(chosen, k) + 2 > SMALLEST_PART:
        raise InputError(f"k is {k}; the plateau rule goes down to {SMALLEST_PART} texts, so choose a smaller k")
    if count_levels(n_texts, SMALLEST_PART) < 2:  # each half needs two sizes to choose from
        raise InputError(
            f"{n_texts} texts cannot be halved twice with {SMALLEST_PART} left, as the plateau rule needs; give "
            f"at least {4 * SMALLEST_PART} texts"
        )
