"""A dimension profile, a model and a budget in, a rank for every adapted matrix out."""

from gelora_viz.ranks.allocate import STRATEGIES, allocate_ranks, uniform_budget
from gelora_viz.ranks.matrices import Matrix, find_matrices
from gelora_viz.ranks.plan import RankPlan

__all__ = ["STRATEGIES", "Matrix", "RankPlan", "allocate_ranks", "find_matrices", "uniform_budget"]
