"""The plotly renderer draws everything a drawing says, and nothing that a name says."""

import json
import math

import numpy as np
import pytest
from plot_results import drawings, make_comparison, make_many_estimators, make_metrics, make_profile

from gelora_viz import plots

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("name", drawings())
def test_every_series_of_every_picture_is_a_trace_with_its_values(name):
    drawing = drawings()[name]
    traces = [trace for trace in drawing.to_plotly().data if trace.hoverinfo != "skip" and trace.type != "heatmap"]
    series = [series for subplot in drawing.subplots for series in subplot.series]
    assert [trace.name for trace in traces] == [one.label for one in series]
    for trace, one in zip(traces, series, strict=True):
        values = trace.x if name == "comparison" else trace.y
        assert set(one.y) <= set(values)


@pytest.mark.parametrize("name", drawings())
def test_every_picture_is_valid_json_without_nan(name):
    figure = drawings()[name].to_plotly()
    content = json.loads(figure.to_json(), parse_constant=pytest.fail)
    assert [trace["type"] for trace in content["data"]] == [trace.type for trace in figure.data]


def test_cells_have_their_values_as_colors_and_numbers_and_say_more_on_hover():
    profile = make_many_estimators()
    (trace,) = plots.estimator_heatmap(profile).to_plotly().data
    (subplot,) = plots.estimator_heatmap(profile).subplots
    assert [[z if z is None else pytest.approx(10**z) for z in row] for row in trace.z] == [
        [None if math.isnan(value) else value for value in row] for row in subplot.cells.values
    ]
    assert [*trace.text[0]][:2] == ["4.0", "5.4"]
    assert trace.hovertext[0][1] == "TwoNN: 5.4 [5.03, 5.77], .layer.0, 2,000 points"
    assert "no estimate" in trace.hovertext[0][3]
    assert "2,000 points a layer" in plots.estimator_heatmap(profile).caption
    fewer = profile.frame.assign(n_points=[10, *profile.frame["n_points"][1:]])
    assert "10 to 2,000 points a layer" in plots.estimator_heatmap(make_profile(rows=fewer)).caption


def test_rows_of_cells_go_from_low_to_high_and_share_one_scale_over_stacks():
    drawing = plots.estimator_heatmap(make_many_estimators(12, ("encoder", "decoder")))
    upper, lower = (np.nanmedian(subplot.cells.values, axis=1) for subplot in drawing.subplots)
    assert np.all(np.diff(upper) > 0)
    assert np.all(np.diff(lower) > 0)
    ends = [(subplot.cells.low, subplot.cells.high) for subplot in drawing.subplots]
    assert ends[0] == ends[1] == pytest.approx((4.0, 142.8))


def test_a_dimension_of_zero_has_no_place_on_a_logarithmic_scale():
    rows = make_many_estimators().frame
    rows.loc[0, "dimension"] = 0.0
    (subplot,) = plots.estimator_heatmap(make_profile(rows=rows)).subplots
    assert math.isnan(subplot.cells.values[0][0])
    assert subplot.cells.low > 0


def test_a_single_value_still_has_a_scale():
    rows = make_profile({"twonn": [5.0]}).frame
    (subplot,) = plots.estimator_heatmap(make_profile(rows=rows)).subplots
    assert subplot.cells.low < 5 < subplot.cells.high
    assert plots.estimator_heatmap(make_profile(rows=rows)).to_matplotlib("plain").axes


def test_lines_have_bands_and_points_have_whiskers(profile, plan, spectrum):
    figure = plots.rank_profile(profile, plan, spectrum, estimators=["twonn"]).to_plotly()
    band, line, bars, _bound, dots = figure.data
    rows = profile.frame[profile.frame["estimator"] == "twonn"]
    assert band.fill == "toself"
    assert list(band.y[:7]) == pytest.approx(list(rows["ci_high"]))
    assert line.name == "TwoNN"
    assert max(bars.error_y.array) == 0.5
    assert min(dots.error_y.array) > 0


def test_a_gap_splits_line_and_band(profile):
    frame = profile.frame[profile.frame["estimator"] == "twonn"].copy()
    frame.loc[3, ["dimension", "ci_low", "ci_high"]] = np.nan
    band, line = plots.rank_profile(make_profile(rows=frame)).to_plotly().data
    assert line.y[3] is None
    assert [point is None for point in band.x].count(True) == 2


def test_names_from_outside_cannot_bring_markup_or_mathematics():
    frame = make_comparison([SCRIPT, "$x$", "a & b"])
    pictures = [
        plots.comparison(frame),
        plots.training({SCRIPT: make_metrics()["gelora"], "$x$": make_metrics()["gelora"]}),
        plots.dimensions({SCRIPT: make_profile()}),
        plots.estimator_heatmap(make_profile(rows=make_profile().frame.assign(layer=SCRIPT, estimator=SCRIPT))),
        plots.rank_profile(make_profile(rows=make_profile().frame.assign(layer=SCRIPT, estimator=SCRIPT))),
    ]
    for picture in pictures:
        # JSON may write "<" as an escape of its own, which the page would undo.
        written = json.dumps(picture.to_plotly().to_dict(), default=list, ensure_ascii=False)
        assert "<script" not in written
        assert "&lt;script" in written
        assert "$x$" not in written


def test_the_page_shows_through_and_text_is_legible_on_white_and_on_black(profile):
    layout = plots.rank_profile(profile).to_plotly().layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert all(contrast(layout.font.color, page) >= 4 for page in ("#ffffff", "#111111"))


def contrast(one, two):
    """The contrast ratio of WCAG 2.1."""

    def luminance(color):
        channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(two)])
    return (light + 0.05) / (dark + 0.05)


def test_each_name_is_in_the_legend_once():
    figure = drawings()["encoder-decoder"].to_plotly()
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["TwoNN", "Assigned rank", "Lower bound", "Effective rank"]


def test_a_single_series_needs_no_legend():
    frame = make_comparison().drop(columns="difference")
    assert not any(trace.showlegend for trace in plots.comparison(frame).to_plotly().data)


def test_the_first_run_stands_on_top():
    low_end, high_end = plots.comparison(make_comparison()).to_plotly().layout.yaxis.range
    assert low_end > high_end


def test_hovering_tells_place_value_and_interval(profile):
    text = plots.rank_profile(profile, estimators=["twonn"]).to_plotly().data[1].hovertext[1]
    assert text == "encoder.layer.0, 2,000 points<br><b>TwoNN</b>: 40.6 [37.81, 43.39]"


def test_dimensions_that_span_widely_have_plain_numbers_on_a_logarithmic_axis(profile):
    axis = plots.dimensions({"mean": profile}).to_plotly().layout.yaxis
    assert axis.type == "log"
    assert {"1", "20", "100"} <= set(axis.ticktext)
