"""Choose LoRA ranks by hand: a slider for the budget, a choice of strategies, and a bar to drag for each block.

All numbers come from `gelora_viz.ranks`. What is shown is a function of five traits (budget, strategy, estimator,
edits, keep_budget), so that a step back is simply an earlier value of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets

from gelora_viz._checks import check_choice, check_result, describe
from gelora_viz._names import did_you_mean
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.plots import Drawing, estimator_title, rank_profile
from gelora_viz.ranks import STRATEGIES, Matrix, RankPlan, allocate_ranks, check_rank_limits, find_matrices
from gelora_viz.spectra import UpdateSpectrum
from gelora_viz.widgets.curve import describe_curve, without_nan
from gelora_viz.widgets.panel import Panel, read_module, read_style

if TYPE_CHECKING:
    from torch import nn


_HIGHEST_RANK = 64
"""Where the slider ends, as a rank in every matrix; a higher budget can be set from Python."""
_STOPS_PER_OCTAVE = 8
_STATE = ("budget", "strategy", "estimator", "edits", "keep_budget")


class _State(NamedTuple):
    """What the panel's plan is a function of."""

    budget: int
    strategy: str
    estimator: str
    edits: Mapping[str, int]
    keep_budget: bool


class RankBudget(Panel):
    """Ranks for a budget, next to the intrinsic dimensions that they come from.

    The strategies that read the profile or nothing are computed as the slider moves. "eva" and "gradient" run the
    model, which is too slow for a slider: allocate them once, and give the plans as `readings`; their weights are
    then spent on every budget. The model is read for the names and shapes of its matrices, and not kept.

    A change that is not possible is not made: the control goes back, and the panel says why.

    Args:
        profile: dimensions of embeddings and all blocks of this model.
        model: the model to be adapted.
        budget: trainable adapter parameters at the beginning; by default those of rank 4 in every matrix.
        strategy: the strategy at the beginning; one of those above, or a name in `readings`.
        estimator: the estimator at the beginning; by default TwoNN, or the first of the profile's.
        target_modules: module-name endings to adapt (see `allocate_ranks`).
        min_rank: lowest rank of a matrix (see `allocate_ranks`).
        max_rank: highest rank of a matrix (see `allocate_ranks`).
        seed: seed of "random".
        spectrum: what a trained adapter has used of its ranks, shown next to them.
        readings: name -> plan for the same matrices, for example {"gradient": plan}.

    Raises:
        InputError: wherever `allocate_ranks` raises it, or where a reading or the spectrum is of other matrices.

    Example:
        >>> import gelora_viz as gv
        >>> model, tokenizer, _ = gv.load_model("minilm")
        >>> texts = gv.load_texts("icd10cm", max_texts=300).texts()
        >>> profile = gv.estimate_dimension(gv.capture(model, tokenizer, texts, progress=False), progress=False)
        >>> panel = gv.widgets.RankBudget(profile, model)
        >>> panel.plan.n_parameters, panel.plan.budget
        (36864, 36864)
    """

    _esm = read_module("rank_budget.js")
    _css = read_style("rank_budget.css")
    _page_calls = ("undo", "redo", "clear_edits", "send_peft_code")

    budget = traitlets.Int().tag(sync=True)
    """Trainable adapter parameters, the sum over matrices of r (in + out); not exceeded while `keep_budget` is on."""

    strategy = traitlets.Unicode().tag(sync=True)
    """How ranks are chosen: one of `strategies`."""

    estimator = traitlets.Unicode().tag(sync=True)
    """Whose dimensions are shown and used: one of `estimators`."""

    edits = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Int()).tag(sync=True)
    """Ranks set by hand, layer or module name -> rank; they stay while the budget or the strategy changes."""

    keep_budget = traitlets.Bool(True).tag(sync=True)
    """Whether the other ranks make room for those set by hand, so that the budget is kept."""

    movement = traitlets.Int(0).tag(sync=True)
    """Number of the page's movement that a change belongs to: all of one drag are undone in one step."""

    strategies: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, meaning] of each strategy that can be chosen."""

    estimators: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, title] of each estimator of the profile."""

    stops: traitlets.List[list[float]] = traitlets.List().tag(sync=True)
    """[budget, rank] of each stop of the slider: what that rank in every matrix costs; a doubling has eight."""

    layers: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    """[name, stack, depth, highest rank] of each block with adapted matrices."""

    dimensions = traitlets.Dict().tag(sync=True)
    """The estimator's curve: color, dash, alternative text, and for each stack depths, values and intervals."""

    bounds: traitlets.List[float | None] = traitlets.List().tag(sync=True)
    """GeLoRA's lower bound of each of `layers`."""

    ranks = traitlets.Dict().tag(sync=True)
    """For each of `layers` the mean, low and high rank over its matrices, and whether it is edited."""

    effective_ranks: traitlets.List[float | None] = traitlets.List().tag(sync=True)
    """Mean entropy rank of each of `layers` where a spectrum was given; null where it has none."""

    can_undo = traitlets.Bool(False).tag(sync=True)
    """Whether there is a step to go back."""

    can_redo = traitlets.Bool(False).tag(sync=True)
    """Whether there is a step that was taken back."""

    def __init__(
        self,
        profile: DimensionProfile,
        model: nn.Module,
        *,
        budget: int | None = None,
        strategy: str = "gelora",
        estimator: str | None = None,
        target_modules: str | Sequence[str] | None = None,
        min_rank: int = 1,
        max_rank: int | None = None,
        seed: int = 0,
        spectrum: UpdateSpectrum | None = None,
        readings: Mapping[str, RankPlan] | None = None,
    ) -> None:
        self.profile = check_result(profile, DimensionProfile, "profile")
        check_choice(strategy, "strategy", STRATEGIES)
        check_rank_limits(min_rank, max_rank)
        if spectrum is not None:
            check_result(spectrum, UpdateSpectrum, "spectrum")
        if readings is not None and not isinstance(readings, Mapping):
            raise InputError(f"readings is {describe(readings)}; give a mapping from names to plans")
        for name, plan in (readings or {}).items():
            check_result(plan, RankPlan, f"readings[{name!r}]")
        self.spectrum: UpdateSpectrum | None = None
        self._matrices = find_matrices(model, target_modules)
        self._costs = sum(matrix.cost for matrix in self._matrices)
        self._settings = {"min_rank": min_rank, "max_rank": max_rank, "seed": seed}
        self._readings = dict(readings or {})
        self._check_readings()
        self._estimators = profile.estimators
        self._bases: dict[tuple[str, str], RankPlan] = {}
        if estimator is None:
            estimator = "twonn" if "twonn" in profile.estimators else profile.estimators[0]
        stops = list(_stops(self._matrices, min_rank, max_rank))
        if budget is None:
            budget = min(stops, key=lambda each: abs(each[1] - 4))[0]
        self._state = _State(budget, strategy, estimator, {}, keep_budget=True)
        self._plan = self._make_plan(self._state)
        self._past: list[_State] = []
        self._future: list[_State] = []
        self._last_movement = 0
        self._is_moving = False
        super().__init__(
            **self._state._asdict(),
            strategies=self._list_strategies(),
            estimators=[[name, estimator_title(name)] for name in profile.estimators],
            stops=[list(stop) for stop in stops],
            layers=_list_layers(self._matrices),
        )
        self.show_spectrum(spectrum)
        self._show()
        self.observe(self._on_change, names=list(_STATE))

    @property
    def plan(self) -> RankPlan:
        """The plan that is shown, ready for `to_peft_config`, `save` or `launch`."""
        return self._plan

    @property
    def peft_code(self) -> str:
        """Python text of the LoRA configuration that the plan means, with PEFT alone."""
        return self._plan.to_peft_code()

    def undo(self) -> None:
        """Undo the last change; can be repeated back to the first."""
        if self._past:
            self._future.append(self._state)
            self._go_to(self._past.pop())

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        if self._future:
            self._past.append(self._state)
            self._go_to(self._future.pop())

    def clear_edits(self) -> None:
        """Discard all ranks that were set by hand; can be undone."""
        self.edits = {}

    def send_peft_code(self) -> None:
        """Send `peft_code` to the page, which puts it on the clipboard; called by its button."""
        self.send({"peft_code": self.peft_code})

    def show_spectrum(self, spectrum: UpdateSpectrum | None) -> None:
        """Show next to the ranks the effective ranks of a trained adapter; None shows nothing.

        Raises:
            InputError: if the spectrum is of other matrices; what was shown stays.
        """
        self.effective_ranks = [] if spectrum is None else self._find_effective_ranks(spectrum)
        self.spectrum = spectrum

    def describe(self) -> Drawing:
        """The panel's picture: as `plots.rank_profile`, with one estimator."""
        return rank_profile(self.profile, self._plan, self.spectrum, estimators=[self.estimator])

    def _on_change(self, _: Any) -> None:  # noqa: ANN401 - traitlets' change
        """A control has moved, on the page or from Python."""
        wanted = _State(self.budget, self.strategy, self.estimator, dict(self.edits), keep_budget=self.keep_budget)
        if self._is_moving or wanted == self._state:
            return
        movement = self.movement if self._asked_by_page else 0
        try:
            plan = self._make_plan(wanted)
        except Exception:
            self._set_controls(self._state)
            raise
        if movement == 0 or movement != self._last_movement:
            self._past.append(self._state)
        self._last_movement = movement
        self._future.clear()
        self._state, self._plan = wanted, plan
        self._show()

    def _go_to(self, state: _State) -> None:
        """Back or forth to a state that was shown before."""
        self._last_movement = 0
        self._state, self._plan = state, self._make_plan(state)
        self._set_controls(state)
        self._show()

    def _set_controls(self, state: _State) -> None:
        with self._moving():
            for name, value in state._asdict().items():
                setattr(self, name, value)

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """While several traits change that belong together; nothing is computed in between, or sent."""
        self._is_moving = True
        try:
            with self.hold_sync():
                yield
        finally:
            self._is_moving = False

    def _make_plan(self, state: _State) -> RankPlan:
        if state.estimator not in self._estimators:
            self.profile.of(state.estimator)  # raises, with those that it has
        plan = self._base(state.strategy, state.estimator).with_budget(state.budget)
        return plan.with_rank(state.edits, rebalance=state.keep_budget) if state.edits else plan

    def _base(self, strategy: str, estimator: str) -> RankPlan:
        """A plan of this strategy, whose weights are then spent on any budget."""
        if strategy in self._readings:
            return self._readings[strategy]
        known = [*(name for name, each in STRATEGIES.items() if each.reads != "batches"), *self._readings]
        if strategy in STRATEGIES and strategy not in known:
            raise InputError(
                f'strategy "{strategy}" runs the model, which is too slow for a slider; allocate it once, and give '
                f'readings={{"{strategy}": plan}}'
            )
        if strategy not in known:
            raise InputError(f"unknown strategy {strategy!r}; {did_you_mean(strategy, known)}")
        if (strategy, estimator) not in self._bases:
            lowest = sum(max(1, self._settings["min_rank"] or 0) * matrix.cost for matrix in self._matrices)
            self._bases[strategy, estimator] = allocate_ranks(
                self.profile,
                self._matrices,
                strategy=strategy,
                estimator=estimator,
                budget=lowest,
                **self._settings,  # type: ignore[arg-type] # whole numbers, and None for max_rank
            )
        return self._bases[strategy, estimator]

    def _show(self) -> None:
        """Update everything that the page draws from the plan."""
        frame = self._plan.frame
        blocks = frame.groupby("layer", sort=False)
        ranks = blocks["rank"].agg(["mean", "min", "max"])
        edited = {*self._state.edits}
        layer_of = dict(zip(frame["module"], frame["layer"], strict=True))
        edited |= {layer_of[name] for name in edited & layer_of.keys()}
        with self.hold_sync():
            self.ranks = {
                "mean": ranks["mean"].tolist(),
                "low": ranks["min"].tolist(),
                "high": ranks["max"].tolist(),
                "edited": [name in edited for name in ranks.index],
            }
            if self.dimensions.get("estimator") != self._state.estimator:
                self.dimensions = describe_curve(self.profile, self._state.estimator)
                evidence = self._base("gelora", self._state.estimator).frame.groupby("layer", sort=False)
                self.bounds = without_nan(evidence["lower_bound"].first())
            self.can_undo, self.can_redo = bool(self._past), bool(self._future)
            self.status = self._say_status(len(edited & {name for name, *_ in self.layers}))

    def _say_status(self, n_edited: int) -> str:
        spent, budget = self._plan.n_parameters, self._state.budget
        said = f"{spent:,} of {budget:,} parameters, as many as rank {spent / self._costs:.2f} in every matrix."
        if spent > budget:
            said = f"{spent:,} parameters, {spent - budget:,} more than the budget of {budget:,}."
        if n_edited:
            said += f" {n_edited} {'block is' if n_edited == 1 else 'blocks are'} set by hand."
        return said

    def _list_strategies(self) -> list[list[str]]:
        own = [[name, each.meaning] for name, each in STRATEGIES.items() if each.reads != "batches"]
        given = [
            [name, STRATEGIES[name].meaning if name in STRATEGIES else "a plan that was given"]
            for name in self._readings
        ]
        return [*(each for each in own if each[0] not in self._readings), *given]

    def _check_readings(self) -> None:
        ours = {matrix.module for matrix in self._matrices}
        for name, plan in self._readings.items():
            if set(plan.frame["module"]) != ours:
                raise InputError(
                    f"reading {name!r} is a plan for {len(plan.frame)} matrices, such as "
                    f"{plan.frame['module'].iloc[0]}, and the panel is for {len(ours)}, such as "
                    f"{self._matrices[0].module}; allocate it for the same model and target_modules"
                )

    def _find_effective_ranks(self, spectrum: UpdateSpectrum) -> list[float | None]:
        reached = dict(zip(spectrum.frame["module"], spectrum.frame["entropy_rank"], strict=True))
        of_layers: dict[str, list[float]] = {matrix.block.name: [] for matrix in self._matrices}
        for matrix in self._matrices:
            if matrix.module in reached:
                of_layers[matrix.block.name].append(float(reached[matrix.module]))
        if not any(of_layers.values()):
            raise InputError(
                f"the spectrum's matrices, such as {next(iter(reached), 'none')}, are not the panel's, such as "
                f"{self._matrices[0].module}; give the spectrum of an adapter of this model"
            )
        return [sum(values) / len(values) if values else None for values in of_layers.values()]


def _stops(matrices: Sequence[Matrix], min_rank: int, max_rank: int | None) -> Iterator[tuple[int, float]]:
    """(budget, rank) over the slider, from the lowest rank to the highest that the matrices can take."""
    limits = [matrix.max_rank if max_rank is None else min(matrix.max_rank, max_rank) for matrix in matrices]
    lowest, highest = max(1, min_rank), min(_HIGHEST_RANK, max(limits))
    for octave in range(int(math.log2(_HIGHEST_RANK)) + 1):
        for part in range(_STOPS_PER_OCTAVE):
            rank = 2**octave * (1 + part / _STOPS_PER_OCTAVE)
            if lowest <= rank <= highest:
                spent = sum(min(rank, limit) * matrix.cost for matrix, limit in zip(matrices, limits, strict=True))
                yield math.floor(spent), rank


def _list_layers(matrices: Sequence[Matrix]) -> list[list[Any]]:
    layers: dict[str, list[Any]] = {}
    for matrix in matrices:
        entry = layers.setdefault(
            matrix.block.name, [matrix.block.name, matrix.block.stack, matrix.block.depth, matrix.max_rank]
        )
        entry[3] = min(entry[3], matrix.max_rank)
    return list(layers.values())
