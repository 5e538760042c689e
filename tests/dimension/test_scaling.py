"""Dimension against number of points and scale; the plateau rule; what halving does."""

import numpy as np
import pandas as pd
import pytest

from gelora_viz.activations import Activations
from gelora_viz.dimension import (
    Cloud,
    DimensionScaling,
    choose_estimators,
    dimension_scaling,
    estimate_dimension,
    neighbor_graph,
)
from gelora_viz.dimension._halving import count_levels, find_plateau, halve, text_orders
from gelora_viz.dimension._ratios import gride, mle, twonn_ml
from gelora_viz.errors import InputError


def noisy_plane(n_points=1200, seed=0):
    """Two-dimensional from afar, six-dimensional from close by."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(size=(n_points, 2)), 0.02 * rng.normal(size=(n_points, 4))], axis=1)


def scaling_of(points, estimators=None, **options):
    return dimension_scaling(Activations.from_arrays({"x": points}), estimators, progress=False, **options)


@pytest.fixture(scope="module")
def scaling():
    return scaling_of(noisy_plane())


def test_sizes_are_halved_until_parts_would_be_smaller_than_128_texts(scaling):
    sizes = scaling.along("points").groupby("estimator", sort=False)["n_points"].apply(list)
    assert list(sizes.index) == ["twonn_ml", "gride", "mle"]
    assert all(each == [1200, 600, 300, 150] for each in sizes)


def test_all_points_give_the_estimates_of_the_whole_cloud(scaling):
    graph = neighbor_graph(noisy_plane().astype(np.float32), 20)
    first = scaling.along("points").groupby("estimator")["dimension"].first()
    assert first["twonn_ml"] == pytest.approx(twonn_ml(graph.nearest(2)), rel=1e-9)
    assert first["gride"] == pytest.approx(gride(graph), rel=1e-9)
    assert first["mle"] == pytest.approx(mle(graph), rel=1e-9)


def test_each_step_of_scale_reads_twice_the_neighbors(scaling):
    steps = scaling.along("scale").set_index(["estimator", "k"])
    graph = neighbor_graph(noisy_plane().astype(np.float32), 128)
    assert list(steps.loc["gride"].index) == [2, 4, 8, 16, 32, 64, 128]
    for k in (2, 16, 128):
        assert steps.loc[("gride", k), "dimension"] == pytest.approx(gride(graph.nearest(k)), rel=1e-9)
        assert steps.loc[("gride", k), "radius"] == pytest.approx(graph.distances[:, k - 1].mean(), rel=1e-9)
    assert not scaling.along("scale")["estimator"].eq("twonn_ml").any()


def test_noise_shows_as_a_dimension_that_falls_with_scale_and_rises_with_points(scaling):
    for axis, by in (("scale", "k"), ("points", "n_points")):
        of_gride = scaling.along(axis).query("estimator == 'gride'").sort_values(by)
        change = of_gride["dimension"].iloc[-1] - of_gride["dimension"].iloc[0]
        assert (change < -1) if axis == "scale" else (change > 0.5)


def test_every_step_has_an_interval_around_it(scaling):
    frame = scaling.frame
    assert (frame["std_error"] > 0).all()
    assert ((frame["ci_low"] < frame["dimension"]) & (frame["dimension"] < frame["ci_high"])).all()


def test_intervals_of_parts_cover_their_mean_over_draws():
    """Forty draws of a square; the interval at 300 of 600 points against the mean of all forty."""
    steps = [
        scaling_of(np.random.default_rng(seed).uniform(size=(600, 2)), "twonn_ml", smallest=300, seed=seed)
        .along("points")
        .iloc[-1]
        for seed in range(40)
    ]
    frame = pd.DataFrame(steps)
    center = frame["dimension"].mean()
    assert frame["ci_low"].lt(center).mul(frame["ci_high"].gt(center)).mean() >= 0.85
    assert 0.6 < frame["std_error"].mean() / frame["dimension"].std(ddof=1) < 1.6


def test_halves_are_the_same_in_every_layer_and_texts_stay_together():
    texts = np.repeat(np.arange(40), 5)
    first, second = text_orders(texts, 3), text_orders(texts, 3)
    np.testing.assert_array_equal(first, second)
    for order in first:
        assert all(len(set(order[texts == text])) == 1 for text in range(40))
        assert sorted(set(order)) == list(range(40))


def test_a_level_is_the_mean_over_its_parts():
    points, chosen = noisy_plane(400), choose_estimators("twonn_ml")
    order = np.arange(400)
    parts = halve(Cloud(points), order[None], chosen, 20, 2)
    quarters = [twonn_ml(neighbor_graph(points[start : start + 100], 2)) for start in range(0, 400, 100)]
    assert parts.halves[0, 0, :, 1] == pytest.approx([np.mean(quarters[:2]), np.mean(quarters[2:])])
    assert parts.n_points.tolist() == [400, 200, 100]


@pytest.mark.parametrize(("n_texts", "levels"), [(100, 0), (128, 0), (255, 0), (256, 1), (1024, 3), (1025, 3)])
def test_how_often_texts_can_be_halved(n_texts, levels):
    assert count_levels(n_texts, 128) == levels


def test_a_cloud_too_small_to_halve_still_shows_its_scales():
    frame = scaling_of(noisy_plane(120), "mle").frame
    assert frame.query("axis == 'points'")["n_points"].tolist() == [120]
    assert frame.query("axis == 'points'")["std_error"].isna().all()
    assert frame.query("axis == 'scale'")["k"].tolist() == [4, 8, 16]


def test_what_was_saved_is_loaded(tmp_path, scaling):
    again = DimensionScaling.load(scaling.save(tmp_path / "scaling.json"))
    pd.testing.assert_frame_equal(again.frame, scaling.frame)
    assert (again.pooling, again.confidence, again.settings) == ("given", 0.95, scaling.settings)
    assert "twonn_ml" in again._repr_html_()


def test_a_layer_of_many_duplicates_has_fewer_scales_and_stops_no_other():
    few = noisy_plane(192)
    cloud = Activations.from_arrays({"a": np.concatenate([few] * 4)[:600], "b": noisy_plane(600)})
    steps = dimension_scaling(cloud, "mle", scales=(8, 32, 128), progress=False).along("scale")
    assert steps.groupby("layer")["k"].apply(list).to_dict() == {"a": [8, 32], "b": [8, 32, 128]}


def test_layers_can_be_chosen():
    cloud = Activations.from_arrays({"a": noisy_plane(300), "b": noisy_plane(300, 1)})
    assert dimension_scaling(cloud, "mle", layers=["b"], progress=False).layers == ["b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimators": "danco"}, "danco would take hours"),
        ({"layers": ["z"]}, "no layer 'z'; layers are x"),
        ({"scales": (1, 2)}, "a scale is 1; give a whole number of at least 2"),
        ({"smallest": 10}, "smallest is 10; parts of fewer than 22 texts"),
        ({"smallest": "all"}, "smallest is 'all'; give a whole number"),
        ({"k": 20.0}, "k is 20.0; give a whole number of at least 3"),
        ({"confidence": 1.5}, "confidence is 1.5"),
        ({"estimators": "twon"}, "did you mean twonn"),
    ],
)
def test_unusable_arguments_are_refused_in_words(options, message):
    with pytest.raises(InputError, match=message):
        scaling_of(noisy_plane(300), **options)


def test_an_axis_that_does_not_exist_is_refused(scaling):
    with pytest.raises(InputError, match="unknown axis 'size'; choose points or scale"):
        scaling.along("size")


# The plateau rule


def test_the_plateau_is_the_mean_of_the_adjacent_pair_that_differs_least():
    assert find_plateau(np.array([9.0, 7.0, 6.5, 6.4, 4.0])) == pytest.approx(6.45)
    assert find_plateau(np.array([5.0, 5.0, 1.0])) == 5.0


def test_a_profile_on_the_plateau_is_that_of_its_sizes():
    points = noisy_plane()
    options = {"estimators": "mle", "seed": 4, "progress": False}
    cloud = Activations.from_arrays({"x": points})
    row = estimate_dimension(cloud, plateau=True, **options).frame.iloc[0]
    sizes = dimension_scaling(cloud, **options).along("points")["dimension"].to_numpy()
    assert row["dimension"] == pytest.approx(find_plateau(sizes), rel=1e-9)
    assert row["ci_low"] < row["dimension"] < row["ci_high"]
    assert row["n_points"] == 1200


def test_differences_between_layers_on_the_plateau_are_paired():
    points = noisy_plane()
    cloud = Activations.from_arrays({"a": points, "b": 3 * points})
    differences = estimate_dimension(cloud, "mle", plateau=True, progress=False).differences("mle")
    assert differences[["difference", "std_error"]].to_numpy() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("n_points", "options", "message"),
    [
        (300, {}, "300 texts cannot be halved twice with 128 left"),
        (600, {"k": 127}, "k is 127; the plateau rule goes down to 128 texts"),
        (600, {"estimators": "ph"}, "ph would take hours"),
        (600, {"estimators": "calibrated"}, "calibrated chooses its scale itself"),
    ],
)
def test_what_has_no_plateau_is_refused_in_words(n_points, options, message):
    with pytest.raises(InputError, match=message):
        estimate_dimension(
            Activations.from_arrays({"x": noisy_plane(n_points)}), plateau=True, progress=False, **options
        )
