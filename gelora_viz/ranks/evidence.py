"""What a dimension profile says about each matrix: the rise of dimension over its block, and GeLoRA's bound."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from gelora_viz._names import goes_by
from gelora_viz.activations import compare_origins, describe_origin
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.ranks.matrices import Matrix


class Evidence(NamedTuple):
    """What is known about the block of a matrix; NaN and None where there is no profile.

    Attributes:
        dimension: dimension of the block's output.
        lower_bound: max(difference, 0) + 1, not rounded.
        difference: dimension of the block's output minus that of its input.
        ci_low: lower end of the difference's interval.
        ci_high: upper end of the difference's interval.
        within_noise: whether the interval holds 0.
    """

    dimension: float = math.nan
    lower_bound: float = math.nan
    difference: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    within_noise: bool | None = None


def check_origin(profile: DimensionProfile, model: nn.Module) -> None:
    """Compare the model that a profile was made with, where that is known, with the one to be adapted.

    Raises:
        InputError: if the architecture is another one, which names and shapes of layers need not show.

    Warns:
        UserWarning: if the weights are others, as those of a fine-tuned checkpoint are.
    """
    differing, other_weights = compare_origins(profile.origin, describe_origin(model))
    name = dict(profile.settings.get("capture") or {}).get("model") or "another model"
    if differing:
        raise InputError(
            f"the profile was made with {name}, another model ({'; '.join(differing)}); estimate the dimensions of "
            "this model, or give accept_other_model=True"
        )
    if other_weights:
        warnings.warn(
            f"the profile was made with other weights of this architecture ({name}); ranks follow those, so estimate "
            "the dimensions of this model unless you mean it",
            stacklevel=3,
        )


def read_evidence(
    profile: DimensionProfile | None, matrices: Sequence[Matrix], estimator: str = "twonn"
) -> list[Evidence]:
    """For each matrix what the profile says about its block; met by stack and depth.

    Raises:
        InputError: if the profile was made for another model, lacks the estimator, or holds NaN.
    """
    if profile is None:
        return [Evidence()] * len(matrices)
    differences = profile.differences(estimator)
    known = {(str(row.stack), int(row.depth)): row for row in differences.itertuples(index=False)}
    names = {(matrix.block.stack, matrix.block.depth): matrix.block.name for matrix in matrices}
    missing = [name for place, name in names.items() if place not in known]
    other = [
        f"{known[place].layer} for {name}"
        for place, name in names.items()
        if place in known and _differs(known[place], name)
    ]
    if missing or other:
        raise InputError(
            f"the profile was made for another model: it lacks {', '.join(missing[:3]) or 'nothing'}"
            f"{' and has ' + ', '.join(other[:3]) if other else ''}; estimate the dimensions of this model"
        )
    if not np.isfinite(differences["difference"]).all():
        raise InputError(f"the profile's {estimator} estimates hold NaN; estimate again, or choose another estimator")
    return [_of_block(known[matrix.block.stack, matrix.block.depth]) for matrix in matrices]


def _of_block(row: Any) -> Evidence:  # noqa: ANN401 - a pandas row
    return Evidence(
        dimension=float(row.dimension_out),
        lower_bound=max(float(row.difference), 0.0) + 1.0,
        difference=float(row.difference),
        ci_low=float(row.ci_low),
        ci_high=float(row.ci_high),
        within_noise=bool(row.within_noise),
    )


def _differs(row: Any, name: str) -> bool:  # noqa: ANN401 - a pandas row
    """Whether the profile names its layer as a module path, and another one than the block's.

    A profile captured on a model with a task head calls the same block "bert.encoder.layer.0" and not
    "encoder.layer.0"; one from arrays may call it anything without dots.
    """
    layer = str(row.layer)
    return "." in layer and not goes_by(layer, name) and not goes_by(name, layer)
