"""Pictures of a training from inside say what the histories say, and stay readable however many layers there are."""

import json
import math

import numpy as np
import pytest
from history_results import STEPS, history_drawings, make_dimension_history, make_rank_history, with_rank

from gelora_viz import SpectrumHistory, plots
from gelora_viz.errors import InputError

# Effective rank over training


def test_each_kind_of_matrix_has_a_subplot_with_its_assigned_rank():
    drawing = plots.rank_growth(make_rank_history())
    assert [subplot.title for subplot in drawing.subplots] == ["query (rank 8)", "value (rank 8 to 10)"]
    assert drawing.columns == 2


def test_a_line_is_the_mean_of_a_third_of_the_layers_and_its_band_their_spread():
    history = make_rank_history(6)
    late = plots.rank_growth(history).subplots[0].series[-1]
    of_late = history.frame[history.frame["module"].isin([f"encoder.layer.{b}.attention.self.query" for b in (4, 5)])]
    by_step = of_late.groupby("step")["entropy_rank"]
    assert late.label == "Late layers"
    assert late.x == STEPS
    assert late.y == pytest.approx(by_step.mean())
    assert late.low == pytest.approx(by_step.min())
    assert late.high == pytest.approx(by_step.max())
    assert late.details[0] == "step 0, 2 matrices"


@pytest.mark.parametrize(("n_blocks", "sizes"), [(3, [1, 1, 1]), (4, [1, 2, 1]), (5, [2, 1, 2]), (96, [32, 32, 32])])
def test_thirds_are_as_equal_as_they_can_be_and_the_first_and_last_alike(n_blocks, sizes):
    series = plots.rank_growth(make_rank_history(n_blocks)).subplots[0].series[1:]
    assert [int(one.details[0].split()[2]) for one in series] == sizes


def test_fewer_than_three_layers_have_one_line():
    series = plots.rank_growth(make_rank_history(2)).subplots[0].series
    assert [one.label for one in series] == ["Assigned rank", "All layers"]


def test_the_assigned_rank_is_a_level_unless_it_would_press_everything_else_flat():
    near = make_rank_history(rank=8)
    far = with_rank(near, lambda _: 64.0)
    assert plots.rank_growth(near).subplots[0].series[0].label == "Assigned rank"
    subplot = plots.rank_growth(far).subplots[0]
    assert subplot.title == "query (rank 64)"
    assert [one.label for one in subplot.series] == ["Early layers", "Middle layers", "Late layers"]


def test_an_assigned_rank_that_changes_is_followed_and_one_that_does_not_needs_two_ends():
    constant = make_rank_history()
    falling = with_rank(constant, lambda step: 12 - 0.02 * step)
    assert plots.rank_growth(constant).subplots[0].series[0].x == (STEPS[0], STEPS[-1])
    level = plots.rank_growth(falling).subplots[0].series[0]
    assert level.x == STEPS
    assert level.y[-1] == pytest.approx(9)


def test_a_method_without_ranks_has_neither_level_nor_title():
    history = with_rank(make_rank_history(), lambda _: math.nan)
    subplot = plots.rank_growth(history).subplots[0]
    assert subplot.title == "query"
    assert subplot.series[0].label == "Early layers"


def test_subplots_of_effective_rank_share_their_scale():
    drawing = history_drawings()["rank growth, 96 layers"]
    assert len({subplot.y_range for subplot in drawing.subplots}) == 1
    highest = max(high for subplot in drawing.subplots for one in subplot.series for high in one.high)
    assert drawing.subplots[0].y_range == (0, pytest.approx(1.06 * highest))


def test_nothing_recorded_is_nothing_to_draw():
    with pytest.raises(InputError, match="the spectrum history has no rows"):
        plots.rank_growth(SpectrumHistory({}))


# Dimension over training


def test_there_is_a_line_for_each_step_from_light_to_dark():
    upper, _ = plots.dimension_history(make_dimension_history()).subplots
    assert [one.label for one in upper.series] == [f"Step {step}" for step in STEPS]
    reds = [int(one.style.color[1:3], 16) for one in upper.series]
    assert reds == sorted(reds, reverse=True)
    assert [one.low is not None for one in upper.series] == [True, False, False, False, True]


def test_of_many_steps_the_first_the_last_and_three_between_are_shown():
    upper, _ = plots.dimension_history(make_dimension_history(range(0, 151, 10))).subplots
    assert [one.label for one in upper.series] == ["Step 0", "Step 40", "Step 80", "Step 110", "Step 150"]


@pytest.mark.parametrize("steps", [(0, 150), (0, 50, 150)])
def test_the_last_step_is_as_dark_however_many_there_are(steps):
    upper, _ = plots.dimension_history(make_dimension_history(steps)).subplots
    assert upper.series[-1].style == history_drawings()["dimension history"].subplots[0].series[-1].style


def test_the_change_below_has_the_history_s_paired_intervals():
    history = make_dimension_history()
    _, lower = plots.dimension_history(history, "mle").subplots
    none, moved = lower.series
    rows = history.changes("mle").query("step == 150")
    assert (moved.y, moved.low, moved.high) == tuple(tuple(rows[name]) for name in ("change", "ci_low", "ci_high"))
    assert lower.y_label == "Change since step 0"
    assert set(none.y) == {0}


def test_a_single_record_has_no_change_below_it():
    assert len(plots.dimension_history(make_dimension_history((0,))).subplots) == 1


def test_an_encoder_and_a_decoder_stand_side_by_side():
    drawing = history_drawings()["dimension history, two stacks"]
    assert drawing.columns == 2
    assert [subplot.title for subplot in drawing.subplots] == ["Encoder", "Decoder", "", ""]


def test_an_estimator_that_was_not_recorded_is_refused_with_those_that_were():
    with pytest.raises(InputError, match="no estimator 'gride'; it has twonn, mle"):
        plots.dimension_history(make_dimension_history(), "gride")


# Both renderers


@pytest.mark.parametrize("name", history_drawings())
def test_every_series_is_drawn_on_the_screen_with_its_values(name):
    drawing = history_drawings()[name]
    figure = drawing.to_plotly()
    json.loads(figure.to_json(), parse_constant=pytest.fail)
    traces = [trace for trace in figure.data if trace.hoverinfo != "skip"]
    series = [one for subplot in drawing.subplots for one in subplot.series]
    assert [trace.name for trace in traces] == [one.label for one in series]
    for trace, one in zip(traces, series, strict=True):
        assert {y for y in one.y if math.isfinite(y)} <= set(trace.y)


@pytest.mark.parametrize("name", history_drawings())
def test_every_picture_is_drawn_on_paper_within_its_subplots(name):
    drawing = history_drawings()[name]
    figure = drawing.to_matplotlib("plain", "text")
    assert len(figure.axes) == len(drawing.subplots)
    for axes, subplot in zip(figure.axes, drawing.subplots, strict=True):
        if subplot.y_range is not None:
            assert axes.get_ylim() == pytest.approx(subplot.y_range)


def test_steps_are_labelled_under_the_lowest_subplot_of_each_column_where_the_last_row_is_short():
    figure = history_drawings()["rank growth, 96 layers"].to_matplotlib("plain", "text")
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "", "Step", "Step", "Step"]


def test_the_screen_has_a_title_and_a_scale_of_its_own_for_effective_ranks():
    layout = plots.rank_growth(make_rank_history()).to_plotly().layout
    assert layout.title.text == "Effective rank over training"
    assert np.isfinite(layout.yaxis.range).all()
