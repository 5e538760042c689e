"""Points in, intrinsic dimension out: one exact neighbor graph, many estimators, an interval for each.

What stands here is what others use; the modules behind it are this room's own.
"""

from gelora_viz.dimension._calibration import Calibration, calibrate, correct_bias
from gelora_viz.dimension._catalog import DEFAULT_ESTIMATORS, ESTIMATORS, choose_estimators, list_estimators
from gelora_viz.dimension._cloud import Cloud
from gelora_viz.dimension._estimate import estimate_dimension
from gelora_viz.dimension._estimator import Estimator
from gelora_viz.dimension._graph import NeighborGraph, neighbor_graph
from gelora_viz.dimension._local import local_dimension
from gelora_viz.dimension._points import DEFAULT_K, check_enough_points, check_k
from gelora_viz.dimension._profile import PROFILE_COLUMNS, DimensionProfile
from gelora_viz.dimension._scales import ScaleFit, fit_scales
from gelora_viz.dimension._scaling import DimensionScaling, dimension_scaling

__all__ = [
    "DEFAULT_ESTIMATORS", "DEFAULT_K", "ESTIMATORS", "PROFILE_COLUMNS", "Calibration", "Cloud", "DimensionProfile",
    "DimensionScaling", "Estimator", "NeighborGraph", "ScaleFit", "calibrate", "check_enough_points", "check_k",
    "choose_estimators", "correct_bias", "dimension_scaling", "estimate_dimension", "fit_scales", "list_estimators",
    "local_dimension", "neighbor_graph",
]  # fmt: skip
