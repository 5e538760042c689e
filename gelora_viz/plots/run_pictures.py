"""Pictures of fine-tuning runs: their accuracies side by side, and how they learned."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from gelora_viz.errors import InputError
from gelora_viz.plots.description import BLUE, Drawing, Panel, Series, Style, style_number
from gelora_viz.plots.frames import floats, require_columns

if TYPE_CHECKING:
    import pandas as pd

# From here on, the noise of single steps hides how runs differ.
NOISY_FROM = 100
SMOOTHED = 0.04


def describe_comparison(frame: pd.DataFrame) -> Drawing:
    """The runs side by side, in the frame's order: each accuracy with its interval, and the size of its adapter.

    Args:
        frame: one row per run: run, n_parameters, accuracy (a fraction), ci_low, ci_high; where it also has
            difference, difference_low, difference_high and verdict, the screen shows them on hover.

    Raises:
        InputError: if the frame lacks a column or has no rows.
    """
    require_columns(frame, ("run", "n_parameters", "accuracy", "ci_low", "ci_high"), "comparison")
    accuracy = Series(
        kind="markers",
        x=floats(range(len(frame))),
        y=floats(frame["accuracy"]),
        label="Accuracy",
        style=Style(BLUE),
        low=floats(frame["ci_low"]),
        high=floats(frame["ci_high"]),
        details=tuple(_describe_run(row) for row in frame.to_dict(orient="records")),
    )
    panel = Panel(
        title="",
        x_label="",
        y_label="Accuracy",
        series=(accuracy,),
        x_ticks=accuracy.x,
        x_tick_labels=tuple(str(run) for run in frame["run"]),
        x_notes=tuple(_short_count(count) for count in floats(frame["n_parameters"])),
        notes_label="Parameters",
        x_range=(-0.6, len(frame) - 0.4),
        horizontal=True,
    )
    caption = (
        "Whiskers are each accuracy's own confidence interval; differences between runs, paired on the same texts, "
        "are known better. On the right, the number of trainable adapter parameters."
    )
    return Drawing("Accuracy by run", (panel,), caption)


def describe_training(metrics: Mapping[str, pd.DataFrame]) -> Drawing:
    """How the runs learned: loss over steps and, where it was measured, accuracy on the evaluation texts.

    Args:
        metrics: by the run's name, a frame with columns step, loss and eval_accuracy, NaN where not measured.

    Raises:
        InputError: if there is no run, or a frame lacks a column.
    """
    if not metrics:
        raise InputError("no runs to draw; give a mapping such as {'run': run.metrics}")
    for name, frame in metrics.items():
        require_columns(frame, ("step", "loss", "eval_accuracy"), f"metrics frame of run {name!r}")
    losses = _curves(metrics, "loss", smoothed=True)
    accuracies = _curves(metrics, "eval_accuracy")
    panels = [Panel(title="", x_label="Step", y_label="Training loss", series=losses, y_from_zero=True)]
    if accuracies:
        panels.append(Panel(title="", x_label="Step", y_label="Evaluation accuracy", series=accuracies))
    noisy = any(frame["loss"].notna().sum() > NOISY_FROM for frame in metrics.values())
    caption = (
        f"Losses of more than {NOISY_FROM} steps are running means over {SMOOTHED:.0%} of them." if noisy else ""
    )
    return Drawing("Training", tuple(panels), caption, columns=len(panels))


def _curves(metrics: Mapping[str, pd.DataFrame], column: str, *, smoothed: bool = False) -> tuple[Series, ...]:
    """One line per run that measured `column`, through the steps where it did."""
    curves = []
    for index, (name, frame) in enumerate(metrics.items()):
        measured = frame[frame[column].notna()]
        values = measured[column]
        if smoothed and len(values) > NOISY_FROM:
            values = values.rolling(int(SMOOTHED * len(values)), min_periods=1).mean()
        if len(measured):
            curves.append(
                Series("line", floats(measured["step"]), floats(values), label=name, style=style_number(index))
            )
    return tuple(curves)


def _describe_run(row: Mapping[Hashable, Any]) -> str:
    """A run's name, its size, and what its difference from the baseline is worth, as far as the row knows."""
    parts = [f"{row['run']}, {row['n_parameters']:,} parameters"]
    difference, low, high = (row.get(name) for name in ("difference", "difference_low", "difference_high"))
    if isinstance(difference, float) and math.isfinite(difference):
        interval = f" [{low:+.3f}, {high:+.3f}]" if isinstance(low, float) and isinstance(high, float) else ""
        verdict = row.get("verdict")
        parts.append(f"difference {difference:+.3f}{interval}" + (f", {verdict}" if isinstance(verdict, str) else ""))
    return "; ".join(parts)


def _short_count(count: float) -> str:
    """A count in three digits: 950, 36.9k, 1.18M."""
    if not math.isfinite(count):
        return "–"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"
