"""Runs side by side, and how they learned."""

import numpy as np
import pandas as pd
import pytest
from plot_results import make_comparison, make_metrics

from gelora_viz import Comparison
from gelora_viz.errors import InputError
from gelora_viz.plots import comparison, training


def test_runs_are_listed_in_the_frame_s_order_with_accuracy_interval_and_size():
    frame = make_comparison()
    subplot, differences = comparison(frame).subplots
    (accuracy,) = subplot.series
    assert subplot.horizontal
    assert subplot.x_tick_labels == ("gelora", "lora-r4", "lora-r8", "adalora")
    assert differences.x_notes == ("36.9k", "73.7k", "111k", "147k")
    assert accuracy.y == tuple(frame["accuracy"])
    assert (accuracy.low, accuracy.high) == (tuple(frame["ci_low"]), tuple(frame["ci_high"]))


def test_the_screen_learns_what_the_difference_from_the_baseline_is_worth():
    details = comparison(make_comparison()).subplots[0].series[0].details
    assert details[0] == "gelora, 36,864 parameters; difference +0.010 [-0.005, +0.025], within noise"


def test_a_comparison_without_differences_is_drawn_all_the_same():
    frame = make_comparison()[["run", "n_parameters", "accuracy", "ci_low", "ci_high"]]
    (subplot,) = comparison(frame).subplots
    assert subplot.series[0].details[0] == "gelora, 36,864 parameters"
    assert subplot.x_notes == ("36.9k", "73.7k", "111k", "147k")


def test_differences_stand_beside_the_scores_over_a_line_at_nothing():
    frame = make_comparison()
    _, subplot = comparison(frame).subplots
    nothing, gaps = subplot.series
    assert nothing.y == (0.0, 0.0)
    assert gaps.y == tuple(frame["difference"])
    assert (gaps.low, gaps.high) == (tuple(frame["difference_low"]), tuple(frame["difference_high"]))


def test_every_seed_of_a_comparison_is_drawn_at_its_method():
    runs = pd.DataFrame(
        {"run": ["lora-r4", "gelora", "gelora"], "chosen": [True, True, False], "accuracy": [0.8, 0.9, 0.1]}
    )
    found = Comparison(make_comparison(), runs, {})
    seeds, mean = comparison(found).subplots[0].series
    assert (seeds.x, seeds.y) == ((1.0, 0.0), (0.8, 0.9))
    assert mean.label == "Mean"


def test_perplexities_are_compared_in_per_cent():
    frame = make_comparison().rename(columns={"accuracy": "perplexity"})
    scores, differences = comparison(frame).subplots
    assert scores.y_label == "Perplexity"
    assert differences.y_label == "Difference to the baseline (%)"
    assert differences.series[1].y == pytest.approx(tuple(100 * frame["difference"]))


def test_a_comparison_without_rows_is_refused():
    with pytest.raises(InputError, match="the comparison has no rows"):
        comparison(make_comparison().iloc[:0])


def test_sizes_have_three_digits():
    frame = make_comparison().assign(n_parameters=[950, 12_345, 1_180_000, 7_200_000_000])
    assert comparison(frame).subplots[1].x_notes == ("950", "12.3k", "1.18M", "7.2B")


def test_accuracy_is_drawn_through_the_steps_where_it_was_measured():
    loss, accuracy = training(make_metrics()).subplots
    assert len(loss.series[0].x) == 200
    assert accuracy.series[0].x == (25, 50, 75, 100, 125, 150, 175, 200)
    assert np.isfinite(accuracy.series[0].y).all()


def test_a_run_looks_the_same_in_both_subplots():
    loss, accuracy = training(make_metrics()).subplots
    assert [series.style for series in loss.series] == [series.style for series in accuracy.series]


def test_long_losses_are_smoothed_and_the_caption_says_so():
    metrics = make_metrics(("one",))
    drawing = training(metrics)
    assert np.std(np.diff(drawing.subplots[0].series[0].y)) < 0.5 * np.std(np.diff(metrics["one"]["loss"]))
    assert "running means over 4% of them" in drawing.caption


def test_short_losses_are_drawn_as_they_are():
    metrics = make_metrics(("one",), n_steps=50)
    drawing = training(metrics)
    assert drawing.subplots[0].series[0].y == tuple(metrics["one"]["loss"])
    assert drawing.caption == ""


def test_runs_that_were_never_evaluated_have_no_accuracy_subplot():
    frame = pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "eval_accuracy": [np.nan, np.nan]})
    assert [subplot.y_label for subplot in training({"run": frame}).subplots] == ["Training loss"]


def test_metrics_that_lack_a_column_are_named_with_their_run():
    with pytest.raises(InputError, match="the metrics frame of run 'one' lacks column eval_accuracy"):
        training({"one": make_metrics()["gelora"].drop(columns="eval_accuracy")})
    with pytest.raises(InputError, match="no runs to draw"):
        training({})
