"""Points in, intrinsic dimension out: one exact neighbour graph, many estimators, an interval for each."""

from gelora_viz.dimension.estimate import estimate_dimension
from gelora_viz.dimension.formulas import DEFAULT_ESTIMATORS, ESTIMATORS, Estimator, estimators
from gelora_viz.dimension.graph import NeighborGraph, neighbor_graph
from gelora_viz.dimension.local import local_dimension
from gelora_viz.dimension.profile import DimensionProfile
from gelora_viz.dimension.scaling import DimensionScaling, dimension_scaling

__all__ = [
    "DEFAULT_ESTIMATORS",
    "ESTIMATORS",
    "DimensionProfile",
    "DimensionScaling",
    "Estimator",
    "NeighborGraph",
    "dimension_scaling",
    "estimate_dimension",
    "estimators",
    "local_dimension",
    "neighbor_graph",
]
