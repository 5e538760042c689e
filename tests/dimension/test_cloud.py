"""A cloud computes what is read of it, once; its halves read as if the other half did not exist."""

import numpy as np
import pytest

from gelora_viz.dimension import ESTIMATORS, Cloud, neighbor_graph
from gelora_viz.dimension import _graph as graph_module
from gelora_viz.errors import InputError

K = 8
QUICK = [name for name, each in ESTIMATORS.items() if not each.reads.is_external]


def points_with_copies(n_points=400, n_copies=30, seed=0):
    """Points of three dimensions in six features; the last rows repeat some of the first."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n_points, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(n_points, 6))
    return np.concatenate([points, points[rng.choice(n_points, n_copies, replace=False)]])


def split_in_two(n_points, n_splits=1, seed=1):
    return np.random.default_rng(seed).random((n_splits, n_points)) < 0.5


@pytest.fixture
def searches(monkeypatch):
    """The number of neighbors of every search."""
    found = []
    search = graph_module.nearest

    def counted(points, k, device):
        found.append(k)
        return search(points, k, device)

    monkeypatch.setattr(graph_module, "nearest", counted)
    return found


def test_nothing_is_searched_until_it_is_read(searches):
    cloud = Cloud(points_with_copies(n_copies=0), reach=K)
    assert cloud.n_features == 6
    assert searches == []
    assert cloud.n_points == 400
    assert searches == [K]


def test_one_search_serves_every_estimator_and_all_halves(searches):
    points = points_with_copies(n_copies=0)
    cloud = Cloud(points, reach=33)
    for one, other in cloud.halves(split_in_two(len(points), n_splits=3)):
        for name in QUICK:
            ESTIMATORS[name](one, K)
            ESTIMATORS[name](other, K)
    for name in QUICK:
        ESTIMATORS[name](cloud, K)
    assert searches == [3 * 33 + 30]


def test_a_graph_wider_than_the_reach_is_another_search_of_the_same_points(searches):
    points = points_with_copies()
    cloud = Cloud(points, reach=2)
    narrow, wide = cloud.graph(2), cloud.graph(20)
    assert searches == [2, 20]
    np.testing.assert_array_equal(wide.distances, neighbor_graph(points, 20).distances)
    np.testing.assert_array_equal(wide.kept, narrow.kept)
    assert wide.n_duplicates == narrow.n_duplicates == 30


def test_near_duplicates_are_dropped_from_everything_that_is_read():
    points = points_with_copies()
    cloud = Cloud(points, reach=K)
    assert (cloud.n_points, len(cloud.distinct), len(cloud.sample)) == (400, 400, 400)
    np.testing.assert_array_equal(cloud.distinct, points[:400])
    expected = np.linalg.eigvalsh(np.cov(points[:400].T, bias=True))[::-1]
    np.testing.assert_allclose(cloud.eigenvalues, expected, rtol=1e-10)


@pytest.mark.parametrize("name", QUICK)
def test_an_estimate_of_a_half_is_that_of_its_points_alone(name):
    points = points_with_copies()
    side = split_in_two(len(points))
    each = ESTIMATORS[name]
    for half, members in zip(next(Cloud(points, reach=33).halves(side)), (~side[0], side[0]), strict=True):
        alone = Cloud(points[:400][members[:400]], reach=33)
        assert each(half, K) == pytest.approx(each(alone, K), rel=1e-9)


def test_halves_of_a_sample_make_up_the_sample_of_the_whole():
    points = points_with_copies(n_points=2500)
    cloud = Cloud(points)
    assert len(cloud.sample) == 2000
    one, other = next(cloud.halves(split_in_two(len(points))))
    both = np.concatenate([one.sample, other.sample])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(cloud.sample, axis=0))


def test_samples_of_two_layers_are_the_same_texts():
    first, second = Cloud(points_with_copies(3000, 0)), Cloud(points_with_copies(3000, 0, seed=7))
    np.testing.assert_array_equal(first.sample_rows, second.sample_rows)


@pytest.mark.parametrize("reach", [-1, 2.5, "20"])
def test_a_reach_that_is_no_number_of_neighbors_is_refused(reach):
    with pytest.raises(InputError, match=f"reach is {reach!r}; give a whole number of at least 0"):
        Cloud(points_with_copies(), reach)


def test_a_subset_is_a_cloud_of_its_own(searches):
    points = points_with_copies()
    members = np.arange(len(points)) < 100
    subset = Cloud(points, reach=K).subset(members)
    np.testing.assert_array_equal(subset.graph(K).distances, neighbor_graph(points[:100], K).distances)
    assert set(searches) == {K}


def test_a_half_with_too_few_points_is_refused_with_the_numbers():
    points = points_with_copies(n_points=30, n_copies=4)
    one, _ = next(Cloud(points, reach=14).halves(np.arange(34)[None] < 14))
    with pytest.raises(InputError, match=r"30 distinct points of 34 are too few for 14 neighbors in each half"):
        one.graph(14)
