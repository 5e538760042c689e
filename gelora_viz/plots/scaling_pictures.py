"""Pictures of scale: intrinsic dimension against the number of points and against the size of neighborhoods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gelora_viz._checks import check_names
from gelora_viz.dimension import DimensionScaling
from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kind
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.looks import estimator_style, estimator_title, interval_caption
from gelora_viz.plots.marks import Series

if TYPE_CHECKING:
    import pandas as pd

_MOST_LAYERS = 3
"""Layers shown where none are named: the first, the middle and the last."""
_COLUMNS = ["layer", "estimator", "axis", "n_points", "k", "dimension", "ci_low", "ci_high"]


def scaling(scaling: DimensionScaling, *, layers: Sequence[str] | str | None = None) -> Drawing:
    """Whether a dimension depends on how many points there are, and on how far away their neighbors lie.

    One row per layer: on the left fewer and fewer points are read with the same number of neighbors, on the right
    all points with more and more neighbors. Both axes are logarithmic, each step a factor of two. Where the curves
    are flat, the dimension means something.

    Args:
        scaling: dimensions by number of points and neighbors.
        layers: which layers to show; by default the first, the middle and the last.

    Returns:
        The drawing.

    Raises:
        InputError: if this is no `DimensionScaling`, or a layer is not in it.
    """
    check_kind(scaling, DimensionScaling, "scaling")
    frame = scaling.frame
    require_columns(frame, _COLUMNS, "dimension scaling")
    available = list(dict.fromkeys(frame["layer"]))
    shown = _first_middle_last(available) if layers is None else check_names(layers, "layers", available[0])
    unknown = [layer for layer in shown if layer not in available]
    if unknown:
        raise InputError(f"no layer {unknown[0]!r}; layers are {', '.join(available)}")
    subplots = []
    for layer in shown:
        of_layer = frame[frame["layer"] == layer]
        highest = max(floats(of_layer["ci_high"].fillna(of_layer["dimension"])))
        subplots += [
            _subplot(of_layer[of_layer["axis"] == axis], axis, layer, last=layer == shown[-1], highest=highest)
            for axis in ("points", "scale")
        ]
    return Drawing(
        "Intrinsic dimension against number of points and scale",
        tuple(subplots),
        f"Pooling: {scaling.pooling}. {interval_caption(scaling.confidence)} Left: the same number of neighbors "
        "among fewer and fewer texts. Right: more and more neighbors among all points.",
        columns=2,
    )


def _first_middle_last(layers: list[str]) -> list[str]:
    if len(layers) <= _MOST_LAYERS:
        return layers
    return [layers[0], layers[len(layers) // 2], layers[-1]]


def _subplot(steps: pd.DataFrame, axis: str, layer: str, *, last: bool, highest: float) -> Subplot:
    """One layer along one axis; `highest` is the largest value of the layer, so that both axes begin alike."""
    by = "n_points" if axis == "points" else "k"
    ticks = sorted({float(value) for value in steps[by]})
    return Subplot(
        title=layer,
        x_label=("Points" if axis == "points" else "Neighbours read, k") if last else "",
        y_label="Intrinsic dimension" if axis == "points" else "",
        series=tuple(
            _series(steps[steps["estimator"] == name].sort_values(by), name, index, by)
            for index, name in enumerate(dict.fromkeys(steps["estimator"]))
        ),
        x_ticks=tuple(math.log2(tick) for tick in ticks),
        x_tick_labels=tuple(f"{tick:,.0f}" for tick in ticks),
        x_range=(math.log2(ticks[0]) - 0.3, math.log2(ticks[-1]) + 0.3) if ticks else None,
        y_from_zero=highest > 0,
    )


def _series(steps: pd.DataFrame, name: str, index: int, by: str) -> Series:
    return Series(
        kind="line",
        x=tuple(math.log2(value) for value in floats(steps[by])),
        y=floats(steps["dimension"]),
        label=estimator_title(name),
        style=estimator_style(name, index),
        low=floats(steps["ci_low"]),
        high=floats(steps["ci_high"]),
        details=tuple(
            f"{points:,.0f} points, k = {k}" for points, k in zip(floats(steps["n_points"]), steps["k"], strict=True)
        ),
    )
