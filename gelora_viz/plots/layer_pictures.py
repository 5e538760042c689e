"""Pictures over the depth of a model: intrinsic dimension, assigned rank and effective rank, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gelora_viz._checks import check_names
from gelora_viz._names import did_you_mean
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kind, check_kinds
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats, require_columns
from gelora_viz.plots.looks import estimator_style, estimator_title, interval_caption
from gelora_viz.plots.marks import GRAY, LEVEL, SKY, VERMILLION, Series, Style
from gelora_viz.ranks import RankPlan
from gelora_viz.spectra import UpdateSpectrum

if TYPE_CHECKING:
    import pandas as pd


PROFILE_COLUMNS = ("layer", "stack", "depth", "estimator", "dimension", "ci_low", "ci_high", "n_points")
RANK_STYLE = Style(SKY)
BOUND_STYLE = Style(GRAY, marker=LEVEL)
_EFFECTIVE_STYLE = Style(VERMILLION, marker="circle")

_STACK_NAMES = {"encoder": "Encoder", "decoder": "Decoder"}
_DEPTH_LABEL = "Block (emb. = embeddings)"
_MOST_TICKS = 12
# How far from a bar's middle the effective rank stands where the bar has a whisker of its own.
_ASIDE = 0.22
# Beyond this ratio of the largest to the smallest value, the small ones cannot be told apart on a linear axis.
_WIDE_RATIO = 20.0
_FLOOR_OF_LOG_AXIS = 0.5


def rank_profile(
    profile: DimensionProfile,
    plan: RankPlan | None = None,
    spectrum: UpdateSpectrum | None = None,
    *,
    estimators: Sequence[str] | str | None = None,
) -> Drawing:
    """The toolkit's main picture: what each layer needs, what it was given, and what it used.

    Above, the intrinsic dimension of the hidden states at every depth (0 the embeddings, i the output of block i)
    with its interval; below, per block, the assigned rank, its lower bound before any budget, and the entropy rank
    that the trained update reached. Ranks are means over the block's adapted matrices; their whiskers run from the
    smallest to the largest. An encoder-decoder model has one column per stack.

    Args:
        profile: dimensions of the hidden states.
        plan: ranks made from the profile; without it, the bars show the ranks of `spectrum`.
        spectrum: the update that was trained with the plan.
        estimators: which of the profile's estimators to show; all of them by default.

    Returns:
        The drawing.

    Raises:
        InputError: if an argument is of another kind, an estimator is not in the profile, or no matrix of the
            spectrum is one of the plan's (without a plan: lies in one of the profile's layers).

    References:
        GeLoRA, https://arxiv.org/abs/2412.09250: the rank of block i is at least the rise of the dimension over it.
    """
    check_kind(profile, DimensionProfile, "rank_profile")
    if plan is not None:
        check_kind(plan, RankPlan, "rank_profile")
    if spectrum is not None:
        check_kind(spectrum, UpdateSpectrum, "rank_profile")
    estimates = _select_estimators(profile.frame, estimators)
    ranks = _ranks_of_matrices(estimates, plan, spectrum)
    stacks = list(dict.fromkeys([*estimates["stack"], *(() if ranks is None else ranks["stack"])]))
    log_y = _spans_widely([estimates])

    upper, lower = [], []
    for column, stack in enumerate(stacks):
        of_stack = estimates[estimates["stack"] == stack]
        matrices = None if ranks is None else ranks[ranks["stack"] == stack]
        depths = [*of_stack["depth"], *(() if matrices is None else matrices["depth"])]
        first = column == 0
        upper.append(
            _dimension_subplot(
                of_stack, depths, title=stack_name(stack), first=first, log_y=log_y, n_columns=len(stacks)
            )
        )
        if matrices is not None:
            lower.append(_rank_subplot(matrices, depths, first=first, n_columns=len(stacks)))

    caption = f"Pooling: {profile.pooling}. {interval_caption(profile.confidence)}"
    if ranks is not None:
        caption += " Ranks are means over a block's matrices; whiskers run from the smallest to the largest."
    title = "Intrinsic dimension by layer" if ranks is None else "Intrinsic dimension and rank by layer"
    return Drawing(title, (*upper, *lower), caption, columns=len(stacks), shared_x=True)


def dimensions(profiles: Mapping[str, DimensionProfile]) -> Drawing:
    """How estimators and ways of pooling compare: one subplot per pooling (and stack), one line per estimator.

    Args:
        profiles: pooling -> dimension profile, such as {"mean": ..., "tokens": ...}.

    Returns:
        The drawing.

    Raises:
        InputError: if this is not a mapping of dimension profiles, or an empty one.
    """
    check_kinds(profiles, DimensionProfile, "dimensions", "{'mean': profile}")
    if not profiles:
        raise InputError("no profiles to compare; give a mapping such as {'mean': profile}")
    frames = {name: _select_estimators(profile.frame, None) for name, profile in profiles.items()}
    # One axis of values per pooling suits its own dimensions; linear and logarithmic side by side would mislead.
    log_y = _spans_widely(frames.values())
    n_stacks = max(frame["stack"].nunique() for frame in frames.values())
    columns = n_stacks if n_stacks > 1 else min(len(frames), 2)

    subplots: list[Subplot] = []
    for name, frame in frames.items():
        for stack in frame["stack"].unique():
            of_stack = frame[frame["stack"] == stack]
            subplots.append(
                _dimension_subplot(
                    of_stack,
                    list(of_stack["depth"]),
                    title=", ".join(part for part in (f"Pooling: {name}", stack_name(stack).lower()) if part),
                    first=len(subplots) % columns == 0,
                    log_y=log_y,
                    n_columns=columns,
                )
            )
    confidences = {profile.confidence for profile in profiles.values()}
    caption = interval_caption(confidences.pop()) if len(confidences) == 1 else "Bands are confidence intervals."
    return Drawing("Intrinsic dimension by estimator", tuple(subplots), caption, columns=columns)


def _select_estimators(frame: pd.DataFrame, estimators: Sequence[str] | str | None) -> pd.DataFrame:
    require_columns(frame, PROFILE_COLUMNS, "dimension profile")
    if estimators is None:
        return frame
    known = list(frame["estimator"].unique())
    chosen = check_names(estimators, "estimators", known[0])
    for name in chosen:
        if name not in known:
            raise InputError(f"the profile has no estimator {name!r}; {did_you_mean(name, known)}")
    return frame[frame["estimator"].isin(chosen)]


def _ranks_of_matrices(
    estimates: pd.DataFrame, plan: RankPlan | None, spectrum: UpdateSpectrum | None
) -> pd.DataFrame | None:
    """One row per adapted matrix: module, layer, stack, depth, rank; lower_bound and entropy_rank where known."""
    if plan is None and spectrum is None:
        return None
    if plan is None:
        assert spectrum is not None  # noqa: S101 - for the type checker: one of the two is there
        require_columns(spectrum.frame, ("module", "rank", "entropy_rank"), "update spectrum")
        matrices = spectrum.frame[["module", "rank", "entropy_rank"]]
        return _place_in_layers(matrices, estimates)
    require_columns(plan.frame, ("module", "layer", "stack", "depth", "rank", "lower_bound"), "rank plan")
    matrices = plan.frame[["module", "layer", "stack", "depth", "rank", "lower_bound"]]
    if spectrum is None:
        return matrices
    require_columns(spectrum.frame, ("module", "entropy_rank"), "update spectrum")
    if not set(spectrum.frame["module"]) & set(matrices["module"]):
        raise InputError(
            f"the spectrum's matrices, such as {spectrum.frame['module'].iloc[0]!r}, are not the plan's, such as "
            f"{matrices['module'].iloc[0]!r}; give the spectrum of an adapter that was made from this plan"
        )
    return matrices.merge(spectrum.frame[["module", "entropy_rank"]], on="module", how="left")


def _place_in_layers(matrices: pd.DataFrame, estimates: pd.DataFrame) -> pd.DataFrame:
    """Each matrix with the layer of the longest module path that leads to it, without those outside every layer."""
    places = {
        layer: (stack, depth)
        for layer, stack, depth in estimates[["layer", "stack", "depth"]].itertuples(index=False)
    }
    owners = [_owner(module, places) for module in matrices["module"]]
    if not any(owners):
        raise InputError(
            f"no matrix of the spectrum, such as {matrices['module'].iloc[0]!r}, lies in a layer of the profile, "
            f"such as {next(reversed(places))!r}; give the profile of the same model, or the plan as well"
        )
    placed = matrices.assign(layer=owners)
    placed = placed[placed["layer"] != ""]
    return placed.assign(
        stack=[places[layer][0] for layer in placed["layer"]], depth=[places[layer][1] for layer in placed["layer"]]
    )


def _owner(module: str, layers: Iterable[str]) -> str:
    """The longest of the module paths that lead to `module`; empty if none does."""
    return max((layer for layer in layers if module == layer or module.startswith(f"{layer}.")), key=len, default="")


def _dimension_subplot(
    frame: pd.DataFrame, depths: Sequence[int], *, title: str, first: bool, log_y: bool, n_columns: int
) -> Subplot:
    """Intrinsic dimension over depth, one line per estimator."""
    series = []
    # A logarithmic axis knows no zero: an interval that reaches it ends at the lower edge of the picture instead.
    floor = _FLOOR_OF_LOG_AXIS * frame["dimension"].min() if log_y else -math.inf
    for index, estimator in enumerate(frame["estimator"].unique()):
        rows = frame[frame["estimator"] == estimator].sort_values("depth")
        known = bool((rows["ci_low"].notna() & rows["ci_high"].notna()).any())
        series.append(
            Series(
                kind="line",
                x=floats(rows["depth"]),
                y=floats(rows["dimension"]),
                label=estimator_title(estimator),
                style=estimator_style(estimator, index),
                low=floats(rows["ci_low"].clip(lower=floor)) if known else None,
                high=floats(rows["ci_high"]) if known else None,
                details=tuple(
                    f"{layer}, {n_points:,} points"
                    for layer, n_points in zip(rows["layer"], rows["n_points"], strict=True)
                ),
            )
        )
    return Subplot(
        title=title,
        y_label="Intrinsic dimension" if first else "",
        series=tuple(series),
        **depth_axis(depths, n_columns),
        log_y=log_y,
        y_from_zero=not log_y,
    )


def _rank_subplot(matrices: pd.DataFrame, depths: Sequence[int], *, first: bool, n_columns: int) -> Subplot:
    """Ranks over depth, where known: bars for what was assigned, strokes for its bound, dots for what was used."""
    known = [
        name for name in ("rank", "lower_bound", "entropy_rank") if name in matrices and matrices[name].notna().any()
    ]
    series = []
    if "rank" in known:
        series.append(_over_blocks(matrices, "rank", "bars", "Assigned rank", RANK_STYLE))
    if "lower_bound" in known:
        series.append(_over_blocks(matrices, "lower_bound", "markers", "Lower bound", BOUND_STYLE))
    if "entropy_rank" in known:
        shift = _ASIDE if any(other.has_intervals for other in series) else 0.0
        series.append(_over_blocks(matrices, "entropy_rank", "markers", "Effective rank", _EFFECTIVE_STYLE, shift))
    return Subplot(
        title="",
        y_label="Rank" if first else "",
        series=tuple(series),
        **depth_axis(depths, n_columns),
        y_from_zero=True,
    )


def _over_blocks(
    matrices: pd.DataFrame,
    column: str,
    kind: Literal["bars", "markers"],
    label: str,
    style: Style,
    shift: float = 0.0,
) -> Series:
    """The mean over each block's matrices, with an interval from the smallest to the largest where they differ."""
    blocks = matrices.assign(**{column: matrices[column].astype(float)}).groupby("depth", sort=True)
    values = blocks[column].agg(["mean", "min", "max", "count"])
    differ = values["max"] > values["min"]
    names = blocks["layer"].first()
    return Series(
        kind=kind,
        x=tuple(depth + shift for depth in floats(values.index)),
        y=floats(values["mean"]),
        label=label,
        style=style,
        low=floats(values["min"].where(differ)) if differ.any() else None,
        high=floats(values["max"].where(differ)) if differ.any() else None,
        details=tuple(
            f"{name}, {count} {'matrix' if count == 1 else 'matrices'}"
            for name, count in zip(names, values["count"], strict=True)
        ),
    )


