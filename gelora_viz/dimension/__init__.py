"""Points in, intrinsic dimension out: one exact neighbour graph, many estimators, an interval for each."""

from gelora_viz.dimension.estimate import estimate_dimension
from gelora_viz.dimension.formulas import ESTIMATORS, Estimator, estimators
from gelora_viz.dimension.graph import NeighborGraph, neighbor_graph
from gelora_viz.dimension.profile import DimensionProfile

__all__ = [
    "ESTIMATORS",
    "DimensionProfile",
    "Estimator",
    "NeighborGraph",
    "estimate_dimension",
    "estimators",
    "neighbor_graph",
]
