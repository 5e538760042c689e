"""The strategies: each turns what it reads into one weight per matrix, in whose proportions a budget is spent.

This file loads neither torch nor PEFT, so that the command line can list the strategies at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from gelora_viz._checks import check_whole, describe
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from gelora_viz.ranks.batches import ModelInputs
    from gelora_viz.ranks.evidence import Evidence
    from gelora_viz.ranks.matrices import Matrix
    from gelora_viz.ranks.sensitivity import Loss


class Inputs(NamedTuple):
    """What a strategy may read.

    Attributes:
        model: the model to be adapted; None where only its matrices are known.
        matrices: its matrices, those of a block side by side.
        evidence: what the profile says of each matrix.
        budget: trainable parameters; None for bare bounds.
        batches: model inputs, where the strategy reads any.
        loss: the loss whose gradients are read (see `allocate_ranks`).
        seed: seed of random choices.
        progress: show a bar where the model runs.
    """

    model: nn.Module | None
    matrices: Sequence[Matrix]
    evidence: Sequence[Evidence]
    budget: int | None
    batches: Sequence[ModelInputs]
    loss: Loss | None
    seed: int
    progress: bool


@dataclass(frozen=True)
class Strategy:
    """A way to choose ranks.

    Attributes:
        meaning: description in one line, for lists and messages.
        weigh: function from `Inputs` to one weight per matrix, not negative.
        together: which matrices rise together while the budget allows: those of a "block", "all", or each "matrix"
            by itself.
        reads: what it needs besides the matrices' shapes.
        bounds: whether the weights are GeLoRA's bounds, which are ranks without a budget too.
    """

    meaning: str
    weigh: Callable[[Inputs], list[float]]
    together: Literal["block", "all", "matrix"]
    reads: Literal["profile", "batches", "nothing"]
    bounds: bool = False

    def check_budget(self, name: str, budget: int | None) -> None:
        """Raise `InputError` where the strategy of this name needs a budget and there is none."""
        if not self.bounds and budget is None:
            raise InputError(f'strategy "{name}" needs a budget; uniform_budget(model, rank=4) gives that of rank 4')

    def groups(self, blocks: Sequence[str]) -> list[int]:
        """For each matrix the number of the group that it rises with, from the name of each one's block."""
        match self.together:
            case "all":
                return [0] * len(blocks)
            case "block":
                numbers = {name: number for number, name in enumerate(dict.fromkeys(blocks))}
                return [numbers[name] for name in blocks]
            case "matrix":
                return list(range(len(blocks)))


def find_strategy(name: str) -> Strategy:
    """The strategy of this name; raises `InputError`, with all names, for another."""
    if not isinstance(name, str) or name not in STRATEGIES:
        *others, last = STRATEGIES
        raise InputError(f"unknown strategy {describe(name)}; choose {', '.join(others)} or {last}")
    return STRATEGIES[name]


def _gelora(inputs: Inputs) -> list[float]:
    """GeLoRA's bound of the matrix's block: max(d_out - d_in, 0) + 1."""
    return [each.lower_bound for each in inputs.evidence]


def _proportional(inputs: Inputs) -> list[float]:
    """The dimension of the block's output."""
    return [max(each.dimension, 0.0) for each in inputs.evidence]


def _uniform(inputs: Inputs) -> list[float]:
    return [1.0] * len(inputs.matrices)


def _eva(inputs: Inputs) -> list[float]:
    """The ranks that PEFT's EVA gives at a mean rank that costs about as much."""
    from gelora_viz.ranks.eva import eva_ranks  # here, since it loads torch and PEFT

    cost_of_rank_one = sum(matrix.cost for matrix in inputs.matrices)
    mean_rank = max(1, round((inputs.budget or 0) / cost_of_rank_one))
    ranks = eva_ranks(_model(inputs), inputs.matrices, inputs.batches, mean_rank=mean_rank, progress=inputs.progress)
    return [float(ranks[matrix.module]) for matrix in inputs.matrices]


def _gradient(inputs: Inputs) -> list[float]:
    """The mean sensitivity of the loss to the matrix's entries."""
    from gelora_viz.ranks.sensitivity import gradient_sensitivity  # here, since it loads torch

    modules = [matrix.module for matrix in inputs.matrices]
    found = gradient_sensitivity(_model(inputs), modules, inputs.batches, inputs.loss, progress=inputs.progress)
    return [found[module] for module in modules]


