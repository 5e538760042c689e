"""Corrected beside raw values in a profile, and the estimator that fits all scales with an interval of its own."""

import numpy as np
import pandas as pd
import pytest

from gelora_viz.activations import Activations
from gelora_viz.dimension import ESTIMATORS, DimensionProfile, correct_bias, estimate_dimension
from gelora_viz.dimension._profile import CORRECTED_COLUMNS
from gelora_viz.errors import InputError


def ball(d, n_points=1500, seed=0, n_features=None):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n_points, d))
    points *= rng.uniform(size=(n_points, 1)) ** (1 / d) / np.linalg.norm(points, axis=1, keepdims=True)
    return points @ np.linalg.qr(rng.normal(size=(n_features or 2 * d, d)))[0].T


def profile_of(points, names, **options):
    return estimate_dimension(Activations.from_arrays({"x": points}), names, progress=False, **options)


def test_corrected_values_stand_beside_the_raw_ones_and_are_nearer_the_truth():
    names = ["twonn", "mle", "mom", "gride", "mada", "mind_ml", "mle_levina_bickel", "twonn_ml"]
    frame = profile_of(ball(15), names, correct=True).frame
    raw = profile_of(ball(15), names).frame
    pd.testing.assert_frame_equal(frame[raw.columns], raw)
    assert ((frame["corrected"] - 15).abs() < (frame["dimension"] - 15).abs()).all()
    assert frame["corrected"].between(13.5, 16.5).all()
    assert frame["corrected_low"].le(15).all()
    assert frame["corrected_high"].ge(15).all()


def test_the_interval_of_a_corrected_value_is_wider_than_the_raw_one():
    row = profile_of(ball(10), "mle", correct=True).frame.iloc[0]
    assert row["corrected_high"] - row["corrected_low"] > row["ci_high"] - row["ci_low"]
    assert row["corrected_low"] < row["corrected"] < row["corrected_high"]


def test_estimators_that_read_more_than_distances_stay_uncorrected():
    frame = profile_of(ball(4), ["tle", "lpca_ratio", "knn", "calibrated"], correct=True).frame
    assert frame[CORRECTED_COLUMNS].isna().all(axis=None)


def test_without_being_asked_for_there_are_no_corrected_columns():
    assert not set(CORRECTED_COLUMNS) & set(profile_of(ball(3), "mle").frame)


def test_a_corrected_profile_is_saved_and_loaded_whole(tmp_path):
    profile = profile_of(ball(3), ["mle", "knn"], correct=True)
    again = DimensionProfile.load(profile.save(tmp_path / "profile.json"))
    pd.testing.assert_frame_equal(again.frame, profile.frame)


def test_no_corrected_dimension_is_larger_than_the_number_of_features():
    rng = np.random.default_rng(0)
    frame = profile_of(rng.normal(size=(400, 8)) ** 3, ["twonn", "mle"], correct=True).frame
    assert (frame["corrected"] <= 8).all()
    assert (frame["corrected_high"] <= 8).all()


@pytest.mark.parametrize("d", [2, 8, 20])
def test_all_scales_at_once_find_the_dimension_within_their_own_interval(d):
    row = profile_of(ball(d), "calibrated").frame.iloc[0]
    assert row["dimension"] == pytest.approx(d, rel=0.08)
    assert row["ci_low"] < d < row["ci_high"]


def test_the_interval_of_all_scales_is_wider_than_halves_of_the_texts_show():
    profile = profile_of(ball(8), "calibrated")
    from_halves = np.sqrt(np.square(profile.half_gaps["x", "calibrated"]).mean()) / 2
    assert profile.frame["std_error"].item() > 1.5 * from_halves


def test_differences_between_layers_of_all_scales_are_paired():
    points = ball(6)
    profile = estimate_dimension(
        Activations.from_arrays({"a": points, "b": 5 * points}), "calibrated", progress=False
    )
    assert profile.differences("calibrated")["std_error"].item() == pytest.approx(0, abs=1e-4)


def test_a_correction_on_the_plateau_is_refused():
    with pytest.raises(InputError, match="choose correct or plateau"):
        profile_of(ball(3), "mle", correct=True, plateau=True)


def test_a_dimension_beyond_the_tables_is_saved_with_an_unknown_interval_and_is_noise(tmp_path):
    rng = np.random.default_rng(0)
    cloud = Activations.from_arrays({"a": rng.normal(size=(150, 1500)), "b": rng.normal(size=(150, 1500))})
    profile = estimate_dimension(cloud, ["calibrated", "twonn"], correct=True, progress=False)
    again = DimensionProfile.load(profile.save(tmp_path / "profile.json"))
    row = again.of("calibrated").iloc[0]
    assert row["dimension"] <= 1500
    assert np.isnan(row["std_error"]) or row["ci_high"] <= 1500
    difference = again.differences("calibrated").iloc[0]
    assert difference["within_noise"]


def test_a_corrected_value_beyond_the_table_has_an_interval_that_opens_downwards():
    value, low, high = correct_bias(ESTIMATORS["twonn"], 300, 280, 320, n_points=100, k=2, n_features=4096)
    assert (value, high) == (4096, 4096)
    assert low < 1024


def test_an_interval_below_dimension_one_is_no_wider_than_sampling_makes_it():
    _, low, high = correct_bias(ESTIMATORS["twonn"], 0.30, 0.29, 0.31, n_points=1000, k=2, n_features=10)
    assert 0.25 < low < high < 0.36


def test_differences_are_paired_where_layers_drop_different_duplicates():
    """Copies of other rows in each layer: what stays is the same halves of the same texts."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(600, 4))
    one, other = points.copy(), 3 * points
    one[rng.choice(300, 20, replace=False)] = one[400:420]
    other[rng.choice(300, 20, replace=False)] = other[500:520]
    layers = {"a": one, "b": other}
    differences = estimate_dimension(Activations.from_arrays(layers), "mle", progress=False).differences("mle")
    unpaired = estimate_dimension(Activations.from_arrays(layers), "mle", progress=False).frame["std_error"]
    assert differences["std_error"].item() < 0.6 * np.hypot(*unpaired)
