"""Pictures of what parameters buy: scores over adapter size, the share of its rank each update used, an overview."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gelora_viz.comparison import Comparison
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kind, check_kinds
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.layer_pictures import rank_profile
from gelora_viz.plots.marks import Series, style_number
from gelora_viz.plots.spectrum_pictures import columns_for, kinds_of_matrices
from gelora_viz.ranks import RankPlan
from gelora_viz.spectra import UpdateSpectrum

_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))
_MOST_LAYER_TICKS = 8
_APART = 0.06
"""Powers of ten between marks of nearly the same size."""


def score_by_size(results: pd.DataFrame | Comparison) -> Drawing:
    """What parameters buy: each method's score with its interval, over the number of parameters its adapter keeps.

    Sizes are on a logarithmic axis. A method that trains none, the frozen probe, stands apart at the left end.

    Args:
        results: a `Comparison`, or a frame as `tabulate_results` gives it: run, n_parameters or n_parameters_kept,
            accuracy or perplexity, ci_low, ci_high.

    Returns:
        The drawing.

    Raises:
        InputError: if this is neither, or the frame lacks a column or has no rows.
    """
    if not isinstance(results, pd.DataFrame):
        check_kind(results, Comparison, "score_by_size")
    frame = results if isinstance(results, pd.DataFrame) else results.frame
    metric = "perplexity" if "perplexity" in frame else "accuracy"
    size = "n_parameters_kept" if "n_parameters_kept" in frame else "n_parameters"
    require_columns(frame, ("run", size, metric, "ci_low", "ci_high"), "comparison")
    frame = frame[frame[metric].notna()]
    sizes = floats(frame[size])
    powers = [math.log10(each) for each in sizes if each > 0]
    first, last = (math.floor(min(powers)), math.ceil(max(powers))) if powers else (0, 1)
    ticks = list(range(first, max(last, first + 1) + 1))
    nothing = first - 0.6  # where those without parameters stand
    has_nothing = len(powers) < len(sizes)
    places = _set_apart([math.log10(each) if each > 0 else nothing for each in sizes])
    series = tuple(
        Series(
            kind="markers",
            x=(places[place],),
            y=floats([row[metric]]),
            label=str(row["run"]),
            style=style_number(place),
            low=floats([row["ci_low"]]),
            high=floats([row["ci_high"]]),
            details=(f"{row['run']}, {each:,.0f} parameters",),
        )
        for place, (each, row) in enumerate(zip(sizes, frame.to_dict(orient="records"), strict=True))
    )
    subplot = Subplot(
        title="",
        x_label="Adapter parameters",
        y_label=metric.capitalize(),
        series=series,
        x_ticks=(*((nothing,) if has_nothing else ()), *map(float, ticks)),
        x_tick_labels=(*(("none",) if has_nothing else ()), *(_count(10.0**power) for power in ticks)),
        x_range=((nothing if has_nothing else first) - 0.3, ticks[-1] + 0.3),
    )
    caption = "Whiskers are confidence intervals; methods of nearly the same size are drawn side by side."
    return Drawing(f"{metric.capitalize()} by adapter size", (subplot,), caption)


def utilisation(spectra: Mapping[str, UpdateSpectrum]) -> Drawing:
    """How much of its assigned rank each update used: entropy rank over rank, by kind of matrix, one line per run.

    Args:
        spectra: name of a run -> the spectrum of its update.

    Returns:
        The drawing.

    Raises:
        InputError: if this is not a mapping of update spectra, an empty one, or no method has ranks.
    """
    check_kinds(spectra, UpdateSpectrum, "utilisation", "{'gelora': spectrum}")
    if not spectra:
        raise InputError("no spectra to draw; give a mapping such as {'gelora': spectrum}")
    for name, spectrum in spectra.items():
        require_columns(spectrum.frame, ("module", "utilisation"), f"spectrum of {name!r}")
    known = {
        name: {str(row.module): float(row.utilisation) for row in spectrum.frame.itertuples()}
        for name, spectrum in spectra.items()
    }
    known = {name: used for name, used in known.items() if any(map(math.isfinite, used.values()))}
    if not known:
        raise InputError("no update has an assigned rank, so none was used; give spectra of LoRA or GenLoRA")
    kinds = kinds_of_matrices(dict.fromkeys(module for used in known.values() for module in used))
    columns = columns_for(len(kinds))
    subplots = tuple(
        Subplot(
            title=kind,
            x_label="Layer",
            y_label="Share of the rank used" if place % columns == 0 else "",
            series=tuple(
                Series(
                    kind="line",
                    x=tuple(float(number) for number in range(1, len(modules) + 1)),
                    y=tuple(used.get(module, math.nan) for module in modules),
                    label=name,
                    style=style_number(list(known).index(name)),
                    details=tuple(modules),
                )
                for name, used in known.items()
            ),
            **_layer_ticks(len(modules)),
            y_range=(0.0, 1.05),
        )
        for place, (kind, modules) in enumerate(kinds.items())
    )
    return Drawing(
        "Share of the rank used",
        subplots,
        "Entropy rank of each trained update over its assigned rank; an update of rank 1 always uses it whole.",
        columns=columns,
    )


def overview(
    profile: DimensionProfile,
    plan: RankPlan,
    spectrum: UpdateSpectrum | None,
    results: pd.DataFrame | Comparison,
    *,
    estimators: Sequence[str] | str | None = None,
) -> Drawing:
    """All on one page: dimensions, ranks and effective ranks by layer, what scores they led to, and at what size.

    Args:
        profile: dimensions of the hidden states.
        plan: ranks made from the profile.
        spectrum: the update that was trained with the plan; None where there is none.
        results: scores of the methods, as in `score_by_size`.
        estimators: which of the profile's estimators to show; all of them by default.

    Returns:
        The drawing.

    Raises:
        InputError: wherever `rank_profile` or `score_by_size` raises it.
    """
    layers = rank_profile(profile, plan, spectrum, estimators=estimators)
    sizes = score_by_size(results)
    caption = f"{layers.caption} {sizes.caption}"
    return Drawing("Overview", (*layers.subplots, *sizes.subplots), caption, columns=layers.columns)


def _set_apart(places: Sequence[float]) -> list[float]:
    """The places; where marks would cover each other, spread evenly around their middle."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    groups: list[list[int]] = []
    for number in order:
        if groups and places[number] - places[groups[-1][-1]] < _APART:
            groups[-1].append(number)
        else:
            groups.append([number])
    spread = list(places)
    for group in groups:
        middle = sum(places[number] for number in group) / len(group)
        for rank, number in enumerate(group):
            spread[number] = middle + (rank - (len(group) - 1) / 2) * _APART if len(group) > 1 else places[number]
    return spread


def _layer_ticks(n_layers: int) -> dict[str, Any]:
    step = -(-n_layers // _MOST_LAYER_TICKS)
    ticks = range(1, n_layers + 1, step)
    return {"x_ticks": tuple(map(float, ticks)), "x_tick_labels": tuple(map(str, ticks))}


def _count(number: float) -> str:
    """A power of ten in words: 100, 10k, 1M."""
    for unit, letter in _UNITS:
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"
