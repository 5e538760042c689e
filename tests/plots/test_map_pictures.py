"""Maps as pictures: classes and numbers as colours, several layers side by side, and what a map does not show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gelora_viz.errors import InputError
from gelora_viz.plots import describe_umap, save_paper_figure, to_svg, umap
from gelora_viz.plots.map_pictures import OTHER, choose_classes

NASTY = "<script>alert(1)</script> $x$"


class Mapped:
    """What a picture reads of a projection."""

    def __init__(self, n_points=40, layer="block 1", *, flat=True):
        generator = np.random.default_rng(0)
        axes = ("x", "y") if flat else ("x", "y", "z")
        places = {axis: generator.normal(size=n_points) for axis in axes}
        self.frame = pd.DataFrame({"point": range(n_points), **places, "text": range(n_points), "token": None})
        self.layer = layer
        self.settings = {"n_neighbors": 15, "min_dist": 0.1}


def test_without_classes_there_is_one_colour_and_a_caption_that_warns():
    drawing = describe_umap(Mapped())
    (panel,) = drawing.panels
    assert panel.is_map
    assert len(panel.series) == 1
    assert "Distances between clusters" in drawing.caption
    assert "15 neighbours, min_dist 0.1" in drawing.caption


def test_the_most_frequent_classes_have_looks_of_their_own_and_the_rest_share_one():
    labels = [str(min(point % 12, 8)) for point in range(40)]
    (panel,) = describe_umap(Mapped(), labels=labels).panels
    names = [series.label for series in panel.series]
    assert names[0] == "8"
    assert names[-1] == OTHER
    assert len(names) == len({(series.style.color, series.style.marker) for series in panel.series}) == 7
    assert sum(len(series.x) for series in panel.series) == 40
    assert choose_classes(["a"] * 7) == ["a"]


def test_several_layers_stand_side_by_side_in_the_same_colours():
    labels = ["rare"] + ["common"] * 39
    drawing = describe_umap({"first": Mapped(), "last": Mapped(layer="block 2")}, labels=labels)
    assert [panel.title for panel in drawing.panels] == ["first", "last"]
    assert drawing.columns == 2
    looks = [{series.label: series.style for series in panel.series} for panel in drawing.panels]
    assert looks[0] == looks[1]


def test_local_dimensions_are_steps_from_dark_to_light():
    local = pd.DataFrame({"block 1": np.linspace(2, 9, 40)})
    (panel,) = describe_umap(Mapped(), local=local).panels
    lightness = [sum(int(series.style.color[at : at + 2], 16) for at in (1, 3, 5)) for series in panel.series]
    assert lightness == sorted(lightness)
    assert sum(len(series.x) for series in panel.series) == 40


def test_every_renderer_draws_a_map_and_escapes_its_names(tmp_path):
    labels = [NASTY if point % 2 else "b" for point in range(40)]
    drawing = describe_umap({NASTY: Mapped(), "space": Mapped(flat=False)}, labels=labels)
    assert "third axis" in drawing.caption
    assert "<script" not in to_svg(drawing)
    figure = umap({NASTY: Mapped()}, labels=labels)
    assert {trace.type for trace in figure.data} == {"scattergl"}
    assert {trace.name for trace in figure.data} == {"b", "&lt;script&gt;alert(1)&lt;/script&gt; &#36;x&#36;"}
    assert save_paper_figure(drawing, tmp_path / "map.pdf", venue="plain").stat().st_size > 1000


def test_a_large_map_stays_small_on_a_page():
    assert len(to_svg(describe_umap(Mapped(20_000)))) < 400_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a"]}, "1 labels for points of texts up to number 39"),
        ({"local": pd.DataFrame({"other": [1.0]})}, "layer 'block 1'"),
        ({"labels": ["a"] * 40, "local": pd.DataFrame()}, "give one of them"),
    ],
)
def test_colours_that_do_not_belong_to_the_points_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        describe_umap(Mapped(), **options)


def test_no_projection_is_refused():
    with pytest.raises(InputError, match="no projection"):
        describe_umap({})
