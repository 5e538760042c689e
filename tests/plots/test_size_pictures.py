"""Scores over adapter size, the share of the rank that was used, and all on one page."""

from __future__ import annotations

import math

import numpy as np
import pytest
from plot_results import make_comparison, make_deep

from gelora_viz.errors import InputError
from gelora_viz.plots import overview, score_by_size, utilisation


def places_of(drawing):
    return {series.label: series.x[0] for series in drawing.subplots[0].series}


def test_methods_stand_at_the_power_of_ten_of_their_size():
    frame = make_comparison(["a", "b"]).assign(n_parameters=[1_000, 1_000_000])
    drawing = score_by_size(frame)
    assert places_of(drawing) == {"a": pytest.approx(3), "b": pytest.approx(6)}
    assert drawing.subplots[0].x_tick_labels == ("1k", "10k", "100k", "1M")
    series = drawing.subplots[0].series[0]
    assert (series.low[0], series.high[0]) == (frame["ci_low"][0], frame["ci_high"][0])


def test_what_a_method_keeps_counts_where_that_is_known():
    frame = make_comparison(["a", "b"]).assign(n_parameters=10**6, n_parameters_kept=[100, 10_000])
    assert places_of(score_by_size(frame)) == {"a": pytest.approx(2), "b": pytest.approx(4)}


def test_a_method_without_parameters_stands_apart_on_the_left():
    frame = make_comparison(["frozen", "b"]).assign(n_parameters=[0, 10_000])
    drawing = score_by_size(frame)
    places = places_of(drawing)
    assert places["frozen"] < places["b"] - 0.5
    assert drawing.subplots[0].x_tick_labels[0] == "none"


def test_methods_of_one_size_do_not_cover_each_other():
    frame = make_comparison(["a", "b", "c"]).assign(n_parameters=[36_864, 36_864, 36_800])
    places = sorted(places_of(score_by_size(frame)).values())
    assert min(np.diff(places)) > 0.05
    assert np.mean(places) == pytest.approx(math.log10(36_864), abs=0.01)


def test_a_method_that_failed_is_left_out():
    frame = make_comparison(["a", "b"])
    frame.loc[1, "accuracy"] = np.nan
    assert list(places_of(score_by_size(frame))) == ["a"]


def test_utilisation_is_drawn_by_kind_of_matrix_and_run():
    spectrum = make_deep(6)[2]
    drawing = utilisation({"gelora": spectrum, "uniform": spectrum})
    used = spectrum.frame.set_index("module")["utilisation"]
    assert [subplot.title for subplot in drawing.subplots] == ["query", "value"]
    for subplot in drawing.subplots:
        assert [series.label for series in subplot.series] == ["gelora", "uniform"]
        assert subplot.series[0].y == tuple(used[module] for module in subplot.series[0].details)


def test_without_assigned_ranks_nothing_was_used():
    spectrum = make_deep(6)[2]
    spectrum.frame["utilisation"] = np.nan
    with pytest.raises(InputError, match="no update has an assigned rank"):
        utilisation({"vera": spectrum})
    with pytest.raises(InputError, match="no spectra to draw"):
        utilisation({})


def test_the_overview_has_the_main_picture_and_what_came_of_it():
    parts = make_deep(6)
    drawing = overview(*parts, make_comparison())
    assert [subplot.y_label for subplot in drawing.subplots] == ["Intrinsic dimension", "Rank", "Accuracy"]
