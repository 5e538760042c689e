"""The walk from texts to figures over one folder: steps call public functions, keep their results, and resume."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftConfig

from gelora_viz._checks import check_flag, check_folder, check_path, check_text
from gelora_viz.comparison import Comparison
from gelora_viz.dimension import DEFAULT_K, DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.plots import check_format, check_venue
from gelora_viz.ranks import RankPlan
from gelora_viz.runs import Executor, Run, RunResult
from gelora_viz.sources import LoadedModel, TextData
from gelora_viz.study.arguments import POOLINGS, check_source
from gelora_viz.study.findings import Findings, read_findings
from gelora_viz.study.plans import StudyPlans
from gelora_viz.study.profiles import StudyProfiles
from gelora_viz.study.record import open_record, prepare_folder
from gelora_viz.study.runs import StudyRuns
from gelora_viz.study.source import StudySource


class Study:
    """One model, one data set, and everything found out about them, in one folder.

    `Study.create` begins one and `Study.open` opens it again. A step that was finished with the same settings is read
    back and not repeated; an interrupted one starts over from the last finished step. The folder holds study.json,
    data.jsonl, activations/, profiles/, plans/, runs/, tables/, figures/ and report.html, each file readable by
    itself.

    Example:
        >>> study = gv.Study.create("studies/mine", model="minilm", data="icd10cm")  # doctest: +SKIP
        >>> gv.Study.open("studies/mine").profile()  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], source: StudySource | None = None) -> None:
        folder = check_path(path, "path")
        if not isinstance(source, StudySource):
            raise InputError(
                f"Study({str(path)!r}) says neither whether to open a study nor whether to begin one; use "
                f"Study.open({str(path)!r}), or Study.create({str(path)!r}, model=..., data=...)"
            )
        self.path = folder
        self._source = source
        self._profiles = StudyProfiles(source)
        self._plans = StudyPlans(source, self._profiles)
        self._runs = StudyRuns(source, self._plans)

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
        check_flag(trust_remote_code, "trust_remote_code")
        check_path(path, "study folder")
        return cls(path, StudySource(Path(path), open_record(path), trust_remote_code=trust_remote_code))

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
        """Begin a study; if the folder already holds one of the same model and data, continue it.

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
        check_text(model, "model", "minilm")
        check_source(model=model, data=data, **choices, trust_remote_code=trust_remote_code)
        made = prepare_folder(folder)
        if (folder / "study.json").exists():
            known = cls.open(folder, trust_remote_code=trust_remote_code)
            if known.has_results:
                known.check_source(model=model, data=data, **choices)
                return known
        return cls(
            folder,
            StudySource.begin(folder, model, data, choices, made=made, trust_remote_code=trust_remote_code),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The study's model and data, and how the data were read."""
        return self._source.settings

    @property
    def has_results(self) -> bool:
        """Whether any step is finished."""
        return self._source.record.has_results

    @property
    def model_source(self) -> str:
        """Name, full path or Hub id of the study's model."""
        return self._source.model

    @property
    def title(self) -> str:
        """Model and data in a few words, without the folders they lie in."""
        return self._source.title

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
        check_source(model=model, data=data, **choices)
        self._source.check(model, data, choices)

    @property
    def loaded(self) -> LoadedModel:
        """The study's model and tokenizer; loaded when first needed."""
        return self._source.loaded

    @property
    def data(self) -> TextData:
        """The study's texts as they were when it began."""
        return self._source.data

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
        return self._profiles.estimate(
            poolings, estimators, k=k, correct=correct, plateau=plateau, max_points=max_points,
            max_length=max_length, device=device, seed=seed, progress=progress,
        )  # fmt: skip

    def profiles(self) -> dict[str, DimensionProfile]:
        """The profiles made so far, by pooling; one that cannot be read is logged and left out."""
        return self._profiles.load_all()

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
        replace: bool = False,
        progress: bool = True,
    ) -> RankPlan:
        """Allocate ranks with `allocate_ranks` and keep the plan as plans/<name>.json.

        A plan that was made before is kept: where there is one of that name with other settings, the new one gets a
        number (plans/<name>-2.json), and a warning says so; `name_of` tells the name.

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
            replace: put the new plan in the place of an old one of that name.
            progress: show a bar while the model runs.
        """
        return self._plans.allocate(
            name, strategy=strategy, pooling=pooling, estimator=estimator, budget=budget, budget_rank=budget_rank,
            target_modules=target_modules, rounding=rounding, min_rank=min_rank, max_rank=max_rank, n_texts=n_texts,
            seed=seed, replace=replace, progress=progress,
        )  # fmt: skip

    def name_of(self, plan: RankPlan) -> str:
        """The name of a plan of this study; raises `StudyError` if the study has no such plan."""
        return self._plans.name_of(plan)

    def plan(self, name: str) -> RankPlan:
        """A plan made before; raises `StudyError`, with the names there are, for another."""
        return self._plans.load(name)

    def plans(self) -> dict[str, RankPlan]:
        """The plans made so far, by name; one that cannot be read is logged and left out."""
        return self._plans.load_all()

    def keep_plan(self, name: str, plan: RankPlan, *, replace: bool = False) -> Path:
        """Keep a plan that was made elsewhere, in a panel or by hand, as plans/<name>.json.

        Where there is another plan of that name, this one gets a number: plans/<name>-2.json.

        Args:
            name: letters, digits, dot, dash and underscore; its run gets the same name.
            plan: for this study's model. One that says its pooling, as plans of `allocate_ranks` do, counts as stale
                once that profile is estimated anew.
            replace: put it in the place of another plan of that name.

        Returns:
            The plan's file.

        Raises:
            InputError: for a name that no plan can have.
        """
        return self._plans.keep(name, plan, replace=replace)

    def check_method(self, name: str) -> None:
        """Raise `StudyError` unless this is "frozen", "full" or the name of a plan, which fine-tunings can use."""
        self._runs.check_method(name)

    def finetune(
        self,
        name: str,
        *,
        run: str | None = None,
        replace: bool = False,
        progress: bool = True,
        **options: Any,  # noqa: ANN401 - RunSpec's
    ) -> Run:
        """Fine-tune with a plan, or only the head, in a worker process, and wait for it.

        A run that finished with the same settings is not repeated, and one of other settings is kept: the new run
        gets a number then (runs/<run>-2), and a warning says so. Interrupted (Ctrl-C), the run is cancelled and the
        next call starts it again.

        Args:
            name: the name of a plan; "frozen" for the linear probe; or "full" for all weights.
            run: name of the run, which is runs/<run>; by default the plan's.
            replace: once the new run has finished, put it in the place of a finished one of that name.
            progress: show a bar.
            options: fields of `RunSpec`: steps, batch_size, learning_rate, head_learning_rate, seed, pooling, ...

        Raises:
            RunError: if the run fails, with the cause in one line.
        """
        return self._runs.finetune(name, name if run is None else run, options, replace=replace, progress=progress)

    def start(
        self,
        name: str,
        *,
        run: str | None = None,
        adapter: PeftConfig | None = None,
        replace: bool = False,
        **options: Any,  # noqa: ANN401 - RunSpec's
    ) -> Run:
        """Fine-tune as `finetune` does, without waiting: the run is queued, and continues if this process ends.

        Args:
            name: what to train: a plan's name, "frozen" or "full" (see `finetune`).
            run: name of the run (see `finetune`).
            adapter: a PEFT configuration to train with instead of a plan; `name` then names no plan.
            replace: take the place of a finished run (see `finetune`).
            options: further options (see `finetune`).

        Returns:
            The run, queued; or finished, if it has been before with the same settings.

        Raises:
            RunError: if a run of that name is still running.

        Example:
            >>> run = study.start("gelora", run="gelora-seed1", seed=1, steps=50)  # doctest: +SKIP
            >>> run.status  # doctest: +SKIP
            'queued'
        """
        return self._runs.start(name, name if run is None else run, adapter, options, replace=replace)

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
        """Compare methods over seeds, each at its best learning rate, with the function `compare`.

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
        return self._runs.compare(
            methods, name, baseline=baseline, at_once=at_once, fields=options, seeds=seeds,
            learning_rates=learning_rates, sweep_rates=sweep_rates, executor=executor, progress=progress,
        )  # fmt: skip

    def comparisons(self) -> dict[str, Comparison]:
        """The comparisons over seeds made so far, by name; one that cannot be read is logged and left out."""
        return self._runs.load_comparisons()

    def problems(self) -> list[str]:
        """Why files of the study are left out of lists and reports, a line for each; empty if all can be read."""
        found: list[str] = []
        for read in (
            self._profiles.load_all, self._plans.load_all, self._runs.load_results, self._runs.load_comparisons,
        ):  # fmt: skip
            read(found)
        return found

    def stale_plans(self) -> list[str]:
        """Names of plans whose profile has been estimated again since they were made."""
        return self._plans.find_stale()

    def results(self) -> list[RunResult]:
        """Results of the finished runs: the frozen probe first, then "uniform", then the others by name."""
        return self._runs.load_results()

    def runs(self) -> pd.DataFrame:
        """All runs of the study with their status, as from `list_runs`."""
        return self._runs.list_all()

    def tabulate_results(self, *, baseline: str | None = None) -> pd.DataFrame:
        """Finished runs side by side, as from the function `tabulate_results`.

        Args:
            baseline: name of the run to compare with; by default "uniform" where there is such a run, else the first.
        """
        return self._runs.tabulate(baseline)

    def findings(self) -> Findings:
        """Everything found so far, read from the folder; nothing is computed again.

        Raises:
            InputError: if the study has no profile yet.
        """
        return read_findings(self._source, self._profiles, self._plans, self._runs)

    def report(self) -> Path:
        """Write tables/ (CSV and JSON), figures/ (PDF and PNG) and report.html from the results so far."""
        from gelora_viz.study.report import write_report  # here, since it loads what draws

        return write_report(self.findings(), self.path)

    def figures(self, venue: str = "icml2026", *, suffix: str = ".pdf") -> Path:
        """Write every figure and table for a paper, with a main.tex that shows them, into figures/<venue>/.

        Args:
            venue: the venue whose sizes and fonts to use (see `plots.Drawing.save`).
            suffix: .pdf, .pgf, .svg or .png.
        """
        check_venue(venue)
        check_format(suffix)
        from gelora_viz.study.figures import write_figures  # here, since it loads what draws

        return write_figures(self.findings(), self.path / "figures" / venue, venue, suffix=suffix)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}: model {self.model_source!r}, data {self.settings['data']!r})"
