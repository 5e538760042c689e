"""The whole study on one page: what it is, ranks from its dimensions, maps, fine-tunings and their comparison.

The panels stand one below the other in the order of the walk, so that the tab key goes through them like a reader.
Their sections are panels too: the headings, with the few controls that a panel alone does not have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ipywidgets
import traitlets

from gelora_viz._checks import check_result
from gelora_viz.activations import Activations
from gelora_viz.errors import GeloraVizError, InputError
from gelora_viz.plots import Drawing, overview
from gelora_viz.runs import FROZEN, FULL
from gelora_viz.spectra import UpdateSpectrum
from gelora_viz.study import Study
from gelora_viz.widgets.comparison import ComparisonExplorer
from gelora_viz.widgets.explorer import Explorer
from gelora_viz.widgets.fine_tuning import FineTuning
from gelora_viz.widgets.panel import Panel, read_module, read_style
from gelora_viz.widgets.rank_budget import RankBudget
from gelora_viz.widgets.snapshot import Snapshot

_SINGLE = "single runs"


class _Section(Panel):
    """A heading of the dashboard, what to do there, and at most a choice, a text and some buttons.

    Args:
        title: the heading.
        actions: name of a button -> what it does; it is given the section.
        options: values of traits.
    """

    _esm = read_module("dashboard.js")
    _css = read_style("dashboard.css")
    _page_calls = ("pass_file",)

    title = traitlets.Unicode().tag(sync=True)
    """The heading."""

    hint = traitlets.Unicode().tag(sync=True)
    """What the section is about, or what has to be done first."""

    facts: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, value] of what is known."""

    tasks: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    """[whether it is done, words] of the steps of the walk."""

    choice = traitlets.Unicode().tag(sync=True)
    """What is chosen of `choices`."""

    choices: traitlets.List[str] = traitlets.List().tag(sync=True)
    """What can be chosen; nothing is asked where it is empty."""

    choice_label = traitlets.Unicode().tag(sync=True)
    """What the choice is of."""

    text = traitlets.Unicode().tag(sync=True)
    """What was typed."""

    text_label = traitlets.Unicode().tag(sync=True)
    """What is to be typed; nothing is asked where it is empty."""

    buttons: traitlets.List[str] = traitlets.List().tag(sync=True)
    """Names of the buttons."""

    press: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """[name, number] of the button that was pressed last; a trait, so that it comes with what was typed."""

    file_name = traitlets.Unicode().tag(sync=True)
    """A file that the page may ask for."""

    def __init__(
        self,
        title: str,
        actions: dict[str, Callable[[_Section], None]] | None = None,
        **options: Any,  # noqa: ANN401 - values of traits
    ) -> None:
        self._actions = dict(actions or {})
        self.content = b""
        """Of the file."""
        super().__init__(title=title, buttons=list(self._actions), **options)
        self.observe(self._on_press, names=["press"])

    def _on_press(self, change: dict[str, Any]) -> None:
        action = self._actions.get(str(change["new"][0])) if change["new"] else None
        if action is not None:
            action(self)

    def pass_file(self) -> None:
        """Send the file, for the page to offer; it is too long to be a trait."""
        self.send({"file": self.file_name}, buffers=[self.content])

    def describe(self) -> Drawing:
        """A heading has no picture."""
        raise InputError(
            f"the section {self.title!r} has no picture; take the snapshot of one of the panels below it"
        )


