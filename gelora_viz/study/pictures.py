"""The figures of a study, for its report and for a paper: what is drawn, under which name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gelora_viz.plots import (
    Drawing,
    describe_comparison,
    describe_dimensions,
    describe_plans,
    describe_rank_profile,
    describe_score_by_size,
    describe_training,
    describe_utilisation,
)
from gelora_viz.study.findings import Findings

_MAIN_ESTIMATORS = ("twonn", "mle")
"""Lines of the main picture; a participation ratio near 100 beside them would flatten these."""


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        name: of its files.
        title: its heading.
        drawing: what is drawn.
    """

    name: str
    title: str
    drawing: Drawing


def pictures(found: Findings) -> Iterator[Picture]:
    """The main picture of every plan (GeLoRA's first), then estimators, runs, and what came of them."""
    reached = {result.spec.name: result.spectrum for result in found.results}
    for name, plan in sorted(found.plans.items(), key=lambda item: (item[1].strategy != "gelora", item[0])):
        profile = found.profiles.get(str(plan.settings["pooling"]), next(iter(found.profiles.values())))
        shown = [each for each in profile.estimators if each in (*_MAIN_ESTIMATORS, plan.settings["estimator"])]
        drawing = describe_rank_profile(profile, plan, reached.get(name), estimators=shown or None)
        yield Picture(f"rank_profile_{name}", f"Dimension, assigned and effective rank: {name}", drawing)
    if len(found.plans) > 1:
        yield Picture("plans", "Ranks of all plans, by kind of matrix", describe_plans(found.plans))
    if not found.plans:
        for pooling, profile in found.profiles.items():
            yield Picture(
                f"rank_profile_{pooling}", f"Intrinsic dimension: {pooling}", describe_rank_profile(profile)
            )
    yield Picture("dimensions", "Estimators and poolings compared", describe_dimensions(found.profiles))
    if found.comparison is not None:
        yield Picture("comparison", "Accuracy of the runs", describe_comparison(found.comparison))
        curves = {name: frame for name, frame in found.metrics.items() if len(frame)}
        yield Picture("training", "Training", describe_training(curves))
        yield Picture("score_by_size", "What parameters buy", describe_score_by_size(found.comparison))
    spectra = {each.spec.name: each.spectrum for each in found.results if each.spectrum is not None}
    if any(each.frame["utilisation"].notna().any() for each in spectra.values()):
        yield Picture("utilisation", "Share of the rank used", describe_utilisation(spectra))
    for name, compared in found.comparisons.items():
        yield Picture(f"comparison_{name}", f"Over seeds: {name}", describe_comparison(compared))
        yield Picture(f"score_by_size_{name}", f"What parameters buy: {name}", describe_score_by_size(compared))
