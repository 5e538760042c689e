"""The result of an allocation: a rank for every adapted matrix, with the evidence behind it, ready for PEFT."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gelora_viz._checks import check_flag, check_model, check_number, check_result, describe
from gelora_viz._reading import Fields
from gelora_viz._results import frame_html, frame_to_records, read_result, records_to_frame, write_json
from gelora_viz.errors import InputError, StudyError
from gelora_viz.ranks.editing import MeasuredRanks, rebalanced_ranks, refined_ranks, resolve_edits, respent_ranks
from gelora_viz.ranks.peft_config import lora_config, lora_config_code
from gelora_viz.ranks.strategies import find_strategy

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import nn

_KIND = "rank plan"
PLAN_COLUMNS = [
    "module", "layer", "stack", "depth", "in_features", "out_features", "rank", "n_parameters", "weight",
    "lower_bound", "difference", "ci_low", "ci_high", "within_noise",
]  # fmt: skip
ALPHA_OVER_RANK = 2.0
"""LoRA's scale alpha / r, the same for every matrix, so that unequal ranks do not change the size of updates."""


@dataclass(frozen=True, eq=False)
class RankPlan:
    """A LoRA rank for every adapted matrix.

    Attributes:
        frame: one row per matrix: module, layer (its block), stack, depth (of the block's output), in_features,
            out_features, rank (0: not adapted), n_parameters (rank x (in + out)), weight (what ranks are in
            proportion to: the strategy's number), lower_bound (max(difference, 0) + 1, not rounded), difference
            (dimension of the block's output minus that of its input), ci_low and ci_high (its interval), within_noise
            (whether the interval holds 0). A plan made without a profile has NaN and None for what follows weight.
        strategy: how ranks were chosen; ends in "edited" or "refined" where they were changed since.
        budget: trainable parameters that were allowed; None for the bare lower bound, and after edits by hand.
        settings: estimator, rounding, pooling and whatever else is needed to repeat the allocation; edits by hand as
            module -> rank.
    """

    frame: pd.DataFrame
    strategy: str
    budget: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not {"module", "rank"} <= set(self.frame):
            return  # what reads the frame says what it lacks
        for module, rank in zip(self.frame["module"], self.frame["rank"], strict=True):
            if not (
                isinstance(rank, Real) and float(rank) >= 0 and float(rank).is_integer()
            ):  # 2.5 would be read as 2
                raise InputError(f"the rank of {module} is {describe(rank)}; give a whole number of at least 0")

    @property
    def n_parameters(self) -> int:
        """Trainable adapter parameters: the sum of rank x (in + out)."""
        return int(self.frame["n_parameters"].sum())

    @property
    def ranks(self) -> dict[str, int]:
        """Module name -> rank."""
        return {str(module): int(rank) for module, rank in zip(self.frame["module"], self.frame["rank"], strict=True)}

    def by_layer(self) -> pd.DataFrame:
        """One row per block: layer, stack, depth, rank (mean over its matrices), n_parameters and the evidence."""
        mean = {"rank": ("rank", "mean"), "n_parameters": ("n_parameters", "sum")}
        evidence = {
            name: (name, "first") for name in ("lower_bound", "difference", "ci_low", "ci_high", "within_noise")
        }
        return (
            self.frame.groupby(["layer", "stack", "depth"], sort=False, dropna=False)
            .agg(**mean, **evidence)
            .reset_index()
        )

    def with_budget(self, budget: int) -> RankPlan:
        """The plan's weights spent on another budget, which takes milliseconds; this one stays as it is.

        What `allocate_ranks` gives for that budget, but for "eva", whose weights were taken at the plan's own budget
        and stay. Ranks set by hand are given up.

        Args:
            budget: trainable adapter parameters, as in `allocate_ranks`.

        Raises:
            InputError: if the budget is not a whole number or does not pay for the plan's lowest ranks everywhere.
        """
        name, *changes = self.strategy.split(", ")
        refined = "refined" in changes
        blocks = [str(layer) for layer in self.frame["layer"]]
        # What a run has reached is known of each matrix by itself.
        groups = list(range(len(blocks))) if refined else find_strategy(name).groups(blocks)
        settings = {key: value for key, value in self.settings.items() if key != "edits"}
        lowest = int(settings.get("min_rank", 1))
        ranks = respent_ranks(self.frame, groups, budget, min_rank=lowest, max_rank=settings.get("max_rank"))
        frame = self._frame_with(ranks)
        return RankPlan(frame, f"{name}, refined" if refined else name, budget, settings)

    def with_rank(
        self, where: str | Mapping[str, int], rank: int | None = None, *, rebalance: bool = False
    ) -> RankPlan:
        """The plan with some ranks changed by hand; this one stays as it is.

        Args:
            where: a module name, a layer (block) name for all its matrices, or a mapping of such names to ranks, in
                which a module's own entry counts over its layer's.
            rank: the new rank, from 0 (not adapted) to min(in, out); left out with a mapping.
            rebalance: False gives up the budget. True keeps it (without one, the present number of parameters): the
                other adapted matrices rise or fall in their present proportions, as few ranks as needed and never
                below 1, until what is left is less than the cheapest further rank of any of them. Matrices changed
                by an earlier call are among the others; give a mapping to fix several.

        Raises:
            InputError: for an unknown name (with the nearest ones), a rank that a matrix cannot take, or with
                rebalance=True ranks that the budget does not pay for.
        """
        check_flag(rebalance, "rebalance")
        edits = resolve_edits(self.frame, where, rank)
        budget = self._kept_budget if rebalance else None
        if budget is None:
            ranks = [edits.get(module, rank) for module, rank in self.ranks.items()]
        else:
            ranks = rebalanced_ranks(self.frame, edits, budget, self.settings.get("max_rank"))
        settings = {**self.settings, "edits": {**self.settings.get("edits", {}), **edits}}
        return self._changed(ranks, "edited", budget, settings)

    def refined(self, spectrum: MeasuredRanks, *, min_rank: int = 1) -> RankPlan:
        """The plan after a run: budget moves from matrices that used little of their rank to those that used it up.

        The same budget (without one, the present number of parameters) is spent again, matrix by matrix, in
        proportion to the entropy rank that each update reached. A matrix of rank 1 always reads as fully used,
        whatever it needs; and one run's effective ranks are those of one seed, so refine on what several runs agree
        on. Matrices of rank 0 were not trained and stay there.

        Args:
            spectrum: an `UpdateSpectrum` of an adapter trained with this plan, or anything with such a frame.
            min_rank: every adapted matrix keeps at least this rank; with 0, one whose update is zero is given up.

        Raises:
            InputError: if the spectrum is of another plan (with the modules that differ), its updates are all zero,
                or `min_rank` is not a whole number or takes more than the budget.
        """
        if not isinstance(getattr(spectrum, "frame", None), pd.DataFrame):
            raise InputError(f"spectrum is {describe(spectrum)}; give what measure_spectra gives after a run")
        budget = self._kept_budget
        ranks, reached = refined_ranks(
            self.frame, spectrum, budget, min_rank=min_rank, max_rank=self.settings.get("max_rank")
        )
        settings = {**self.settings, "min_rank": min_rank}
        return self._changed(ranks, "refined", budget, settings, weights=reached)

    def compared_with(self, other: RankPlan) -> pd.DataFrame:
        """How this plan differs from another one for the same model.

        Returns:
            One row per matrix of either plan: module, layer, rank, other_rank, difference (rank - other_rank),
            n_parameters, other_n_parameters. A matrix that a plan does not name has rank 0 in it.

        Raises:
            InputError: if the plans have no layer in common, so that they are for different models.
        """
        check_result(other, RankPlan, "other")
        if not set(self.frame["layer"]) & set(other.frame["layer"]):
            raise InputError(
                f"the plans are for different models, with layers such as {self.frame['layer'].iloc[0]} and "
                f"{other.frame['layer'].iloc[0]}; compare plans for the same model"
            )
        mine, others = self.frame.set_index("module"), other.frame.set_index("module")
        modules = list(dict.fromkeys([*mine.index, *others.index]))
        layers = {**others["layer"], **mine["layer"]}
        compared = pd.DataFrame({"module": modules, "layer": [layers[module] for module in modules]})
        for column in ("rank", "n_parameters"):
            for prefix, frame in (("", mine), ("other_", others)):
                compared[prefix + column] = frame[column].reindex(modules, fill_value=0).to_numpy()
        compared.insert(4, "difference", compared["rank"] - compared["other_rank"])
        return compared

    @property
    def _kept_budget(self) -> int:
        """What a changed plan may spend."""
        return self.n_parameters if self.budget is None else self.budget

    def _changed(
        self,
        ranks: list[int],
        how: str,
        budget: int | None,
        settings: Mapping[str, Any],
        weights: list[float] | None = None,
    ) -> RankPlan:
        """The plan with other ranks, and in its strategy how they came about."""
        frame = self._frame_with(ranks)
        if weights is not None:
            frame["weight"] = weights
        said = self.strategy if self.strategy.endswith(f", {how}") else f"{self.strategy}, {how}"
        return RankPlan(frame, said, budget, settings)

    def _frame_with(self, ranks: list[int]) -> pd.DataFrame:
        costs = self.frame["in_features"] + self.frame["out_features"]
        return self.frame.assign(rank=ranks, n_parameters=costs * ranks)

    def to_peft_config(
        self,
        model: nn.Module | None = None,
        *,
        alpha_over_rank: float = ALPHA_OVER_RANK,
        **overrides: Any,  # noqa: ANN401
    ) -> LoraConfig:
        """The plan as a PEFT LoRA configuration.

        Saving and loading it with PEFT gives the same ranks and scales; see `lora_config` for how.

        Args:
            model: the model that it will be used on. With it, names are full ones in that model, also where the plan
                was made with a part of it, such as `model.language_model`, and match nothing else. Without it, the
                plan's names are read by PEFT as endings, which other towers of a larger model may have, too.
            alpha_over_rank: the scale of every update, alpha / r.
            overrides: any argument of `peft.LoraConfig` that does not decide ranks, such as lora_dropout or use_dora.

        Raises:
            InputError: if an override would change the ranks or their scale (use_rslora), every rank is 0, or the
                plan was made for another model.
        """
        conv1d = {"fan_in_fan_out": bool(self.settings.get("conv1d", False))}
        ranks, expression = self.ranks, False
        if model is not None:
            placed = self._placed_in(model)
            ranks = {placed[module]: rank for module, rank in ranks.items()}
            from gelora_viz.ranks.placing import needs_expression

            expression = needs_expression(model, {module for module, rank in ranks.items() if rank > 0})
        return lora_config(ranks, alpha_over_rank=alpha_over_rank, expression=expression, **{**conv1d, **overrides})

    def check(self, peft_model: PeftModel, *, alpha_over_rank: float = ALPHA_OVER_RANK) -> None:
        """Compare every module, rank, scale and number of parameters with what PEFT built.

        Args:
            peft_model: what `peft.get_peft_model` made of this plan's configuration; its active adapter is read.
            alpha_over_rank: what was given to `to_peft_config`.

        Raises:
            InputError: if PEFT adapted other modules, or in another way, with what it did and what to do; if the plan
                was made for another model, or this is no `PeftModel`.
        """
        from peft import PeftModel  # slow to import, and not needed to read plans

        from gelora_viz.ranks.built import Built, compare_built, read_built

        if not isinstance(peft_model, PeftModel):
            raise InputError(f"peft_model is {describe(peft_model)}; give what peft.get_peft_model returns")
        scale = check_number(alpha_over_rank, "alpha_over_rank", above=0)
        placed = self._placed_in(peft_model)
        counts = dict(zip(self.frame["module"], self.frame["n_parameters"], strict=True))
        planned = {
            placed[module]: Built(rank, scale, int(counts[module])) for module, rank in self.ranks.items() if rank > 0
        }
        compare_built(read_built(peft_model), planned)

    def _placed_in(self, model: nn.Module) -> dict[str, str]:
        """The full name of each planned matrix in a model."""
        from gelora_viz.ranks.placing import place_modules

        columns = (self.frame["module"], self.frame["in_features"], self.frame["out_features"])
        shapes = {str(module): (int(ins), int(outs)) for module, ins, outs in zip(*columns, strict=True)}
        made_with = self.settings.get("model_class")
        return place_modules(check_model(model), shapes, None if made_with is None else str(made_with))

    def to_peft_code(self, *, alpha_over_rank: float = ALPHA_OVER_RANK) -> str:
        """Python text that makes the same LoRA configuration with PEFT alone, to be pasted into a script.

        Raises:
            InputError: if every rank is 0.
        """
        conv1d = bool(self.settings.get("conv1d", False))
        return lora_config_code(self.ranks, alpha_over_rank=alpha_over_rank, comment=repr(self), conv1d=conv1d)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, which `from_dict` reads."""
        return {
            "strategy": self.strategy,
            "budget": self.budget,
            "settings": dict(self.settings),
            "ranks": frame_to_records(self.frame),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RankPlan:
        """The inverse of `to_dict`; raises `StudyError` for anything else."""
        fields = Fields(content, _KIND)
        frame = records_to_frame(fields.rows("ranks"), PLAN_COLUMNS, texts=("module", "layer", "stack"))
        _check_ranks(frame)
        numbers = ["weight", "lower_bound", "difference", "ci_low", "ci_high"]
        frame[numbers] = frame[numbers].astype(float)
        budget = None if content.get("budget") is None else fields.whole("budget")
        return cls(frame, fields.text("strategy"), budget, fields.mapping("settings"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _KIND, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RankPlan:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return read_result(path, _KIND, cls.from_dict)

    def __repr__(self) -> str:
        ranks = self.frame["rank"]
        allowed = "" if self.budget is None else f" of {self.budget:,}"
        return (
            f"RankPlan({self.strategy!r}: {len(ranks)} matrices, ranks {ranks.min()} to {ranks.max()}, "
            f"{self.n_parameters:,}{allowed} parameters)"
        )

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))


def _check_ranks(frame: pd.DataFrame) -> None:
    """Raise `StudyError` for a table of a plan in which no module has a rank, or one has what is no rank."""
    if frame.empty:
        raise StudyError("the rank plan has no modules; allocate ranks again")
    for name in ("in_features", "out_features", "rank", "n_parameters"):
        for module, value in zip(frame["module"], frame[name], strict=True):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise StudyError(
                    f"{name} of {module} is {value!r}, not a whole number from 0 on; allocate ranks again"
                )
