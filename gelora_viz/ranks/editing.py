"""Ranks changed after the allocation: for another budget, by hand, or by what a trained update has used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from gelora_viz._checks import check_whole, describe
from gelora_viz._names import did_you_mean, goes_by
from gelora_viz.errors import InputError
from gelora_viz.ranks.budget import apportion

if TYPE_CHECKING:
    import pandas as pd


class MeasuredRanks(Protocol):
    """What `RankPlan.refined` reads of an `UpdateSpectrum`."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row per adapted matrix: module, entropy_rank, and where it is known the rank it was given."""


def resolve_edits(frame: pd.DataFrame, where: str | Mapping[str, int], rank: int | None) -> dict[str, int]:
    """Module -> new rank, from names of modules and layers; a module's own entry counts over its layer's.

    Raises:
        InputError: if a name is neither a module nor a layer of the plan (with the nearest names), or a rank is no
            whole number from 0 to min(in, out).
    """
    if isinstance(where, str):
        if rank is None:
            raise InputError(f"no rank for {where!r}; give with_rank({where!r}, rank)")
        wanted = {where: rank}
    else:
        if rank is not None and isinstance(where, Mapping):
            raise InputError(f"rank {describe(rank)} was given with a mapping of names to ranks; give one of them")
        if not isinstance(where, Mapping) or not where:
            raise InputError(
                f"where is {describe(where)}; give a module or layer name, or a mapping of such to ranks"
            )
        wanted = dict(where)
    members: dict[str, list[str]] = {str(module): [str(module)] for module in frame["module"]}
    for layer, matrices in frame.groupby("layer", sort=False):
        members.setdefault(str(layer), [str(module) for module in matrices["module"]])
    for name in wanted:
        if name not in members:
            raise InputError(f"the plan has no module or layer {name!r}; {did_you_mean(str(name), members)}")
    limits = {str(row.module): min(int(row.in_features), int(row.out_features)) for row in frame.itertuples()}
    edits: dict[str, int] = {}
    for name in sorted(wanted, key=lambda name: name in limits):  # layers before modules
        for module in members[name]:
            edits[module] = _check_rank(wanted[name], module, limits[module])
    return edits


def _check_rank(rank: int, module: str, limit: int) -> int:
    rank = check_whole(rank, f"rank of {module}", at_least=0)
    if rank > limit:
        raise InputError(f"rank {rank} is more than {module} can take, min(in, out) = {limit}; lower it")
    return rank


def rebalanced_ranks(
    frame: pd.DataFrame, edits: Mapping[str, int], budget: int, max_rank: int | None = None
) -> list[int]:
    """The plan's ranks with the edits in place and the others moved until they spend the budget again.

    The others keep their proportions as far as whole ranks allow: matrices of one block and one rank rise or fall
    together, then singly, by the divisor method from the ranks they have. None of them begins or ceases to be
    adapted.

    Raises:
        InputError: if the edits and rank 1 for the other adapted matrices cost more than the budget.
    """
    costs = _costs(frame)
    modules = [str(module) for module in frame["module"]]
    start = [edits.get(module, int(rank)) for module, rank in zip(modules, frame["rank"], strict=True)]
    movable = [module not in edits and rank > 0 for module, rank in zip(modules, start, strict=True)]
    floors = [1 if moves else rank for rank, moves in zip(start, movable, strict=True)]
    prices = [floor * cost for floor, cost in zip(floors, costs, strict=True)]
    if sum(prices) > budget:
        edited = sum(price for price, moves in zip(prices, movable, strict=True) if not moves)
        raise InputError(
            f"the edited matrices take {edited:,} parameters and rank 1 for the others {sum(prices) - edited:,}, "
            f"more than the budget of {budget:,}; lower the ranks, or give rebalance=False"
        )
    limits = [
        max(limit, rank) if moves else rank
        for limit, rank, moves in zip(_limits(frame, max_rank), start, movable, strict=True)
    ]
    alike = list(zip(frame["layer"], start, movable, strict=True))
    groups = [alike.index(each) for each in alike]
    return apportion(start, costs, limits, groups, budget, floors=floors, start=start)


