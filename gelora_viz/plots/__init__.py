"""Figures of results: described once, drawn with plotly for the screen and with matplotlib for paper.

`describe_...` functions turn result frames into a `Drawing`; `to_plotly`, `to_matplotlib` and `to_svg` draw any of
them.
Importing this package loads neither renderer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz.errors import InputError
from gelora_viz.plots.description import Cells, Drawing, Panel, Series, Style
from gelora_viz.plots.estimator_pictures import describe_estimators
from gelora_viz.plots.history_pictures import (
    describe_dimension_history,
    describe_rank_growth,
)
from gelora_viz.plots.latex import latex_table
from gelora_viz.plots.layer_pictures import describe_dimensions, describe_rank_profile
from gelora_viz.plots.map_pictures import describe_umap
from gelora_viz.plots.paper import save_drawing, to_matplotlib, to_svg
from gelora_viz.plots.plan_pictures import describe_plans
from gelora_viz.plots.results import DepthHistory, Mapped, Profile, Spectrum, Tabled
from gelora_viz.plots.run_pictures import describe_comparison, describe_training
from gelora_viz.plots.scaling_pictures import describe_scaling
from gelora_viz.plots.screen import to_plotly
from gelora_viz.plots.size_pictures import describe_overview, describe_score_by_size, describe_utilisation
from gelora_viz.plots.spectrum_pictures import describe_singular_values

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from gelora_viz.comparison import Comparison
    from gelora_viz.plots.venue import Width

__all__ = [
    "Cells",
    "Drawing",
    "Panel",
    "Series",
    "Style",
    "comparison",
    "describe_comparison",
    "describe_dimension_history",
    "describe_dimensions",
    "describe_estimators",
    "describe_overview",
    "describe_plans",
    "describe_rank_growth",
    "describe_rank_profile",
    "describe_scaling",
    "describe_score_by_size",
    "describe_singular_values",
    "describe_training",
    "describe_umap",
    "describe_utilisation",
    "dimension_history",
    "dimensions",
    "estimators",
    "latex_table",
    "plans",
    "rank_growth",
    "rank_profile",
    "save_paper_figure",
    "scaling",
    "score_by_size",
    "singular_values",
    "to_matplotlib",
    "to_plotly",
    "to_svg",
    "training",
    "umap",
    "utilisation",
]


def rank_profile(
    profile: Profile,
    plan: Tabled | None = None,
    spectrum: Tabled | None = None,
    *,
    estimators: Sequence[str] | None = None,
) -> go.Figure:
    """The toolkit's main picture: intrinsic dimension with intervals, assigned rank and effective rank per layer.

    Args:
        profile: a `DimensionProfile`.
        plan: a `RankPlan` made from it.
        spectrum: the `UpdateSpectrum` of an adapter trained with that plan.
        estimators: which of the profile's estimators to show; all of them by default.

    Returns:
        A plotly figure. `describe_rank_profile` says what is in it.

    Raises:
        InputError: if the results do not belong together, or an estimator is not in the profile.
    """
    return to_plotly(describe_rank_profile(profile, plan, spectrum, estimators=estimators))


def dimensions(profiles: Mapping[str, Profile]) -> go.Figure:
    """Estimators compared, one panel per way of pooling.

    Args:
        profiles: dimension profiles by the name of their pooling, such as {"mean": ..., "tokens": ...}.

    Returns:
        A plotly figure.

    Raises:
        InputError: if there is no profile.
    """
    return to_plotly(describe_dimensions(profiles))


def estimators(profile: Profile) -> go.Figure:
    """Any number of estimators compared: a heat map, estimator by layer.

    Args:
        profile: a `DimensionProfile`, such as one with `estimators="all"`.

    Returns:
        A plotly figure. `describe_estimators` says what is in it.

    Raises:
        InputError: if the profile has no rows.
    """
    return to_plotly(describe_estimators(profile))


def plans(plans: Mapping[str, Tabled]) -> go.Figure:
    """Rank plans for one model: the rank of each kind of matrix over the blocks, one plan or several compared.

    Args:
        plans: rank plans by name, such as {"uniform": ..., "gelora": ...}.

    Returns:
        A plotly figure. `describe_plans` says what is in it.

    Raises:
        InputError: if there is no plan, or plans are for different models.
    """
    return to_plotly(describe_plans(plans))


def scaling(scaling: Profile, *, layers: Sequence[str] | None = None) -> go.Figure:
    """Intrinsic dimension against the number of points and the size of neighbourhoods, layer by layer.

    Args:
        scaling: a `DimensionScaling`.
        layers: which layers to show; by default the first, the middle and the last.

    Returns:
        A plotly figure.

    Raises:
        InputError: if a layer is not in the scaling.
    """
    return to_plotly(describe_scaling(scaling, layers=layers))


def rank_growth(history: Tabled) -> go.Figure:
    """How the effective rank of the updates grew over the steps of a training, one panel per kind of matrix.

    Args:
        history: a `SpectrumHistory`.

    Returns:
        A plotly figure. `describe_rank_growth` says what is in it.

    Raises:
        InputError: if nothing was recorded.
    """
    return to_plotly(describe_rank_growth(history))


def dimension_history(history: DepthHistory, estimator: str = "twonn") -> go.Figure:
    """How the intrinsic dimension of the hidden states moved while a model trained.

    Args:
        history: a `DimensionHistory`.
        estimator: one of those recorded.

    Returns:
        A plotly figure. `describe_dimension_history` says what is in it.

    Raises:
        InputError: if nothing was recorded, or not by this estimator.
    """
    return to_plotly(describe_dimension_history(history, estimator))


def singular_values(spectrum: Spectrum, *, modules: Sequence[str] | None = None) -> go.Figure:
    """How fast the singular values of updates fall, each over its largest.

    Args:
        spectrum: an `UpdateSpectrum`.
        modules: whose updates to show; by default those of the first, the middle and the last layer.

    Returns:
        A plotly figure.

    Raises:
        InputError: if a module is not in the spectrum, or every update shown is zero.
    """
    return to_plotly(describe_singular_values(spectrum, modules=modules))


def comparison(results: pd.DataFrame | Comparison) -> go.Figure:
    """Methods side by side: score with its interval, difference to the baseline, number of adapter parameters.

    Args:
        results: a `Comparison`, whose single seeds are drawn too; or a frame with one row per run, with columns run,
            n_parameters, accuracy (a fraction) or perplexity, ci_low and ci_high, as `tabulate_results` gives it.

    Returns:
        A plotly figure.

    Raises:
        InputError: if the frame lacks a column or has no rows.
    """
    return to_plotly(describe_comparison(results))


def score_by_size(results: pd.DataFrame | Comparison) -> go.Figure:
    """What parameters buy: each method's score with its interval, over the size of its adapter.

    Args:
        results: a `Comparison`, or a frame as `tabulate_results` gives it.

    Returns:
        A plotly figure.

    Raises:
        InputError: if the frame lacks a column or has no rows.
    """
    return to_plotly(describe_score_by_size(results))


def utilisation(spectra: Mapping[str, Tabled]) -> go.Figure:
    """How much of its assigned rank each update used, by kind of matrix, one line per run.

    Args:
        spectra: `UpdateSpectrum` by the name of its run.

    Returns:
        A plotly figure.

    Raises:
        InputError: if there is none, or no method has ranks.
    """
    return to_plotly(describe_utilisation(spectra))


def training(metrics: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Loss and evaluation accuracy over the steps of several runs.

    Args:
        metrics: by the run's name, a frame with columns step, loss and eval_accuracy, NaN where not measured.

    Returns:
        A plotly figure.

    Raises:
        InputError: if there is no run, or a frame lacks a column.
    """
    return to_plotly(describe_training(metrics))


