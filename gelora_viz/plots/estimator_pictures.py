"""A picture of many estimators at once: a table of colored cells, estimator by layer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gelora_viz.dimension import DimensionProfile
from gelora_viz.plots.arguments import check_kind
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.layer_pictures import PROFILE_COLUMNS, depth_axis, stack_name
from gelora_viz.plots.looks import estimator_title
from gelora_viz.plots.marks import Cells

_CAPTION = (
    "Intrinsic dimension by estimator and layer, with two digits. Colors are on a logarithmic scale. The estimator "
    "with the lowest values is at the top. Rows whose colors change alike agree on the layers, whatever their "
    "values. Intervals are not drawn."
)


def estimator_heatmap(profile: DimensionProfile) -> Drawing:
    """How far any number of estimators agree, layer by layer: a heat map with room for all of them and for 96 layers.

    One column per depth (0 the embeddings, i the output of block i), one row per estimator, in the order of their
    median over all layers. An encoder-decoder model has one subplot per stack. For lines with intervals of a few
    estimators, see `dimensions`.

    Args:
        profile: dimensions by any number of estimators, such as with `estimators="all"`.

    Returns:
        The drawing.

    Raises:
        InputError: if this is not a dimension profile, or one without rows.
    """
    check_kind(profile, DimensionProfile, "estimator_heatmap")
    frame = profile.frame
    require_columns(frame, PROFILE_COLUMNS, "dimension profile")
    frame = frame.assign(dimension=frame["dimension"].where(frame["dimension"] > 0))  # a logarithm knows no zero
    order = list(frame.groupby("estimator", sort=False)["dimension"].median().sort_values(kind="stable").index)
    low, high = _ends(frame["dimension"])
    stacks = list(frame["stack"].unique())
    subplots = []
    for stack in stacks:
        of_stack = frame[frame["stack"] == stack]
        cells = _cells(of_stack, order, low, high)
        subplots.append(
            Subplot(
                title=stack_name(stack) if len(stacks) > 1 else "",
                y_label="",
                series=(),
                **depth_axis([int(depth) for depth in cells.x], len(stacks)),
                cells=cells,
            )
        )
    return Drawing(
        "Intrinsic dimension by estimator and layer",
        tuple(subplots),
        f"Pooling: {profile.pooling}, {_say_points(frame['n_points'])} points a layer. {_CAPTION}",
        columns=len(subplots),
    )


def _cells(frame: pd.DataFrame, order: list[str], low: float, high: float) -> Cells:
    depths = range(int(frame["depth"].min()), int(frame["depth"].max()) + 1)  # a layer left out leaves a gap
    rows = {(row["estimator"], row["depth"]): row for row in frame.to_dict(orient="records")}
    found = [[rows.get((estimator, depth)) for depth in depths] for estimator in order]
    return Cells(
        x=floats(depths),
        rows=tuple(map(estimator_title, order)),
        values=tuple(tuple(math.nan if cell is None else float(cell["dimension"]) for cell in row) for row in found),
        label="Intrinsic dimension",
        low=low,
        high=high,
        details=tuple(tuple("" if cell is None else _detail(cell) for cell in row) for row in found),
    )


def _detail(cell: Mapping[Hashable, Any]) -> str:
    interval = f" [{cell['ci_low']:.4g}, {cell['ci_high']:.4g}]" if pd.notna(cell["ci_low"]) else ""
    value = f"{cell['dimension']:.4g}" if pd.notna(cell["dimension"]) else "no estimate"
    return f"{estimator_title(cell['estimator'])}: {value}{interval}, {cell['layer']}, {cell['n_points']:,} points"


def _say_points(counts: pd.Series) -> str:
    """How many points were left after near-duplicates were dropped, over layers and estimators."""
    fewest, most = int(counts.min()), int(counts.max())
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _ends(values: pd.Series) -> tuple[float, float]:
    """The ends of the color scale, which differ even where all values are equal."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
    return (low, high) if high > low else (low / 2, low * 2)
