"""Each estimator computes what its paper says; the reference is scikit-dimension on the same points or neighbors."""

import numpy as np
import pytest
import skdim
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from gelora_viz.activations import Activations
from gelora_viz.dimension import (
    DEFAULT_ESTIMATORS,
    ESTIMATORS,
    Cloud,
    choose_estimators,
    estimate_dimension,
    list_estimators,
    neighbor_graph,
)
from gelora_viz.dimension._covariance import RATIO_VARIANCE
from gelora_viz.dimension._ratios import mle, twonn, twonn_ml
from gelora_viz.errors import InputError

NEIGHBORS = 20


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


def by_graph(estimator):
    """scikit-dimension's local estimator with its mean over points."""
    return lambda points: estimator.fit(points, n_neighbors=NEIGHBORS)


REFERENCES = {
    "twonn": lambda points: skdim.id.TwoNN().fit(points),
    "twonn_ml": lambda points: skdim.id.TwoNN(discard_fraction=0, method="mle").fit(points),
    "gride": lambda points: skdim.id.GRIDE(n1=NEIGHBORS // 2).fit(points),
    "mle": lambda points: skdim.id.MLE().fit(points, n_neighbors=NEIGHBORS, comb="mle"),
    "mle_levina_bickel": lambda points: skdim.id.MLE().fit(points, n_neighbors=NEIGHBORS, comb="mean"),
    "mom": by_graph(skdim.id.MOM()),
    "mada": by_graph(skdim.id.MADA()),
    "tle": by_graph(skdim.id.TLE(epsilon=0)),
    "ess": by_graph(skdim.id.ESS()),
    "lpca_participation_ratio": lambda points: skdim.id.lPCA(ver="participation_ratio").fit(points),
    "lpca_maxgap": lambda points: skdim.id.lPCA(ver="maxgap").fit(points),
    "lpca_ratio": lambda points: skdim.id.lPCA(ver="ratio", alphaRatio=RATIO_VARIANCE).fit(points),
    "lpca_fan": lambda points: skdim.id.lPCA(ver="Fan").fit(points),
    "lpca_kaiser": lambda points: skdim.id.lPCA(ver="Kaiser").fit(points),
    "corrint": lambda points: skdim.id.CorrInt(k1=NEIGHBORS // 2, k2=NEIGHBORS).fit(points),
    "danco": lambda points: skdim.id.DANCo(random_state=0).fit(points),
    "ph": lambda points: skdim.id.PH(random_state=0, nsteps=10).fit(points),
}
OTHERWISE_SHOWN = {"mind_ml", "fishers", "knn", "calibrated"}
"""Compared below or in test_correction: peers stop an optimizer early, fit other sample sizes, or do not exist."""


def test_every_estimator_has_a_reference():
    assert set(REFERENCES) | OTHERWISE_SHOWN == set(ESTIMATORS)


def estimate(name, points, k=NEIGHBORS):
    """One estimator on its own, without intervals."""
    return ESTIMATORS[name](Cloud(points), k)


@pytest.mark.parametrize("cloud", clouds())
@pytest.mark.parametrize("name", REFERENCES)
def test_an_estimate_equals_that_of_scikit_dimension(name, cloud):
    points = single_precision(clouds()[cloud])
    if ESTIMATORS[name].kind == "external":
        points = points[:120]
    expected = REFERENCES[name](points).dimension_
    assert estimate(name, points) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("cloud", clouds())
def test_a_profile_holds_the_same_values(cloud):
    points = single_precision(clouds()[cloud])
    names = ["twonn", "mle", "tle", "corrint", "lpca_participation_ratio", "lpca_maxgap"]
    found = dimensions(points, names, k=NEIGHBORS)
    for name in names:
        assert found[name] == pytest.approx(estimate(name, points), rel=1e-6)


@pytest.mark.parametrize("cloud", clouds())
def test_mind_is_at_the_top_of_its_likelihood_and_near_scikit_dimensions(cloud):
    points = clouds()[cloud]
    found = estimate("mind_ml", points)
    reference = skdim.id.MiND_ML(k=NEIGHBORS - 1, D=30)
    assert found == pytest.approx(reference.fit(points).dimension_, rel=0.05)  # it stops early
    distances = neighbor_graph(points, NEIGHBORS).distances
    rho, n = distances[:, 0] / distances[:, -1], len(points)
    around = [reference._lld(d, rho, n) for d in (found * 0.9999, found, found * 1.0001)]
    assert np.argmax(around) == 1


@pytest.mark.parametrize("apart", [10, 1000, 1e5])
def test_pairs_are_counted_exactly_in_clusters_far_apart(apart):
    rng = np.random.default_rng(0)
    points = apart * rng.normal(size=(6, 5))[rng.integers(0, 6, 400)] + 0.1 * rng.normal(size=(400, 5))
    graph = neighbor_graph(points, NEIGHBORS)
    radii = np.median(graph.distances[:, [NEIGHBORS // 2 - 1, NEIGHBORS - 1]], axis=0)
    counts = [(pdist(points) < radius).sum() for radius in radii]
    expected = np.log(counts[1] / counts[0]) / np.log(radii[1] / radii[0])
    assert estimate("corrint", points) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cloud", clouds())
def test_fisher_separability_is_scikit_dimensions(cloud):
    points = clouds()[cloud]
    expected = skdim.id.FisherS().fit(points).dimension_
    assert estimate("fishers", points) == pytest.approx(float(np.ravel(expected)[0]), rel=1e-6)


def test_points_that_are_all_separable_have_no_fisher_dimension():
    assert np.isnan(estimate("fishers", np.random.default_rng(0).normal(size=(60, 300))))


@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_growth_of_the_neighbor_graph_gives_the_dimension(d):
    points = np.random.default_rng(d).uniform(size=(3000, d))
    assert estimate("knn", points) == pytest.approx(d, rel=0.1)


@pytest.mark.parametrize("k", [3, 10, 50])
def test_mle_equals_scikit_dimension_on_the_very_same_graph(k):
    points = clouds()["flat"]
    graph = neighbor_graph(points, k)
    arrays = (graph.distances, graph.indices)
    reference = skdim.id.MLE().fit(points, n_neighbors=k, comb="mle", precomputed_knn_arrays=arrays)
    assert mle(graph) == pytest.approx(reference.dimension_, rel=1e-9)


def test_the_dimension_of_a_pareto_law_of_ratios_is_found():
    """In closed form: neighbors of points uniform in d dimensions have r2 / r1 = u^(-1/d), u uniform."""
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


def test_a_curved_sheet_is_two_dimensional_to_neighbors_and_three_to_a_spectrum():
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


INVARIANT = [each.name for each in ESTIMATORS.values() if each.kind != "external"]


@pytest.mark.parametrize("name", INVARIANT)
def test_every_estimate_stays_when_points_are_moved_turned_scaled_and_shuffled(name):
    rng = np.random.default_rng(7)
    points = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 9)) + 0.2 * rng.normal(size=(300, 9))
    moved = 30 * (points @ rotation(9, 7) + 5)
    shuffled = moved if name == "knn" else moved[rng.permutation(300)]  # which thins the points by their place
    assert estimate(name, shuffled, k=10) == pytest.approx(estimate(name, points, k=10), rel=1e-6)


def test_the_order_of_points_moves_the_graphs_growth_by_less_than_its_error():
    points = np.random.default_rng(7).normal(size=(800, 4))
    orders = [np.random.default_rng(seed).permutation(800) for seed in range(12)]
    spread = np.std([estimate("knn", points[order]) for order in orders])
    std_error = estimate_dimension(Activations.from_arrays({"x": points}), "knn", progress=False).frame["std_error"]
    assert spread < 0.7 * std_error.item()


@pytest.mark.parametrize("name", INVARIANT)
def test_points_on_a_line_in_one_feature_are_one_dimensional(name):
    points = np.random.default_rng(3).uniform(size=(800, 1))
    expected = 1.0 if name != "fishers" else estimate("fishers", points)  # a sphere of one dimension is two points
    assert estimate(name, points) == pytest.approx(expected, rel=0.15)


# Names


def test_the_list_of_estimators_says_what_each_needs_and_costs():
    listed = list_estimators().set_index("name")
    assert list(listed.index) == list(ESTIMATORS)
    assert list(listed.columns) == ["title", "kind", "cost", "needs", "paper", "default"]
    assert listed.loc[["twonn", "mle", "knn", "lpca_ratio", "fishers"], "needs"].tolist() == [
        "2 neighbors", "k neighbors", "20 neighbors", "covariance", "all points",
    ]  # fmt: skip
    assert tuple(listed.index[listed["default"]]) == DEFAULT_ESTIMATORS


def test_one_name_a_list_all_or_nothing_choose_estimators():
    assert [each.name for each in choose_estimators("mle")] == ["mle"]
    assert [each.name for each in choose_estimators(["mle", "twonn", "mle"])] == ["mle", "twonn"]
    assert tuple(each.name for each in choose_estimators(None)) == DEFAULT_ESTIMATORS
    assert [each.name for each in choose_estimators("all")] == list(ESTIMATORS)[:-2]


def test_an_unknown_estimator_is_answered_with_the_nearest_names():
    with pytest.raises(InputError, match="unknown estimator 'twon'; did you mean twonn or twonn_ml"):
        choose_estimators(["mle", "twon"])
    with pytest.raises(InputError, match="unknown estimator 'zzz'; there is twonn, twonn_ml, gride, mle"):
        choose_estimators("zzz")


def test_no_estimator_at_all_is_refused():
    with pytest.raises(InputError, match="estimators is empty"):
        choose_estimators([])
