"""The neighbor graph is exact, on every machine, and free of near-duplicates.

The source of truth is scipy's full distance matrix in float64.
"""

import numpy as np
import pytest
import skdim
import torch
from scipy.spatial.distance import cdist

from gelora_viz.dimension import neighbor_graph
from gelora_viz.dimension._ratios import gride, mle, mom, twonn
from gelora_viz.errors import InputError


def curved(n_points=400, seed=0):
    """A noisy four-dimensional surface in twelve dimensions."""
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(n_points, 4))
    return np.tanh(flat @ rng.normal(size=(4, 12))) + 0.02 * rng.normal(size=(n_points, 12))


def brute_force(points, k):
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, axis=1), indices


def assert_same_graph(graph, distances, indices):
    np.testing.assert_allclose(graph.distances, distances, rtol=1e-9)
    np.testing.assert_array_equal(graph.indices, indices)


@pytest.mark.parametrize("k", [1, 2, 20, 399])
def test_neighbors_and_distances_are_those_of_the_full_distance_matrix(k):
    points = curved()
    graph = neighbor_graph(points, k)
    assert_same_graph(graph, *brute_force(points, k))
    assert (graph.n_points, graph.k, graph.n_duplicates) == (400, k, 0)
    assert graph.kept.tolist() == list(range(400))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_large_offset_in_one_coordinate_costs_no_neighbor(dtype):
    """The "massive activations" of large models: expanding |a - b|^2 without centring loses most neighbors here."""
    points = curved()
    points[:, 5] += 3000
    points = points.astype(dtype)
    assert_same_graph(neighbor_graph(points, 20), *brute_force(points.astype(np.float64), 20))


def test_points_of_a_higher_dimension_than_their_number_have_exact_neighbors():
    points = np.random.default_rng(1).normal(size=(60, 300))
    assert_same_graph(neighbor_graph(points, 5), *brute_force(points, 5))


def test_tensors_and_whole_numbers_are_points_too():
    points = curved(50)
    expected = neighbor_graph(points, 3).distances
    np.testing.assert_array_equal(neighbor_graph(torch.tensor(points, requires_grad=True), 3).distances, expected)
    squares = np.array([[0], [1], [4], [9], [16]])
    assert neighbor_graph(squares, 1).distances.ravel().tolist() == [1, 1, 3, 5, 7]


def test_the_points_given_are_not_changed():
    points = curved(50) + 10
    before = points.copy()
    neighbor_graph(points, 3)
    np.testing.assert_array_equal(points, before)


# Near-duplicates


def with_copies(points, share, noise, seed=0):
    """The points and copies of some, in random order; and where each row came from."""
    rng = np.random.default_rng(seed)
    n_copies = int(share * len(points))
    copied = rng.choice(len(points), size=n_copies, replace=False)
    spacing = np.median(brute_force(points, 1)[0])
    moved = points[copied] + noise * spacing * rng.normal(size=(n_copies, points.shape[1])) / points.shape[1] ** 0.5
    origin = np.concatenate([np.arange(len(points)), copied])
    order = rng.permutation(len(origin))
    return np.concatenate([points, moved])[order], origin[order]


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_near_duplicates_are_dropped_counted_and_leave_the_dimension_alone(share, noise):
    clean = curved(1000)
    points, origin = with_copies(clean, share, noise)
    graph = neighbor_graph(points, 20)
    assert graph.n_duplicates == int(share * 1000)
    assert graph.n_points == 1000
    assert sorted(origin[graph.kept]) == list(range(1000))
    reference = neighbor_graph(clean, 20)
    for estimate, k in ((twonn, 2), (mle, 20), (mom, 20), (gride, 20)):
        assert estimate(graph.nearest(k)) == pytest.approx(estimate(reference.nearest(k)), rel=0.03)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_large_offset_in_one_coordinate_leaves_the_dimension_alone(dtype):
    points = curved(1000)
    moved = points + 3000.0 * (np.arange(points.shape[1]) == 5)
    reference, found = neighbor_graph(points, 20), neighbor_graph(moved.astype(dtype), 20)
    for estimate, k in ((twonn, 2), (mle, 20), (mom, 20), (gride, 20)):
        assert estimate(found.nearest(k)) == pytest.approx(estimate(reference.nearest(k)), rel=0.03)


def test_the_same_duplicates_ruin_an_estimator_that_keeps_them():
    """Why they are dropped: scikit-dimension's MLE on one duplicate in a hundred."""
    clean = curved(1000)
    points, _ = with_copies(clean, share=0.01, noise=0.0)
    kept = mle(neighbor_graph(points, 20))
    naive = skdim.id.MLE().fit(points, n_neighbors=20, comb="mle").dimension_
    assert kept == pytest.approx(mle(neighbor_graph(clean, 20)), rel=0.03)
    assert naive != pytest.approx(kept, rel=0.5)


