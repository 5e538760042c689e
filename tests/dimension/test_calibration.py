"""What estimators read where the truth is known, and what that makes of estimates where it is not."""

import numpy as np
import pytest
from scipy import stats

from gelora_viz.dimension import ESTIMATORS, NeighborGraph, calibrate, correct_bias, fit_scales, neighbor_graph
from gelora_viz.dimension import _distance_laws as distance_laws
from gelora_viz.dimension._distance_laws import FAMILIES
from gelora_viz.dimension._estimator import SCALE_NEIGHBORS
from gelora_viz.dimension._scales import calibrated_dimension
from gelora_viz.errors import InputError

TWONN, MLE = ESTIMATORS["twonn"], ESTIMATORS["mle"]


def ball(generator, n_points, dimension):
    points = generator.normal(size=(n_points, dimension))
    radii = generator.uniform(size=n_points) ** (1 / dimension)
    return points * (radii / np.linalg.norm(points, axis=1))[:, None]


def gaussian(generator, n_points, dimension):
    return generator.normal(size=(n_points, dimension))


DRAW = {"ball": ball, "gaussian": gaussian}


# The law of distances


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dimension", [1, 3, 50])
def test_the_law_of_distances_is_that_of_drawn_points(family, dimension):
    generator = np.random.default_rng(0)
    log_radii, log_shares = distance_laws.law_of_distances(float(dimension), family)
    at = 40
    cloud = DRAW[family](generator, 20_000, dimension)
    query = np.zeros(dimension)
    quantile = (at + 0.5) / 64
    query[0] = quantile ** (1 / dimension) if family == "ball" else np.sqrt(stats.chi2.ppf(quantile, dimension))
    distances = np.linalg.norm(cloud - query, axis=1)

    def law(r):
        return np.exp(np.interp(np.log(r), log_radii[at], log_shares[at]))

    assert stats.kstest(distances, law).pvalue > 0.01


def test_a_small_ball_well_inside_a_ball_holds_the_dth_power_of_its_radius():
    log_share = distance_laws._log_share_of_ball(np.log(np.array([0.1, 0.3])), np.array([0.5, 0.5]), 7.0)
    assert log_share == pytest.approx(7 * np.log([0.1, 0.3]))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_table_underflows_or_falls_up_to_the_largest_dimension(family):
    for dimension in distance_laws.DIMENSIONS[[0, 20, 30, 44]]:
        _, log_shares = distance_laws.law_of_distances(float(dimension), family)
        assert np.isfinite(log_shares).all()
        assert (np.diff(log_shares, axis=1) >= 0).all()


# The calibration


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dimension", [2, 12, 40])
def test_the_simulated_estimate_is_that_of_real_clouds_with_real_graphs(family, dimension):
    n_points, k, generator = 200, 10, np.random.default_rng(1)
    graphs = [neighbor_graph(DRAW[family](generator, n_points, dimension), k) for _ in range(20)]
    for estimator, reads in ((TWONN, 2), (MLE, k)):
        found = np.array([estimator.formula(graph.nearest(reads)) for graph in graphs])
        table = calibrate(estimator, n_points, reads, family=family)
        simulated = np.exp(np.interp(np.log(dimension), np.log(table.dimensions), np.log(table.expected)))
        error = np.interp(dimension, table.dimensions, table.std_error)
        assert abs(found.mean() - simulated) < 3.5 * np.hypot(found.std(ddof=1) / np.sqrt(len(found)), error)


@pytest.mark.parametrize("name", ["twonn", "twonn_ml", "gride", "mle", "mle_levina_bickel", "mom", "mada", "mind_ml"])
def test_the_curve_of_every_estimator_rises_with_the_dimension_and_ends_below_it(name):
    estimator = ESTIMATORS[name]
    table = calibrate(estimator, 50, estimator.neighbors(8))
    assert len(table.dimensions) == len(distance_laws.DIMENSIONS)
    assert (np.diff(table.expected) > 0).all()
    assert table.expected[-1] < 0.3 * table.dimensions[-1]


def test_a_correction_undoes_the_bias_and_continues_below_and_above_the_grid():
    table = calibrate(MLE, 200, 10)
    assert table.corrected(table.expected[20]) == pytest.approx(table.dimensions[20])
    assert table.corrected(table.expected[0] / 2) == pytest.approx(0.5)
    assert table.corrected(table.expected[-1] * 1.01) == np.inf
    assert table.corrected(-1.0) == 0
    assert np.isnan(table.corrected(float("nan")))


def test_another_seed_changes_a_corrected_estimate_by_no_more_than_the_monte_carlo_error_says():
    one, other = (calibrate(TWONN, 200, 2, seed=seed) for seed in (0, 1))
    for raw in (2.0, 10.0, 25.0):
        gap = abs(np.log(one.corrected(raw) / other.corrected(raw)))
        assert gap < 4 * np.hypot(one.relative_error(raw), other.relative_error(raw))


def test_a_calibration_is_made_once_and_shared_by_nearly_equal_numbers_of_points():
    assert calibrate(TWONN, 200, 2) is calibrate(TWONN, 204, 2)
    assert calibrate(TWONN, 200, 2) is not calibrate(TWONN, 50, 2)