def _model(inputs: Inputs) -> nn.Module:
    """The model, for a strategy that runs it."""
    if inputs.model is None:
        raise InputError("this strategy runs the model, and has its matrices only; give the model itself")
    return inputs.model


def _random(inputs: Inputs) -> list[float]:
    """GeLoRA's bounds, dealt to the blocks of the same stack at random."""
    shuffler = random.Random(inputs.seed)  # noqa: S311 - a control, not a secret

    def shuffle(differences: Mapping[str, float]) -> list[str]:
        return shuffler.sample(list(differences), len(differences))

    return _bounds_dealt(inputs, shuffle)


def _reversed(inputs: Inputs) -> list[float]:
    """GeLoRA's bounds, the highest of a stack to the block whose dimension rises least, and so on."""
    return _bounds_dealt(inputs, lambda differences: sorted(differences, key=lambda block: differences[block]))


def _bounds_dealt(inputs: Inputs, order: Callable[[Mapping[str, float]], list[str]]) -> list[float]:
    """The bounds of each stack, the highest first, to its blocks in the order that `order` makes of their names.

    Blocks of one stack have matrices of the same shapes, so that a control spends what GeLoRA spends.
    """
    stacks: dict[str, dict[str, Evidence]] = {}
    for matrix, each in zip(inputs.matrices, inputs.evidence, strict=True):
        stacks.setdefault(matrix.block.stack, {})[matrix.block.name] = each
    dealt: dict[str, float] = {}
    for blocks in stacks.values():
        highest_first = sorted((each.lower_bound for each in blocks.values()), reverse=True)
        receiving = order({name: each.difference for name, each in blocks.items()})
        dealt |= dict(zip(receiving, highest_first, strict=True))
    return [dealt[matrix.block.name] for matrix in inputs.matrices]


STRATEGIES: dict[str, Strategy] = {
    "gelora": Strategy(
        "the rise of dimension over the block, plus one", _gelora, "block", reads="profile", bounds=True
    ),
    "proportional": Strategy("the dimension of the block's output", _proportional, "block", reads="profile"),
    "uniform": Strategy("the same rank everywhere", _uniform, "all", reads="nothing"),
    "eva": Strategy("explained variance of the matrix's inputs, by PEFT's EVA", _eva, "matrix", reads="batches"),
    "gradient": Strategy("sensitivity of the loss to the matrix's weights", _gradient, "matrix", reads="batches"),
    "random": Strategy(
        "control: gelora's bounds, dealt to blocks at random", _random, "block", "profile", bounds=True
    ),
    "reversed": Strategy(
        "control: gelora's bounds, the highest to the block that rises least",
        _reversed,
        "block",
        "profile",
        bounds=True,
    ),
}
"""Name -> strategy, in the order in which they are listed."""


ROUNDINGS: dict[str, Callable[[float], float]] = {"ceil": math.ceil, "round": round, "none": float}


def check_rounding(rounding: str | None, budget: int | None) -> str:
    """How bounds are rounded; raises `InputError` for an unknown word, or fractions that would be ranks."""
    if rounding is None:
        return "ceil" if budget is None else "none"
    if not isinstance(rounding, str) or rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {describe(rounding)}; choose ceil, round or none")
    if rounding == "none" and budget is None:
        raise InputError(
            'rounding "none" leaves fractions, which are not ranks; give a budget, or choose ceil or round'
        )
    return rounding


def check_rank_limits(min_rank: object, max_rank: object) -> tuple[int, int | None]:
    """The lowest and the highest rank of a matrix; raises `InputError` unless there is a rank between them."""
    lowest = check_whole(min_rank, "min_rank", at_least=0)
    highest = None if max_rank is None else check_whole(max_rank, "max_rank")
    if highest is not None and lowest > highest:
        raise InputError(f"min_rank is {lowest} and max_rank {highest}; lower min_rank or raise max_rank")
    return lowest, highest


def list_strategies() -> str:
    """All names with their meanings in one line."""
    return "; ".join(f"{name}: {strategy.meaning}" for name, strategy in STRATEGIES.items())
