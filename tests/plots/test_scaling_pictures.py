"""The picture of scale: which layers and steps it shows, and where they stand."""

import math

import numpy as np
import pytest

from gelora_viz import plots
from gelora_viz.activations import Activations
from gelora_viz.dimension import ESTIMATORS, dimension_scaling
from gelora_viz.errors import InputError
from gelora_viz.plots import estimator_style, estimator_title


@pytest.fixture(scope="module")
def scaling():
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(300, 3)) for name in ("embeddings", "block 1", "block 2", "block 3")}
    return dimension_scaling(Activations.from_arrays(layers), scales=(2, 4, 8), progress=False)


def test_the_first_the_middle_and_the_last_layer_are_shown_along_both_axes(scaling):
    drawing = plots.scaling(scaling)
    assert [subplot.title for subplot in drawing.subplots] == ["embeddings"] * 2 + ["block 2"] * 2 + ["block 3"] * 2
    assert drawing.columns == 2
    assert {subplot.x_label for subplot in drawing.subplots[-2:]} == {"Points", "Neighbours read, k"}


def test_each_doubling_is_one_step_and_labelled_with_its_number(scaling):
    points, scale = plots.scaling(scaling, layers=["block 1"]).subplots
    assert scale.x_ticks == (1, 2, 3)
    assert scale.x_tick_labels == ("2", "4", "8")
    assert points.x_tick_labels == ("150", "300")
    assert points.x_ticks[1] - points.x_ticks[0] == pytest.approx(1)


def test_values_and_intervals_are_the_frames(scaling):
    series = {each.label: each for each in plots.scaling(scaling, layers=["block 1"]).subplots[1].series}
    rows = scaling.along("scale").query("layer == 'block 1' and estimator == 'gride'")
    gride = series["Gride"]
    assert gride.x == tuple(math.log2(k) for k in rows["k"])
    assert (gride.y, gride.low, gride.high) == tuple(tuple(rows[name]) for name in ("dimension", "ci_low", "ci_high"))
    assert gride.details[0] == "300 points, k = 2"


def test_both_renderers_draw_it(scaling, tmp_path):
    assert plots.scaling(scaling).to_plotly().data
    assert plots.scaling(scaling).save(tmp_path / "s.png", venue="plain").stat().st_size


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(scaling):
    with pytest.raises(InputError, match="no layer 'z'; layers are embeddings, block 1"):
        plots.scaling(scaling, layers=["z"])


def test_every_estimator_has_a_look_of_its_own_whatever_stands_beside_it():
    looks = [estimator_style(name) for name in ESTIMATORS]
    assert len(set(looks)) == len(looks)
    assert estimator_style("mom", 3) == estimator_style("mom", 0)
    assert estimator_style("my own", 1) not in looks
    assert estimator_title("my own") == "my own"
