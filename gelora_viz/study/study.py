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

from gelora_viz._checks import check_folder, resolve_device
from gelora_viz._results import file_digest
from gelora_viz._version import __version__
from gelora_viz.activations import Activations, capture, check_pooling
from gelora_viz.comparison import Comparison, compare, tabulate_results
from gelora_viz.dimension import (
    DEFAULT_K,
    DimensionProfile,
    check_enough_points,
    choose_estimators,
    estimate_dimension,
)
from gelora_viz.errors import InputError, RunError, StudyError
from gelora_viz.ranks import RankPlan, allocate_ranks, find_strategy, uniform_budget
from gelora_viz.runs import (
    CLASSIFICATION,
    FROZEN,
    FULL,
    Executor,
    Run,
    RunResult,
    RunSpec,
    attach,
    find_finished,
    launch,
    list_runs,
)
from gelora_viz.sources import DATA_NAMES, MODEL_NAMES, LoadedModel, TextData, load_model, load_texts
from gelora_viz.spectra import SpectrumHistory
from gelora_viz.study.allocation import allocation_settings, model_readings
from gelora_viz.study.findings import Findings
from gelora_viz.study.record import StudyRecord, prepare_folder

_MOST_TOKENS = 512

POOLINGS = ("mean", "tokens")
"""Poolings profiled by default. Which one GeLoRA used could not be read, and they disagree, so both are shown."""


