"""From dimensions to ranks: a strategy's weights, bare or scaled to a budget, between a lowest and a highest rank."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from torch import nn

from gelora_viz._checks import check_flag, check_model, check_result, check_seed, check_whole, describe
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import GeloraVizWarning, InputError
from gelora_viz.ranks.batches import ModelInputs, check_batches
from gelora_viz.ranks.budget import apportion, check_floors
from gelora_viz.ranks.evidence import Evidence, check_origin, read_evidence
from gelora_viz.ranks.matrices import Choice, Matrix, choose_matrices
from gelora_viz.ranks.plan import PLAN_COLUMNS, RankPlan
from gelora_viz.ranks.sensitivity import Loss
from gelora_viz.ranks.strategies import (
    ROUNDINGS,
    STRATEGIES,
    Inputs,
    Strategy,
    check_rank_limits,
    check_rounding,
    find_strategy,
)
from gelora_viz.surveys import ModelSurvey


def allocate_ranks(
    profile: DimensionProfile | None,
    model: nn.Module | Sequence[Matrix],
    *,
    strategy: str = "gelora",
    budget: int | None = None,
    target_modules: str | Sequence[str] | None = None,
    stack: str | None = None,
    survey: ModelSurvey | None = None,
    rounding: str | None = None,
    estimator: str = "twonn",
    min_rank: int = 1,
    max_rank: int | None = None,
    accept_other_model: bool = False,
    batches: Iterable[ModelInputs] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    progress: bool = True,
) -> RankPlan:
    """Choose a LoRA rank for every adapted matrix.

    "gelora" follows GeLoRA (arXiv 2412.09250): block i reads the hidden states at depth i - 1 and writes those at
    depth i, and all its adapted matrices get r = max(d_i - d_(i-1), 0) + 1. Without a budget that bare lower bound is
    rounded and used. With a budget the bounds are the proportions in which it is spent (our reconstruction: the
    paper's scaling could not be read).

    Two controls use the same bounds at the wrong blocks, to show what their places are worth: "random" deals them to
    the blocks of a stack as `seed` decides, "reversed" gives the highest to the block whose dimension rises least,
    and so on. The other strategies need a budget. "uniform" gives every matrix the same rank, as far as the budget
    goes; "proportional" follows the dimension of the block's output. "eva" and "gradient" run the model on `batches`
    and weigh each matrix by itself. "eva" takes PEFT's EVA (arXiv 2410.07170), which counts the directions that
    explain most variance of the matrix's inputs; it fixes the sum of ranks, so its ranks become the proportions of
    our budget of parameters. "gradient" takes |w dL/dw| averaged over the matrix's entries (AdaLoRA, arXiv
    2303.10512, eq. 8) in one pass without dropout.

    Args:
        profile: dimensions of embeddings and all blocks of this model; "uniform", "eva" and "gradient" read none, but
            the plan shows them next to its ranks if they are given.
        model: the model to be adapted, for the shapes of its matrices; "eva" and "gradient" run it and leave it as it
            was. For the other strategies `find_matrices(model, target_modules)` does as well, which outlives the
            model.
        strategy: "gelora", "proportional", "uniform", "eva", "gradient", "random" or "reversed".
        budget: trainable adapter parameters, the sum of r (in + out); never exceeded, and what is left is less than
            the cheapest further rank. None gives the bare lower bound. See `uniform_budget` for one that means "as r
            = 4".
        target_modules: what to adapt, as PEFT takes it; None takes PEFT's choice for the model's type.
        stack: of a model with several towers, the one to adapt; by default the profile's, or the one for language.
        survey: leave out what its inputs did not reach (see `find_matrices`).
        rounding: how bounds are rounded: "ceil", "round" or "none". None means "ceil" without a budget, although it
            turns any positive noise into rank 2, and "none" with one: rounded before they are scaled, the bounds
            would turn that noise into proportions. Weights that are not bounds are never rounded.
        estimator: the estimator whose dimensions to use; GeLoRA uses TwoNN.
        min_rank: every matrix gets at least this rank. With 0, a matrix of weight 0 (which "eva" may give) is not
            adapted, nor one that the budget does not reach.
        max_rank: no matrix gets more; nor more than its own limit, min(in, out).
        accept_other_model: take a profile of another architecture, whose blocks must still fit by stack and depth.
            Other weights of the same architecture, such as a fine-tuned checkpoint's, are a warning only.
        batches: model inputs for "eva" and "gradient", a list of dicts of tensors; `sample_batches` makes some.
        loss: for "gradient", a function of (model, batch) that returns a scalar; by default `model(**batch).loss`.
        seed: seed of "random".
        progress: show a bar while the model runs.

    Raises:
        InputError: for an unknown strategy, estimator or rounding; a strategy without what it reads; a profile of
            another model; a budget below `min_rank` everywhere; target modules that match nothing or are not linear
            layers; a `min_rank` above `max_rank` or above a matrix's limit.

    Warns:
        UserWarning: if the profile was made with other weights of this architecture, or matrices were left out (see
            `find_matrices`); `settings["left_out"]` of the plan lists them.

    Example:
        >>> from gelora_viz.sources import load_model
        >>> model = load_model("minilm").model
        >>> allocate_ranks(None, model, strategy="uniform", budget=40_000)
        RankPlan('uniform': 12 matrices, ranks 4 to 5, 39,936 of 40,000 parameters)
    """
    chosen = find_strategy(strategy)
    if profile is not None:
        check_result(profile, DimensionProfile, "profile").of(estimator)
    check_flag(accept_other_model, "accept_other_model")
    budget = None if budget is None else check_whole(budget, "budget")
    rounding = check_rounding(rounding, budget)
    lowest, highest = check_rank_limits(min_rank, max_rank)
    seed = check_seed(seed)
    check_flag(progress, "progress")
    if loss is not None and not callable(loss):
        raise InputError(f"loss is {describe(loss)}; give a function of (model, batch) that returns a scalar")
    _check_inputs(strategy, chosen, profile, budget)
    listed = check_batches(batches, strategy) if chosen.reads == "batches" else []
    network, choice = _check_matrices(model, target_modules, stack, survey, profile)
    matrices = choice.matrices
    said = choice.say()
    if said is not None:
        warnings.warn(said, GeloraVizWarning, stacklevel=2)
    if not accept_other_model and profile is not None and network is not None:
        check_origin(profile, network)
    floors, limits = _bounds_of_ranks(matrices, lowest, highest)
    costs = [matrix.cost for matrix in matrices]
    evidence = read_evidence(profile, matrices, estimator)
    if budget is not None:
        check_floors(floors, costs, budget)  # before the model is run
    weights = chosen.weigh(Inputs(network, matrices, evidence, budget, listed, loss, seed, progress))
    if chosen.bounds:
        weights = [float(ROUNDINGS[rounding](weight)) for weight in weights]
    if budget is None:
        wanted = zip(weights, floors, limits, strict=True)
        ranks = [max(floor, min(int(weight), limit)) for weight, floor, limit in wanted]
    else:
        ranks = apportion(
            weights, costs, limits, chosen.groups([matrix.block.name for matrix in matrices]), budget, floors=floors
        )
    rows = [_row(*each) for each in zip(matrices, ranks, weights, evidence, strict=True)]
    settings: dict[str, Any] = {
        "estimator": estimator if profile is not None else None,
        "pooling": profile.pooling if profile is not None else None,
        "rounding": rounding if chosen.bounds else None,
        "min_rank": floors[0],
        "max_rank": highest,
        "seed": seed if strategy == "random" else None,
        "n_batches": len(listed) or None,
        "conv1d": any(matrix.conv1d for matrix in matrices),
        "model_class": matrices[0].model_class,
        **({"left_out": choice.left_out} if choice.left_out else {}),
    }
    return RankPlan(pd.DataFrame(rows, columns=PLAN_COLUMNS), strategy, budget, settings)


def uniform_budget(
    model: nn.Module,
    rank: int = 4,
    target_modules: str | Sequence[str] | None = None,
    *,
    stack: str | None = None,
    survey: ModelSurvey | None = None,
) -> int:
    """Trainable parameters of LoRA with the same rank in every adapted matrix: the sum of rank x (in + out).

    The matrices are those of `find_matrices`, which takes the same arguments.

    Raises:
        InputError: if `rank` is below 1 or the target modules match nothing.
    """
    rank = check_whole(rank, "rank")
    found = choose_matrices(check_model(model), target_modules, stack=stack, survey=survey)
    return sum(min(rank, matrix.max_rank) * matrix.cost for matrix in found.matrices)


def _check_matrices(
    model: nn.Module | Sequence[Matrix],
    target_modules: str | Sequence[str] | None,
    stack: str | None,
    survey: ModelSurvey | None,
    profile: DimensionProfile | None,
) -> tuple[nn.Module | None, Choice]:
    """The model, where it was given, and the matrices to adapt."""
    if not isinstance(model, Sequence) or not model or not all(isinstance(each, Matrix) for each in model):
        network = check_model(model)
        layers = () if profile is None else set(map(str, profile.frame["layer"]))
        return network, choose_matrices(network, target_modules, stack=stack, survey=survey, layers=layers)
    given = {"target_modules": target_modules, "stack": stack, "survey": survey}
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} {'were' if name.endswith('s') else 'was'} given with matrices, which are chosen already; "
                f"give find_matrices(model, {name}=...)"
            )
    return None, Choice(list(model), {})


def _check_inputs(name: str, chosen: Strategy, profile: DimensionProfile | None, budget: int | None) -> None:
    """Raise `InputError` unless the strategy has what it reads, and a budget where it needs one."""
    if chosen.reads == "profile" and profile is None:
        others = ", ".join(other for other, strategy in STRATEGIES.items() if strategy.reads != "profile")
        raise InputError(
            f'strategy "{name}" needs a dimension profile; estimate one, or use a strategy that reads none: {others}'
        )
    chosen.check_budget(name, budget)


def _bounds_of_ranks(matrices: Sequence[Matrix], lowest: int, highest: int | None) -> tuple[list[int], list[int]]:
    """The lowest and the highest rank of each matrix."""
    limits = [matrix.max_rank if highest is None else min(matrix.max_rank, highest) for matrix in matrices]
    for matrix in matrices:
        if lowest > matrix.max_rank:
            raise InputError(
                f"min_rank is {lowest}, and {matrix.module} can take no more than min(in, out) = {matrix.max_rank}; "
                "lower min_rank or adapt fewer modules"
            )
    return [lowest] * len(matrices), limits


def _row(matrix: Matrix, rank: int, weight: float, evidence: Evidence) -> dict[str, Any]:
    return {
        "module": matrix.module,
        "layer": matrix.block.name,
        "stack": matrix.block.stack,
        "depth": matrix.block.depth,
        "in_features": matrix.in_features,
        "out_features": matrix.out_features,
        "rank": rank,
        "n_parameters": rank * matrix.cost,
        "weight": weight,
        "lower_bound": evidence.lower_bound,
        "difference": evidence.difference,
        "ci_low": evidence.ci_low,
        "ci_high": evidence.ci_high,
        "within_noise": evidence.within_noise,
    }
