"""The walk from texts to figures over one folder: steps call public functions, keep their results, and resume."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftConfig

from gelora_viz._checks import resolve_device
from gelora_viz._version import __version__
from gelora_viz.activations import Activations, capture
from gelora_viz.activations.pooling import check_pooling
from gelora_viz.dimension import DimensionProfile, estimate_dimension
from gelora_viz.dimension.estimate import DEFAULT_K, check_number
from gelora_viz.dimension.formulas import choose_estimators
from gelora_viz.errors import InputError, RunError, StudyError
from gelora_viz.finetuning import (
    Comparison,
    Run,
    RunResult,
    RunSpec,
    attach,
    compare,
    compare_runs,
    launch,
    runs,
)
from gelora_viz.finetuning.executors import Executor
from gelora_viz.finetuning.spec import CLASSIFICATION, FROZEN, FULL
from gelora_viz.ranks import RankPlan, allocate_ranks, uniform_budget
from gelora_viz.ranks.strategies import find_strategy
from gelora_viz.sources import DATA_NAMES, MODEL_NAMES, LoadedModel, TextData, load_model, load_texts
from gelora_viz.study.allocation import allocation_settings, model_readings
from gelora_viz.study.memory import Memory, file_digest

_MOST_TOKENS = 512

POOLINGS = ("mean", "tokens")
"""Poolings profiled by default. Which one GeLoRA used could not be read, and they disagree, so both are shown."""


class Study:
    """A study: one model, one data set, and everything found out about them, in one folder.

    A step that was finished with the same settings is read back and not repeated; an interrupted one starts over from
    the last finished step. The folder holds study.json, data.jsonl, activations/, profiles/, plans/, runs/, tables/,
    figures/ and report.html, each file readable by itself.

    Args:
        path: the folder; made if it does not exist.
        model: a name, a folder or a Hub id, as in `load_model`. None takes the study's own, "minilm" in a new study.
        data: a name, a file, a Hub id, a list of texts, ..., as in `load_texts`. None takes the study's own,
            "icd10cm" in a new study.
        text_column: as in `load_texts`.
        label_column: as in `load_texts`.
        max_texts: as in `load_texts`.
        seed: of splits and choices in the data; None takes the study's own, 0 in a new study.
        trust_remote_code: as in `load_model`; asked for anew each time and never kept in the folder.

    Raises:
        StudyError: if the folder cannot be written, is of another version, or holds a study of another model or data
            set.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        data: Any = None,  # noqa: ANN401 - whatever load_texts takes
        text_column: str | None = None,
        label_column: str | None = None,
        max_texts: int | None = None,
        seed: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._trust_remote_code = trust_remote_code
        self.path = Path(path)
        self._memory = Memory(self.path)
        known = self._memory.recall("data")
        settings: dict[str, Any] = {
            "text_column": text_column,
            "label_column": label_column,
            "max_texts": max_texts,
            "seed": seed,
        }
        if known is not None and (data is None or self._memory.has_results):
            asked = {name: value for name, value in settings.items() if data is not None or value is not None}
            self._check_same(known, model, data, asked)
            self.settings: dict[str, Any] = known
        else:
            settings["seed"] = seed or 0
            self.settings = {**settings, "model": _place(model or "minilm")}
            try:
                self._begin("icd10cm" if data is None else data, settings)
            except BaseException:
                if known is None:
                    self._memory.forget()
                raise

    def _begin(self, data: Any, settings: dict[str, Any]) -> None:  # noqa: ANN401 - whatever load_texts takes
        """Keep the texts, once they and the model could be loaded: a misspelt name leaves nothing behind."""
        texts = load_texts(data, **settings)
        _ = self.loaded
        texts.save(self.path / "data.jsonl")
        self.settings |= {
            "data": texts.name,
            "source": _source_of(data),
            "content": texts.digest,
            "n_duplicates": texts.n_duplicates,
            "n_unlabelled": texts.n_unlabelled,
        }
        self._memory.remember("data", self.settings)

    @property
    def model_source(self) -> str:
        """Name, full path or Hub id of the study's model."""
        return str(self.settings["model"])

    @property
    def title(self) -> str:
        """Model and data in a few words, without the folders they lie in."""
        model = Path(self.model_source)
        return f"{model.name if model.is_absolute() else self.model_source} on {self.settings['data']}"

    def _check_same(self, known: dict[str, Any], model: str | None, data: object, asked: dict[str, Any]) -> None:
        """Raise `StudyError` if the study is of another model, of other data, or of other choices in the data."""
        asked = dict(asked) if model is None else {**asked, "model": _place(model)}
        if data is not None:
            asked |= {"seed": asked["seed"] or 0, "source": _source_of(data)}
            if asked["source"] == known["source"] and asked["source"] not in DATA_NAMES:
                # The same file, id or kind of object may hold other texts by now.
                choices = {name: known[name] for name in ("text_column", "label_column", "max_texts", "seed")}
                asked["content"] = load_texts(data, **choices).digest
        for what, value in asked.items():
            if value != known[what]:
                name = {"source": "data", "content": "texts"}.get(what, what)
                raise StudyError(
                    f"{self.path} is a study with {name} {known[what]!r}, not {value!r}; choose another folder"
                )

    @cached_property
    def loaded(self) -> LoadedModel:
        """The study's model and tokenizer; loaded when first needed."""
        return load_model(self.model_source, trust_remote_code=self._trust_remote_code)

    @cached_property
    def data(self) -> TextData:
        """The study's texts as they were when it began."""
        texts = load_texts(str(self.path / "data.jsonl"))
        counts = {name: int(self.settings[name]) for name in ("n_duplicates", "n_unlabelled")}
        return TextData(texts.frame, str(self.settings["data"]), **counts)

    def profile(
        self,
        *,
        poolings: Sequence[str] = POOLINGS,
        estimators: Sequence[str] | None = None,
        k: int = DEFAULT_K,
        correct: bool = False,
        plateau: bool = False,
        max_points: int | None = None,
        max_length: int | None = None,
        device: str | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> dict[str, DimensionProfile]:
        """Capture the training texts' hidden states and estimate their dimension, once for every pooling.

        Args:
            poolings: "mean", "last", "cls", "tokens".
            estimators: as in `estimate_dimension`.
            k: as in `estimate_dimension`.
            correct: as in `estimate_dimension`.
            plateau: as in `estimate_dimension`.
            max_points: as in `capture`.
            max_length: as in `capture`.
            device: where the model runs and neighbours are searched; by default the CPU.
            seed: of the choice of points and of the splits behind the intervals.
            progress: show bars.

        Returns:
            Pooling -> profile, also saved as profiles/<pooling>.json.
        """
        for pooling in poolings:
            if not isinstance(pooling, str):
                raise InputError(
                    f"pooling {pooling!r} has no name to save it under; use capture and estimate_dimension directly"
                )
            check_pooling(pooling)
        chosen = choose_estimators(estimators)
        names = [each.name for each in chosen]
        resolve_device(device)
        n_texts = len(self.data.texts("train"))
        for pooling in poolings:
            # How many tokens there are is known once they are captured.
            n_points = n_texts * _MOST_TOKENS if pooling == "tokens" else n_texts
            check_number(min(n_points, max_points or n_points), n_texts, chosen, k)
        profiles = {}
        for pooling in poolings:
            seen = {
                "pooling": pooling, "max_points": max_points, "max_length": max_length, "seed": seed,
                "texts": file_digest(self.path / "data.jsonl"), "version": __version__,
            }  # fmt: skip
            folder, file = self.path / "activations" / pooling, self.path / "profiles" / f"{pooling}.json"
            settings = {**seen, "estimators": names, "k": k, "correct": correct, "plateau": plateau}
            if not self._memory.is_done(f"profile {pooling}", settings, file):
                activations = self._capture(seen, folder, device, progress=progress)
                profile = estimate_dimension(
                    activations, names, k=k, correct=correct, plateau=plateau, seed=seed, device=device,
                    progress=progress,
                )  # fmt: skip
                profile.save(file)
                self._memory.remember(f"profile {pooling}", settings)
            profiles[pooling] = DimensionProfile.load(file)
        return profiles

    def _capture(self, seen: dict[str, Any], folder: Path, device: str | None, *, progress: bool) -> Activations:
        step = f"capture {seen['pooling']}"
        if not self._memory.is_done(step, seen, folder / "activations.json"):
            if device is not None:
                where: Any = resolve_device(device)
                self.loaded.model.to(where)
            options = {name: seen[name] for name in ("pooling", "max_points", "max_length", "seed")}
            model, tokenizer, _ = self.loaded
            self._memory.withdraw(step)
            texts = self.data.texts("train")
            try:
                # An interrupted capture of the same points goes on where it stopped.
                capture(model, tokenizer, texts, **options, store=folder, progress=progress)
            except (InputError, StudyError):
                if not folder.exists():
                    raise
                # Points of other settings, weights or library versions make way, and a damaged folder.
                shutil.rmtree(folder)
                capture(model, tokenizer, texts, **options, store=folder, progress=progress)
            self._memory.remember(step, seen)
        return Activations.load(folder)

    def profiles(self) -> dict[str, DimensionProfile]:
        """The profiles made so far, by pooling."""
        return {file.stem: DimensionProfile.load(file) for file in sorted((self.path / "profiles").glob("*.json"))}

    def allocate(
        self,
        name: str,
        *,
        strategy: str = "gelora",
        pooling: str = "mean",
        estimator: str = "twonn",
        budget: int | None = None,
        budget_rank: int | None = None,
        target_modules: str | Sequence[str] | None = None,
        rounding: str | None = None,
        min_rank: int = 1,
        max_rank: int | None = None,
        n_texts: int = 512,
        seed: int = 0,
        progress: bool = True,
    ) -> RankPlan:
        """Allocate ranks with `allocate_ranks` and keep the plan as plans/<name>.json.

        "eva" and "gradient" read a sample of the training texts; the loss of "gradient" is that of the linear probe
        which logistic regression fits to the sample, under the head that runs train.

        Args:
            name: of the plan.
            strategy: as in `allocate_ranks`.
            pooling: whose profile to use.
            estimator: as in `allocate_ranks`.
            budget: as in `allocate_ranks`, in parameters.
            budget_rank: the budget as that of uniform LoRA with this rank; instead of `budget`.
            target_modules: as in `allocate_ranks`.
            rounding: as in `allocate_ranks`.
            min_rank: as in `allocate_ranks`.
            max_rank: as in `allocate_ranks`.
            n_texts: training texts that "eva" and "gradient" read, 32 a batch.
            seed: of "random", and of the choice of these texts.
            progress: show a bar while the model runs.
        """
        if budget is not None and budget_rank is not None:
            raise InputError(f"budget {budget} and budget_rank {budget_rank} both name a budget; give one of them")
        _check_plan_name(name)
        source = self.path / "profiles" / f"{pooling}.json"
        if find_strategy(strategy).reads == "profile" and not source.exists():
            made = ", ".join(self.profiles()) or "none"
            raise StudyError(
                f"{self.path} has no profile of pooling {pooling!r} (made: {made}); run the step profile first"
            )
        options: dict[str, Any] = {
            "strategy": strategy, "estimator": estimator, "target_modules": target_modules, "rounding": rounding,
            "min_rank": min_rank, "max_rank": max_rank, "seed": seed,
        }  # fmt: skip
        settings = allocation_settings(
            **options, pooling=pooling, budget=budget, budget_rank=budget_rank, n_texts=n_texts,
            profile=file_digest(source) if source.exists() else None,
        )  # fmt: skip
        file = self.path / "plans" / f"{name}.json"
        if not self._memory.is_done(f"plan {name}", settings, file):
            model = self.loaded.model
            plan = allocate_ranks(
                DimensionProfile.load(source) if source.exists() else None,
                model,
                **options,
                **model_readings(strategy, self.loaded, self.data, n_texts=n_texts, seed=seed),
                budget=budget if budget_rank is None else uniform_budget(model, budget_rank, target_modules),
                progress=progress,
            )
            plan.save(file)
            self._memory.remember(f"plan {name}", settings)
        return RankPlan.load(file)

    def plan(self, name: str) -> RankPlan:
        """A plan made before; raises `StudyError`, with the names there are, for another."""
        file = self.path / "plans" / f"{name}.json"
        if not file.exists():
            names = ", ".join(sorted(each.stem for each in (self.path / "plans").glob("*.json"))) or "none"
            raise StudyError(f"{self.path} has no plan {name!r} (made: {names}); run the step allocate first")
        return RankPlan.load(file)

    def plans(self) -> dict[str, RankPlan]:
        """The plans made so far, by name."""
        return {file.stem: RankPlan.load(file) for file in sorted((self.path / "plans").glob("*.json"))}

    def keep_plan(self, name: str, plan: RankPlan) -> Path:
        """Keep a plan that was made elsewhere, in a panel or by hand, as plans/<name>.json.

        Args:
            name: letters, digits, dot, dash and underscore; its run gets the same name.
            plan: for this study's model. One that says its pooling, as plans of `allocate_ranks` do, counts as stale
                once that profile is estimated anew.

        Raises:
            InputError: for a name that no plan can have.
            StudyError: if another plan has the name.
        """
        _check_plan_name(name)
        file = self.path / "plans" / f"{name}.json"
        if file.exists() and RankPlan.load(file).to_dict() != plan.to_dict():
            raise StudyError(f"{self.path} has another plan {name!r}; choose another name, or remove {file}")
        pooling = plan.settings.get("pooling")
        source = self.path / "profiles" / f"{pooling}.json"
        plan.save(file)
        self._memory.remember(
            f"plan {name}", {"pooling": pooling, "profile": file_digest(source) if source.exists() else None}
        )
        return file

    def finetune(self, name: str, *, run: str | None = None, progress: bool = True, **options: Any) -> Run:  # noqa: ANN401
        """Fine-tune with a plan, or only the head, in a worker process, and wait for it.

        A run that finished with the same settings is not repeated. Interrupted (Ctrl-C), the run is cancelled and the
        next call starts it again.

        Args:
            name: of a plan; "frozen" for the linear probe; or "full" for all weights.
            run: name of the run, which is runs/<run>; by default the plan's.
            progress: show a bar.
            options: fields of `RunSpec`: steps, batch_size, learning_rate, head_learning_rate, seed, pooling, ...

        Raises:
            RunError: if the run fails, with the cause in one line.
        """
        begun, settings = self._begin_run(name, run or name, options)
        if self._memory.is_done(f"run {begun.name}", settings, begun.path / "result.json"):
            return begun
        try:
            begun.wait(progress=progress)
        except BaseException:
            begun.cancel()
            raise
        if begun.status != "finished":
            raise RunError(
                f"run {begun.name!r} {begun.status}: {begun.message or 'it was stopped'}; the log is "
                f"{begun.path / 'log.txt'}"
            )
        self._memory.remember(f"run {begun.name}", settings)
        return begun

    def start(
        self,
        name: str,
        *,
        run: str | None = None,
        adapter: PeftConfig | None = None,
        **options: Any,  # noqa: ANN401 - RunSpec's
    ) -> Run:
        """What `finetune` does, without waiting: the run takes its turn and goes on when this process ends.

        Args:
            name: as in `finetune`.
            run: as in `finetune`.
            adapter: a PEFT configuration to train with instead of a plan; `name` then names no plan.
            options: as in `finetune`.

        Returns:
            The run, queued; or finished, if it has been before with the same settings.

        Raises:
            RunError: if a run of that name is going on.

        Example:
            >>> run = study.start("gelora", run="gelora-seed1", seed=1, steps=50)  # doctest: +SKIP
            >>> run.status  # doctest: +SKIP
            'queued'
        """
        return self._begin_run(name, run or name, options, adapter)[0]

    def _begin_run(
        self, plan: str, name: str, options: Mapping[str, Any], adapter: PeftConfig | None = None
    ) -> tuple[Run, dict[str, Any]]:
        """A run that is finished with these settings, or else a new one; and the settings."""
        chosen = adapter if adapter is not None else plan if plan in (FROZEN, FULL) else self.plan(plan)
        spec = self._spec(name, chosen, options)
        settings = {**spec.to_dict(), "data": file_digest(self.path / "data.jsonl")}
        folder = self.path / "runs" / name
        if self._memory.is_done(f"run {name}", settings, folder / "result.json"):
            return attach(folder), settings
        if (folder / "result.json").exists() and RunSpec.load(folder / "spec.json").to_dict() == spec.to_dict():
            # It finished after whoever launched it had gone.
            self._memory.remember(f"run {name}", settings)
            return attach(folder), settings
        if not (folder / "spec.json").exists() and any(folder.rglob("spec.json")):
            raise StudyError(f"runs/{name} is a comparison; give the run another name")
        return launch(spec, run_dir=folder), settings

    def compare_methods(
        self,
        methods: Sequence[str] | Mapping[str, RankPlan | PeftConfig | str],
        *,
        name: str = "comparison",
        seeds: Sequence[int] = (0, 1, 2),
        learning_rates: Sequence[float] | None = None,
        sweep_rates: bool = True,
        baseline: str | None = None,
        executor: str | Executor = "local",
        at_once: int | None = None,
        progress: bool = True,
        **options: Any,  # noqa: ANN401 - RunSpec's
    ) -> Comparison:
        """Compare methods over seeds, each at the learning rate that suits it, with the function `compare`.

        Runs and comparison are kept in runs/<name>/, and finished ones are not repeated.

        Args:
            methods: names of plans, "frozen" or "full"; or a mapping of names to plans, PEFT configurations, "frozen"
                or "full".
            name: of the comparison.
            seeds: as in `compare`.
            learning_rates: as in `compare`.
            sweep_rates: as in `compare`.
            baseline: as in `compare`; by default "uniform" where it takes part, else the first.
            executor: as in `compare`.
            at_once: runs at the same time, on this machine; None means one for each GPU, or one without.
            progress: show a bar of runs.
            options: fields of `RunSpec` that all methods share: steps, batch_size, task, ...

        Raises:
            InputError: for an unknown plan or field, or what `compare` refuses.
            StudyError: if a plan's run has the comparison's name.
        """
        if (self.path / "runs" / name / "spec.json").exists():
            raise StudyError(f"runs/{name} is a run; give the comparison another name")
        if not isinstance(methods, Mapping):
            methods = {each: each if each in (FROZEN, FULL) else self.plan(each) for each in methods}
        specs = [self._spec(each, adapter, options) for each, adapter in methods.items()]
        return compare(
            specs, seeds=seeds, learning_rates=learning_rates, sweep_rates=sweep_rates,
            baseline=baseline or ("uniform" if "uniform" in methods else None), folder=self.path / "runs" / name,
            executor=executor, progress=progress, **({} if at_once is None else {"at_once": at_once}),
        )  # fmt: skip

    def comparisons(self) -> dict[str, Comparison]:
        """The comparisons over seeds made so far, by name."""
        files = sorted((self.path / "runs").glob("*/comparison.json"))
        return {file.parent.name: Comparison.load(file) for file in files}

    def _spec(self, name: str, adapter: RankPlan | PeftConfig | str, options: Mapping[str, Any]) -> RunSpec:
        """A run on the study's model and texts."""
        if not self.data.label_names and options.get("task", CLASSIFICATION) == CLASSIFICATION:
            raise InputError(
                f"the data set {self.data.name!r} has no labels; name its label column to train a classifier, or "
                'give task="causal-lm"'
            )
        try:
            return RunSpec(
                name,
                adapter,
                model=self.model_source,
                data=str((self.path / "data.jsonl").resolve()),
                trust_remote_code=self._trust_remote_code,
                **options,
            )
        except TypeError as error:
            raise InputError(
                f"{str(error).partition('__init__() ')[2] or error}; options are the fields of RunSpec"
            ) from error

    def stale_plans(self) -> list[str]:
        """Names of plans made from a profile that has been estimated anew since."""
        stale = []
        for name in self.plans():
            made = self._memory.recall(f"plan {name}") or {}
            source = self.path / "profiles" / f"{made.get('pooling')}.json"
            if made.get("profile") and source.exists() and file_digest(source) != made["profile"]:
                stale.append(name)
        return stale

    def results(self) -> list[RunResult]:
        """Results of the finished runs: the frozen probe first, then "uniform", then the others by name."""
        first = {FROZEN: 0, "uniform": 1}
        folders = [file.parent for file in (self.path / "runs").glob("*/result.json")]
        return [
            RunResult.load(each) for each in sorted(folders, key=lambda each: (first.get(each.name, 2), each.name))
        ]

    def runs(self) -> pd.DataFrame:
        """All runs of the study and what became of each, as the function `runs` has them."""
        return runs(self.path)

    def compare(self, *, baseline: str | None = None) -> pd.DataFrame:
        """Finished runs side by side, with `compare_runs`; the baseline is "uniform" where there is such a run."""
        results = self.results()
        names = [result.spec.name for result in results]
        return compare_runs(results, baseline=baseline or ("uniform" if "uniform" in names else None))

    def report(self) -> Path:
        """Write tables/ (CSV and JSON), figures/ (PDF and PNG) and report.html from everything made so far."""
        from gelora_viz.study.report import write_report

        return write_report(self)

    def figures(self, venue: str = "icml2026", *, suffix: str = ".pdf") -> Path:
        """Write every figure and table for a paper, with a main.tex that shows them, into figures/<venue>/.

        Args:
            venue: as in `plots.Drawing.save`.
            suffix: .pdf, .pgf, .svg or .png.
        """
        from gelora_viz.study.figures import write_figures

        return write_figures(self, venue, suffix=suffix)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}: model {self.model_source!r}, data {self.settings['data']!r})"


def _check_plan_name(name: str) -> None:
    RunSpec(name, FROZEN)  # a plan's name becomes its run's
    if name in (FROZEN, FULL):
        what = "the probe" if name == FROZEN else "a run that trains all weights"
        raise InputError(f"a plan cannot be named {name!r}, which names {what}; choose another name")


def _source_of(data: object) -> str | None:
    """What tells one source of texts from another: a name, a Hub id or a file's full path; None for objects."""
    if isinstance(data, str | os.PathLike):
        return _place(os.fspath(data))
    return data.name if isinstance(data, TextData) else None


def _place(name: str) -> str:
    """The full path of a file or folder, so that a study goes on from any folder; other names as they are."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and name not in (*MODEL_NAMES, *DATA_NAMES) else name
