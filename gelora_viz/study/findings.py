"""Everything a study has found so far, read once from its folder, and as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from gelora_viz.comparison import Comparison
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.ranks import RankPlan
from gelora_viz.runs import RunResult, attach
from gelora_viz.sources import TextData
from gelora_viz.spectra import SpectrumHistory

if TYPE_CHECKING:
    from gelora_viz.study.study import Study


@dataclass(frozen=True, eq=False)
class Findings:
    """What the steps of a study have left behind.

    Attributes:
        data: the study's texts.
        profiles: by pooling; at least one.
        plans: by name.
        results: of the finished runs.
        metrics: run -> what it logged.
        histories: run -> its updates' spectra while it trained, where they were recorded.
        comparison: the table of runs; None before the first has finished.
        comparisons: those over seeds, by name.
        stale_plans: names of plans whose profile has been estimated anew since.
    """

    data: TextData
    profiles: Mapping[str, DimensionProfile]
    plans: Mapping[str, RankPlan]
    results: list[RunResult]
    metrics: Mapping[str, pd.DataFrame]
    histories: Mapping[str, SpectrumHistory]
    comparison: pd.DataFrame | None
    comparisons: Mapping[str, Comparison]
    stale_plans: list[str]

    @classmethod
    def of(cls, study: Study) -> Findings:
        """Read a study's results; nothing is computed anew.

        Raises:
            InputError: if the study has no profile yet.
        """
        profiles = study.profiles()
        if not profiles:
            raise InputError(
                f"{study.path} has no dimension profile yet, so there is no report; run the step profile first"
            )
        results = study.results()
        folders = {each.spec.name: study.path / "runs" / each.spec.name for each in results}
        return cls(
            data=study.data,
            profiles=profiles,
            plans=study.plans(),
            results=results,
            metrics={name: attach(folder).metrics for name, folder in folders.items()},
            histories={
                name: SpectrumHistory.load(folder / "spectra.json")
                for name, folder in folders.items()
                if (folder / "spectra.json").exists()
            },
            comparison=study.tabulate_results() if results else None,
            comparisons=study.comparisons(),
            stale_plans=study.stale_plans(),
        )

    def outdated(self) -> list[str]:
        """Names of runs that were trained with another plan than the one that now bears their name."""
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
