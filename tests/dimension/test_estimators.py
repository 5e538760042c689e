"""Each estimator computes what its paper says; the reference is scikit-dimension on the same points or neighbours."""

import numpy as np
import pytest
import skdim
from hypothesis import given, settings
from hypothesis import strategies as st

from gelora_viz.activations import Activations
from gelora_viz.dimension import ESTIMATORS, estimate_dimension, estimators, neighbor_graph
from gelora_viz.dimension.formulas import choose_estimators, mle, twonn, twonn_ml
from gelora_viz.errors import InputError

NEIGHBOURS = 20


def clouds():
    """Flat, curved, full and nearly singular clouds."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 12)) + 0.05 * rng.normal(size=(400, 12))
    turns = rng.uniform(0, 9, size=500)
    roll = np.column_stack([turns * np.cos(turns), turns * np.sin(turns), rng.uniform(0, 10, size=500)])
    ball = rng.normal(size=(300, 8))
    thin = rng.normal(size=(300, 6)) * np.array([100, 10, 1, 0.1, 0.01, 0.001])
    return {"flat": flat, "roll": roll, "ball": ball, "thin": thin}


def single_precision(points):
    """As captured activations are, so that both sides see the same numbers."""
    return np.asarray(points, dtype=np.float32).astype(np.float64)


def dimensions(points, names=None, **options):
    profile = estimate_dimension(Activations.from_arrays({"x": points}), names, progress=False, **options)
    return profile.frame.set_index("estimator")["dimension"].to_dict()


REFERENCES = {
    "twonn": lambda points: skdim.id.TwoNN().fit(points),
    "twonn_ml": lambda points: skdim.id.TwoNN(discard_fraction=0, method="mle").fit(points),
    "mle": lambda points: skdim.id.MLE().fit(points, n_neighbors=NEIGHBOURS, comb="mle"),
    "lpca_participation_ratio": lambda points: skdim.id.lPCA(ver="participation_ratio").fit(points),
    "lpca_maxgap": lambda points: skdim.id.lPCA(ver="maxgap").fit(points),
}


def test_every_estimator_has_a_reference():
    assert set(REFERENCES) == set(ESTIMATORS)


@pytest.mark.parametrize("cloud", clouds())
@pytest.mark.parametrize("name", REFERENCES)
def test_an_estimate_equals_that_of_scikit_dimension(name, cloud):
    points = single_precision(clouds()[cloud])
    expected = REFERENCES[name](points).dimension_
    assert dimensions(points, name, k=NEIGHBOURS)[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [3, 10, 50])
def test_mle_equals_scikit_dimension_on_the_very_same_graph(k):
    points = clouds()["flat"]
    graph = neighbor_graph(points, k)
    arrays = (graph.distances, graph.indices)
    reference = skdim.id.MLE().fit(points, n_neighbors=k, comb="mle", precomputed_knn_arrays=arrays)
    assert mle(graph) == pytest.approx(reference.dimension_, rel=1e-9)


def test_the_dimension_of_a_pareto_law_of_ratios_is_found():
    """In closed form: neighbours of points uniform in d dimensions have r2 / r1 = u^(-1/d), u uniform."""
    graph = neighbor_graph(np.random.default_rng(1).normal(size=(4000, 2)), 2)
    for d in (2.0, 10.0, 40.0):
        uniform = (np.arange(graph.n_points) + 0.5) / graph.n_points
        distances = np.column_stack([np.ones(graph.n_points), uniform ** (-1 / d)])
        exact = type(graph)(distances, graph.indices, graph.kept, 0)
        assert twonn(exact) == pytest.approx(d, rel=0.01)
        assert twonn_ml(exact) == pytest.approx(d, rel=0.01)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_uniform_cubes_have_about_their_dimension(d):
    points = np.random.default_rng(d).uniform(size=(2000, d))
    found = dimensions(points)
    for name in ("twonn", "twonn_ml", "mle"):
        assert found[name] == pytest.approx(d, rel=0.12)
    assert found["lpca_participation_ratio"] == pytest.approx(d, rel=0.02)


def test_a_curved_sheet_is_two_dimensional_to_neighbours_and_three_to_a_spectrum():
    found = dimensions(clouds()["roll"])
    assert found["twonn"] == pytest.approx(2, abs=0.25)
    assert found["lpca_participation_ratio"] > 2.5


def test_the_largest_gap_of_a_spectrum_is_where_the_signal_ends():
    assert dimensions(clouds()["flat"])["lpca_maxgap"] == 5


def rotation(n_features, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n_features, n_features)))[0]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    log_scale=st.floats(-3, 3),
    shift=st.floats(-50, 50),
)
def test_moving_turning_scaling_and_shuffling_points_leaves_every_dimension(seed, log_scale, shift):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(120, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(120, 6))
    moved = 10**log_scale * (points @ rotation(6, seed) + shift * rng.normal(size=6))
    expected = dimensions(points, k=10)
    # Activations are single precision: the shift costs digits of the distances, and of nothing else.
    assert dimensions(moved[rng.permutation(120)], k=10) == pytest.approx(expected, rel=2e-3)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), log_scale=st.floats(-6, 6), shift=st.floats(-1e3, 1e3))
def test_in_double_precision_the_graphs_estimates_are_invariant_to_nine_digits(seed, log_scale, shift):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(120, 5))
    moved = 10**log_scale * (points @ rotation(5, seed) + shift)[rng.permutation(120)]
    one, other = neighbor_graph(points, 10), neighbor_graph(moved, 10)
    for estimate in (twonn, twonn_ml):
        assert estimate(other.nearest(2)) == pytest.approx(estimate(one.nearest(2)), rel=1e-9)
    assert mle(other) == pytest.approx(mle(one), rel=1e-9)


# Names


def test_the_list_of_estimators_says_what_each_needs():
    listed = estimators().set_index("name")
    assert list(listed.index) == list(ESTIMATORS)
    assert listed["needs"].tolist() == ["2 neighbours", "2 neighbours", "k neighbours", "covariance", "covariance"]
    assert list(listed.columns) == ["title", "kind", "needs", "paper"]


def test_one_name_a_list_or_nothing_choose_estimators():
    assert [each.name for each in choose_estimators("mle")] == ["mle"]
    assert [each.name for each in choose_estimators(["mle", "twonn", "mle"])] == ["mle", "twonn"]
    assert [each.name for each in choose_estimators(None)] == list(ESTIMATORS)


def test_an_unknown_estimator_is_answered_with_the_nearest_names():
    with pytest.raises(InputError, match="unknown estimator 'twon'; did you mean twonn or twonn_ml"):
        choose_estimators(["mle", "twon"])
    with pytest.raises(InputError, match="unknown estimator 'zzz'; names are twonn, twonn_ml, mle, lpca"):
        choose_estimators("zzz")


def test_no_estimator_at_all_is_refused():
    with pytest.raises(InputError, match="no estimators given"):
        choose_estimators([])
