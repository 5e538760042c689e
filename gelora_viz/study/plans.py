"""The plans of a study: ranks allocated from its profiles, or kept from elsewhere, each under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gelora_viz._results import file_digest
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError, StudyError
from gelora_viz.ranks import RankPlan, allocate_ranks, find_strategy, uniform_budget
from gelora_viz.runs import FROZEN, FULL, RunSpec
from gelora_viz.study.allocation import allocation_settings, model_readings
from gelora_viz.study.profiles import StudyProfiles
from gelora_viz.study.source import StudySource


class StudyPlans:
    """The folder plans/ of a study."""

    def __init__(self, source: StudySource, profiles: StudyProfiles) -> None:
        self._source = source
        self._profiles = profiles

    def allocate(
        self,
        name: str,
        *,
        strategy: str,
        pooling: str,
        budget: int | None,
        budget_rank: int | None,
        n_texts: int,
        seed: int,
        progress: bool,
        **options: Any,  # noqa: ANN401 - estimator, target_modules, rounding, min_rank and max_rank of allocate_ranks
    ) -> RankPlan:
        """What `Study.allocate` does."""
        if budget is not None and budget_rank is not None:
            raise InputError(f"budget {budget} and budget_rank {budget_rank} both name a budget; give one of them")
        _check_name(name)
        profile = self._profiles.file(pooling)
        if find_strategy(strategy).reads == "profile" and not profile.exists():
            made, path = ", ".join(self._profiles.load_all()) or "none", self._source.path
            raise StudyError(
                f"{path} has no profile of pooling {pooling!r} (made: {made}); run the step profile first"
            )
        settings = allocation_settings(
            **options, strategy=strategy, pooling=pooling, budget=budget, budget_rank=budget_rank, n_texts=n_texts,
            seed=seed, profile=_digest(profile),
        )  # fmt: skip
        file, record = self._file(name), self._source.record
        if not record.is_finished(f"plan {name}", settings, file):
            loaded = self._source.loaded
            if budget_rank is not None:
                budget = uniform_budget(loaded.model, budget_rank, options["target_modules"])
            plan = allocate_ranks(
                DimensionProfile.load(profile) if profile.exists() else None,
                loaded.model,
                strategy=strategy,
                budget=budget,
                seed=seed,
                progress=progress,
                **options,
                **model_readings(strategy, loaded, self._source.data, n_texts=n_texts, seed=seed),
            )
            plan.save(file)
            record.finish(f"plan {name}", settings)
        return RankPlan.load(file)

    def load(self, name: str) -> RankPlan:
        """The plan of this name; raises `StudyError`, with the names there are, for another."""
        file = self._file(name)
        if not file.exists():
            names = ", ".join(sorted(each.stem for each in self._files())) or "none"
            raise StudyError(f"{self._source.path} has no plan {name!r} (made: {names}); run the step allocate first")
        return RankPlan.load(file)

    def load_all(self) -> dict[str, RankPlan]:
        """The plans made so far, by name."""
        return {file.stem: RankPlan.load(file) for file in self._files()}

    def keep(self, name: str, plan: RankPlan) -> Path:
        """What `Study.keep_plan` does."""
        _check_name(name)
        file = self._file(name)
        if file.exists() and RankPlan.load(file).to_dict() != plan.to_dict():
            raise StudyError(f"{self._source.path} has another plan {name!r}; choose another name, or remove {file}")
        pooling = plan.settings.get("pooling")
        plan.save(file)
        self._source.record.finish(
            f"plan {name}", {"pooling": pooling, "profile": _digest(self._profiles.file(pooling))}
        )
        return file

    def find_stale(self) -> list[str]:
        """Names of plans whose profile has been estimated again since they were made."""
        stale = []
        for name in self.load_all():
            made = self._source.record.settings_of(f"plan {name}") or {}
            now = _digest(self._profiles.file(made.get("pooling")))
            if made.get("profile") and now not in (None, made["profile"]):
                stale.append(name)
        return stale

    def _file(self, name: str) -> Path:
        return self._source.path / "plans" / f"{name}.json"

    def _files(self) -> list[Path]:
        return sorted((self._source.path / "plans").glob("*.json"))


def _digest(file: Path) -> str | None:
    return file_digest(file) if file.exists() else None


def _check_name(name: str) -> None:
    RunSpec(name, FROZEN)  # a plan's name becomes its run's
    if name in (FROZEN, FULL):
        what = "the probe" if name == FROZEN else "a run that trains all weights"
        raise InputError(f"a plan cannot be named {name!r}, which names {what}; choose another name")
