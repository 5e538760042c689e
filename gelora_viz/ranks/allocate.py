"""From dimensions to ranks: GeLoRA's rule, bare or scaled to a budget, and the uniform control it has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.ranks.budget import apportion
from gelora_viz.ranks.matrices import Matrix, find_matrices
from gelora_viz.ranks.plan import COLUMNS, RankPlan

STRATEGIES = ("gelora", "uniform")
_ROUNDINGS: dict[str, Callable[[float], int]] = {"ceil": math.ceil, "round": round}


def allocate_ranks(
    profile: DimensionProfile | None,
    model: nn.Module,
    *,
    strategy: str = "gelora",
    budget: int | None = None,
    target_modules: str | Sequence[str] | None = None,
    rounding: str = "ceil",
    estimator: str = "twonn",
    max_rank: int | None = None,
) -> RankPlan:
    """Choose a LoRA rank for every adapted matrix.

    "gelora" follows GeLoRA (arXiv 2412.09250): block i reads the hidden states at depth i - 1 and writes those at
    depth i, and all its adapted matrices get r = max(d_i - d_(i-1), 0) + 1. Without a budget that bare lower bound is
    rounded and used. With a budget the unrounded bounds are the proportions in which it is spent (our reconstruction:
    the paper's scaling could not be read), at least rank 1 everywhere. "uniform" gives every matrix the same rank, as
    far as the budget goes.

    Args:
        profile: dimensions of embeddings and all blocks of this model; may be None for "uniform".
        model: the model to be adapted, for the shapes of its matrices.
        strategy: "gelora" or "uniform".
        budget: trainable adapter parameters, the sum of r (in + out); never exceeded, and what is left is less than
            the cheapest further rank. None gives the bare lower bound. See `uniform_budget` for one that means "as r
            = 4".
        target_modules: as in PEFT; None takes PEFT's choice for the model's type.
        rounding: of the bare bound, "ceil" or "round": "ceil" turns any positive noise into rank 2.
        estimator: whose dimensions to use; GeLoRA uses TwoNN.
        max_rank: no matrix gets more; by default each matrix's own limit, min(in, out).

    Raises:
        InputError: for an unknown strategy, estimator or rounding; a profile of another model; a budget below rank 1
            everywhere; target modules that match nothing.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"unknown strategy {strategy!r}; choose {' or '.join(STRATEGIES)}")
    if rounding not in _ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}; choose {' or '.join(_ROUNDINGS)}")
    if budget is not None:
        budget = _whole(budget, "budget")
    if max_rank is not None:
        max_rank = _whole(max_rank, "max_rank")
    if profile is None and strategy == "gelora":
        raise InputError('strategy "gelora" needs a dimension profile; estimate one, or use strategy "uniform"')
    if strategy == "uniform" and budget is None:
        raise InputError('strategy "uniform" needs a budget; uniform_budget(model, rank=4) gives that of rank 4')
    matrices = find_matrices(model, target_modules)
    evidence = [_no_evidence()] * len(matrices) if profile is None else _evidence(profile, matrices, estimator)
    limits = [matrix.max_rank if max_rank is None else min(matrix.max_rank, max_rank) for matrix in matrices]
    weights = [1.0 if strategy == "uniform" else row["lower_bound"] for row in evidence]
    if budget is None:
        ranks = [min(_ROUNDINGS[rounding](weight), limit) for weight, limit in zip(weights, limits, strict=True)]
    else:
        blocks = list(dict.fromkeys(matrix.block.name for matrix in matrices))
        groups = [0 if strategy == "uniform" else blocks.index(matrix.block.name) for matrix in matrices]
        ranks = apportion(weights, [matrix.cost for matrix in matrices], limits, groups, budget)
    rows = [_row(matrix, rank, row) for matrix, rank, row in zip(matrices, ranks, evidence, strict=True)]
    settings: dict[str, Any] = {
        "estimator": estimator if profile is not None else None,
        "pooling": profile.pooling if profile is not None else None,
        "rounding": rounding if budget is None else None,
        "max_rank": max_rank,
        "conv1d": any(isinstance(model.get_submodule(matrix.module), Conv1D) for matrix in matrices),
    }
    return RankPlan(pd.DataFrame(rows, columns=COLUMNS), strategy, budget, settings)


def uniform_budget(model: nn.Module, rank: int = 4, target_modules: str | Sequence[str] | None = None) -> int:
    """Trainable parameters of LoRA with the same rank in every adapted matrix: the sum of rank x (in + out).

    Raises:
        InputError: if `rank` is below 1 or the target modules match nothing.
    """
    rank = _whole(rank, "rank")
    return sum(min(rank, matrix.max_rank) * matrix.cost for matrix in find_matrices(model, target_modules))


def _whole(number: object, name: str) -> int:
    """A whole number of at least 1; numpy's count as well."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise InputError(f"{name} is {number!r}; give a whole number of at least 1")
    return int(number)


def _evidence(profile: DimensionProfile, matrices: Sequence[Matrix], estimator: str) -> list[dict[str, Any]]:
    """For each matrix its block's dimension difference, interval and lower bound; met by stack and depth."""
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
    rows = []
    for matrix in matrices:
        found = known[matrix.block.stack, matrix.block.depth]
        rows.append(
            {
                "lower_bound": max(float(found.difference), 0.0) + 1.0,
                "difference": float(found.difference),
                "ci_low": float(found.ci_low),
                "ci_high": float(found.ci_high),
                "within_noise": bool(found.within_noise),
            }
        )
    return rows


def _differs(row: Any, name: str) -> bool:  # noqa: ANN401 - a pandas row
    """Whether the profile names its layer as a module path, and another one than the block's.

    A profile captured on a model with a task head calls the same block "bert.encoder.layer.0" and not
    "encoder.layer.0"; one from arrays may call it anything without dots.
    """
    layer = str(row.layer)
    same = layer == name or layer.endswith(f".{name}") or name.endswith(f".{layer}")
    return "." in layer and not same


def _no_evidence() -> dict[str, Any]:
    return {"lower_bound": np.nan, "difference": np.nan, "ci_low": np.nan, "ci_high": np.nan, "within_noise": None}


def _row(matrix: Matrix, rank: int, evidence: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": matrix.module,
        "layer": matrix.block.name,
        "stack": matrix.block.stack,
        "depth": matrix.block.depth,
        "in_features": matrix.in_features,
        "out_features": matrix.out_features,
        "rank": rank,
        "n_parameters": rank * matrix.cost,
        **evidence,
    }
