"""The plans of a study: ranks allocated from its profiles, or kept from elsewhere, each under a name."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gelora_viz._checks import check_flag, check_result
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import GeloraVizWarning, StudyError
from gelora_viz.ranks import RankPlan, allocate_ranks, find_strategy, uniform_budget
from gelora_viz.runs import add_number
from gelora_viz.study.allocation import allocation_settings, model_readings
from gelora_viz.study.arguments import check_allocation, check_plan_name, find_plan
from gelora_viz.study.listing import files_in, read_all
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
        replace: bool,
        progress: bool,
        **options: Any,  # noqa: ANN401 - estimator, target_modules, rounding, min_rank and max_rank of allocate_ranks
    ) -> RankPlan:
        """What `Study.allocate` does."""
        check_allocation(
            name=name, strategy=strategy, pooling=pooling, budget=budget, budget_rank=budget_rank, n_texts=n_texts,
            seed=seed, replace=replace, progress=progress, **options,
        )  # fmt: skip
        self._check_name(name)
        profile = self._profiles.file(pooling)
        if find_strategy(strategy).reads == "profile" and not profile.exists():
            made, path = ", ".join(self._profiles.load_all()) or "none", self._source.path
            raise StudyError(
                f"{path} has no profile of pooling {pooling!r} (made: {made}); run the step profile first"
            )
        settings = allocation_settings(
            **options, strategy=strategy, pooling=pooling, budget=budget, budget_rank=budget_rank, n_texts=n_texts,
            seed=seed, profile=self._profiles.digest(pooling),
        )  # fmt: skip
        place, is_made = (name, self._is_made(name, settings)) if replace else self._find_place(name, settings)
        file = self._file(place)
        if not is_made:
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
            self._source.record.finish(f"plan {place}", settings)
            if place != name:
                warnings.warn(
                    f"{self._source.path} has a plan {name!r} of other settings, which is kept; this one is "
                    f"{place!r} (replace=True puts it in the place of the other)",
                    GeloraVizWarning,
                    stacklevel=3,
                )
        return RankPlan.load(file)

    def name_of(self, plan: RankPlan) -> str:
        """What `Study.name_of` does."""
        check_result(plan, RankPlan, "plan")
        for name, known in self.load_all().items():
            if known.to_dict() == plan.to_dict():
                return name
        raise StudyError(f"{self._source.path} has no such plan; keep it with keep_plan first")

    def load(self, name: str) -> RankPlan:
        """The plan of this name; raises `StudyError`, with the names there are, for another."""
        return RankPlan.load(find_plan(self._source.path, name))

    def load_all(self, problems: list[str] | None = None) -> dict[str, RankPlan]:
        """The plans made so far, by name; one that cannot be read is logged and left out."""
        return read_all(self._files(), RankPlan.load, problems)

    def keep(self, name: str, plan: RankPlan, *, replace: bool) -> Path:
        """What `Study.keep_plan` does."""
        self._check_name(name)
        check_result(plan, RankPlan, "plan")
        check_flag(replace, "replace")
        if not replace:
            content = plan.to_dict()
            name = next(
                place
                for place in map(partial(add_number, name), itertools.count(1))
                if not self._file(place).exists() or RankPlan.load(self._file(place)).to_dict() == content
            )
        file = self._file(name)
        pooling = plan.settings.get("pooling")
        plan.save(file)
        self._source.record.finish(f"plan {name}", {"pooling": pooling, "profile": self._profiles.digest(pooling)})
        return file

    def find_stale(self) -> list[str]:
        """Names of plans whose profile has been estimated again since they were made."""
        stale = []
        for name in self.load_all():
            made = self._source.record.settings_of(f"plan {name}") or {}
            now = self._profiles.digest(made.get("pooling"))
            if made.get("profile") and now not in (None, made["profile"]):
                stale.append(name)
        return stale

    def _file(self, name: str) -> Path:
        return self._source.path / "plans" / f"{name}.json"

    def _is_made(self, name: str, settings: Mapping[str, Any]) -> bool:
        return self._source.record.is_finished(f"plan {name}", settings, self._file(name))

    def _find_place(self, name: str, settings: Mapping[str, Any]) -> tuple[str, bool]:
        """The first name, with a number where needed, whose plan has these settings, and True; or a free one."""
        for number in itertools.count(1):
            place = add_number(name, number)
            if (is_made := self._is_made(place, settings)) or not self._file(place).exists():
                return place, is_made
        raise AssertionError("numbers have no end")

    def _files(self) -> list[tuple[str, Path]]:
        return files_in(self._source.path / "plans")

    def _check_name(self, name: str) -> None:
        """Raise `InputError` for a name that no plan of this study, nor its run, can have."""
        check_plan_name(name, [known for known, _ in self._files()])
