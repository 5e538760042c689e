"""A dimension profile, a model and a budget in, a rank for every adapted matrix out.

In the order of an allocation: matrices (what can be adapted), evidence (what the profile says), strategies (a weight
for each matrix; eva, sensitivity and batches where the model is run for it), budget (weights to ranks), plan (the
result), editing (the result changed), peft_config. Names are imported when they are first used, so that the command
line can list the strategies without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.ranks.allocate import allocate_ranks as allocate_ranks
    from gelora_viz.ranks.allocate import uniform_budget as uniform_budget
    from gelora_viz.ranks.batches import ModelInputs as ModelInputs
    from gelora_viz.ranks.eva import find_directions as find_directions
    from gelora_viz.ranks.matrices import Matrix as Matrix
    from gelora_viz.ranks.matrices import find_matrices as find_matrices
    from gelora_viz.ranks.peft_config import lora_config as lora_config
    from gelora_viz.ranks.plan import ALPHA_OVER_RANK as ALPHA_OVER_RANK
    from gelora_viz.ranks.plan import PLAN_COLUMNS as PLAN_COLUMNS
    from gelora_viz.ranks.plan import RankPlan as RankPlan
    from gelora_viz.ranks.strategies import STRATEGIES as STRATEGIES
    from gelora_viz.ranks.strategies import check_rank_limits as check_rank_limits
    from gelora_viz.ranks.strategies import check_rounding as check_rounding
    from gelora_viz.ranks.strategies import find_strategy as find_strategy
    from gelora_viz.ranks.strategies import list_strategies as list_strategies

_FILES = {
    "allocate": ("allocate_ranks", "uniform_budget"),
    "batches": ("ModelInputs",),
    "eva": ("find_directions",),
    "matrices": ("Matrix", "find_matrices"),
    "peft_config": ("lora_config",),
    "plan": ("ALPHA_OVER_RANK", "PLAN_COLUMNS", "RankPlan"),
    "strategies": ("STRATEGIES", "check_rank_limits", "check_rounding", "find_strategy", "list_strategies"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
