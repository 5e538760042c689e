"""Spend a budget of trainable parameters on whole ranks, in proportion to weights, without a parameter too many."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gelora_viz.errors import InputError


def apportion(
    weights: Sequence[float],
    costs: Sequence[int],
    limits: Sequence[int],
    groups: Sequence[int],
    budget: int,
    *,
    floors: Sequence[int] | None = None,
    start: Sequence[int] | None = None,
) -> list[int]:
    """Ranks in proportion to weights, as seats in a parliament: Sainte-Laguë's method of highest averages.

    From `start` on, the group (a block) with the highest weight / (rank + 1/2) gets one rank for each of its matrices
    that is below its limit, again and again while that fits into the budget. What is left goes to single matrices by
    the same rule, until not even the cheapest further rank fits. A start that costs more than the budget first falls
    in the same way: the group with the smallest weight / (rank - 1/2) gives a rank of each of its matrices that is
    above its floor, while that is no more than has to be found, and single matrices give the rest. Between equal
    claims the cheaper rises first, and the more expensive falls first.

    A matrix of weight 0 claims nothing. With a floor of 0 it is not adapted at all; with a higher one it stays there
    until no other matrix can take what is left.

    Args:
        weights: one number per matrix, not negative, equal within a group.
        costs: parameters of one rank of each matrix, in + out.
        limits: highest rank of each matrix.
        groups: number of the group of each matrix; matrices of a group move together while that fits.
        budget: parameters; never exceeded, and what is left is smaller than the cheapest further rank (of matrices
            that may rise: below their limit, and not of weight and floor 0).
        floors: lowest rank of each matrix, 1 by default. One whose floor is its limit keeps that rank.
        start: ranks to begin with, between floors and limits; by default the floors. Starting from ranks that are in
            proportion already changes as few of them as the budget asks for.

    Raises:
        InputError: if the budget does not reach the floors.
    """
    lowest = [1] * len(costs) if floors is None else list(floors)
    check_floors(lowest, costs, budget)
    adapted = [weight > 0 or floor > 0 for weight, floor in zip(weights, lowest, strict=True)]
    highest = [limit if here else 0 for limit, here in zip(limits, adapted, strict=True)]
    begun = lowest if start is None else start
    ranks = [rank if here else 0 for rank, here in zip(begun, adapted, strict=True)]
    left = budget - sum(rank * cost for rank, cost in zip(ranks, costs, strict=True))
    count = _Count(weights, costs, lowest, highest, ranks, left)
    claiming = [position for position, weight in enumerate(weights) if weight > 0]
    others = [[position] for position, weight in enumerate(weights) if weight == 0]
    together, singly = _by_group(claiming, groups), [[position] for position in claiming]
    count.take([*others, *together])
    count.take([*others, *singly], beyond=True)
    count.give(together)
    count.give(singly)
    count.give(others)
    return count.ranks


def check_floors(floors: Sequence[int], costs: Sequence[int], budget: int) -> None:
    """Raise `InputError` if a budget does not pay for the lowest ranks that are asked for."""
    least = sum(floor * cost for floor, cost in zip(floors, costs, strict=True))
    if least > budget:
        raise InputError(
            f"a budget of {budget:,} parameters is below rank {max(floors)} everywhere, which takes {least:,}; "
            "raise the budget or adapt fewer modules"
        )


def _by_group(positions: Iterable[int], groups: Sequence[int]) -> list[list[int]]:
    members: dict[int, list[int]] = {}
    for position in positions:
        members.setdefault(groups[position], []).append(position)
    return list(members.values())


@dataclass
class _Count:
    """An apportionment under way: the rank of each matrix so far, and what is left of the budget.

    A unit is a list of matrices that move by one rank together; its weight is that of any of them.
    """

    weights: Sequence[float]
    costs: Sequence[int]
    floors: Sequence[int]
    limits: Sequence[int]
    ranks: list[int]
    left: int

    def take(self, units: list[list[int]], *, beyond: bool = False) -> None:
        """Lower units by one rank at a time, the weakest hold first, until the budget is kept.

        Without `beyond`, only while the next unit gives no more than has to be found.
        """
        if self.left >= 0:
            return
        queue = [self._hold(unit, number) for number, unit in enumerate(units)]
        heapq.heapify(queue)
        while queue and self.left < 0:
            number = heapq.heappop(queue)[-1]
            movable = [each for each in units[number] if self.ranks[each] > self.floors[each]]
            if not beyond and self._price(movable) > -self.left:
                break
            if movable:
                for each in movable:
                    self.ranks[each] -= 1
                self.left += self._price(movable)
                heapq.heappush(queue, self._hold(units[number], number))

    def give(self, units: list[list[int]]) -> None:
        """Raise units by one rank at a time, the strongest claim first, while any fits."""
        # What does not fit now never will: what is left only shrinks.
        fitting = [number for number, unit in enumerate(units) if self._price(self._below_limit(unit)) <= self.left]
        queue = [self._claim(units[number], number) for number in fitting]
        heapq.heapify(queue)
        while queue:
            _, _, price_of_unit, number = heapq.heappop(queue)
            movable = self._below_limit(units[number])
            price = price_of_unit if len(movable) == len(units[number]) else self._price(movable)
            if movable and price <= self.left:
                for each in movable:
                    self.ranks[each] += 1
                self.left -= price
                heapq.heappush(queue, self._claim(units[number], number, price_of_unit))

    def _below_limit(self, unit: list[int]) -> list[int]:
        return [each for each in unit if self.ranks[each] < self.limits[each]]

    def _hold(self, unit: list[int], number: int) -> tuple[float, float, int, int]:
        return (self._weight(unit) / max(self._rank(unit) - 0.5, 0.5), -self._rank(unit), -self._price(unit), number)

    def _claim(self, unit: list[int], number: int, price: int | None = None) -> tuple[float, float, int, int]:
        weight, rank = self._weight(unit), self._rank(unit)
        # Units without a claim rise evenly.
        evenly = 0 if weight else rank
        return (-weight / (rank + 0.5), evenly, self._price(unit) if price is None else price, number)

    def _weight(self, unit: list[int]) -> float:
        return self.weights[unit[0]]

    def _rank(self, unit: list[int]) -> int:
        return max([self.ranks[position] for position in unit])

    def _price(self, unit: list[int]) -> int:
        return sum([self.costs[position] for position in unit])