class Study:
    """A study: one model, one data set, and everything found out about them, in one folder.

    `Study.create` begins one and `Study.open` opens it again. A step that was finished with the same settings is read
    back and not repeated; an interrupted one starts over from the last finished step. The folder holds study.json,
    data.jsonl, activations/, profiles/, plans/, runs/, tables/, figures/ and report.html, each file readable by
    itself.

    Example:
        >>> study = gv.Study.create("studies/mine", model="minilm", data="icd10cm")  # doctest: +SKIP
        >>> gv.Study.open("studies/mine").profile()  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        record: StudyRecord | None = None,
        *,
        trust_remote_code: bool = False,
    ) -> None:
        self.path = Path(path)
        if record is None:
            raise InputError(
                f"Study({str(path)!r}) says neither whether to open a study nor whether to begin one; use "
                f"Study.open({str(path)!r}), or Study.create({str(path)!r}, model=..., data=...)"
            )
        self._record = record
        self._trust_remote_code = trust_remote_code
        self.settings: dict[str, Any] = record.settings_of("data") or {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, trust_remote_code: bool = False) -> Study:
        """Open a study that was begun before.

        Args:
            path: its folder.
            trust_remote_code: run Python code that comes with the model (see `load_model`); asked for anew each time
                and never kept in the folder.

        Raises:
            InputError: if the folder's name begins with a dash.
            StudyError: if the folder holds no study, or one of another version.
        """
        return cls(path, StudyRecord(check_folder(path, "study folder")), trust_remote_code=trust_remote_code)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str,
        data: Any,  # noqa: ANN401 - whatever load_texts takes
        text_column: str | None = None,
        label_column: str | None = None,
        max_texts: int | None = None,
        seed: int = 0,
        trust_remote_code: bool = False,
    ) -> Study:
        """Begin a study; where there is one of the same model and data already, go on with it.

        Args:
            path: the folder; made if it does not exist.
            model: a name, a folder or a Hub id, as in `load_model`.
            data: a name, a file, a Hub id, a list of texts, ..., as in `load_texts`.
            text_column: column with the texts (see `load_texts`).
            label_column: column with the labels (see `load_texts`).
            max_texts: training texts at most (see `load_texts`).
            seed: seed of splits and choices in the data.
            trust_remote_code: run Python code that comes with the model (see `load_model`); asked for anew each time
                and never kept in the folder.

        Raises:
            InputError: if the folder's name begins with a dash.
            StudyError: if the folder cannot be written, holds other things, or holds results of a study of another
                model or data set.
            SourceError: if the model or the data cannot be loaded; the folder is then left as it was.
        """
        folder = check_folder(path, "study folder")
        choices: dict[str, Any] = {
            "text_column": text_column, "label_column": label_column, "max_texts": max_texts, "seed": seed,
        }  # fmt: skip
        made = prepare_folder(folder)
        if (folder / "study.json").exists():
            known = cls.open(folder, trust_remote_code=trust_remote_code)
            if known.has_results:
                known.check_source(model=model, data=data, **choices)
                return known
        try:
            texts = load_texts(data, **choices)
            loaded = load_model(_place(model), trust_remote_code=trust_remote_code)
            texts.save(folder / "data.jsonl")
        except BaseException:
            for each in made:
                each.rmdir()
            raise
        settings = {
            **choices, "model": _place(model), "data": texts.name, "source": _source_of(data),
            "content": texts.digest, "n_duplicates": texts.n_duplicates, "n_unlabelled": texts.n_unlabelled,
        }  # fmt: skip
        study = cls(folder, StudyRecord.create(folder, settings), trust_remote_code=trust_remote_code)
        study.loaded = loaded
        return study

    @property
    def has_results(self) -> bool:
        """Whether any step is finished."""
        return self._record.has_results

    @property
    def model_source(self) -> str:
        """Name, full path or Hub id of the study's model."""
        return str(self.settings["model"])

    @property
    def title(self) -> str:
        """Model and data in a few words, without the folders they lie in."""
        model = Path(self.model_source)
        return f"{model.name if model.is_absolute() else self.model_source} on {self.settings['data']}"

    def check_source(
        self,
        *,
        model: str | None = None,
        data: Any = None,  # noqa: ANN401 - whatever load_texts takes
        text_column: str | None = None,
        label_column: str | None = None,
        max_texts: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Raise `StudyError` if the study is of another model, of other data, or of other choices in the data.

        Args:
            model: name, folder or Hub id of a model (see `create`); None is not compared.
            data: name, file, Hub id or object with texts (see `create`); where it is given, the choices in it are
                compared too, else those that are given.
            text_column: column with the texts (see `create`).
            label_column: column with the labels (see `create`).
            max_texts: training texts at most (see `create`).
            seed: seed of the random choices (see `create`).
        """
        choices = {"text_column": text_column, "label_column": label_column, "max_texts": max_texts, "seed": seed}
        asked: dict[str, Any] = {
            name: value for name, value in choices.items() if data is not None or value is not None
        }
        if model is not None:
            asked["model"] = _place(model)
        if data is not None:
            asked |= {"seed": seed or 0, "source": _source_of(data)}
            if asked["source"] == self.settings["source"] and asked["source"] not in DATA_NAMES:
                # The same file, id or kind of object may hold other texts by now.
                asked["content"] = load_texts(data, **{name: self.settings[name] for name in choices}).digest
        for what, value in asked.items():
            if value != self.settings[what]:
                name = {"source": "data", "content": "texts"}.get(what, what)
                own = self.settings[what]
                raise StudyError(f"{self.path} is a study with {name} {own!r}, not {value!r}; choose another folder")

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
            estimators: names of the estimators (see `estimate_dimension`).
            k: number of neighbors (see `estimate_dimension`).
            correct: also correct estimates for finite-sample bias (see `estimate_dimension`).
            plateau: average the two adjacent sizes that differ least (see `estimate_dimension`).
            max_points: points per layer at most (see `capture`).
            max_length: tokens kept of each text (see `capture`).
            device: where the model runs and neighbors are searched; by default the CPU.
            seed: seed of the choice of points and of the splits behind the intervals.
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
            check_enough_points(min(n_points, max_points or n_points), n_texts, chosen, k)
        profiles = {}
        for pooling in poolings:
            seen = {
                "pooling": pooling, "max_points": max_points, "max_length": max_length, "seed": seed,
                "texts": file_digest(self.path / "data.jsonl"), "version": __version__,
            }  # fmt: skip
            folder, file = self.path / "activations" / pooling, self.path / "profiles" / f"{pooling}.json"
            settings = {**seen, "estimators": names, "k": k, "correct": correct, "plateau": plateau}
            if not self._record.is_finished(f"profile {pooling}", settings, file):
                activations = self._capture(seen, folder, device, progress=progress)
                profile = estimate_dimension(
                    activations, names, k=k, correct=correct, plateau=plateau, seed=seed, device=device,
                    progress=progress,
                )  # fmt: skip
                profile.save(file)
                self._record.finish(f"profile {pooling}", settings)
            profiles[pooling] = DimensionProfile.load(file)
        return profiles

    def _capture(self, seen: dict[str, Any], folder: Path, device: str | None, *, progress: bool) -> Activations:
        step = f"capture {seen['pooling']}"
        if not self._record.is_finished(step, seen, folder / "activations.json"):
            if device is not None:
                where: Any = resolve_device(device)
                self.loaded.model.to(where)
            options = {name: seen[name] for name in ("pooling", "max_points", "max_length", "seed")}
            model, tokenizer, _ = self.loaded
            self._record.withdraw(step)
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
            self._record.finish(step, seen)
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
            name: the plan's name.
            strategy: name of the strategy (see `allocate_ranks`).
            pooling: whose profile to use.
            estimator: whose dimensions are read (see `allocate_ranks`).
            budget: trainable parameters at most (see `allocate_ranks`), in parameters.
            budget_rank: the budget as that of uniform LoRA with this rank; instead of `budget`.
            target_modules: module-name endings to adapt (see `allocate_ranks`).
            rounding: how bounds are rounded (see `allocate_ranks`).
            min_rank: lowest rank of a matrix (see `allocate_ranks`).
            max_rank: highest rank of a matrix (see `allocate_ranks`).
            n_texts: training texts that "eva" and "gradient" read, 32 a batch.
            seed: seed of "random", and of the choice of these texts.
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
        if not self._record.is_finished(f"plan {name}", settings, file):
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
            self._record.finish(f"plan {name}", settings)
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
        self._record.finish(
            f"plan {name}", {"pooling": pooling, "profile": file_digest(source) if source.exists() else None}
        )
        return file

    def finetune(self, name: str, *, run: str | None = None, progress: bool = True, **options: Any) -> Run:  # noqa: ANN401
        """Fine-tune with a plan, or only the head, in a worker process, and wait for it.

        A run that finished with the same settings is not repeated. Interrupted (Ctrl-C), the run is cancelled and the
        next call starts it again.

        Args:
            name: the name of a plan; "frozen" for the linear probe; or "full" for all weights.
            run: name of the run, which is runs/<run>; by default the plan's.
            progress: show a bar.
            options: fields of `RunSpec`: steps, batch_size, learning_rate, head_learning_rate, seed, pooling, ...

        Raises:
            RunError: if the run fails, with the cause in one line.
        """
        spec = self._spec_of_run(name, run or name, options)
        begun = self._begin_run(spec)
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
        self._record_run(spec)
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
            name: what to train: a plan's name, "frozen" or "full" (see `finetune`).
            run: name of the run (see `finetune`).
            adapter: a PEFT configuration to train with instead of a plan; `name` then names no plan.
            options: further options (see `finetune`).

        Returns:
            The run, queued; or finished, if it has been before with the same settings.

        Raises:
            RunError: if a run of that name is going on.

        Example:
            >>> run = study.start("gelora", run="gelora-seed1", seed=1, steps=50)  # doctest: +SKIP
            >>> run.status  # doctest: +SKIP
            'queued'
        """
        return self._begin_run(self._spec_of_run(name, run or name, options, adapter))

    def _spec_of_run(
        self, plan: str, name: str, options: Mapping[str, Any], adapter: PeftConfig | None = None
    ) -> RunSpec:
        chosen = adapter if adapter is not None else plan if plan in (FROZEN, FULL) else self.plan(plan)
        return self._spec(name, chosen, options)

    def _begin_run(self, spec: RunSpec) -> Run:
        """The run that has finished what is asked for, whoever launched it, or else a new one."""
        folder = self.path / "runs" / spec.name
        finished = find_finished(folder, spec)
        if finished is not None:
            self._record_run(spec)
            return finished
        if not (folder / "spec.json").exists() and any(folder.rglob("spec.json")):
            raise StudyError(f"runs/{spec.name} is a comparison; give the run another name")
        return launch(spec, run_dir=folder)

    def _record_run(self, spec: RunSpec) -> None:
        settings = {**spec.to_dict(), "data": spec.data_digest}
        if not self._record.is_finished(f"run {spec.name}", settings):
            self._record.finish(f"run {spec.name}", settings)

    def compare(
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
            name: the comparison's name.
            seeds: seeds, the same for all methods (see `compare`).
            learning_rates: learning rates to try (see `compare`).
            sweep_rates: whether each method's learning rate is swept (see `compare`).
            baseline: the method to compare with (see `compare`); by default "uniform" where it takes part, else the
                first.
            executor: what starts the runs: "local", "ray" or an executor (see `compare`).
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
            made = self._record.settings_of(f"plan {name}") or {}
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
        """All runs of the study and what became of each, as `list_runs` has them."""
        return list_runs(self.path)

    def tabulate_results(self, *, baseline: str | None = None) -> pd.DataFrame:
        """Finished runs side by side, as from the function `tabulate_results`.

        Args:
            baseline: name of the run to compare with; by default "uniform" where there is such a run, else the first.
        """
        results = self.results()
        names = [result.spec.name for result in results]
        return tabulate_results(results, baseline=baseline or ("uniform" if "uniform" in names else None))

    def findings(self) -> Findings:
        """Everything found so far, read from the folder; nothing is computed anew.

        Raises:
            InputError: if the study has no profile yet.
        """
        profiles = self.profiles()
        if not profiles:
            raise InputError(
                f"{self.path} has no dimension profile yet, so there is no report; run the step profile first"
            )
        results = self.results()
        folders = {each.spec.name: self.path / "runs" / each.spec.name for each in results}
        return Findings(
            title=self.title,
            settings=self.settings,
            data=self.data,
            profiles=profiles,
            plans=self.plans(),
            results=results,
            metrics={name: attach(folder).metrics for name, folder in folders.items()},
            histories={
                name: SpectrumHistory.load(folder / "spectra.json")
                for name, folder in folders.items()
                if (folder / "spectra.json").exists()
            },
            comparison=self.tabulate_results() if results else None,
            comparisons=self.comparisons(),
            stale_plans=self.stale_plans(),
        )

    def report(self) -> Path:
        """Write tables/ (CSV and JSON), figures/ (PDF and PNG) and report.html from everything made so far."""
        from gelora_viz.study.report import write_report  # here, since it loads what draws

        return write_report(self.findings(), self.path)

    def figures(self, venue: str = "icml2026", *, suffix: str = ".pdf") -> Path:
        """Write every figure and table for a paper, with a main.tex that shows them, into figures/<venue>/.

        Args:
            venue: the venue whose sizes and fonts to use (see `plots.Drawing.save`).
            suffix: .pdf, .pgf, .svg or .png.
        """
        from gelora_viz.study.figures import write_figures

        return write_figures(self.findings(), self.path / "figures" / venue, venue, suffix=suffix)

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
