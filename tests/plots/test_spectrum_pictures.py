"""The picture of singular values, and how matrices are told apart by kind."""

import math

import numpy as np
import pytest
from history_results import make_singular_values

from gelora_viz import plots
from gelora_viz.errors import InputError
from gelora_viz.plots.spectrum_pictures import kinds_of_matrices


def test_each_kind_has_the_first_the_middle_and_the_last_layer():
    drawing = plots.singular_values(make_singular_values(7))
    assert [subplot.title for subplot in drawing.subplots] == ["query", "value"]
    series = drawing.subplots[0].series
    assert [one.label for one in series] == ["First layer", "Middle layer", "Last layer"]
    assert [one.details[0].split(",")[0].split(".")[2] for one in series] == ["0", "3", "6"]


def test_values_are_shares_of_the_largest_and_end_where_they_do_not_count():
    spectrum = make_singular_values(6)
    last = plots.singular_values(spectrum).subplots[0].series[-1]
    values = spectrum.singular_values["encoder.layer.5.attention.self.query"]
    shown = [y for y in last.y if math.isfinite(y)]
    assert shown == pytest.approx((values / values[0])[: len(shown)])
    assert last.x == tuple(range(1, 9))
    fast = make_singular_values(1, rank=30)
    (only,) = plots.singular_values(fast).subplots[0].series
    assert min(y for y in only.y if math.isfinite(y)) >= 1e-3
    assert math.isnan(only.y[-1])


def test_subplots_share_their_scale_and_count_in_whole_numbers():
    drawing = plots.singular_values(make_singular_values())
    assert len({subplot.y_range for subplot in drawing.subplots}) == 1
    assert drawing.subplots[0].x_tick_labels == ("2", "4", "6", "8")
    wide = plots.singular_values(make_singular_values(3, rank=64))
    assert wide.subplots[0].x_tick_labels == ("20", "40", "60")


def test_chosen_modules_are_drawn_under_their_names():
    chosen = ["encoder.layer.1.attention.self.query", "encoder.layer.2.attention.self.query"]
    (subplot,) = plots.singular_values(make_singular_values(), modules=chosen).subplots
    assert [one.label for one in subplot.series] == chosen
    figure = plots.singular_values(make_singular_values(), modules=chosen).to_plotly()
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.range == pytest.approx(np.log10(subplot.y_range))


def test_modules_that_are_not_there_and_updates_that_are_zero_are_refused():
    spectrum = make_singular_values()
    with pytest.raises(InputError, match=r"no update of 'x'; there are encoder\.layer\.0"):
        plots.singular_values(spectrum, modules=["x"])
    with pytest.raises(InputError, match="modules is empty; give names"):
        plots.singular_values(spectrum, modules=[])
    for values in spectrum.singular_values.values():
        values[:] = 0
    with pytest.raises(InputError, match="every update is zero"):
        plots.singular_values(spectrum)


def test_a_single_update_of_zero_leaves_a_gap():
    spectrum = make_singular_values()
    spectrum.singular_values["encoder.layer.0.attention.self.query"][:] = 0
    first = plots.singular_values(spectrum).subplots[0].series[0]
    assert all(math.isnan(y) for y in first.y)


@pytest.mark.parametrize(
    ("modules", "kinds"),
    [
        (["encoder.layer.0.attention.self.query", "encoder.layer.11.attention.self.query"], ["query"]),
        (["h.0.attn.c_proj", "h.0.mlp.c_proj"], ["attn.c_proj", "mlp.c_proj"]),
        (
            [
                "encoder.layer.0.attention.output.dense",
                "encoder.layer.0.intermediate.dense",
                "encoder.layer.0.output.dense",
            ],
            ["attention.output.dense", "intermediate.dense", "output.dense"],
        ),
        (
            [
                "encoder.block.0.layer.0.SelfAttention.q",
                "decoder.block.0.layer.0.SelfAttention.q",
                "decoder.block.0.layer.1.EncDecAttention.q",
                "decoder.block.0.layer.2.DenseReluDense.wo",
            ],
            ["encoder.SelfAttention.q", "decoder.SelfAttention.q", "decoder.EncDecAttention.q", "wo"],
        ),
    ],
)
def test_kinds_are_called_by_the_shortest_names_that_tell_them_apart(modules, kinds):
    found = kinds_of_matrices(modules)
    assert list(found) == kinds
    assert [module for members in found.values() for module in members] == modules