def test_a_calibration_refuses_what_it_cannot_simulate():
    with pytest.raises(InputError, match="families are ball, gaussian"):
        calibrate(TWONN, 100, 2, family="cube")
    with pytest.raises(InputError, match="between 1 and 9"):
        calibrate(MLE, 10, 10)
    with pytest.raises(InputError, match=r"k is 2\.5; give a whole number"):
        calibrate(MLE, 10, 2.5)


def test_an_estimator_that_reads_more_than_distances_is_refused_and_not_miscalibrated():
    with pytest.raises(InputError, match="which points are neighbors"):
        calibrate(ESTIMATORS["knn"], 100, 20)


# Corrected estimates


@pytest.mark.parametrize("dimension", [6, 30])
def test_a_corrected_estimate_of_a_cube_is_nearer_the_truth_and_its_interval_holds_it(dimension):
    graph = neighbor_graph(np.random.default_rng(0).uniform(size=(1000, dimension)), 20)
    raw = MLE.formula(graph)
    value, low, high = correct_bias(MLE, raw, 0.98 * raw, 1.02 * raw, n_points=1000, k=20, n_features=384)
    assert abs(value - dimension) < 0.6 * abs(raw - dimension)
    assert low < dimension < high


def test_the_interval_is_wider_than_its_ends_looked_up_and_reaches_the_other_family():
    value, low, high = correct_bias(TWONN, 9.0, 8.8, 9.2, n_points=1000, k=2, n_features=384)
    table, other = calibrate(TWONN, 1000, 2), calibrate(TWONN, 1000, 2, family="gaussian")
    assert low < table.corrected(8.8) < value < table.corrected(9.2) < high
    assert low < other.corrected(9.0) < high


def test_no_corrected_dimension_exceeds_the_number_of_features():
    assert correct_bias(MLE, 17.0, 16.5, 17.5, n_points=1000, k=20, n_features=20) == (
        20,
        pytest.approx(20, abs=4),
        20,
    )
    assert correct_bias(MLE, 1e4, 9e3, 2e4, n_points=1000, k=20, n_features=384) == (384, 384, 384)


def test_nan_stays_nan():
    assert np.isnan(correct_bias(TWONN, np.nan, np.nan, np.nan, n_points=1000, k=2, n_features=10)).all()


# All scales at once


def scale_graph(points):
    return neighbor_graph(points, SCALE_NEIGHBORS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dimension", [2, 10, 30])
def test_the_dimension_of_a_ball_and_of_a_gaussian_is_found_within_its_interval(family, dimension):
    fit = fit_scales(scale_graph(DRAW[family](np.random.default_rng(0), 1000, dimension)))
    low, high = fit.interval(0.99)
    assert low < dimension < high
    assert fit.dimension == pytest.approx(dimension, rel=0.08)
    assert fit.slope_probability < 0.2


def test_a_curved_sheet_is_told_from_a_flat_one_and_read_at_scale_zero():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(1000, 6))
    torus = scale_graph(np.hstack([np.cos(angles), np.sin(angles)]))
    fit = fit_scales(torus)
    assert fit.slope_probability > 0.95
    low, high = fit.interval()
    assert low < 6 < high
    one_scale = calibrate(MLE, 1000, SCALE_NEIGHBORS).corrected(MLE.formula(torus))
    assert abs(fit.dimension - 6) < 0.5 * abs(one_scale - 6)


def test_the_next_turn_of_a_spiral_is_left_out():
    angle = np.random.default_rng(0).uniform(0, 10 * np.pi, size=1000)
    fit = fit_scales(scale_graph(np.column_stack([20 * np.cos(angle), 20 * np.sin(angle), angle / 4])))
    assert fit.n_shells < len(fit.shells)
    assert fit.dimension == pytest.approx(1, abs=0.1)


def test_the_fit_does_not_depend_on_scale_and_respects_the_number_of_features():
    points = np.random.default_rng(0).normal(size=(1000, 20))
    graph = scale_graph(points)
    larger = NeighborGraph(1e6 * graph.distances, graph.indices, graph.kept, 0)
    assert calibrated_dimension(larger) == pytest.approx(calibrated_dimension(graph))
    assert calibrated_dimension(graph, 15) == 15


def test_halves_of_a_cloud_are_calibrated_for_their_own_number_of_points():
    generator = np.random.default_rng(0)
    graph = neighbor_graph(generator.normal(size=(1000, 20)), 4 * SCALE_NEIGHBORS)
    halves = graph.halves(np.arange(1000) % 2 == 1, SCALE_NEIGHBORS)
    raw = [MLE.formula(each) for each in (graph.nearest(SCALE_NEIGHBORS), halves[0], halves[1])]
    fitted = [calibrated_dimension(each) for each in (graph.nearest(SCALE_NEIGHBORS), *halves)]
    assert max(raw[1:]) < 0.95 * raw[0]
    assert np.mean(fitted[1:]) == pytest.approx(fitted[0], rel=0.06)


def test_a_fit_refuses_too_few_neighbors_and_a_grid():
    with pytest.raises(InputError, match="at least 3"):
        calibrated_dimension(neighbor_graph(np.random.default_rng(0).normal(size=(50, 2)), 2))
    equally_far = NeighborGraph(np.ones((50, 4)), np.zeros((50, 4), dtype=int), np.arange(50), 0)
    with pytest.raises(InputError, match="equally far"):
        calibrated_dimension(equally_far)
