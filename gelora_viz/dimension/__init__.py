"""Points in, intrinsic dimension out: one exact neighbor graph, many estimators, an interval for each.

What stands here is what others use; the modules behind it are this room's own.

Names are imported when they are first used, so that the command line can list the estimators without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.dimension._calibration import Calibration as Calibration
    from gelora_viz.dimension._calibration import calibrate as calibrate
    from gelora_viz.dimension._calibration import correct_bias as correct_bias
    from gelora_viz.dimension._catalog import DEFAULT_ESTIMATORS as DEFAULT_ESTIMATORS
    from gelora_viz.dimension._catalog import ESTIMATORS as ESTIMATORS
    from gelora_viz.dimension._catalog import choose_estimators as choose_estimators
    from gelora_viz.dimension._catalog import describe_estimators as describe_estimators
    from gelora_viz.dimension._catalog import list_estimators as list_estimators
    from gelora_viz.dimension._cloud import Cloud as Cloud
    from gelora_viz.dimension._estimate import check_rules as check_rules
    from gelora_viz.dimension._estimate import estimate_dimension as estimate_dimension
    from gelora_viz.dimension._estimator import Estimator as Estimator
    from gelora_viz.dimension._graph import NeighborGraph as NeighborGraph
    from gelora_viz.dimension._graph import neighbor_graph as neighbor_graph
    from gelora_viz.dimension._local import local_dimension as local_dimension
    from gelora_viz.dimension._points import DEFAULT_K as DEFAULT_K
    from gelora_viz.dimension._points import check_enough_points as check_enough_points
    from gelora_viz.dimension._points import check_k as check_k
    from gelora_viz.dimension._points import check_one_rule as check_one_rule
    from gelora_viz.dimension._profile import PROFILE_COLUMNS as PROFILE_COLUMNS
    from gelora_viz.dimension._profile import DimensionProfile as DimensionProfile
    from gelora_viz.dimension._scales import ScaleFit as ScaleFit
    from gelora_viz.dimension._scales import fit_scales as fit_scales
    from gelora_viz.dimension._scaling import DimensionScaling as DimensionScaling
    from gelora_viz.dimension._scaling import dimension_scaling as dimension_scaling

_FILES = {
    "_calibration": ("Calibration", "calibrate", "correct_bias"),
    "_catalog": ("DEFAULT_ESTIMATORS", "ESTIMATORS", "choose_estimators", "describe_estimators", "list_estimators"),
    "_cloud": ("Cloud",),
    "_estimate": (
        "check_rules",
        "estimate_dimension",
    ),
    "_estimator": ("Estimator",),
    "_graph": ("NeighborGraph", "neighbor_graph"),
    "_local": ("local_dimension",),
    "_points": ("DEFAULT_K", "check_enough_points", "check_k", "check_one_rule"),
    "_profile": ("PROFILE_COLUMNS", "DimensionProfile"),
    "_scales": ("ScaleFit", "fit_scales"),
    "_scaling": ("DimensionScaling", "dimension_scaling"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = list(_FILE_OF)


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