def depth_axis(depths: Sequence[int], n_columns: int = 1) -> dict[str, Any]:
    """The axis of depth of a subplot: its label, ticks and range."""
    ticks, labels = _depth_ticks(depths, _MOST_TICKS // n_columns)
    return {"x_label": _DEPTH_LABEL, "x_ticks": ticks, "x_tick_labels": labels, "x_range": _depth_range(depths)}


def _depth_ticks(depths: Sequence[int], at_most: int) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Embeddings and evenly spaced blocks, few enough to stay apart at the width of a column."""
    last, first = max(depths), min(depths)
    step = next(
        step
        for power in range(10)
        for step in (10**power, 2 * 10**power, 4 * 10**power)
        if (last - first) / step <= at_most
    )
    ticks = [depth for depth in range(first, last + 1) if depth % step == 0]
    return tuple(map(float, ticks)), tuple("emb." if tick == 0 else str(tick) for tick in ticks)


def _depth_range(depths: Sequence[int]) -> tuple[float, float]:
    """The ends of an axis of depth, so that subplots line up."""
    return min(depths) - 0.6, max(depths) + 0.6


def _spans_widely(frames: Iterable[pd.DataFrame]) -> bool:
    """Whether the dimensions need a logarithmic axis, and can have one: all are positive."""
    values = [value for frame in frames for value in floats(frame["dimension"]) if math.isfinite(value)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE_RATIO


def stack_name(stack: str) -> str:
    """The stack as a heading."""
    return _STACK_NAMES.get(stack, stack)
