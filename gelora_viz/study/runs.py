"""The runs of a study: fine-tunings on its model and texts, one at a time or compared over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftConfig

from gelora_viz._checks import check_flag, check_text
from gelora_viz._names import check_file_name
from gelora_viz.comparison import Comparison, compare, tabulate_results
from gelora_viz.errors import InputError, RunError, StudyError
from gelora_viz.ranks import RankPlan
from gelora_viz.runs import (
    CLASSIFICATION,
    FROZEN,
    FULL,
    Run,
    RunResult,
    RunSpec,
    attach,
    check_fields,
    find_finished,
    launch,
    list_runs,
)
from gelora_viz.spectra import SpectrumHistory
from gelora_viz.study.arguments import check_methods
from gelora_viz.study.listing import read_all
from gelora_viz.study.plans import StudyPlans
from gelora_viz.study.source import StudySource


class StudyRuns:
    """The folder runs/ of a study: a folder for every run, and one for every comparison with its runs in it."""

    def __init__(self, source: StudySource, plans: StudyPlans) -> None:
        self._source = source
        self._plans = plans
        self._folder = source.path / "runs"

    def spec(self, name: str, adapter: RankPlan | PeftConfig | str, options: Mapping[str, Any]) -> RunSpec:
        """A run on the study's model and texts.

        Args:
            name: name of the run.
            adapter: what `RunSpec` takes.
            options: further fields of `RunSpec`.

        Raises:
            InputError: for an unknown field, or texts without labels where a classifier is to be trained.
        """
        check_fields({"name": name, **options})
        data = self._source.data
        if not data.label_names and options.get("task", CLASSIFICATION) == CLASSIFICATION:
            raise InputError(
                f"the data set {data.name!r} has no labels; name its label column to train a classifier, or "
                'give task="causal-lm"'
            )
        try:
            return RunSpec(
                name,
                adapter,
                model=self._source.model,
                data=str(self._source.data_file.resolve()),
                trust_remote_code=self._source.trust_remote_code,
                **options,
            )
        except TypeError as error:
            raise InputError(
                f"{str(error).partition('__init__() ')[2] or error}; options are the fields of RunSpec"
            ) from error

    def check_method(self, name: str) -> None:
        """What `Study.check_method` does."""
        self._adapter(name)

    def finetune(self, plan: str, name: str, options: Mapping[str, Any], *, replace: bool, progress: bool) -> Run:
        """What `Study.finetune` does."""
        check_flag(replace, "replace")
        check_flag(progress, "progress")
        spec = self.spec(name, self._adapter(plan), options)
        begun = self._begin(spec, replace=replace)
        try:
            if begun.status != "finished":
                begun.wait(progress=progress)
        except BaseException:
            begun.cancel()
            raise
        if begun.status != "finished":
            raise RunError(
                f"run {begun.name!r} {begun.status}: {begun.message or 'it was stopped'}; the log is "
                f"{begun.path / 'log.txt'}"
            )
        self._record(dataclasses.replace(spec, name=begun.name))
        return begun

    def start(
        self, plan: str, name: str, adapter: PeftConfig | None, options: Mapping[str, Any], *, replace: bool
    ) -> Run:
        """What `Study.start` does."""
        check_flag(replace, "replace")
        spec = self.spec(name, self._adapter(plan) if adapter is None else adapter, options)
        return self._begin(spec, replace=replace)

    def compare(
        self,
        methods: Sequence[str] | Mapping[str, RankPlan | PeftConfig | str],
        name: str,
        *,
        baseline: str | None,
        at_once: int | None,
        fields: Mapping[str, Any],
        **options: Any,  # noqa: ANN401 - those of the function compare
    ) -> Comparison:
        """What `Study.compare` does; `fields` are the fields of `RunSpec` that all methods share."""
        check_file_name(name, "comparison name", self._names())
        if (self._folder / name / "spec.json").exists():
            raise StudyError(f"runs/{name} is a run; give the comparison another name")
        if not isinstance(methods, Mapping):
            methods = {each: self._adapter(each) for each in check_methods(self._source.path, methods)}
        if at_once is not None:
            options["at_once"] = at_once
        return compare(
            [self.spec(each, adapter, fields) for each, adapter in methods.items()],
            baseline="uniform" if baseline is None and "uniform" in methods else baseline,
            folder=self._folder / name,
            **options,
        )

    def load_comparisons(self, problems: list[str] | None = None) -> dict[str, Comparison]:
        """The comparisons over seeds made so far, by name; one that cannot be read is logged and left out."""
        files = sorted(self._folder.glob("*/comparison.json"))
        return read_all([(file.parent.name, file) for file in files], Comparison.load, problems)

    def load_results(self, problems: list[str] | None = None) -> list[RunResult]:
        """Results of the finished runs: the frozen probe first, then "uniform", then the others by name.

        One that cannot be read is logged and left out.
        """
        first = {FROZEN: 0, "uniform": 1}
        folders = [file.parent for file in self._folder.glob("*/result.json")]
        folders.sort(key=lambda each: (first.get(each.name, 2), each.name))
        return list(read_all([(each.name, each) for each in folders], _load_result, problems).values())

    def list_all(self) -> pd.DataFrame:
        """All runs with their status, as from `list_runs`."""
        return list_runs(self._source.path)

    def tabulate(self, baseline: str | None = None) -> pd.DataFrame:
        """What `Study.tabulate_results` does."""
        if baseline is not None:
            check_text(baseline, "baseline", "uniform")
        results = self.load_results()
        names = [result.spec.name for result in results]
        return tabulate_results(results, baseline="uniform" if baseline is None and "uniform" in names else baseline)

    def metrics(self, names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """The metrics of runs, by name."""
        return {name: attach(self._folder / name).metrics for name in names}

    def histories(self, names: Sequence[str]) -> dict[str, SpectrumHistory]:
        """The spectra recorded during runs, by name, of those that recorded any."""
        files: dict[str, Path] = {name: self._folder / name / "spectra.json" for name in names}
        return {name: SpectrumHistory.load(file) for name, file in files.items() if file.exists()}

    def _adapter(self, plan: str) -> RankPlan | str:
        """The plan of this name, or "frozen" or "full" as it is."""
        return plan if isinstance(plan, str) and plan in (FROZEN, FULL) else self._plans.load(plan)

    def _begin(self, spec: RunSpec, *, replace: bool) -> Run:
        """Return the finished run of this spec, whoever launched it, or launch a new one."""
        check_file_name(spec.name, "run name", self._names())
        folder = self._folder / spec.name
        finished = find_finished(folder, spec)
        if finished is not None:
            self._record(dataclasses.replace(spec, name=finished.name))
            return finished
        if not (folder / "spec.json").exists() and any(folder.rglob("spec.json")):
            raise StudyError(f"runs/{spec.name} is a comparison; give the run another name")
        return launch(spec, run_dir=folder, replace=replace)

    def _names(self) -> list[str]:
        """Names of what is in runs/: runs and comparisons."""
        return [each.name for each in self._folder.iterdir()] if self._folder.is_dir() else []

    def _record(self, spec: RunSpec) -> None:
        settings = {**spec.to_dict(), "data": spec.data_digest}
        record = self._source.record
        if not record.is_finished(f"run {spec.name}", settings):
            record.finish(f"run {spec.name}", settings)


def _load_result(folder: Path) -> RunResult:
    result = RunResult.load(folder)
    if result.spec.name != folder.name:
        raise StudyError(f"{folder} holds a run named {result.spec.name!r}; give the folder that name")
    return result