def test_the_first_of_each_set_of_duplicates_stays():
    graph = neighbor_graph(np.array([[0.0], [5.0], [0.0], [1.0], [5.0], [0.0], [2.0]]), 1)
    assert graph.kept.tolist() == [0, 1, 3, 6]
    assert graph.n_duplicates == 3
    assert graph.distances.ravel().tolist() == [1, 3, 1, 1]


def test_points_that_are_merely_close_stay():
    points, _ = with_copies(curved(300), share=0.1, noise=0.1)
    assert neighbor_graph(points, 5).n_duplicates == 0


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_chain_of_near_duplicates_loses_every_second_and_not_its_far_end(k):
    """Each link lies within the radius of the next, the ends far apart: who is dropped does not depend on k."""
    spread = curved(400)
    radius = 1e-3 * np.median(brute_force(spread, 1)[0])
    chain = spread[:1] + 0.7 * radius * np.arange(1, 20)[:, None] * np.eye(12)[0]
    graph = neighbor_graph(np.concatenate([spread, chain]), k)
    assert graph.n_duplicates == 10
    assert graph.kept[-1] == 417  # the last but one of the chain


# What is refused


@pytest.mark.parametrize("k", [4, 5, 100])
def test_more_neighbors_than_distinct_points_are_refused_with_the_numbers(k):
    points = np.array([[0.0], [1.0], [3.0], [7.0], [7.0], [7.0]])
    with pytest.raises(InputError, match=rf"k = {k} neighbors need more than 4 distinct points \(6 given\)"):
        neighbor_graph(points, k)
    assert neighbor_graph(points, 3).n_points == 4


@pytest.mark.parametrize("k", [0, -1, 2.0, "2", None])
def test_a_k_that_is_no_whole_number_of_at_least_one_is_refused(k):
    with pytest.raises(InputError, match=f"k is {k!r}; give a whole number of at least 1"):
        neighbor_graph(curved(10), k)
    with pytest.raises(InputError, match=f"k is {k!r}; give a whole number of at least 1"):
        neighbor_graph(curved(10), 3).nearest(k)


@pytest.mark.parametrize("n_points", [1, 2, 50])
def test_points_that_are_all_equal_are_refused(n_points):
    with pytest.raises(InputError, match=f"all {n_points} points are equal"):
        neighbor_graph(np.full((n_points, 3), 0.1), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_and_counted(bad):
    points = curved(50)
    points[[3, 7], 0] = bad
    points[7, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinite values in 2 of 50 rows"):
        neighbor_graph(points, 3)


@pytest.mark.parametrize("shape", [(10,), (10, 2, 2)])
def test_what_is_no_table_of_points_is_refused_with_its_shape(shape):
    with pytest.raises(InputError) as error:
        neighbor_graph(np.zeros(shape), 1)
    assert str(shape) in str(error.value)


def test_a_checksum_that_two_different_rows_share_drops_neither(monkeypatch):
    points = np.arange(20.0).reshape(10, 2)

    class Zeros:
        def integers(self, *_range, size, dtype):
            return np.zeros(size, dtype=dtype)

    monkeypatch.setattr("gelora_viz.dimension._graph.np.random.default_rng", lambda _seed: Zeros())
    assert neighbor_graph(np.concatenate([points, points[:1]]), 2).kept.tolist() == list(range(10))


def test_a_negative_zero_is_a_zero():
    assert neighbor_graph(np.array([[0.0, 1], [-0.0, 1], [2, 3], [4, 4]], dtype=np.float32), 1).n_duplicates == 1


# Smaller graphs from larger ones


def test_a_graph_holds_all_graphs_with_fewer_neighbors():
    points = curved()
    smaller, direct = neighbor_graph(points, 20).nearest(5), neighbor_graph(points, 5)
    assert_same_graph(smaller, direct.distances, direct.indices)
    with pytest.raises(InputError, match="has 20 neighbors a point, not 21"):
        neighbor_graph(points, 20).nearest(21)


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_the_halves_of_a_graph_are_the_graphs_of_the_halves(share):
    points = curved()
    side = np.random.default_rng(4).random(len(points)) < share
    for half, members in zip(neighbor_graph(points, 80).halves(side, 6), (~side, side), strict=True):
        direct = neighbor_graph(points[members], 6)
        assert_same_graph(half, direct.distances, direct.indices)
        assert half.kept.tolist() == np.flatnonzero(members).tolist()


def test_the_halves_know_the_rows_of_the_original_array():
    points = np.concatenate([curved(100), curved(100)])  # every point twice: kept are the first hundred
    points = np.concatenate([points[:1], points])  # ... and the very first three times
    graph = neighbor_graph(points, 40)
    side = np.arange(graph.n_points) % 2 == 1
    for half in graph.halves(side, 5):
        again = neighbor_graph(points[half.kept], 5)
        assert_same_graph(half, again.distances, again.indices)


def test_a_graph_too_small_to_be_halved_says_so():
    graph = neighbor_graph(curved(), 6)
    with pytest.raises(InputError, match="a graph of 6 neighbors is too small to find 5 within each half"):
        graph.halves(np.arange(400) % 2 == 1, 5)
