"""A profile compares layers as pairs, and survives the disk."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gelora_viz.activations import Activations
from gelora_viz.dimension import DimensionProfile, estimate_dimension
from gelora_viz.dimension._intervals import interval, split_half_error
from gelora_viz.errors import InputError, StudyError


def cloud(n_points=300, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n_points, d))


def rotation(n_features, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n_features, n_features)))[0]


def profile_of(layers, estimators=("twonn", "mle", "lpca_participation_ratio"), **options):
    return estimate_dimension(Activations.from_arrays(layers), estimators, progress=False, **options)


@pytest.fixture(scope="module")
def profile():
    """Embeddings, a rotation of them with a little noise, and one direction less."""
    points = cloud()
    turned = points @ rotation(6)
    noisy = turned + 0.02 * cloud(seed=1)
    return profile_of({"embeddings": points, "block 1": noisy, "block 2": noisy * [1, 1, 1, 1, 1, 0]})


def test_a_block_is_compared_with_what_it_reads(profile):
    differences = profile.differences("twonn")
    assert list(differences.columns) == [
        "layer", "stack", "depth", "dimension_in", "dimension_out", "difference", "std_error", "ci_low", "ci_high",
        "within_noise",
    ]  # fmt: skip
    dimensions = profile.of("twonn")["dimension"].tolist()
    assert differences["layer"].tolist() == ["block 1", "block 2"]
    assert differences["depth"].tolist() == [1, 2]
    assert differences["dimension_in"].tolist() == dimensions[:-1]
    assert differences["dimension_out"].tolist() == dimensions[1:]
    np.testing.assert_allclose(differences["difference"], np.diff(dimensions))


@pytest.mark.parametrize("name", ["twonn", "mle", "lpca_participation_ratio"])
def test_a_rotation_changes_nothing_and_the_interval_knows(name):
    points = cloud()
    row = profile_of({"embeddings": points, "block 1": points @ rotation(6)}).differences(name).iloc[0]
    assert abs(row["difference"]) < 1e-4
    assert row["std_error"] < 1e-4
    assert row["ci_high"] - row["ci_low"] < 1e-3


@pytest.mark.parametrize("name", ["twonn", "mle", "lpca_participation_ratio"])
def test_identical_layers_differ_by_exactly_nothing(name):
    row = profile_of({"embeddings": cloud(), "block 1": cloud()}).differences(name).iloc[0]
    assert row["difference"] == row["std_error"] == row["ci_low"] == row["ci_high"] == 0
    assert row["within_noise"]


@pytest.mark.parametrize("name", ["twonn", "mle", "lpca_participation_ratio"])
def test_layers_that_share_their_texts_are_told_apart_more_finely_than_their_intervals_suggest(profile, name):
    """The source of truth for the unpaired width: two variances added."""
    before, after, _ = profile.of(name)["std_error"]
    paired = profile.differences(name)["std_error"].iloc[0]
    assert paired < 0.35 * np.hypot(before, after)


def test_a_lost_direction_is_found(profile):
    differences = profile.differences("lpca_participation_ratio")
    assert differences["difference"].iloc[1] == pytest.approx(-1, abs=0.1)
    assert not differences["within_noise"].iloc[1]


def test_paired_intervals_cover_as_often_as_they_say():
    """By simulation, 60 draws: a block that turns the points and adds a twentieth of noise."""
    rows = []
    for seed in range(60):
        points = np.random.default_rng(seed).uniform(size=(300, 3))
        noisy = points @ rotation(3) + 0.05 * np.random.default_rng(seed + 1000).normal(size=(300, 3))
        rows.append(profile_of({"embeddings": points, "block 1": noisy}, "twonn").differences())
    frame = pd.concat(rows)
    expected = frame["difference"].mean()
    assert 0.88 <= ((frame["ci_low"] <= expected) & (expected <= frame["ci_high"])).mean() <= 1
    assert frame["std_error"].mean() == pytest.approx(frame["difference"].std(ddof=1), rel=0.2)


def test_an_encoder_and_a_decoder_are_compared_within_themselves():
    given = Activations.from_arrays({name: cloud(seed=seed) for seed, name in enumerate(["e0", "e1", "d0", "d1"])})
    layers = given.layer_frame.assign(stack=["encoder", "encoder", "decoder", "decoder"], depth=[0, 1, 0, 1])
    two = estimate_dimension(Activations(given.points, layers, given.provenance, "mean"), "twonn", progress=False)
    differences = two.differences()
    assert differences[["layer", "stack", "depth"]].to_numpy().tolist() == [
        ["e1", "encoder", 1],
        ["d1", "decoder", 1],
    ]
    assert differences["dimension_in"].tolist() == two.of("twonn")["dimension"].tolist()[::2]


def test_a_change_since_an_earlier_profile_is_paired(profile):
    later = profile_of({"embeddings": cloud(), "block 1": cloud() @ rotation(6), "block 2": cloud(seed=5)})
    changes = later.changes_since(profile, "mle").set_index("layer")
    assert list(changes.columns) == [
        "stack", "depth", "dimension_before", "dimension", "change", "std_error", "ci_low", "ci_high", "within_noise",
    ]  # fmt: skip
    unchanged = changes.loc["embeddings"]
    assert unchanged["change"] == unchanged["std_error"] == unchanged["ci_low"] == unchanged["ci_high"] == 0
    dimensions = [each.of("mle").set_index("layer")["dimension"] for each in (profile, later)]
    pd.testing.assert_series_equal(changes["change"], dimensions[1] - dimensions[0], check_names=False)
    same, other = changes.loc["block 1", "std_error"], changes.loc["block 2", "std_error"]
    assert same < 0.35 * other


def test_a_single_layer_has_no_differences():
    assert len(profile_of({"x": cloud()}, "twonn").differences()) == 0


def test_estimators_keep_the_order_in_which_they_were_asked_for():
    profile = profile_of({"a": cloud(), "b": cloud(seed=1)}, ["mle", "lpca_maxgap", "twonn"])
    assert profile.estimators == ["mle", "lpca_maxgap", "twonn"]
    assert profile.layers == ["a", "b"]
    assert profile.of("lpca_maxgap")["layer"].tolist() == ["a", "b"]


def changes_since_itself(profile, estimator):
    return profile.changes_since(profile, estimator)


@pytest.mark.parametrize("read", [DimensionProfile.of, DimensionProfile.differences, changes_since_itself])
def test_an_estimator_that_was_not_asked_for_is_refused_with_those_that_were(profile, read):
    with pytest.raises(InputError, match="no estimates of 'lpca_maxgap'; it has twonn, mle, lpca_part"):
        read(profile, "lpca_maxgap")


def test_what_was_saved_loads_unchanged_differences_included(profile, tmp_path):
    again = DimensionProfile.load(profile.save(tmp_path / "study" / "profile.json"))
    pd.testing.assert_frame_equal(again.frame, profile.frame)
    for name in profile.estimators:
        pd.testing.assert_frame_equal(again.differences(name), profile.differences(name))
    assert again.pooling == profile.pooling
    assert again.confidence == profile.confidence
    assert dict(again.settings) == dict(profile.settings)


def test_a_saved_profile_says_what_it_is_and_by_which_schema(profile, tmp_path):
    document = json.loads(profile.save(tmp_path / "profile.json").read_text())
    assert document["kind"] == "dimension profile"
    assert document["schema_version"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no dimension profile at"),
        ("{broken", "cannot read"),
        ('{"kind": "rank plan", "schema_version": 1}', "holds 'rank plan', not a dimension profile"),
        ('{"kind": "dimension profile", "schema_version": 99}', "schema version 99"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_with_the_reason(tmp_path, content, message):
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StudyError, match=message):
        DimensionProfile.load(path)


def test_a_page_shows_layer_names_as_text():
    page = profile_of({"<i>layer</i>": cloud(60)}, "twonn")._repr_html_()
    assert "&lt;i&gt;layer&lt;/i&gt;" in page


def test_the_error_of_a_mean_is_found_from_the_gaps_of_its_halves():
    """Source of truth: the standard error of a mean is sd / sqrt(n)."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    gaps = []
    for _ in range(2000):
        order = rng.permutation(400)
        gaps.append(values[order[:200]].mean() - values[order[200:]].mean())
    assert split_half_error(np.array(gaps)) == pytest.approx(values.std(ddof=1) / 20, rel=0.05)


def test_an_interval_is_students():
    """Against scipy's own: t with as many degrees of freedom as there are splits."""
    assert interval(5.0, 2.0, 30, 0.9) == pytest.approx(stats.t(30, loc=5.0, scale=2.0).interval(0.9))
