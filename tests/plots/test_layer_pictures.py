"""What each layer needs, was given and used, in one drawing."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from plot_results import EFFECTIVE, MEAN_POOLED, RANKS, TOKENS, make_deep, make_encoder_decoder, make_profile

from gelora_viz.errors import InputError
from gelora_viz.plots import describe_dimensions, describe_rank_profile


def by_label(panel):
    return {series.label: series for series in panel.series}


def test_dimensions_stand_above_ranks_over_one_axis_of_depth(profile, plan, spectrum):
    drawing = describe_rank_profile(profile, plan, spectrum, estimators=["twonn", "mle"])
    above, below = drawing.panels
    assert list(by_label(above)) == ["TwoNN", "MLE"]
    assert list(by_label(below)) == ["Assigned rank", "Lower bound", "Effective rank"]
    assert drawing.shared_x
    assert above.x_range == below.x_range
    assert above.x_ticks == below.x_ticks


def test_every_dimension_comes_with_the_profile_s_own_interval(profile):
    series = by_label(describe_rank_profile(profile).panels[0])["TwoNN"]
    rows = profile.frame[profile.frame["estimator"] == "twonn"]
    assert series.y == tuple(MEAN_POOLED["twonn"])
    assert series.low == tuple(rows["ci_low"])
    assert series.high == tuple(rows["ci_high"])


def test_an_estimator_without_intervals_has_no_band(profile):
    assert by_label(describe_rank_profile(profile).panels[0])["lPCA (largest gap)"].low is None


def test_rows_out_of_order_make_the_same_drawing(profile, plan, spectrum):
    shuffled = make_profile(rows=profile.frame[profile.frame["estimator"] == "mle"].sample(frac=1, random_state=0))
    assert describe_rank_profile(shuffled) == describe_rank_profile(profile, estimators=["mle"])


def test_block_ranks_are_means_over_matrices_with_whiskers_where_matrices_differ(profile, plan):
    bars = by_label(describe_rank_profile(profile, plan).panels[1])["Assigned rank"]
    assert bars.x == (1, 2, 3, 4, 5, 6)
    assert bars.y == (8, 6.5, 5, 3, 2, 2)
    assert bars.intervals() == ((0, 0), (0.5, 0.5), (0, 0), (0, 0), (0, 0), (0, 0))


def test_effective_ranks_find_their_block_through_the_plan(profile, plan, spectrum):
    shuffled = SimpleNamespace(frame=spectrum.frame.sample(frac=1, random_state=1))
    dots = by_label(describe_rank_profile(profile, plan, shuffled).panels[1])["Effective rank"]
    assert dots.y == pytest.approx(EFFECTIVE)
    assert dots.has_intervals


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_a_plan_that_does_not_come_from_dimensions_has_no_lower_bound_to_draw(profile, plan, unknown):
    uniform = SimpleNamespace(frame=plan.frame.assign(lower_bound=unknown))
    assert list(by_label(describe_rank_profile(profile, uniform).panels[1])) == ["Assigned rank"]


def test_a_method_without_ranks_still_shows_its_effective_ranks(profile, spectrum):
    rankless = SimpleNamespace(frame=spectrum.frame.assign(rank=np.nan))
    assert list(by_label(describe_rank_profile(profile, None, rankless).panels[1])) == ["Effective rank"]


def test_matrices_without_a_spectrum_leave_their_block_without_an_effective_rank(profile, plan, spectrum):
    partial = SimpleNamespace(frame=spectrum.frame.iloc[2:])
    dots = by_label(describe_rank_profile(profile, plan, partial).panels[1])["Effective rank"]
    assert np.isnan(dots.y[0])
    assert dots.y[1:] == pytest.approx(EFFECTIVE[1:])


def test_without_a_plan_effective_ranks_find_their_block_through_its_module_path(plan, spectrum):
    # Block 1 must not take what belongs to block 10, whose path begins alike.
    profile, deep_plan, deep_spectrum = make_deep(12)
    with_plan = describe_rank_profile(profile, deep_plan, deep_spectrum).panels[1]
    without = describe_rank_profile(profile, None, deep_spectrum).panels[1]
    assert by_label(without)["Effective rank"].y == by_label(with_plan)["Effective rank"].y
    assert by_label(without)["Assigned rank"].y == by_label(with_plan)["Assigned rank"].y
    assert "Lower bound" not in by_label(without)


def test_matrices_outside_every_layer_such_as_a_classifier_are_left_out(profile, plan, spectrum):
    classifier = pd.DataFrame([{"module": "classifier", "rank": 99, "entropy_rank": 99.0}])
    widened = SimpleNamespace(frame=pd.concat([spectrum.frame, classifier]))
    for given in (plan, None):
        dots = by_label(describe_rank_profile(profile, given, widened).panels[1])["Effective rank"]
        assert dots.y == pytest.approx(EFFECTIVE)


def test_without_plan_and_spectrum_only_the_dimensions_are_drawn(profile):
    drawing = describe_rank_profile(profile)
    assert len(drawing.panels) == 1
    assert drawing.title == "Intrinsic dimension by layer"


def test_an_encoder_decoder_has_a_column_for_each_stack():
    drawing = describe_rank_profile(*make_encoder_decoder())
    assert drawing.columns == 2
    assert [panel.title for panel in drawing.panels] == ["Encoder", "Decoder", "", ""]
    assert all(len(series.y) == len(RANKS) for panel in drawing.panels[2:] for series in panel.series)
    assert [panel.y_label for panel in drawing.panels] == ["Intrinsic dimension", "", "Rank", ""]


@pytest.mark.parametrize(
    ("n_blocks", "labels"), [(6, ["emb.", "1", "2"]), (24, ["emb.", "2", "4"]), (96, ["emb.", "10", "20"])]
)
def test_ticks_are_few_enough_to_read_at_any_depth(n_blocks, labels):
    panel = describe_rank_profile(*make_deep(n_blocks)).panels[0]
    assert list(panel.x_tick_labels[:3]) == labels
    assert len(panel.x_ticks) <= 13


def test_a_missing_dimension_leaves_a_gap_not_an_error(profile):
    frame = profile.frame.copy()
    frame.loc[2, ["dimension", "ci_low", "ci_high"]] = np.nan
    series = by_label(describe_rank_profile(make_profile(rows=frame)).panels[0])["TwoNN"]
    assert np.isnan(series.y[2])
    assert series.y[3] == 37.9


def test_the_caption_says_what_bands_and_whiskers_are(profile, plan):
    caption = describe_rank_profile(profile, plan).caption
    assert "95 % confidence intervals" in caption
    assert "smallest to the largest" in caption


def test_an_unknown_estimator_is_answered_with_the_near_miss(profile):
    with pytest.raises(InputError, match="no estimator 'twon'; did you mean 'twonn'"):
        describe_rank_profile(profile, estimators=["twon"])


def test_a_spectrum_of_another_model_is_refused(profile, plan, spectrum):
    foreign = SimpleNamespace(frame=spectrum.frame.assign(module="model.layers.0.q_proj"))
    with pytest.raises(InputError, match=r"'model.layers.0.q_proj', are not the plan's, such as 'encoder"):
        describe_rank_profile(profile, plan, foreign)
    with pytest.raises(InputError, match=r"'model.layers.0.q_proj', lies in a layer of the profile"):
        describe_rank_profile(profile, None, foreign)


def test_a_frame_that_lacks_a_column_is_named_with_the_column(profile, plan):
    broken = SimpleNamespace(frame=plan.frame.drop(columns="lower_bound"))
    with pytest.raises(InputError, match="the rank plan lacks column lower_bound; it has module"):
        describe_rank_profile(profile, broken)


def test_estimators_are_compared_in_one_panel_per_pooling(profile):
    drawing = describe_dimensions({"mean": profile, "tokens": make_profile(TOKENS)})
    assert [panel.title for panel in drawing.panels] == ["Pooling: mean", "Pooling: tokens"]
    assert [len(panel.series) for panel in drawing.panels] == [4, 2]


def test_an_estimator_looks_the_same_wherever_it_appears(profile):
    mean, tokens = describe_dimensions({"mean": profile, "tokens": make_profile(TOKENS)}).panels
    assert by_label(mean)["MLE"].style == by_label(tokens)["MLE"].style


def test_dimensions_that_differ_more_than_twentyfold_get_a_logarithmic_axis(profile):
    assert describe_dimensions({"mean": profile}).panels[0].log_y
    assert not describe_dimensions({"tokens": make_profile(TOKENS)}).panels[0].log_y


def test_a_dimension_of_zero_keeps_the_axis_linear():
    assert not describe_dimensions({"mean": make_profile({"mle": [0.0, 1.0, 40.0]})}).panels[0].log_y


def test_the_stacks_of_an_encoder_decoder_are_compared_side_by_side():
    drawing = describe_dimensions({"mean": make_encoder_decoder()[0]})
    assert [panel.title for panel in drawing.panels] == ["Pooling: mean, encoder", "Pooling: mean, decoder"]
    assert drawing.columns == 2


def test_nothing_to_compare_is_an_error():
    with pytest.raises(InputError, match="no profiles to compare"):
        describe_dimensions({})
