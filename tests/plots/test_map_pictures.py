"""Maps as pictures: classes and numbers as colors, several layers side by side, and what a map does not show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gelora_viz.errors import InputError
from gelora_viz.maps import Projection
from gelora_viz.plots import class_styles, umap, umap_of_classes

NASTY = "<script>alert(1)</script> $x$"


def make_map(n_points=40, layer="block 1", *, flat=True):
    generator = np.random.default_rng(0)
    axes = ("x", "y") if flat else ("x", "y", "z")
    places = {axis: generator.normal(size=n_points) for axis in axes}
    frame = pd.DataFrame({"point": range(n_points), **places, "text": range(n_points), "token": None})
    return Projection(frame, layer, {"n_neighbors": 15, "min_dist": 0.1})


def test_without_classes_there_is_one_color_and_a_caption_that_warns():
    drawing = umap(make_map())
    (subplot,) = drawing.subplots
    assert subplot.is_map
    assert len(subplot.series) == 1
    assert "Distances between clusters" in drawing.caption
    assert "15 neighbors, min_dist 0.1" in drawing.caption


def test_the_most_frequent_classes_have_looks_of_their_own_and_the_rest_share_one():
    labels = [str(min(point % 12, 8)) for point in range(40)]
    (subplot,) = umap(make_map(), labels=labels).subplots
    names = [series.label for series in subplot.series]
    assert names[0] == "8"
    assert names[-1] == "other"
    assert len(names) == len({(series.style.color, series.style.marker) for series in subplot.series}) == 7
    assert sum(len(series.x) for series in subplot.series) == 40
    assert list(class_styles(["a"] * 7)) == ["a"]


def test_a_class_called_other_joins_the_rest_where_there_are_too_many():
    classes = ["other"] * 9 + list("aabbccddeeffgh")
    assert list(class_styles(classes)) == ["a", "b", "c", "d", "e", "f", "other"]


def test_points_can_have_classes_that_are_not_those_of_their_texts():
    tokens = ["the", "a"] * 20
    (subplot,) = umap_of_classes({"map": make_map()}, {"map": tokens}).subplots
    assert {series.label: len(series.x) for series in subplot.series} == {"the": 20, "a": 20}


def test_several_layers_stand_side_by_side_in_the_same_colors():
    labels = ["rare"] + ["common"] * 39
    drawing = umap({"first": make_map(), "last": make_map(layer="block 2")}, labels=labels)
    assert [subplot.title for subplot in drawing.subplots] == ["first", "last"]
    assert drawing.columns == 2
    looks = [{series.label: series.style for series in subplot.series} for subplot in drawing.subplots]
    assert looks[0] == looks[1]


def test_local_dimensions_are_steps_from_dark_to_light():
    local = pd.DataFrame({"block 1": np.linspace(2, 9, 40)})
    (subplot,) = umap(make_map(), local=local).subplots
    lightness = [sum(int(series.style.color[at : at + 2], 16) for at in (1, 3, 5)) for series in subplot.series]
    assert lightness == sorted(lightness)
    assert sum(len(series.x) for series in subplot.series) == 40


def test_every_renderer_draws_a_map_and_escapes_its_names(tmp_path):
    labels = [NASTY if point % 2 else "b" for point in range(40)]
    drawing = umap({NASTY: make_map(), "space": make_map(flat=False)}, labels=labels)
    assert "third axis" in drawing.caption
    assert "<script" not in drawing.to_svg()
    figure = umap({NASTY: make_map()}, labels=labels).to_plotly()
    assert {trace.type for trace in figure.data} == {"scattergl"}
    assert {trace.name for trace in figure.data} == {"b", "&lt;script&gt;alert(1)&lt;/script&gt; &#36;x&#36;"}
    assert drawing.save(tmp_path / "map.pdf", venue="plain").stat().st_size > 1000


def test_a_large_map_stays_small_on_a_page():
    assert len(umap(make_map(20_000)).to_svg()) < 400_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a"]}, "1 labels for points of texts up to number 39"),
        ({"local": pd.DataFrame({"other": [1.0]})}, "layer 'block 1'"),
        ({"labels": ["a"] * 40, "local": pd.DataFrame()}, "give one of them"),
    ],
)
def test_colors_that_do_not_belong_to_the_points_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        umap(make_map(), **options)


def test_no_projection_is_refused():
    with pytest.raises(InputError, match="no projection"):
        umap({})
