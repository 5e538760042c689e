"""Start fine-tunings of a study, see their curves arrive, and stop them.

The panel keeps nothing of a run: everything that it shows is read from the study's folder, so that it shows runs
which were started elsewhere, and finds them again after a reload or in a new kernel.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import traitlets
from peft import PeftConfig

from gelora_viz._checks import check_result, describe
from gelora_viz._names import check_file_name
from gelora_viz.errors import InputError
from gelora_viz.plots import Drawing, style_number, training
from gelora_viz.runs import (
    CAUSAL_LM,
    CLASSIFICATION,
    ENDED,
    FROZEN,
    FULL,
    RunFolder,
    RunSpec,
    attach,
    check_fields,
    usual_learning_rate,
)
from gelora_viz.study import Study
from gelora_viz.widgets.panel import Panel, read_module, read_style
from gelora_viz.widgets.run_watching import RunLookout, SeenRun, Watcher

if TYPE_CHECKING:
    from gelora_viz.runs import Run

_MOST_ROWS = 60
"""Runs in the table; the newest, and all that go on."""
_MOST_CURVES = 10
"""Runs drawn at a time, so that curves can be told apart and a saved notebook stays small."""
_DRAWN_UNASKED = 6
_ALL, _SINGLE = "all", "single"
_BUSY, _IDLE, _AFTER_ERROR = 0.3, 1.0, 5.0
"""Seconds between two looks: while a run goes on, while none does, and after a look that failed."""


class FineTuning(Panel):
    """Fine-tunings of a study: started, watched and cancelled.

    Each run is a process of its own, which waits in the queue and goes on when the page, the panel or the kernel is
    gone; `FineTuning(Study.open(path))` shows them again. Runs of comparisons (`Study.compare`) and those started
    from a terminal are shown too.

    While a cell of the notebook runs, curves go on, but presses of Start and Cancel wait until that cell has ended:
    the kernel does one thing at a time. `gv.attach(folder).cancel()` in another process, or
    `touch STUDY/runs/NAME/cancel` in a terminal, cancels a run meanwhile.

    A thread reads the study's folder up to four times a second, until the panel is closed with `close()`.

    Args:
        study: a `Study`, with its data.
        methods: name -> PEFT configuration, offered with the study's plans: {"dora": LoraConfig(use_dora=True)}.
        options: fields of `RunSpec` that all runs started here share, such as task, batch_size, pooling, threads;
            looked at when a run is started.

    Example:
        >>> panel = gv.widgets.FineTuning(gv.Study.open("studies/demo"), threads=2)  # doctest: +SKIP
        >>> panel.plan, panel.steps = "gelora", 100  # doctest: +SKIP
        >>> panel.start()  # doctest: +SKIP
        [Run('gelora-2': queued)]
    """

    _esm = read_module("fine_tuning.js")
    _css = read_style("fine_tuning.css")
    _page_calls = ("cancel",)

    plan = traitlets.Unicode().tag(sync=True)
    """What to train next: the name of a plan or of one of the methods, "frozen" or "full"."""

    steps = traitlets.Int(200).tag(sync=True)
    """Optimizer steps of the next run."""

    seeds = traitlets.Unicode("0").tag(sync=True)
    """Seed of the next run; several, as in "0, 1, 2", start a run each."""

    learning_rate = traitlets.Unicode("").tag(sync=True)
    """Learning rate of the next run; empty takes the usual one, which `usual_rate` says."""

    name = traitlets.Unicode("").tag(sync=True)
    """Name of the next run, which no run may have yet; empty takes `free_name`."""

    presses = traitlets.Int(0).tag(sync=True)
    """How often Start was pressed; a trait, so that it comes in one message with what was typed."""

    free_name = traitlets.Unicode("").tag(sync=True)
    """A name that no run has."""

    usual_rate = traitlets.Unicode("").tag(sync=True)
    """The learning rate that a run takes where none is given."""

    plans: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, description] of everything that can be trained."""

    group = traitlets.Unicode(_ALL).tag(sync=True)
    """Which runs are shown: "all", "single" for those outside comparisons, or the name of a comparison."""

    groups: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, description] of each choice of runs."""

    picks = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Bool()).tag(sync=True)
    """Runs that the reader wants drawn, or does not; of the others the newest are."""

    runs: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    """One row per run that is shown, the newest first."""

    n_hidden = traitlets.Int(0).tag(sync=True)
    """How many older runs the table leaves out."""

    metric = traitlets.Unicode("accuracy").tag(sync=True)
    """What validation texts are scored by: "accuracy" or "perplexity"."""

    curves = traitlets.Dict().tag(sync=True)
    """Run -> losses and scores, each as steps and values, of the drawn runs that have ended."""

    live_curves = traitlets.Dict().tag(sync=True)
    """The same of those that go on; apart, since these alone change."""

    finished: traitlets.List[str] = traitlets.List()
    """Names of all finished runs, shown or not, the oldest first; for observers in Python, so it is not synced."""

    def __init__(
        self,
        study: Study,
        *,
        methods: Mapping[str, PeftConfig] | None = None,
        **options: Any,  # noqa: ANN401 - RunSpec's
    ) -> None:
        self.study = check_result(study, Study, "study")
        if methods is not None and not isinstance(methods, Mapping):
            raise InputError(f"methods is {describe(methods)}; give a mapping from names to PEFT configurations")
        for name, config in (methods or {}).items():
            check_file_name(name, "name in methods")
            if not isinstance(config, PeftConfig):
                raise InputError(f"methods[{name!r}] is {describe(config)}; give a PEFT configuration")
        check_fields(options)
        unknown = sorted(options.keys() - {field.name for field in dataclasses.fields(RunSpec)})
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}; options are the fields of RunSpec")
        self._options = options
        self._methods = dict(methods or {})
        taken = sorted({*self._methods} & {*study.plans(), FROZEN, FULL})
        if taken:
            raise InputError(f"methods have {taken[0]!r}, which names a plan, or a method of ours; give another name")
        self._task = options.get("task", CLASSIFICATION)
        if "task" not in options and not study.data.label_names:
            self._task = options["task"] = CAUSAL_LM
        self._folder = study.path.absolute() / "runs"
        self._lookout = RunLookout(self._folder)
        self._seen: list[SeenRun] = []
        self._started: dict[str, Run] = {}
        self._asked_to_stop: set[str] = set()
        self._plans_stamp: Any = None
        self._lock = threading.RLock()
        """Held while traits change, by whichever thread."""
        self._looking = threading.Lock()
        super().__init__(metric="perplexity" if self._task == CAUSAL_LM else "accuracy")
        self.refresh()
        self.plan = self.plans[0][0]
        self.observe(self._on_form, names=["plan", "seeds"])
        self.observe(self._on_press, names=["presses"])
        self.observe(self._on_choice, names=["group", "picks"])
        self._on_form()
        self._watcher = Watcher(self._look_again)
        self._watcher.start()

    def start(self) -> list[Run]:
        """Start what the controls say, a run for every seed, and return at once.

        Raises:
            InputError: for a name that is taken or a value that no run could have; the panel says so in words when
                the page asked.
        """
        seeds, rate = self._read_seeds(), self._read_rate()
        names = _names(self.name.strip() or self.free_name, seeds)
        taken = [name for name in names if (self._folder / name).exists()]
        if taken:
            raise InputError(
                f"a run or comparison named {taken[0]!r} already exists; choose another name, such as "
                f"{self._find_free(self.name.strip() or self.plan, seeds)!r}"
            )
        started = []
        for name, seed in zip(names, seeds, strict=True):
            adapter = self._methods.get(self.plan)
            options: dict[str, Any] = {"steps": self.steps, "seed": seed, **rate, **self._options}
            run = self.study.start(self.plan, run=name, adapter=adapter, **options)
            self._started[name] = run
            started.append(run)
        self.name = ""
        self.refresh()
        return started

    def cancel(self, name: str) -> None:
        """Ask a run to stop after its current step, and return at once; what it has trained so far is kept.

        Args:
            name: the run's name, from the first column of the table.

        Raises:
            InputError: if there is no such run.
        """
        if name not in {run.name for run in self._seen}:
            raise InputError(f"no run {name!r} in {self._folder}; runs are {', '.join(r.name for r in self._seen)}")
        run = self._started.get(name) or attach(self._folder / name)
        self._asked_to_stop.add(name)
        threading.Thread(target=self._cancel, args=(run,), name="gelora_viz cancel", daemon=True).start()
        self._show()

    def _cancel(self, run: Run) -> None:
        """In a thread: a worker is given some seconds to answer, and the kernel has other things to do."""
        try:
            run.cancel()
        except Exception as error:  # noqa: BLE001 - nobody else could catch it
            self.show_error(error)
        finally:
            self._asked_to_stop.discard(run.path.relative_to(self._folder).as_posix())

    def refresh(self) -> None:
        """Look at the folder now; the panel does so by itself, up to four times a second."""
        with self._looking:
            for name, run in list(self._started.items()):
                if run.status in ENDED:  # a look through the handle, which also buries a worker that died
                    del self._started[name]
            self._seen = self._lookout.look()
            plans = self._find_plans()
        self._show(plans)
        self.finished = [run.name for run in self._seen if run.status == "finished"]

    @property
    def n_runs(self) -> int:
        """How many runs the study has, shown or not."""
        return len(self._seen)

    def _look_again(self) -> float:
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - the thread must not die of one file that cannot be read
            self.show_error(error)
            return _AFTER_ERROR
        return _BUSY if any(not run.is_over for run in self._seen) else _IDLE

    def close(self) -> None:
        """Close the panel and end its thread; runs go on."""
        if hasattr(self, "_watcher"):  # it is closed too when its making failed
            self._watcher.stop()
        super().close()

    def describe(self) -> Drawing:
        """The curves that are drawn, as `plots.training` has them."""
        frames = {
            row["name"]: RunFolder(self._folder / row["name"]).read_metrics() for row in self.runs if row["drawn"]
        }
        frames = {name: frame for name, frame in frames.items() if len(frame)}
        if not frames:
            raise InputError(
                "none of the drawn runs has logged anything yet; start one, and wait for its first steps"
            )
        return training(frames)

    # What the page sends and what the thread finds out meet here, one after the other.

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Take over what the page has set; called by ipywidgets."""
        with self._lock:
            super().set_state(sync_data)

    def _show(self, plans: list[list[str]] | None = None) -> None:
        """Update everything that the page draws."""
        with self._lock, self.hold_sync():
            if plans is not None:
                self.plans = plans
            self.groups = _list_groups(self._seen)
            if self.group not in {name for name, _ in self.groups}:
                self.group = _ALL
            chosen = [
                (number, run)
                for number, run in enumerate(self._seen)
                if self.group == _ALL or run.group == ("" if self.group == _SINGLE else self.group)
            ]
            shown = [each for each in chosen if not each[1].is_over]
            shown += [each for each in reversed(chosen) if each[1].is_over][: max(0, _MOST_ROWS - len(shown))]
            shown.sort(key=lambda each: -each[0])
            drawn = self._choose_drawn([run for _, run in shown])
            self.n_hidden = len(chosen) - len(shown)
            self.runs = [self._row(number, run, is_drawn=run.name in drawn) for number, run in shown]
            drawn_runs = [run for _, run in shown if run.name in drawn]
            self.curves = {run.name: _curves(run) for run in drawn_runs if run.is_over}
            self.live_curves = {run.name: _curves(run) for run in drawn_runs if not run.is_over}
            self.free_name = self._find_free(self.plan, self._seeds_or_one())
            self.status = _say_counts([run for _, run in chosen])

    def _choose_drawn(self, newest_first: Sequence[SeenRun]) -> set[str]:
        wanted = [run.name for run in newest_first if self.picks.get(run.name)]
        unasked = [run.name for run in newest_first if run.name not in self.picks and run.losses[0]]
        return {*wanted[:_MOST_CURVES], *unasked[: max(0, min(_DRAWN_UNASKED, _MOST_CURVES - len(wanted)))]}

    def _row(self, number: int, run: SeenRun, *, is_drawn: bool) -> dict[str, Any]:
        style = style_number(number)
        return {
            "name": run.name, "status": run.status, "message": run.message[:500], "method": run.method,
            "seed": run.seed, "rate": run.learning_rate, "step": run.step, "steps": run.steps, "eta": run.eta,
            "loss": run.losses[1][-1] if run.losses[1] else None,
            "score": run.scores[1][-1] if run.scores[1] else None, "metric": run.metric,
            "color": style.color, "dash": style.dash, "drawn": is_drawn, "over": run.is_over,
            "stopping": run.name in self._asked_to_stop and not run.is_over,
        }  # fmt: skip

    def _find_plans(self) -> list[list[str]] | None:
        """What can be trained; None if that is what it was at the last look."""
        files = sorted((self.study.path / "plans").glob("*.json"))
        stamp = [(file.name, file.stat().st_mtime_ns) for file in files]
        if stamp == self._plans_stamp:
            return None
        self._plans_stamp = stamp
        plans = [[name, f"{plan.n_parameters:,} parameters"] for name, plan in self.study.plans().items()]
        probe = "the linear head alone" if self._task == CLASSIFICATION else "nothing is trained"
        methods = [[name, str(config.peft_type).rpartition(".")[2]] for name, config in self._methods.items()]
        return [*plans, *methods, [FROZEN, probe], [FULL, "all weights"]]

    def _on_form(self, _change: object = None) -> None:
        self.free_name = self._find_free(self.plan, self._seeds_or_one())
        self.usual_rate = f"{usual_learning_rate(self._task, full=self.plan == FULL):g}"

    def _on_press(self, _change: object) -> None:
        self.start()

    def _on_choice(self, _change: object) -> None:
        self._show()

    def _find_free(self, wanted: str, seeds: Sequence[int]) -> str:
        """The name, with a number appended if it is taken."""
        number, name = 1, wanted
        while any((self._folder / each).exists() for each in _names(name, seeds)):
            number += 1
            name = f"{wanted}-{number}"
        return name

    def _seeds_or_one(self) -> list[int]:
        try:
            return self._read_seeds()
        except InputError:
            return [0]

    def _read_seeds(self) -> list[int]:
        try:
            seeds = [int(each) for each in self.seeds.replace(",", " ").split()]
        except ValueError:
            seeds = []
        if not seeds or len(set(seeds)) < len(seeds):
            raise InputError(f"seeds are {self.seeds!r}; give a whole number, or several as in 0, 1, 2, each once")
        return seeds

    def _read_rate(self) -> dict[str, float]:
        if not self.learning_rate.strip():
            return {}
        try:
            return {"learning_rate": float(self.learning_rate)}
        except ValueError:
            raise InputError(
                f"the learning rate is {self.learning_rate!r}; give a number such as 0.002 or 2e-3, or leave it "
                "empty for the usual one"
            ) from None


