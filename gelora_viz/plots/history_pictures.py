"""Pictures of a training from inside: the updates' effective rank and the hidden states' dimension over its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kind
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.layer_pictures import depth_axis, stack_name
from gelora_viz.plots.looks import estimator_title, interval_caption
from gelora_viz.plots.marks import GRAY, LEVEL, MARKERS, VERMILLION, Series, Style
from gelora_viz.plots.spectrum_pictures import DEPTH_STYLES, columns_for, kinds_of_matrices, spread
from gelora_viz.spectra import DimensionHistory, SpectrumHistory

if TYPE_CHECKING:
    import pandas as pd

_THIRDS = ("Early layers", "Middle layers", "Late layers")
_ASSIGNED_STYLE = Style(GRAY, "dot", "x")
# Light to dark, as in ColorBrewer's Blues without its palest: order is seen, and survives a grayscale print.
_STEP_COLORS = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08306b")
_MOST_STEPS = len(_STEP_COLORS)
_NO_CHANGE_STYLE = Style(GRAY, marker=LEVEL)
_FARTHEST_LEVEL = 2.5
"""Beyond this multiple of the highest effective rank, a level at the assigned rank would flatten the lines."""


def rank_growth(history: SpectrumHistory) -> Drawing:
    """How the effective rank of the updates grew over the steps of a training, one subplot per kind of matrix.

    Each line is the mean entropy rank of a third of the layers, its band runs from the smallest to the largest; fewer
    than three layers have one line. The assigned rank is in the subplot's title, and drawn as a level where it is not
    far above everything else. In the first steps an update is small and goes in many directions, so its rank may
    start high and fall; the frame's norm says how large it is.

    Args:
        history: spectra of an adapter's updates by step.

    Returns:
        The drawing.

    Raises:
        InputError: if this is no `SpectrumHistory`, or nothing was recorded.

    References:
        Roy and Vetterli 2007, The effective rank: the exponential of the entropy of the singular values' shares.
    """
    check_kind(history, SpectrumHistory, "rank_growth")
    frame = history.frame
    require_columns(frame, ("step", "module", "rank", "entropy_rank"), "spectrum history")
    kinds = kinds_of_matrices(dict.fromkeys(frame["module"]))
    columns = columns_for(len(kinds))
    subplots = [
        _growth_subplot(frame, kind, modules, first=place % columns == 0)
        for place, (kind, modules) in enumerate(kinds.items())
    ]
    highest = max(high for subplot in subplots for series in subplot.series for high in series.high or ())
    subplots = [replace(subplot, y_range=(0.0, 1.06 * highest or 1.0)) for subplot in subplots]
    return Drawing(
        "Effective rank over training",
        tuple(subplots),
        "Entropy ranks: lines are means over layers, bands run from the smallest to the largest.",
        columns=columns,
        shared_x=True,
    )


def dimension_history(history: DimensionHistory, estimator: str = "twonn") -> Drawing:
    """How the intrinsic dimension of the hidden states moved while a model trained.

    Above, the dimension over depth, one line per recorded step from light to dark; of more than five steps the first,
    the last and three between. Below, how far each layer is from where it began, at the last step; its interval is
    paired, because the same texts stand behind both, and so is narrower than the bands above suggest.

    Args:
        history: dimension profiles by step.
        estimator: one of those recorded.

    Returns:
        The drawing.

    Raises:
        InputError: if this is no `DimensionHistory`, or nothing was recorded, or not by this estimator.
    """
    check_kind(history, DimensionHistory, "dimension_history")
    frame = history.frame
    columns = ("step", "layer", "stack", "depth", "estimator", "dimension", "ci_low", "ci_high")
    require_columns(frame, columns, "dimension history")
    known = list(dict.fromkeys(frame["estimator"]))
    if estimator not in known:
        raise InputError(f"the history has no estimator {estimator!r}; it has {', '.join(known)}")
    frame = frame[frame["estimator"] == estimator]
    recorded = sorted(set(frame["step"]))
    steps = spread(recorded, _MOST_STEPS)
    stacks = list(dict.fromkeys(frame["stack"]))
    upper = [
        _depth_subplot(frame[frame["stack"] == stack], steps, estimator, first=place == 0, n_columns=len(stacks))
        for place, stack in enumerate(stacks)
    ]
    lower: list[Subplot] = []
    if len(recorded) > 1:
        changes = history.changes(estimator)
        changes = changes[changes["step"] == recorded[-1]]
        lower = [
            _change_subplot(changes[changes["stack"] == stack], recorded, first=place == 0, n_columns=len(stacks))
            for place, stack in enumerate(stacks)
        ]
    return Drawing(
        "Intrinsic dimension over training",
        (*upper, *lower),
        f"Pooling: {history.pooling}. {interval_caption(history.confidence)} Whiskers are paired intervals of the "
        "change, which the same texts stand behind at every step.",
        columns=len(stacks),
        shared_x=True,
    )


def _growth_subplot(frame: pd.DataFrame, kind: str, modules: list[str], *, first: bool) -> Subplot:
    rows = frame[frame["module"].isin(modules)]
    assigned = rows["rank"].astype(float)
    known = bool(assigned.notna().any())
    lowest, highest = assigned.min(), assigned.max()
    ranks = f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"
    series = []
    if known and highest <= _FARTHEST_LEVEL * rows["entropy_rank"].max():
        means = rows.groupby("step")["rank"].mean()
        constant = means.min() == means.max()
        ends = rows["step"].isin((rows["step"].min(), rows["step"].max()))
        series.append(_over_steps(rows[ends] if constant else rows, "rank", "Assigned rank", _ASSIGNED_STYLE))
    if len(modules) < len(_THIRDS):
        series.append(_over_steps(rows, "entropy_rank", "All layers", Style(VERMILLION)))
    else:
        for label, style, part in zip(_THIRDS, DEPTH_STYLES, _thirds(modules), strict=True):
            series.append(_over_steps(rows[rows["module"].isin(part)], "entropy_rank", label, style))
    return Subplot(
        title=f"{kind} (rank {ranks})" if known else kind,
        x_label="Step",
        y_label="Effective rank" if first else "",
        series=tuple(series),
    )


def _over_steps(rows: pd.DataFrame, column: str, label: str, style: Style) -> Series:
    """The mean over matrices at each step, with a band from the smallest to the largest."""
    values = rows.assign(**{column: rows[column].astype(float)}).groupby("step", sort=True)[column]
    summary = values.agg(["mean", "min", "max", "count"])
    return Series(
        kind="line",
        x=floats(summary.index),
        y=floats(summary["mean"]),
        label=label,
        style=style,
        low=floats(summary["min"]),
        high=floats(summary["max"]),
        details=tuple(
            f"step {step:g}, {count} {'matrix' if count == 1 else 'matrices'}"
            for step, count in zip(floats(summary.index), summary["count"], strict=True)
        ),
    )


def _depth_subplot(frame: pd.DataFrame, steps: list[int], estimator: str, *, first: bool, n_columns: int) -> Subplot:
    """Dimension over depth, one line per step; bands for the first and the last alone, so that they can be seen."""
    series = []
    for number, step in enumerate(steps):
        rows = frame[frame["step"] == step].sort_values("depth")
        ends = step in (steps[0], steps[-1])
        series.append(
            Series(
                kind="line",
                x=floats(rows["depth"]),
                y=floats(rows["dimension"]),
                label=f"Step {step}",
                style=_step_style(number, len(steps)),
                low=floats(rows["ci_low"]) if ends else None,
                high=floats(rows["ci_high"]) if ends else None,
                details=tuple(f"{layer}, step {step}" for layer in rows["layer"]),
            )
        )
    depths = list(frame["depth"])
    return Subplot(
        title=stack_name(frame["stack"].iloc[0]),
        y_label=f"Dimension ({estimator_title(estimator)})" if first else "",
        series=tuple(series),
        **depth_axis(depths, n_columns),
        y_from_zero=True,
    )


def _change_subplot(changes: pd.DataFrame, recorded: list[int], *, first: bool, n_columns: int) -> Subplot:
    """How far each layer is from where it began, with the level of no change."""
    rows = changes.sort_values("depth")
    depths = list(rows["depth"])
    moved = Series(
        kind="markers",
        x=floats(rows["depth"]),
        y=floats(rows["change"]),
        label=f"Change by step {recorded[-1]}",
        style=Style(_STEP_COLORS[-1]),
        low=floats(rows["ci_low"]),
        high=floats(rows["ci_high"]),
        details=tuple(f"{layer}, step {recorded[-1]}" for layer in rows["layer"]),
    )
    none = Series("markers", moved.x, (0.0,) * len(depths), "No change", _NO_CHANGE_STYLE, details=moved.details)
    return Subplot(
        title="",
        y_label=f"Change since step {recorded[0]}" if first else "",
        series=(none, moved),
        **depth_axis(depths, n_columns),
    )


def _thirds(modules: list[str]) -> list[list[str]]:
    """Early, middle and late; the first and the last third are of one size."""
    ends = len(modules) // 3 + (len(modules) % 3 == 2)
    return [modules[:ends], modules[ends : len(modules) - ends], modules[len(modules) - ends :]]


def _step_style(number: int, n_steps: int) -> Style:
    """Light to dark; the last step is darkest however many there are."""
    place = _MOST_STEPS - n_steps + number
    return Style(_STEP_COLORS[place], "solid", MARKERS[place])