class Dashboard(ipywidgets.VBox):  # type: ignore[misc] # ipywidgets ships no types
    """A study on one page, from its dimensions to the comparison of its runs.

    What the study still lacks is said in words, with what to do first. Finished runs are compared automatically, and
    the newest one's effective ranks are shown next to the ranks above; "Look again" finds profiles and comparisons
    that were made meanwhile in a terminal or in another notebook. As with `FineTuning`, buttons wait while a cell of
    the notebook runs.

    Args:
        study: a `Study`, with its data.
        options: further options (see `FineTuning`), such as threads or batch_size.

    Attributes:
        overview: the first section.
        ranks: the `RankBudget`; None without a profile.
        explorer: the `Explorer` of the chosen pooling's points; None until it is asked for, since a map takes seconds
            to compute.
        fine_tuning: the `FineTuning`.
        comparison: the `ComparisonExplorer`; None without a finished run.

    Example:
        >>> gv.widgets.Dashboard(gv.Study.open("studies/demo"))  # doctest: +SKIP
    """

    def __init__(self, study: Study, **options: Any) -> None:  # noqa: ANN401 - RunSpec's
        self.study = check_result(study, Study, "study")
        self.ranks: RankBudget | None = None
        self.explorer: Explorer | None = None
        self.comparison: ComparisonExplorer | None = None
        self.overview = _Section(
            f"Study: {study.title}", {"Look again": self._look_again, "Write report": self._write_report}
        )
        self._ranks_head = _Section(
            "1. Ranks from intrinsic dimension", {"Keep as plan": self._keep}, choice_label="Pooling of the profile"
        )
        self._map_head = _Section("2. Maps of hidden states", {"Show the map": lambda _: self._show_map()})
        self._tuning_head = _Section("3. Fine-tuning", hint="Short runs, each in a process of its own.")
        self._compared_head = _Section("4. What came of it", choice_label="Compare")
        self._lock = threading.RLock()
        """Held while panels are exchanged, by whichever thread; nothing of `fine_tuning` is called meanwhile."""
        self._profile_stamp: tuple[str, int] | None = None
        self.fine_tuning = FineTuning(study, **options)
        self._ranks_place, self._map_place, self._compared_place = (ipywidgets.VBox() for _ in range(3))
        super().__init__(
            [
                self.overview,
                self._ranks_head, self._ranks_place,
                self._map_head, self._map_place,
                self._tuning_head, self.fine_tuning,
                self._compared_head, self._compared_place,
            ]
        )  # fmt: skip
        self.fine_tuning.observe(lambda _: self._on_finished(), names=["finished"])
        self.refresh()
        self._ranks_head.observe(lambda _: self._show_ranks(), names=["choice"])
        self._compared_head.observe(lambda _: self._show_comparison(), names=["choice"])

    def __repr__(self) -> str:
        return f"Dashboard({self.study!r})"

    def snapshot(self) -> Snapshot:
        """The study as it stands, for pages without a kernel: dimensions, the ranks shown, and what runs came to.

        Raises:
            InputError: if there is no profile yet.
        """
        with self._lock:
            ranks, comparison = self.ranks, self.comparison
        if ranks is None:
            raise InputError("there is nothing to show yet; profile the study first")
        if comparison is None:
            return ranks.snapshot()
        shown = [ranks.estimator]
        return Snapshot(overview(ranks.profile, ranks.plan, ranks.spectrum, comparison.compared, estimators=shown))

    def refresh(self) -> None:
        """Bring all sections up to what is in the study's folder."""
        self.fine_tuning.refresh()
        with self._lock:
            poolings = list(self.study.profiles())
            self._ranks_head.choices = poolings
            if self._ranks_head.choice not in poolings:
                self._ranks_head.choice = poolings[0] if poolings else ""
            self._show_ranks()
            self._show_what_came_of_it()

    def _on_finished(self) -> None:
        """Called in the thread that watches the runs, when one has finished or is gone."""
        with self._lock:
            try:
                self._show_what_came_of_it()
            except Exception as error:  # noqa: BLE001 - the watching thread has its own work to do
                self.overview.show_error(error)

    def _show_what_came_of_it(self) -> None:
        """Update what depends on the finished runs."""
        compared = list(self.study.comparisons())
        choices = [*([_SINGLE] if self._find_results() else []), *compared]
        self._compared_head.choices = choices
        if self._compared_head.choice not in choices:
            self._compared_head.choice = choices[0] if choices else ""
        self._show_effective_ranks()
        self._show_comparison()
        self._show_overview()
        self.overview.error = "; ".join(self.study.problems())

    def close(self) -> None:
        """Close all panels; runs go on."""
        for panel in (*self.children, self.ranks, self.explorer, self.comparison):
            if panel is not None:
                panel.close()
        super().close()

    def _find_results(self) -> list[Any]:
        """Results of the finished runs of the task that most of them have, which can be compared."""
        results = self.study.results()
        tasks = [result.spec.task for result in results]
        return [result for result in results if result.spec.task == max(tasks, key=tasks.count)]

    def _show_overview(self) -> None:
        study, data = self.study, self.study.data
        plans, n_finished = study.plans(), len(self.fine_tuning.finished)
        self.overview.facts = [
            ["Folder", str(study.path)],
            ["Model", study.model_source],
            ["Texts", f"{len(data.texts('train')):,} to train on, {len(data.texts('test')):,} to test on"],
            ["Classes", f"{len(data.label_names):,}" if data.label_names else "none: language models only"],
        ]
        self.overview.tasks = [
            [bool(self._ranks_head.choices), f"dimensions: {', '.join(self._ranks_head.choices) or 'none yet'}"],
            [bool(plans), f"plans: {', '.join(plans) or 'none yet'}"],
            [n_finished > 0, f"runs: {n_finished} finished of {self.fine_tuning.n_runs}"],
            [(study.path / "report.html").exists(), "report.html"],
        ]
        stale = study.stale_plans()
        self.overview.hint = (
            f"Made from a profile that has been estimated again since: {', '.join(stale)}." if stale else ""
        )

    def _show_ranks(self) -> None:
        with self._lock:
            head, old, stamp = self._ranks_head, self.ranks, self._stamp_of_profile()
            if stamp is not None and stamp == self._profile_stamp:
                return  # what was slid and set by hand stays
            self._profile_stamp = None  # of a panel that is there
            if stamp is None:
                head.hint = (
                    "There is no profile of the intrinsic dimension yet. In a terminal: gelora-viz profile "
                    f"{self.study.path}; in a notebook: study.profile(). Then press Look again."
                )
                self.ranks, self._ranks_place.children = None, ()
            else:
                self.ranks = RankBudget(self.study.profiles()[head.choice], self.study.loaded.model)
                self._ranks_place.children = (self.ranks,)
                self._profile_stamp = stamp
                self._show_effective_ranks()
            self._hide_map()
            head.text_label = "Name of the plan" if head.choices else ""
            head.buttons = ["Keep as plan"] if head.choices else []
            if old is not None:
                old.close()

    def _stamp_of_profile(self) -> tuple[str, int] | None:
        """Identifies the version of the profile to be shown; None without one."""
        pooling = self._ranks_head.choice
        file = self.study.path / "profiles" / f"{pooling}.json"
        return (pooling, file.stat().st_mtime_ns) if pooling and file.exists() else None

    def _show_effective_ranks(self) -> None:
        """Show next to the ranks the effective ranks of the newest run that adapted these matrices."""
        if self.ranks is None:
            return
        said = "Spend a budget of parameters where the dimensions call for it, and keep the ranks as a plan."
        for name in reversed(self.fine_tuning.finished):
            file = self.study.path / "runs" / name / "spectrum.json"
            if file.exists():
                with suppress(GeloraVizError):  # of other matrices, or another version
                    self.ranks.show_spectrum(UpdateSpectrum.load(file))
                    said += f" Dots are the effective ranks of {name}, the newest run of such matrices."
                    break
        else:
            self.ranks.show_spectrum(None)
        self._ranks_head.hint = said

    def _hide_map(self) -> None:
        """The map is of another pooling now, or of a profile that has changed."""
        self._map_head.hint = (
            "Where the training texts lie in a layer, colored by class. It takes a few seconds."
            if self.ranks is not None
            else "There are no hidden states to map yet; profile the study first."
        )
        self._map_head.buttons = [] if self.ranks is None else ["Show the map"]
        self._map_place.children = ()
        if self.explorer is not None:
            self.explorer.close()
            self.explorer = None

    def _show_map(self) -> None:
        pooling = self._ranks_head.choice
        folder = self.study.path / "activations" / pooling
        if not folder.exists():
            raise InputError(f"the hidden states of pooling {pooling!r} are not kept; profile the study again")
        train = self.study.data.frame[self.study.data.frame["split"] == "train"]
        labels = train["label"].tolist() if self.study.data.label_names else None
        self._hide_map()
        self.explorer = Explorer(
            Activations.load(folder), self.study.profiles()[pooling], texts=train["text"].tolist(), labels=labels
        )
        self._map_place.children = (self.explorer,)

    def _keep(self, section: _Section) -> None:
        if self.ranks is None:
            raise InputError("there are no ranks to keep yet; profile the study first")
        name = section.text.strip()
        if not name:
            raise InputError("the plan has no name yet; give it one, such as by-hand")
        name = self.study.keep_plan(name, self.ranks.plan).stem  # it has a number if the name was another plan's
        section.status = f"Kept as plan {name}, which is chosen under Fine-tuning now."
        section.text = ""
        self.fine_tuning.refresh()
        self.fine_tuning.plan = name
        self._show_overview()

    def _show_comparison(self) -> None:
        with self._lock:
            head, old, new = self._compared_head, self.comparison, None
            if not head.choices:
                head.hint = (
                    f'Nothing to compare yet: start runs above, "{FROZEN}" or "{FULL}" among them for comparison; '
                    "finished ones appear here automatically."
                )
            else:
                head.hint = "Finished runs, on the same test texts."
                try:
                    new = self._make_comparison(head.choice)
                except GeloraVizError as error:
                    head.hint = f"These runs cannot be compared: {error}"
            if new is not None and old is not None:
                _carry_over(old, new)
            self.comparison = new
            self._compared_place.children = () if new is None else (new,)
            if old is not None:
                old.close()

    def _make_comparison(self, choice: str) -> ComparisonExplorer:
        if choice != _SINGLE:
            return ComparisonExplorer(self.study.comparisons()[choice], folder=self.study.path / "runs" / choice)
        results = self._find_results()
        names = [result.spec.name for result in results]
        return ComparisonExplorer(results, baseline="uniform" if "uniform" in names else None)

    def _look_again(self, _section: _Section) -> None:
        self.refresh()

    def _write_report(self, section: _Section) -> None:
        section.status = "Writing the report; this takes a few seconds."
        path = self.study.report()
        section.content = path.read_bytes()
        section.file_name = path.name
        section.status = f"Written: {path}"
        self._show_overview()


def _carry_over(old: ComparisonExplorer, new: ComparisonExplorer) -> None:
    """The pair of methods that the reader looks at, where the new panel has them."""
    if old.first != old.second and {old.first, old.second} <= {each["name"] for each in new.methods}:
        new.first, new.second = old.first, old.second