def _names(name: str, seeds: Sequence[int]) -> list[str]:
    """Names of a run for each seed."""
    return [name] if len(seeds) == 1 else [f"{name}-seed{seed}" for seed in seeds]


def _curves(run: SeenRun) -> dict[str, Any]:
    return {"losses": [list(each) for each in run.losses], "scores": [list(each) for each in run.scores]}


def _list_groups(runs: Sequence[SeenRun]) -> list[list[str]]:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.group] = counts.get(run.group, 0) + 1
    compared = [[name, f"comparison {name} ({count})"] for name, count in counts.items() if name]
    single = [[_SINGLE, f"single runs ({counts.get('', 0)})"]]
    return [[_ALL, f"all runs ({len(runs)})"], *single, *compared]


def _say_counts(runs: Sequence[SeenRun]) -> str:
    if not runs:
        return "No runs yet. Choose what to train, and press Start."
    said = []
    for status, words in (
        ("running", "{} in training"), ("queued", "{} waiting for a turn"), ("finished", "{} finished"),
        ("cancelled", "{} cancelled"), ("failed", "{} failed"), ("unreadable", "{} unreadable"),
    ):  # fmt: skip
        count = sum(run.status == status for run in runs)
        if count:
            said.append(words.format(count))
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {', '.join(said)}."
