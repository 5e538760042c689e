"""The result of an allocation: a rank for every adapted matrix, with the evidence behind it, ready for PEFT."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gelora_viz._results import frame_html, frame_to_records, read_json, records_to_frame, write_json
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    from peft import LoraConfig

_KIND = "rank plan"
COLUMNS = [
    "module", "layer", "stack", "depth", "in_features", "out_features", "rank", "n_parameters",
    "lower_bound", "difference", "ci_low", "ci_high", "within_noise",
]  # fmt: skip
ALPHA_OVER_RANK = 2.0
"""LoRA's scale alpha / r, the same for every matrix, so that unequal ranks do not change the size of updates."""


@dataclass(frozen=True, eq=False)
class RankPlan:
    """A LoRA rank for every adapted matrix.

    Attributes:
        frame: one row per matrix: module, layer (its block), stack, depth (of the block's output), in_features,
            out_features, rank, n_parameters (rank x (in + out)), lower_bound (max(difference, 0) + 1, not rounded),
            difference (dimension of the block's output minus that of its input), ci_low and ci_high (its interval),
            within_noise (whether the interval holds 0). A plan that does not come from dimensions has NaN and None
            there.
        strategy: how ranks were chosen.
        budget: trainable parameters that were allowed; None for the bare lower bound.
        settings: estimator, rounding, pooling and whatever else is needed to repeat the allocation.
    """

    frame: pd.DataFrame
    strategy: str
    budget: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_parameters(self) -> int:
        """Trainable adapter parameters: the sum of rank x (in + out)."""
        return int(self.frame["n_parameters"].sum())

    @property
    def ranks(self) -> dict[str, int]:
        """Module name -> rank."""
        return {str(row.module): int(row.rank) for row in self.frame.itertuples()}

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

    def to_peft_config(self, *, alpha_over_rank: float = ALPHA_OVER_RANK, **overrides: Any) -> LoraConfig:  # noqa: ANN401
        """The plan as a PEFT LoRA configuration.

        `rank_pattern` and `alpha_pattern` hold one escaped full module name per matrix, so that no key matches
        another module, whatever their order (PEFT loses the order when it saves), and layer 1 is never taken for
        layer 11.

        Args:
            alpha_over_rank: the scale of every update, alpha / r.
            overrides: any argument of `peft.LoraConfig` that does not decide ranks, such as lora_dropout or use_dora.

        Raises:
            InputError: if an override would change the ranks.
        """
        from peft import LoraConfig

        fixed = {"r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern"} & overrides.keys()
        if fixed:
            raise InputError(
                f"{', '.join(sorted(fixed))} cannot be overridden, the plan decides them; use alpha_over_rank"
            )
        adapted = self.frame[self.frame["rank"] > 0]
        if adapted.empty:
            raise InputError("every matrix has rank 0, so there is nothing to adapt; raise the budget")
        ranks = {re.escape(str(row.module)): int(row.rank) for row in adapted.itertuples()}
        smallest = min(ranks.values())
        return LoraConfig(
            r=smallest,
            lora_alpha=alpha_over_rank * smallest,  # type: ignore[arg-type] # a float serves PEFT as well
            target_modules=[str(module) for module in adapted["module"]],
            rank_pattern=ranks,
            alpha_pattern={name: alpha_over_rank * rank for name, rank in ranks.items()},
            **{"fan_in_fan_out": bool(self.settings.get("conv1d", False)), **overrides},
        )

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
        """The inverse of `to_dict`."""
        frame = records_to_frame(list(content["ranks"]), COLUMNS)
        evidence = ["lower_bound", "difference", "ci_low", "ci_high"]
        frame[evidence] = frame[evidence].astype(float)
        return cls(frame, content["strategy"], content["budget"], content["settings"])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _KIND, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RankPlan:
        """Read what `save` wrote; raises `StudyError` where it is missing or of another version."""
        return cls.from_dict(read_json(path, _KIND))

    def __repr__(self) -> str:
        ranks = self.frame["rank"]
        allowed = "" if self.budget is None else f" of {self.budget:,}"
        return (
            f"RankPlan({self.strategy!r}: {len(ranks)} matrices, ranks {ranks.min()} to {ranks.max()}, "
            f"{self.n_parameters:,}{allowed} parameters)"
        )

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))