def respent_ranks(
    frame: pd.DataFrame, groups: Sequence[int], budget: int, *, min_rank: int, max_rank: int | None = None
) -> list[int]:
    """Ranks in proportion to the plan's weights, as an allocation with this budget gives them.

    Raises:
        InputError: if the budget does not pay for `min_rank` everywhere.
    """
    limits = _limits(frame, max_rank)
    return apportion(
        [float(weight) for weight in frame["weight"]],
        _costs(frame),
        limits,
        groups,
        check_whole(budget, "budget"),
        floors=[min_rank] * len(limits),
    )


def refined_ranks(
    frame: pd.DataFrame, spectrum: MeasuredRanks, budget: int, *, min_rank: int, max_rank: int | None = None
) -> tuple[list[int], list[float]]:
    """Ranks in proportion to the entropy ranks that a run has reached, and these; matrices of rank 0 stay there.

    Raises:
        InputError: if the spectrum is of another plan, all its updates are zero, or one is not finite.
    """
    lowest = check_whole(min_rank, "min_rank", at_least=0)
    reached = _reached(frame, spectrum)
    weights = [reached.get(str(module), 0.0) for module in frame["module"]]
    adapted = [str(module) in reached for module in frame["module"]]
    limits = [limit if here else 0 for limit, here in zip(_limits(frame, max_rank), adapted, strict=True)]
    floors = [min(lowest, limit) for limit in limits]
    ranks = apportion(weights, _costs(frame), limits, range(len(weights)), budget, floors=floors)
    return ranks, weights


def _reached(frame: pd.DataFrame, spectrum: MeasuredRanks) -> dict[str, float]:
    """Module -> entropy rank, of the plan's adapted matrices."""
    given = {str(row.module): int(row.rank) for row in frame.itertuples() if row.rank > 0}
    measured = {_planned_name(str(row["module"]), given): row for row in spectrum.frame.to_dict(orient="records")}
    differing = [f"{module} (planned, not measured)" for module in given if module not in measured]
    differing += [f"{module} (measured, not planned)" for module in measured if module not in given]
    differing += [
        f"{module} (rank {measured[module]['rank']:g}, planned {rank})"
        for module, rank in given.items()
        if module in measured and _is_other_rank(measured[module].get("rank"), rank)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"the spectrum is of another plan: {', '.join(differing[:3])}{more}; give that of a run with this plan"
        )
    reached = {module: float(measured[module]["entropy_rank"]) for module in given}
    for module, value in reached.items():
        if not math.isfinite(value):
            raise InputError(f"the entropy rank of {module} is {value}; measure the spectrum of a trained adapter")
    if not any(reached.values()):
        raise InputError("every update of the spectrum is zero, as before training; measure it after a run")
    return reached


def _planned_name(module: str, planned: Mapping[str, int]) -> str:
    """The plan's name of a measured module; in a language model the transformer lies one level deeper."""
    return max((name for name in planned if goes_by(module, name)), key=len, default=module)


def _is_other_rank(measured: float | None, planned: int) -> bool:
    """Whether a measured rank is known (methods without ranks have NaN) and is not the planned one."""
    return measured is not None and math.isfinite(measured) and measured != planned


def _costs(frame: pd.DataFrame) -> list[int]:
    """Parameters of one rank of each matrix."""
    return [int(cost) for cost in frame["in_features"] + frame["out_features"]]


def _limits(frame: pd.DataFrame, max_rank: int | None) -> list[int]:
    """The highest rank of each matrix."""
    own = [int(limit) for limit in frame[["in_features", "out_features"]].min(axis=1)]
    return own if max_rank is None else [min(limit, max_rank) for limit in own]
