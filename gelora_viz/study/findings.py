"""Everything a study has found so far, read once from its folder, and as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gelora_viz.comparison import Comparison
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.ranks import RankPlan
from gelora_viz.runs import RunResult
from gelora_viz.sources import TextData
from gelora_viz.spectra import SpectrumHistory
from gelora_viz.study.plans import StudyPlans
from gelora_viz.study.profiles import StudyProfiles
from gelora_viz.study.runs import StudyRuns
from gelora_viz.study.source import StudySource


@dataclass(frozen=True, eq=False)
class Findings:
    """The results of a study's steps.

    Attributes:
        title: model and data in a few words.
        settings: the study's model and data, and how the data were read.
        data: the study's texts.
        profiles: by pooling; at least one.
        plans: by name.
        results: results of the finished runs.
        metrics: run -> what it logged.
        histories: run -> its updates' spectra while it trained, where they were recorded.
        comparison: the table of runs; None before the first has finished.
        comparisons: those over seeds, by name.
        stale_plans: names of plans whose profile has been estimated again since they were made.
    """

    title: str
    settings: Mapping[str, Any]
    data: TextData
    profiles: Mapping[str, DimensionProfile]
    plans: Mapping[str, RankPlan]
    results: list[RunResult]
    metrics: Mapping[str, pd.DataFrame]
    histories: Mapping[str, SpectrumHistory]
    comparison: pd.DataFrame | None
    comparisons: Mapping[str, Comparison]
    stale_plans: list[str]

    @property
    def origin(self) -> str:
        """Which study, with which seed: the origin that is written into a figure's file."""
        return f"{self.title}, seed {self.settings['seed']}"

    def outdated(self) -> list[str]:
        """Names of runs that were trained with an earlier plan of the same name."""
        return [
            result.spec.name
            for result in self.results
            if isinstance(result.spec.adapter, RankPlan)
            and result.spec.name in self.plans
            and result.spec.adapter.ranks != self.plans[result.spec.name].ranks
        ]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every number, one tidy table per kind; kinds that do not exist yet are left out."""
        frames = {
            "dimensions": [profile.frame.assign(pooling=pooling) for pooling, profile in self.profiles.items()],
            "dimension_differences": [
                profile.differences(estimator).assign(pooling=pooling, estimator=estimator)
                for pooling, profile in self.profiles.items()
                for estimator in profile.estimators
            ],
            "plans": [plan.frame.assign(plan=name) for name, plan in self.plans.items()],
            "comparison": [] if self.comparison is None else [self.comparison],
            "comparisons": [each.frame.assign(comparison=name) for name, each in self.comparisons.items()],
            "comparison_runs": [each.runs.assign(comparison=name) for name, each in self.comparisons.items()],
            "runs": [result.frame.drop(columns=["versions"]) for result in self.results],
            "effective_ranks": [
                result.spectrum.frame.assign(run=result.spec.name) for result in self.results if result.spectrum
            ],
            "training": [frame.assign(run=name) for name, frame in self.metrics.items()],
            "predictions": [result.predictions.assign(run=result.spec.name) for result in self.results],
        }
        return {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items() if parts}


def read_findings(source: StudySource, profiles: StudyProfiles, plans: StudyPlans, runs: StudyRuns) -> Findings:
    """What `Study.findings` does."""
    estimated = profiles.load_all()
    if not estimated:
        raise InputError(
            f"{source.path} has no dimension profile yet, so there is no report; run the step profile first"
        )
    results = runs.load_results()
    names = [each.spec.name for each in results]
    return Findings(
        title=source.title,
        settings=source.settings,
        data=source.data,
        profiles=estimated,
        plans=plans.load_all(),
        results=results,
        metrics=runs.metrics(names),
        histories=runs.histories(names),
        comparison=runs.tabulate() if results else None,
        comparisons=runs.load_comparisons(),
        stale_plans=plans.find_stale(),
    )