def umap(
    projections: Mapped | Mapping[str, Mapped],
    *,
    labels: Sequence[object] | None = None,
    local: pd.DataFrame | None = None,
) -> go.Figure:
    """Where UMAP has put the points of one layer, or of several side by side.

    Args:
        projections: a `Projection`, or several by the title of their panel.
        labels: the class of each captured text, for colours and marks.
        local: from `local_dimension`, for colours instead.

    Returns:
        A plotly figure, drawn with WebGL. `describe_umap` says what is in it, and what a map does not show.

    Raises:
        InputError: if labels or local dimensions do not belong to the projections, or both are given.
    """
    return to_plotly(describe_umap(projections, labels=labels, local=local))


def save_paper_figure(
    results: Drawing | Profile | tuple[Any, ...],
    path: str | os.PathLike[str],
    venue: str = "icml2026",
    width: Width = "column",
    about: str = "",
) -> Path:
    """Save a figure for a paper: the venue's width and fonts, TrueType only, the same bytes every time.

    Args:
        results: a `Drawing` (any `describe_...` function makes one), or for the main picture a profile, or a tuple
            (profile, plan) or (profile, plan, spectrum); None in a tuple stands for what is missing.
        path: ends in .pdf, .pgf (needs LaTeX on this machine), .svg or .png; missing folders are made.
        venue: "plain", a venue of `gelora_viz.plots.venue.PAGES` such as "icml2026", or with the extra
            `gelora_viz[paper]` a bundle of tueplots such as "icml2024".
        width: "column" or "text", the two widths of a two-column page; a one-column venue has only the latter.
        about: where the results come from, such as the study and its seed; kept in the file's metadata.

    Returns:
        The path that was written.

    Raises:
        InputError: if the results are no picture, or the venue, the width or the suffix is unknown.
        StudyError: if the file cannot be written.
    """
    return save_drawing(_as_drawing(results), path, venue, width, about)


def _as_drawing(results: Drawing | Profile | tuple[Any, ...]) -> Drawing:
    if isinstance(results, Drawing):
        return results
    parts = results if isinstance(results, tuple) else (results,)
    if not 1 <= len(parts) <= 3 or not hasattr(parts[0], "frame") or not hasattr(parts[0], "confidence"):
        raise InputError(
            f"cannot draw {type(results).__name__}; give a Drawing such as describe_comparison(frame), a profile, "
            f"or a tuple (profile, plan, spectrum)"
        )
    return describe_rank_profile(*parts)
