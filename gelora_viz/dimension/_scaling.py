"""How the dimension changes with the number of points and with the scale of the neighborhood, with intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from gelora_viz._checks import check_confidence, check_seed, check_whole, resolve_device
from gelora_viz._reading import Fields
from gelora_viz._results import frame_to_records, read_result, records_to_frame, write_json
from gelora_viz.activations import Activations
from gelora_viz.dimension._catalog import choose_estimators
from gelora_viz.dimension._cloud import Cloud
from gelora_viz.dimension._estimator import Estimator, most_neighbors
from gelora_viz.dimension._halving import SMALLEST_PART, count_levels, halve, refuse_slow, text_orders
from gelora_viz.dimension._intervals import dimension_interval, gaps_between_halves, split_texts
from gelora_viz.dimension._points import DEFAULT_K, check_points, naming_layer
from gelora_viz.dimension._tidy import TidyEstimates
from gelora_viz.errors import InputError

_KIND = "dimension scaling"
COLUMNS = [
    "layer", "stack", "depth", "estimator", "axis", "n_points", "k", "radius", "dimension", "std_error", "ci_low",
    "ci_high",
]  # fmt: skip
SCALES = (2, 4, 8, 16, 32, 64, 128)
"""Numbers of neighbors, each twice the last: the scales of Gride."""
SCALING_ESTIMATORS = ("twonn_ml", "gride", "mle")


@dataclass(frozen=True, eq=False, repr=False)
class DimensionScaling(TidyEstimates):
    """The dimension of each layer against the number of points and the scale of the neighborhood.

    Attributes:
        frame: one row per layer, estimator and step: layer, stack, depth, estimator, axis ("points": fewer and fewer
            points, same k; "scale": all points, more and more neighbors), n_points (mean, near-duplicates left
            out), k (neighbors read), radius (mean distance to the k-th, in units of the activations), dimension,
            std_error, ci_low, ci_high.
        pooling: pooling of the captured hidden states, such as "mean"; "given" for points from elsewhere.
        confidence: level of the intervals, between 0 and 1.
        settings: k, seed, smallest part, and the settings of the capture.
    """

    frame: pd.DataFrame
    pooling: str = "given"
    confidence: float = 0.95
    settings: Mapping[str, Any] = field(default_factory=dict)

    def along(self, axis: str) -> pd.DataFrame:
        """Select the rows along "points" or "scale"."""
        if axis not in ("points", "scale"):
            raise InputError(f'no axis {axis!r}; choose "points" or "scale"')
        return self.frame[self.frame["axis"] == axis].reset_index(drop=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(
            path,
            _KIND,
            {
                "pooling": self.pooling,
                "confidence": self.confidence,
                "settings": dict(self.settings),
                "steps": frame_to_records(self.frame),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DimensionScaling:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return read_result(path, _KIND, cls._from_dict)

    @classmethod
    def _from_dict(cls, content: Mapping[str, Any]) -> DimensionScaling:
        fields = Fields(content, _KIND)
        return cls(
            records_to_frame(fields.rows("steps"), COLUMNS, texts=("layer", "stack", "estimator", "axis")),
            fields.text("pooling"),
            fields.number("confidence"),
            fields.mapping("settings"),
        )


def dimension_scaling(
    activations: Activations,
    estimators: Sequence[str] | str | None = None,
    *,
    layers: Sequence[str] | None = None,
    k: int = DEFAULT_K,
    scales: Sequence[int] = SCALES,
    smallest: int = SMALLEST_PART,
    confidence: float = 0.95,
    seed: int = 0,
    device: str | None = None,
    progress: bool = True,
) -> DimensionScaling:
    """Estimate the dimension of every layer against the number of points, by halving the texts, and against scale.

    A dimension that falls as points are taken away is limited by the number of points; one that changes with the
    number of neighbors has no single value: noise makes it high at small scales, curvature and borders low at large
    ones. Where both curves are flat, the number means something.

    Along "points", the texts are halved in 6 random orders until a part would have fewer than `smallest`; the value
    is the mean over all parts of that size, its standard error comes from the gap between the halves of the texts.
    Along "scale", all points are read with k = 2, 4, 8, ... neighbors (Gride then compares the k-th with the
    (k/2)-th, Denti et al. 2022), with the split-half intervals of `estimate_dimension`.

    Args:
        activations: captured points.
        estimators: names from `gelora_viz.list_estimators()`, none external; None takes twonn_ml, gride and mle.
            Those that read a fixed number of neighbors, or no distances, have no steps along "scale".
        layers: names of layers to scale; None takes all. Six orders cost about as much as seven profiles.
        k: number of neighbors along "points".
        scales: numbers of neighbors along "scale", each at least 2; those above a quarter of the distinct points are
            left out.
        smallest: number of texts in the smallest part.
        confidence: level of the intervals, between 0 and 1.
        seed: seed of the random halves.
        device: where to search neighbors: None for the CPU, or a torch device such as "cuda".
        progress: show a tqdm bar.

    Raises:
        InputError: if an estimator or layer is unknown, an argument is unusable, or the points have no dimension.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(600, 3))
        >>> scaling = dimension_scaling(Activations.from_arrays({"x": points}), "mle", scales=(8, 16), progress=False)
        >>> scaling.along("scale")[["k", "dimension"]].round(1).to_numpy().tolist()
        [[8.0, 3.1], [16.0, 3.1]]
    """
    chosen = choose_estimators(SCALING_ESTIMATORS if estimators is None else estimators)
    check_confidence(confidence)
    resolve_device(device)
    check_seed(seed)
    _check_layers(activations, layers)
    for scale in scales:
        check_whole(scale, "a scale", at_least=2)
    refuse_slow(chosen)
    check_points(activations, chosen, k)
    fewest = most_neighbors(chosen, k) + 2
    if check_whole(smallest, "smallest") < fewest:
        raise InputError(f"smallest is {smallest}; parts of fewer than {fewest} texts are too small for k = {k}")
    texts = activations.provenance["text"].to_numpy()
    n_levels = count_levels(len(np.unique(texts)), smallest)
    orders, sides = text_orders(texts, seed), split_texts(texts, seed)
    wanted = activations.layer_frame
    if layers is not None:
        wanted = wanted[wanted["layer"].isin(list(layers))]
    rows: list[dict[str, Any]] = []
    for layer in tqdm(
        wanted.itertuples(index=False), total=len(wanted), desc="halving texts", unit="layer", disable=not progress
    ):
        where = {"layer": layer.layer, "stack": layer.stack, "depth": layer.depth}
        cloud = Cloud(activations[layer.layer], most_neighbors(chosen, k), device=device)
        with naming_layer(str(layer.layer)):
            steps = _by_points(cloud, orders, chosen, k, n_levels) + _by_scale(cloud, sides, chosen, scales, device)
        for step in steps:
            std_error, low, high = dimension_interval(step["dimension"], step.pop("gaps"), confidence)
            rows.append({**where, **step, "std_error": std_error, "ci_low": low, "ci_high": high})
    settings = {"k": k, "seed": seed, "smallest": smallest, "capture": dict(activations.settings)}
    return DimensionScaling(pd.DataFrame(rows, columns=COLUMNS), activations.pooling, confidence, settings)


def _check_layers(activations: Activations, layers: Sequence[str] | None) -> None:
    unknown = [layer for layer in layers or () if layer not in activations.layers]
    if unknown:
        raise InputError(f"no layer {unknown[0]!r}; layers are {', '.join(activations.layers)}")


def _by_points(
    cloud: Cloud, orders: np.ndarray, chosen: Sequence[Estimator], k: int, n_levels: int
) -> list[dict[str, Any]]:
    """Make one row for all points and one for each halving, with the gaps between the two halves of the texts."""
    parts = halve(cloud, orders, chosen, k, n_levels)
    rows: list[dict[str, Any]] = []
    for at, each in enumerate(chosen):
        halves = parts.halves[at]
        gaps = halves[:, 0] - halves[:, 1]
        rows += (
            {
                "estimator": each.name, "axis": "points", "n_points": parts.n_points[size], "k": each.neighbors(k),
                "radius": parts.radii[size, at],
                "dimension": float(halves[..., size - 1].mean()) if size else parts.whole[at],
                "gaps": gaps[:, max(size - 1, 0)] if n_levels else np.empty(0),
            }
            for size in range(n_levels + 1)
        )  # fmt: skip
    return rows


def _by_scale(
    cloud: Cloud, sides: np.ndarray, chosen: Sequence[Estimator], scales: Sequence[int], device: str | None
) -> list[dict[str, Any]]:
    """Make one row for each number of neighbors, for the estimators whose neighborhood can grow."""
    possible = sorted({scale for scale in scales if scale <= cloud.n_points // 4})
    steps = [(each, scale) for each in chosen if each.can_grow for scale in possible if scale >= each.fewest]
    if not steps:
        return []
    cloud = Cloud(cloud.points, possible[-1], device=device)
    gaps = gaps_between_halves(cloud, sides, steps)
    return [
        {
            "estimator": each.name, "axis": "scale", "n_points": cloud.n_points, "k": scale,
            "radius": cloud.radius(scale), "dimension": each(cloud, scale), "gaps": of_step,
        }
        for (each, scale), of_step in zip(steps, gaps, strict=True)
    ]  # fmt: skip
