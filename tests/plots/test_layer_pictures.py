"""What each layer needs, was given and used, in one drawing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from plot_results import EFFECTIVE, MEAN_POOLED, RANKS, TOKENS, make_deep, make_encoder_decoder, make_profile

from gelora_viz.errors import InputError
from gelora_viz.plots import dimensions, rank_profile


def by_label(subplot):
    return {series.label: series for series in subplot.series}


def test_dimensions_stand_above_ranks_over_one_axis_of_depth(profile, plan, spectrum):
    drawing = rank_profile(profile, plan, spectrum, estimators=["twonn", "mle"])
    above, below = drawing.subplots
    assert list(by_label(above)) == ["TwoNN", "MLE"]
    assert list(by_label(below)) == ["Assigned rank", "Lower bound", "Effective rank"]
    assert drawing.shared_x
    assert above.x_range == below.x_range
    assert above.x_ticks == below.x_ticks


def test_every_dimension_comes_with_the_profile_s_own_interval(profile):
    series = by_label(rank_profile(profile).subplots[0])["TwoNN"]
    rows = profile.frame[profile.frame["estimator"] == "twonn"]
    assert series.y == tuple(MEAN_POOLED["twonn"])
    assert series.low == tuple(rows["ci_low"])
    assert series.high == tuple(rows["ci_high"])


def test_an_estimator_without_intervals_has_no_band(profile):
    assert by_label(rank_profile(profile).subplots[0])["lPCA (largest gap)"].low is None


def test_rows_out_of_order_make_the_same_drawing(profile, plan, spectrum):
    shuffled = make_profile(rows=profile.frame[profile.frame["estimator"] == "mle"].sample(frac=1, random_state=0))
    assert rank_profile(shuffled) == rank_profile(profile, estimators=["mle"])


def test_block_ranks_are_means_over_matrices_with_whiskers_where_matrices_differ(profile, plan):
    bars = by_label(rank_profile(profile, plan).subplots[1])["Assigned rank"]
    assert bars.x == (1, 2, 3, 4, 5, 6)
    assert bars.y == (8, 6.5, 5, 3, 2, 2)
    assert bars.intervals() == ((0, 0), (0.5, 0.5), (0, 0), (0, 0), (0, 0), (0, 0))


def test_effective_ranks_find_their_block_through_the_plan(profile, plan, spectrum):
    shuffled = replace(spectrum, frame=spectrum.frame.sample(frac=1, random_state=1))
    dots = by_label(rank_profile(profile, plan, shuffled).subplots[1])["Effective rank"]
    assert dots.y == pytest.approx(EFFECTIVE)
    assert dots.has_intervals


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_a_plan_that_does_not_come_from_dimensions_has_no_lower_bound_to_draw(profile, plan, unknown):
    uniform = replace(plan, frame=plan.frame.assign(lower_bound=unknown))
    assert list(by_label(rank_profile(profile, uniform).subplots[1])) == ["Assigned rank"]


def test_a_method_without_ranks_still_shows_its_effective_ranks(profile, spectrum):
    rankless = replace(spectrum, frame=spectrum.frame.assign(rank=np.nan))
    assert list(by_label(rank_profile(profile, None, rankless).subplots[1])) == ["Effective rank"]


def test_matrices_without_a_spectrum_leave_their_block_without_an_effective_rank(profile, plan, spectrum):
    partial = replace(spectrum, frame=spectrum.frame.iloc[2:])
    dots = by_label(rank_profile(profile, plan, partial).subplots[1])["Effective rank"]
    assert np.isnan(dots.y[0])
    assert dots.y[1:] == pytest.approx(EFFECTIVE[1:])


def test_without_a_plan_effective_ranks_find_their_block_through_its_module_path(plan, spectrum):
    # Block 1 must not take what belongs to block 10, whose path begins alike.
    profile, deep_plan, deep_spectrum = make_deep(12)
    with_plan = rank_profile(profile, deep_plan, deep_spectrum).subplots[1]
    without = rank_profile(profile, None, deep_spectrum).subplots[1]
    assert by_label(without)["Effective rank"].y == by_label(with_plan)["Effective rank"].y
    assert by_label(without)["Assigned rank"].y == by_label(with_plan)["Assigned rank"].y
    assert "Lower bound" not in by_label(without)


def test_matrices_outside_every_layer_such_as_a_classifier_are_left_out(profile, plan, spectrum):
    classifier = pd.DataFrame([{"module": "classifier", "rank": 99, "entropy_rank": 99.0}])
    widened = replace(spectrum, frame=pd.concat([spectrum.frame, classifier]))
    for given in (plan, None):
        dots = by_label(rank_profile(profile, given, widened).subplots[1])["Effective rank"]
        assert dots.y == pytest.approx(EFFECTIVE)


def test_without_plan_and_spectrum_only_the_dimensions_are_drawn(profile):
    drawing = rank_profile(profile)
    assert len(drawing.subplots) == 1
    assert drawing.title == "Intrinsic dimension by layer"


def test_an_encoder_decoder_has_a_column_for_each_stack():
    drawing = rank_profile(*make_encoder_decoder())
    assert drawing.columns == 2
    assert [subplot.title for subplot in drawing.subplots] == ["Encoder", "Decoder", "", ""]
    assert all(len(series.y) == len(RANKS) for subplot in drawing.subplots[2:] for series in subplot.series)
    assert [subplot.y_label for subplot in drawing.subplots] == ["Intrinsic dimension", "", "Rank", ""]


@pytest.mark.parametrize(
    ("n_blocks", "labels"), [(6, ["emb.", "1", "2"]), (24, ["emb.", "2", "4"]), (96, ["emb.", "10", "20"])]
)
def test_ticks_are_few_enough_to_read_at_any_depth(n_blocks, labels):
    subplot = rank_profile(*make_deep(n_blocks)).subplots[0]
    assert list(subplot.x_tick_labels[:3]) == labels
    assert len(subplot.x_ticks) <= 13


def test_a_missing_dimension_leaves_a_gap_not_an_error(profile):
    frame = profile.frame.copy()
    frame.loc[2, ["dimension", "ci_low", "ci_high"]] = np.nan
    series = by_label(rank_profile(make_profile(rows=frame)).subplots[0])["TwoNN"]
    assert np.isnan(series.y[2])
    assert series.y[3] == 37.9


def test_the_caption_says_what_bands_and_whiskers_are(profile, plan):
    caption = rank_profile(profile, plan).caption
    assert "95 % confidence intervals" in caption
    assert "smallest to the largest" in caption


def test_an_unknown_estimator_is_answered_with_the_near_miss(profile):
    with pytest.raises(InputError, match="no estimator 'twon'; did you mean twonn"):
        rank_profile(profile, estimators=["twon"])


def test_a_spectrum_of_another_model_is_refused(profile, plan, spectrum):
    foreign = replace(spectrum, frame=spectrum.frame.assign(module="model.layers.0.q_proj"))
    with pytest.raises(InputError, match=r"'model.layers.0.q_proj', are not the plan's, such as 'encoder"):
        rank_profile(profile, plan, foreign)
    with pytest.raises(InputError, match=r"'model.layers.0.q_proj', lies in a layer of the profile"):
        rank_profile(profile, None, foreign)


def test_a_frame_that_lacks_a_column_is_named_with_the_column(profile, plan):
    broken = replace(plan, frame=plan.frame.drop(columns="lower_bound"))
    with pytest.raises(InputError, match="the rank plan lacks column lower_bound; it has module"):
        rank_profile(profile, broken)


def test_estimators_are_compared_in_one_subplot_per_pooling(profile):
    drawing = dimensions({"mean": profile, "tokens": make_profile(TOKENS)})
    assert [subplot.title for subplot in drawing.subplots] == ["Pooling: mean", "Pooling: tokens"]
    assert [len(subplot.series) for subplot in drawing.subplots] == [4, 2]


def test_an_estimator_looks_the_same_wherever_it_appears(profile):
    mean, tokens = dimensions({"mean": profile, "tokens": make_profile(TOKENS)}).subplots
    assert by_label(mean)["MLE"].style == by_label(tokens)["MLE"].style


def test_dimensions_that_differ_more_than_twentyfold_get_a_logarithmic_axis(profile):
    assert dimensions({"mean": profile}).subplots[0].log_y
    assert not dimensions({"tokens": make_profile(TOKENS)}).subplots[0].log_y


def test_a_dimension_of_zero_keeps_the_axis_linear():
    assert not dimensions({"mean": make_profile({"mle": [0.0, 1.0, 40.0]})}).subplots[0].log_y


def test_the_stacks_of_an_encoder_decoder_are_compared_side_by_side():
    drawing = dimensions({"mean": make_encoder_decoder()[0]})
    assert [subplot.title for subplot in drawing.subplots] == ["Pooling: mean, encoder", "Pooling: mean, decoder"]
    assert drawing.columns == 2


def test_nothing_to_compare_is_an_error():
    with pytest.raises(InputError, match="no profiles to compare"):
        dimensions({})
