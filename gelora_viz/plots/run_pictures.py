"""Pictures of fine-tuning runs: their accuracies side by side, and how they learned."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from gelora_viz.comparison import Comparison
from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kind, check_kinds
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.marks import BLUE, GRAY, VERMILLION, Series, Style, style_number

# From here on, the noise of single steps hides how runs differ.
_NOISY_FROM = 100
_SMOOTHED = 0.04


def comparison(results: pd.DataFrame | Comparison) -> Drawing:
    """Methods side by side, in their order: each score with its interval, and the difference to the baseline.

    Args:
        results: a `Comparison`, whose single seeds are drawn as crosses; or a frame as `tabulate_results` gives it,
            with one row per run: run, n_parameters, accuracy (a fraction) or perplexity, ci_low, ci_high, and for the
            differences also difference, difference_low, difference_high and verdict.

    Returns:
        The drawing.

    Raises:
        InputError: if this is neither, or the frame lacks a column or has no rows.
    """
    if not isinstance(results, pd.DataFrame):
        check_kind(results, Comparison, "comparison")
    frame, runs = (results, None) if isinstance(results, pd.DataFrame) else (results.frame, results.runs)
    metric = "perplexity" if "perplexity" in frame else "accuracy"
    require_columns(frame, ("run", "n_parameters", metric, "ci_low", "ci_high"), "comparison")
    positions = floats(range(len(frame)))
    score = Series(
        kind="markers",
        x=positions,
        y=floats(frame[metric]),
        label="Mean" if runs is not None else metric.capitalize(),
        style=Style(BLUE),
        low=floats(frame["ci_low"]),
        high=floats(frame["ci_high"]),
        details=tuple(_describe_run(row) for row in frame.to_dict(orient="records")),
    )
    seeds = () if runs is None else _seeds(frame, runs, metric)
    shared: dict[str, Any] = {
        "x_label": "", "x_ticks": positions, "x_range": (-0.6, len(frame) - 0.4), "horizontal": True,
    }  # fmt: skip
    names = tuple(str(run) for run in frame["run"])
    sizes = tuple(_short_count(count) for count in floats(frame["n_parameters"]))
    title = f"{metric.capitalize()} by run"
    caption = (
        "Whiskers are confidence intervals; those of differences, paired on the same seeds and texts, are what to "
        "compare by. On the right, the number of trainable adapter parameters."
    )
    differences = _differences(frame, positions, metric)
    if not differences:
        subplot = Subplot(
            title="", y_label=metric.capitalize(), series=(*seeds, score), x_tick_labels=names, x_notes=sizes,
            notes_label="Parameters", **shared,
        )  # fmt: skip
        return Drawing(title, (subplot,), caption)
    left = Subplot(
        title="", y_label=metric.capitalize(), series=(*seeds, score), x_tick_labels=names, **shared
    )  # fmt: skip
    right = Subplot(
        title="", y_label="Difference to the baseline" + (" (%)" if metric == "perplexity" else ""),
        series=differences, x_tick_labels=("",) * len(frame), x_notes=sizes, notes_label="Parameters", **shared,
    )  # fmt: skip
    return Drawing(title, (left, right), caption, columns=2)


def _seeds(frame: pd.DataFrame, runs: pd.DataFrame, metric: str) -> tuple[Series, ...]:
    """The score of every seed, at the position of its method."""
    require_columns(runs, ("run", "chosen", metric), "table of runs")
    places = {str(name): float(place) for place, name in enumerate(frame["run"])}
    chosen = runs[runs["chosen"].astype(bool) & runs[metric].notna()]
    x = tuple(places[str(name)] for name in chosen["run"])
    return (Series("markers", x, floats(chosen[metric]), label="Single seeds", style=Style(GRAY, marker="x")),)


def _differences(frame: pd.DataFrame, positions: tuple[float, ...], metric: str) -> tuple[Series, ...]:
    """Differences with their intervals over a line at zero; empty where the frame has none."""
    columns = ("difference", "difference_low", "difference_high")
    if not {*columns} <= {*frame.columns} or not frame["difference"].notna().any():
        return ()
    scale = 100.0 if metric == "perplexity" else 1.0
    value, low, high = (tuple(scale * each for each in floats(frame[column])) for column in columns)
    ends = (positions[0] - 2.0, positions[-1] + 2.0)  # beyond the subplot, whose range is fixed
    nothing = Series("line", ends, (0.0, 0.0), label="Baseline", style=Style(GRAY, "dot", "x"))
    gaps = Series(
        kind="markers",
        x=positions,
        y=value,
        label="Difference",
        style=Style(VERMILLION, marker="diamond"),
        low=low,
        high=high,
        details=tuple(_describe_run(row) for row in frame.to_dict(orient="records")),
    )
    return nothing, gaps


def training(metrics: Mapping[str, pd.DataFrame]) -> Drawing:
    """How runs learned: the loss over the steps and, where it was measured, the accuracy on the evaluation texts.

    Args:
        metrics: name of a run -> its `metrics`: a frame with columns step, loss and eval_accuracy, NaN where not
            measured.

    Returns:
        The drawing.

    Raises:
        InputError: if this is not a mapping of frames, an empty one, or a frame lacks a column.
    """
    check_kinds(metrics, pd.DataFrame, "training", "{'run': run.metrics}")
    if not metrics:
        raise InputError("no runs to draw; give a mapping such as {'run': run.metrics}")
    for name, frame in metrics.items():
        require_columns(frame, ("step", "loss", "eval_accuracy"), f"metrics frame of run {name!r}")
    losses = _curves(metrics, "loss", smoothed=True)
    accuracies = _curves(metrics, "eval_accuracy")
    subplots = [Subplot(title="", x_label="Step", y_label="Training loss", series=losses, y_from_zero=True)]
    if accuracies:
        subplots.append(Subplot(title="", x_label="Step", y_label="Evaluation accuracy", series=accuracies))
    noisy = any(frame["loss"].notna().sum() > _NOISY_FROM for frame in metrics.values())
    caption = (
        f"Losses of more than {_NOISY_FROM} steps are running means over {_SMOOTHED:.0%} of them." if noisy else ""
    )
    return Drawing("Training", tuple(subplots), caption, columns=len(subplots))


def _curves(metrics: Mapping[str, pd.DataFrame], column: str, *, smoothed: bool = False) -> tuple[Series, ...]:
    """One line per run that measured `column`, through the steps where it did."""
    curves = []
    for index, (name, frame) in enumerate(metrics.items()):
        measured = frame[frame[column].notna()]
        values = measured[column]
        if smoothed and len(values) > _NOISY_FROM:
            values = values.rolling(int(_SMOOTHED * len(values)), min_periods=1).mean()
        if len(measured):
            curves.append(
                Series("line", floats(measured["step"]), floats(values), label=name, style=style_number(index))
            )
    return tuple(curves)


def _describe_run(row: Mapping[Hashable, Any]) -> str:
    """A run's name, its size, and its difference from the baseline where the row has one."""
    parts = [f"{row['run']}, {row['n_parameters']:,.0f} parameters"]
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
