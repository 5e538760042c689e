"""The figures of a study, for its report and for a paper: what is drawn, under which name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gelora_viz import plots
from gelora_viz.dimension import DimensionProfile
from gelora_viz.ranks import RankPlan
from gelora_viz.spectra import UpdateSpectrum
from gelora_viz.study.findings import Findings

_MAIN_ESTIMATORS = ("twonn", "mle")
"""Lines of the main picture; a participation ratio near 100 beside them would flatten these."""


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        name: name of its files, without suffix.
        title: its heading.
        drawing: what is drawn.
    """

    name: str
    title: str
    drawing: plots.Drawing


def pictures(found: Findings) -> Iterator[Picture]:
    """The main picture of every plan (GeLoRA's first), then estimators, runs, and what came of them."""
    for name, plan in _in_order(found.plans):
        drawing = plots.rank_profile(*_of_plan(found, name), estimators=_shown(found, plan))
        yield Picture(f"rank_profile_{name}", f"Dimension, assigned and effective rank: {name}", drawing)
    if len(found.plans) > 1:
        yield Picture("plans", "Ranks of all plans, by kind of matrix", plots.plans(found.plans))
    if not found.plans:
        for pooling, profile in found.profiles.items():
            yield Picture(f"rank_profile_{pooling}", f"Intrinsic dimension: {pooling}", plots.rank_profile(profile))
    yield Picture("dimensions", "Estimators and poolings compared", plots.dimensions(found.profiles))
    for pooling, profile in found.profiles.items():
        if len(profile.estimators) > 1:
            drawing = plots.estimator_heatmap(profile)
            yield Picture(f"estimators_{pooling}", f"Where estimators agree: {pooling}", drawing)
    if found.comparison is not None:
        yield Picture("comparison", "Accuracy of the runs", plots.comparison(found.comparison))
        curves = {name: frame for name, frame in found.metrics.items() if len(frame)}
        yield Picture("training", "Training", plots.training(curves))
        yield Picture("score_by_size", "What parameters buy", plots.score_by_size(found.comparison))
    spectra = {each.spec.name: each.spectrum for each in found.results if each.spectrum is not None}
    if any(each.frame["utilisation"].notna().any() for each in spectra.values()):
        yield Picture("utilisation", "Share of the rank used", plots.utilisation(spectra))
    for name, spectrum in spectra.items():
        if any(values.max(initial=0.0) > 0 for values in spectrum.singular_values.values()):
            drawing = plots.singular_values(spectrum)
            yield Picture(f"singular_values_{name}", f"How fast singular values fall: {name}", drawing)
    for name, history in found.histories.items():
        if len(history.steps) > 1:
            drawing = plots.rank_growth(history)
            yield Picture(f"rank_growth_{name}", f"Effective rank over training: {name}", drawing)
    for name, compared in found.comparisons.items():
        yield Picture(f"comparison_{name}", f"Over seeds: {name}", plots.comparison(compared))
        yield Picture(f"score_by_size_{name}", f"What parameters buy: {name}", plots.score_by_size(compared))


def overview(found: Findings) -> Iterator[Picture]:
    """All on one page, of the first plan and the runs, where there are both."""
    if found.plans and found.comparison is not None:
        name, plan = _in_order(found.plans)[0]
        drawing = plots.overview(*_of_plan(found, name), found.comparison, estimators=_shown(found, plan))
        yield Picture("overview", f"Overview: {name}", drawing)


def _in_order(plans: Mapping[str, RankPlan]) -> list[tuple[str, RankPlan]]:
    return sorted(plans.items(), key=lambda item: (item[1].strategy != "gelora", item[0]))


def _of_plan(found: Findings, name: str) -> tuple[DimensionProfile, RankPlan, UpdateSpectrum | None]:
    """What the main picture of a plan shows: the profile it was made from, itself, and what its run reached."""
    plan = found.plans[name]
    reached = {result.spec.name: result.spectrum for result in found.results}
    return _profile_of(found, plan), plan, reached.get(name)


def _profile_of(found: Findings, plan: RankPlan) -> DimensionProfile:
    return found.profiles.get(str(plan.settings["pooling"]), next(iter(found.profiles.values())))


def _shown(found: Findings, plan: RankPlan) -> list[str] | None:
    wanted = (*_MAIN_ESTIMATORS, plan.settings["estimator"])
    return [each for each in _profile_of(found, plan).estimators if each in wanted] or None
