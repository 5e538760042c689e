"""Spending a budget: invariants on random shapes, and the divisor method's own inequality as the source of truth."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gelora_viz.errors import InputError
from gelora_viz.ranks.budget import apportion

hundreds = settings(max_examples=400, deadline=None)
N_GROUPS = 4
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@st.composite
def tasks(draw):
    """(weights, costs, limits, groups, budget), budget between rank 1 everywhere and twice what can be spent."""
    groups = draw(st.lists(st.integers(0, N_GROUPS - 1), min_size=1, max_size=12))
    of_group = draw(st.lists(st.floats(1.0, 50.0), min_size=N_GROUPS, max_size=N_GROUPS))
    n_matrices = len(groups)
    costs = draw(st.lists(st.integers(2, 60), min_size=n_matrices, max_size=n_matrices))
    limits = draw(st.lists(st.integers(1, 20), min_size=n_matrices, max_size=n_matrices))
    most = sum(cost * limit for cost, limit in zip(costs, limits, strict=True))
    budget = draw(st.integers(sum(costs), 2 * most))
    return [of_group[group] for group in groups], costs, limits, groups, budget


@st.composite
def tasks_from_a_start(draw):
    """A task with weights that may be 0, with floors, fixed ranks and a start that may cost more than the budget."""
    groups = draw(st.lists(st.integers(0, N_GROUPS - 1), min_size=1, max_size=12))
    weight = st.one_of(st.just(0.0), st.floats(1e-6, 50.0))
    of_group = draw(st.lists(weight, min_size=N_GROUPS, max_size=N_GROUPS))
    n_matrices = len(groups)
    costs = draw(st.lists(st.integers(2, 60), min_size=n_matrices, max_size=n_matrices))
    floors = draw(st.lists(st.integers(0, 3), min_size=n_matrices, max_size=n_matrices))
    limits = [floor + draw(st.integers(0, 12)) for floor in floors]
    start = [draw(st.integers(floor, limit)) for floor, limit in zip(floors, limits, strict=True)]
    least, most = spent(floors, costs), spent(limits, costs)
    budget = draw(st.integers(least, 2 * most + 1))
    return [of_group[group] for group in groups], costs, limits, groups, budget, floors, start


def spent(ranks, costs):
    return sum(rank * cost for rank, cost in zip(ranks, costs, strict=True))


@hundreds
@given(tasks())
def test_a_budget_is_never_exceeded_and_what_is_left_buys_no_further_rank(task):
    _, costs, limits, _, budget = task
    ranks = apportion(*task)
    left = budget - spent(ranks, costs)
    further = [cost for cost, rank, limit in zip(costs, ranks, limits, strict=True) if rank < limit]
    assert left >= 0
    assert not further or left < min(further)


@hundreds
@given(tasks())
def test_every_matrix_gets_at_least_rank_one_and_at_most_its_limit(task):
    _, _, limits, _, _ = task
    assert all(1 <= rank <= limit for rank, limit in zip(apportion(*task), limits, strict=True))


@given(tasks(), st.randoms(use_true_random=False))
def test_the_order_of_the_matrices_does_not_change_what_each_gets(task, random):
    _, costs, limits, _, budget = task
    n_matrices = len(costs)
    # Multiples of square roots of different primes are never equal, so no two claims are, and no order decides.
    weights = [prime**0.5 for prime in random.sample(PRIMES, n_matrices)]
    order = random.sample(range(n_matrices), n_matrices)
    shuffled = [[values[position] for position in order] for values in (weights, costs, limits)]
    ranks = apportion(weights, costs, limits, range(n_matrices), budget)
    assert apportion(*shuffled, range(n_matrices), budget) == [ranks[position] for position in order]


@given(
    n_matrices=st.integers(1, 12),
    cost=st.integers(2, 60),
    rank=st.integers(1, 20),
    rest=st.floats(0, 1, exclude_max=True),
)
def test_equal_weights_and_costs_give_equal_ranks_up_to_an_indivisible_rest(n_matrices, cost, rank, rest):
    budget = n_matrices * cost * rank + int(rest * n_matrices * cost)
    ranks = apportion([3.0] * n_matrices, [cost] * n_matrices, [64] * n_matrices, range(n_matrices), budget)
    assert set(ranks) <= {rank, rank + 1}
    assert ranks.count(rank + 1) == (budget - n_matrices * cost * rank) // cost


@given(weights=st.lists(st.floats(1.0, 100.0), min_size=2, max_size=10), budget=st.integers(20, 5000))
@example(weights=[1.0, 1.0, 4.0], budget=240)
def test_ranks_are_the_rounded_multiples_of_the_weights(weights, budget):
    # Balinski & Young 1982: an apportionment is Sainte-Lague's exactly if no seat of one party has a smaller claim,
    # weight / (rank - 1/2), than the next seat of another would have, weight / (rank + 1/2).
    cost = 2
    assume(budget >= cost * len(weights))
    ranks = apportion(weights, [cost] * len(weights), [10_000] * len(weights), range(len(weights)), budget)
    held = [weight / (rank - 0.5) for weight, rank in zip(weights, ranks, strict=True) if rank > 1]
    wanted = [weight / (rank + 0.5) for weight, rank in zip(weights, ranks, strict=True)]
    assert not held or min(held) >= max(wanted) * (1 - 1e-12)


def test_in_the_large_ranks_are_proportional_to_weights_whatever_the_costs():
    weights, costs = [1.0, 2.0, 3.5, 3.5], [10, 70, 30, 50]
    ranks = apportion(weights, costs, [10_000] * 4, [0, 1, 2, 2], 1_000_000)
    assert [rank / ranks[0] for rank in ranks] == pytest.approx(weights, rel=0.01)


def test_matrices_of_a_block_rise_together_and_only_the_rest_goes_to_single_ones():
    together = apportion([1.0] * 4, [10, 10, 10, 10], [8] * 4, [0, 0, 1, 1], 80)
    assert together == [2, 2, 2, 2]
    with_rest = apportion([2.0, 2.0, 1.0, 1.0], [10, 10, 10, 10], [8] * 4, [0, 0, 1, 1], 70)
    assert with_rest == [3, 2, 1, 1]


def test_what_a_full_matrix_cannot_take_goes_to_the_others():
    assert apportion([9.0, 1.0], [5, 5], [2, 100], [0, 1], 100) == [2, 18]


@pytest.mark.parametrize("budget", [0, 29])
def test_a_budget_below_rank_one_everywhere_is_refused_with_both_numbers(budget):
    with pytest.raises(InputError, match=f"budget of {budget} parameters .* takes 30;"):
        apportion([1.0, 1.0], [10, 20], [4, 4], [0, 1], budget)
    assert apportion([1.0, 1.0], [10, 20], [4, 4], [0, 1], 30) == [1, 1]


@hundreds
@given(tasks_from_a_start())
def test_from_any_start_the_budget_is_kept_and_nobody_who_claims_could_have_more(task):
    weights, costs, limits, groups, budget, floors, start = task
    ranks = apportion(weights, costs, limits, groups, budget, floors=floors, start=start)
    assert all(floor <= rank <= limit for floor, rank, limit in zip(floors, ranks, limits, strict=True))
    left = budget - spent(ranks, costs)
    may_rise = [
        cost
        for weight, cost, rank, limit, floor in zip(weights, costs, ranks, limits, floors, strict=True)
        if rank < limit and not weight == floor == 0
    ]
    assert left >= 0
    assert not may_rise or left < min(may_rise)


@hundreds
@given(tasks_from_a_start())
def test_where_the_start_costs_no_more_than_the_budget_nothing_falls(task):
    weights, costs, limits, groups, budget, floors, start = task
    start = [
        rank if weight > 0 or floor > 0 else 0 for rank, weight, floor in zip(start, weights, floors, strict=True)
    ]
    assume(spent(start, costs) <= budget)
    ranks = apportion(weights, costs, limits, groups, budget, floors=floors, start=start)
    assert all(rank >= begun for rank, begun in zip(ranks, start, strict=True))


@hundreds
@given(tasks_from_a_start())
def test_without_a_claim_a_matrix_gets_more_than_its_floor_only_once_all_claims_are_met(task):
    weights, costs, limits, groups, budget, floors, _ = task
    ranks = apportion(weights, costs, limits, groups, budget, floors=floors)
    rows = list(zip(weights, costs, ranks, limits, floors, strict=True))
    unclaimed = sum((rank - floor) * cost for weight, cost, rank, _, floor in rows if weight == 0)
    claimed = [cost for weight, cost, rank, limit, _ in rows if weight > 0 and rank < limit]
    left = budget - spent(ranks, costs)
    assert not claimed or unclaimed + left < min(claimed)


def test_a_matrix_without_a_claim_and_without_a_floor_is_not_adapted_however_much_is_left():
    assert apportion([0.0, 1.0], [5, 5], [9, 2], [0, 1], 100, floors=[0, 0]) == [0, 2]


def test_matrices_without_a_claim_share_evenly_what_nobody_else_can_take():
    assert apportion([0.0, 0.0, 1.0], [5, 5, 5], [9, 9, 2], [0, 1, 2], 50) == [4, 4, 2]


def test_a_matrix_whose_floor_is_its_limit_keeps_its_rank():
    ranks = apportion([1.0, 1.0, 1.0], [5, 5, 5], [7, 20, 20], [0, 1, 2], 100, floors=[7, 1, 1], start=[7, 4, 4])
    assert ranks == [7, 7, 6]


def test_too_dear_a_start_falls_in_proportion_and_no_further_than_it_must():
    start = [8, 8, 4, 4]
    ranks = apportion(start, [10] * 4, [20] * 4, [0, 0, 1, 1], 200, floors=[1] * 4, start=start)
    assert ranks == [7, 7, 3, 3]
    assert apportion(start, [10] * 4, [20] * 4, [0, 0, 1, 1], 240, floors=[1] * 4, start=start) == start
