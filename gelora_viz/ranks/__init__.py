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
    from gelora_viz.ranks.matrices import Matrix as Matrix
    from gelora_viz.ranks.matrices import find_matrices as find_matrices
    from gelora_viz.ranks.plan import RankPlan as RankPlan
    from gelora_viz.ranks.strategies import STRATEGIES as STRATEGIES

_MODULE_OF = {
    "STRATEGIES": "strategies", "Matrix": "matrices", "RankPlan": "plan", "allocate_ranks": "allocate",
    "find_matrices": "matrices", "uniform_budget": "allocate",
}  # fmt: skip

__all__ = [*_MODULE_OF]


__getattr__ = import_on_use(__name__, _MODULE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
