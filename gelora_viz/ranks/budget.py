"""Spend a budget of trainable parameters on whole ranks, in proportion to weights, without a parameter too many."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from gelora_viz.errors import InputError


def apportion(
    weights: Sequence[float],
    costs: Sequence[int],
    limits: Sequence[int],
    groups: Sequence[int],
    budget: int,
    *,
    min_rank: int = 1,
) -> list[int]:
    """Ranks in proportion to weights, as seats in a parliament: Sainte-Laguë's method of highest averages.

    Every matrix starts at `min_rank`. Then the group (a block) with the highest weight / (rank + 1/2) gets one rank
    for each of its matrices that is below its limit, again and again while that fits into the budget. What is left
    goes to single matrices by the same rule, until not even the cheapest further rank fits.
    Between equal claims the cheaper comes first.

    Args:
        weights: one positive number per matrix, equal within a group.
        costs: parameters of one rank of each matrix, in + out.
        limits: highest rank of each matrix.
        groups: number of the group of each matrix; matrices of a group are raised together while that fits.
        budget: parameters; never exceeded, and what is left is smaller than the cheapest further rank.
        min_rank: rank that every matrix gets before proportion begins.

    Raises:
        InputError: if the budget does not reach `min_rank` everywhere.
    """
    ranks = [min(min_rank, limit) for limit in limits]
    left = budget - sum(rank * cost for rank, cost in zip(ranks, costs, strict=True))
    if left < 0:
        raise InputError(
            f"a budget of {budget:,} parameters is below rank {min_rank} everywhere, which takes {budget - left:,}; "
            "raise the budget or adapt fewer modules"
        )
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    for units in (list(members.values()), [[position] for position in range(len(ranks))]):
        left = _raise_units(units, weights, costs, limits, ranks, left)
    return ranks


def _raise_units(
    units: list[list[int]],
    weights: Sequence[float],
    costs: Sequence[int],
    limits: Sequence[int],
    ranks: list[int],
    left: int,
) -> int:
    """Raise units by one rank at a time while any fits; changes `ranks` in place and returns what is left."""

    def claim(unit: int) -> tuple[float, int, int]:
        first = units[unit][0]
        rank = max(ranks[position] for position in units[unit])
        return (-weights[first] / (rank + 0.5), sum(costs[position] for position in units[unit]), unit)

    queue = [claim(unit) for unit in range(len(units))]
    heapq.heapify(queue)
    while queue:
        _, _, unit = heapq.heappop(queue)
        raisable = [position for position in units[unit] if ranks[position] < limits[position]]
        price = sum(costs[position] for position in raisable)
        if not raisable or price > left:
            continue  # what does not fit now never will: what is left only shrinks
        for position in raisable:
            ranks[position] += 1
        left -= price
        heapq.heappush(queue, claim(unit))
    return left
