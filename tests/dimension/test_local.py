"""The dimension around each point: which estimators have one, for which rows, and what smoothing does."""

import numpy as np
import pytest
import skdim

from gelora_viz.activations import Activations
from gelora_viz.dimension import local_dimension, neighbor_graph
from gelora_viz.errors import InputError


def line_and_cube(n_each=300):
    """A line of 300 points far from a cube of as many."""
    rng = np.random.default_rng(0)
    line = np.zeros((n_each, 3))
    line[:, 0] = rng.uniform(size=n_each)
    return np.concatenate([line, 10 + rng.uniform(size=(n_each, 3))])


def local(points, estimator="mle", **options):
    return local_dimension(Activations.from_arrays({"x": points}), estimator, progress=False, **options)[
        "x"
    ].to_numpy()


@pytest.mark.parametrize("estimator", ["mle", "mom", "mada", "tle", "ess"])
def test_a_line_and_a_cube_in_one_cloud_have_their_own_dimensions(estimator):
    found = local(line_and_cube(), estimator)
    assert found[:300].mean() == pytest.approx(1, abs=0.35)
    assert found[300:].mean() == pytest.approx(2.8, abs=0.6)


@pytest.mark.parametrize(
    ("estimator", "peer"),
    [("mle", skdim.id.MLE()), ("mom", skdim.id.MOM()), ("mada", skdim.id.MADA()), ("tle", skdim.id.TLE(epsilon=0))],
)
def test_unsmoothed_values_are_scikit_dimensions_point_by_point(estimator, peer):
    points = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32).astype(float)
    expected = peer.fit(points, n_neighbors=15).dimension_pw_
    np.testing.assert_allclose(local(points, estimator, k=15, smooth=False), expected, rtol=1e-5)


def test_smoothing_is_the_harmonic_mean_over_a_point_and_its_neighbors():
    points = np.random.default_rng(1).normal(size=(200, 4))
    rough, smooth = local(points, smooth=False), local(points)
    peer = skdim.id.MLE().fit(points.astype(np.float32), n_neighbors=20)
    assert rough.std() > 2 * smooth.std()
    graph = neighbor_graph(points.astype(np.float32), 20)
    expected = 21 / (1 / rough + (1 / rough)[graph.indices].sum(axis=1))
    np.testing.assert_allclose(smooth, expected, rtol=1e-9)
    assert smooth.mean() == pytest.approx(peer.dimension_, rel=0.1)


def test_a_duplicate_has_the_value_of_the_point_it_repeats():
    points = np.random.default_rng(2).normal(size=(150, 3))
    found = local(np.concatenate([points, points[[7, 40]]]))
    assert found[150:] == pytest.approx(found[[7, 40]])
    assert len(found) == 152


def test_there_is_a_row_for_each_point_and_a_column_for_each_layer():
    points = np.random.default_rng(2).normal(size=(100, 3))
    frame = local_dimension(Activations.from_arrays({"a": points, "b": points}), progress=False)
    assert frame.shape == (100, 2)
    assert list(frame.columns) == ["a", "b"]


def test_an_estimator_without_values_for_single_points_is_refused_with_those_that_have():
    with pytest.raises(InputError, match="twonn has no value for single points"):
        local(line_and_cube(), "twonn")


def test_a_grid_has_no_local_dimension_and_says_where():
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
    with pytest.raises(InputError, match=r"layer 'x': .* points have neighbors that are all equally far away"):
        local(grid, k=3)
