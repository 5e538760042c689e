"""Every layer gets every estimate with an interval that is as wide as the estimate really scatters."""

import numpy as np
import pandas as pd
import pytest

from gelora_viz.activations import Activations, capture
from gelora_viz.dimension import DEFAULT_ESTIMATORS, ESTIMATORS, estimate_dimension, neighbor_graph
from gelora_viz.dimension._intervals import split_texts
from gelora_viz.dimension._ratios import mle, twonn
from gelora_viz.errors import InputError


def cloud(n_points=200, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n_points, d))


def profile_of(layers, estimators=None, **options):
    activations = layers if isinstance(layers, Activations) else Activations.from_arrays(layers)
    return estimate_dimension(activations, estimators, progress=False, **options)


def tokens(points, n_texts):
    """A token cloud in which the points belong to so many texts of equal length."""
    given = Activations.from_arrays({"x": points})
    text = np.arange(len(points)) * n_texts // len(points)
    provenance = pd.DataFrame({"text": text, "token": "word", "position": 0})
    return Activations(given.points, given.layer_frame, provenance, "tokens")


# The frame


def test_there_is_a_row_for_every_layer_and_estimator(tiny, texts):
    model, tokenizer = tiny("t5")
    activations = capture(model, tokenizer, texts[:60], progress=False)
    profile = profile_of(activations, ["mle", "twonn"], k=10)
    frame = profile.frame
    assert list(frame.columns) == [
        "layer", "stack", "depth", "estimator", "dimension", "std_error", "ci_low", "ci_high", "n_points",
        "n_dropped",
    ]  # fmt: skip
    assert frame["layer"].tolist() == [layer for layer in activations for _ in range(2)]
    assert frame["estimator"].tolist() == ["mle", "twonn"] * 8
    assert frame["stack"].tolist() == ["encoder"] * 8 + ["decoder"] * 8
    assert frame["depth"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    assert np.isfinite(frame[["dimension", "std_error", "ci_low", "ci_high"]].to_numpy()).all()
    assert (frame["std_error"] > 0).all()
    assert profile.pooling == "mean"


def test_a_readable_few_are_the_default():
    assert tuple(profile_of({"x": cloud()}).estimators) == DEFAULT_ESTIMATORS


@pytest.mark.filterwarnings("ignore:Solving:RuntimeWarning")
def test_every_estimator_has_an_interval_around_its_value():
    profile = profile_of({"x": cloud()}, list(ESTIMATORS))
    frame = profile.frame.set_index("estimator")
    assert list(frame.index) == list(ESTIMATORS)
    assert (frame["ci_low"] <= frame["dimension"]).all()
    assert (frame["dimension"] <= frame["ci_high"]).all()
    smooth = [each.name for each in ESTIMATORS.values() if each.smooth and each.kind != "external"]
    assert (frame.loc[smooth, "std_error"] > 0).all()


def test_an_estimate_is_that_of_the_layers_graph():
    points = cloud()
    frame = profile_of({"x": points}, ["twonn", "mle"], k=7).frame.set_index("estimator")
    graph = neighbor_graph(points.astype(np.float32), 7)
    assert frame.loc["twonn", "dimension"] == pytest.approx(twonn(graph.nearest(2)), rel=1e-12)
    assert frame.loc["mle", "dimension"] == pytest.approx(mle(graph), rel=1e-12)


def test_an_estimate_does_not_depend_on_its_company():
    alone = profile_of({"x": cloud()}, "twonn").frame.iloc[0]
    among = profile_of({"w": cloud(seed=1), "x": cloud()}, k=15).frame
    assert (
        among[(among["layer"] == "x") & (among["estimator"] == "twonn")]
        .iloc[0]
        .drop("depth")
        .equals(alone.drop("depth"))
    )


def test_points_used_and_points_dropped_add_up():
    points = np.concatenate([cloud(200), cloud(200)[:15]])
    frame = profile_of({"x": points, "y": cloud(215, seed=1)}).frame
    assert (frame["n_points"] + frame["n_dropped"] == 215).all()
    assert frame.set_index("layer")["n_dropped"].groupby(level=0).unique().map(list).to_dict() == {
        "x": [15],
        "y": [0],
    }


def test_settings_say_how_to_repeat_the_estimate(tiny, texts):
    model, tokenizer = tiny("bert")
    profile = profile_of(capture(model, tokenizer, texts[:60], seed=7, progress=False), "twonn", k=9, seed=5)
    assert (profile.settings["k"], profile.settings["seed"]) == (9, 5)
    assert profile.settings["capture"]["seed"] == 7
    assert profile.confidence == 0.95


def test_a_seed_decides_the_intervals_and_nothing_else():
    first, same, other = (profile_of({"x": cloud()}, seed=seed).frame for seed in (0, 0, 1))
    assert first.equals(same)
    assert first["dimension"].equals(other["dimension"])
    assert not first["std_error"].equals(other["std_error"])


def test_more_confidence_is_a_wider_interval_around_the_same_estimate():
    narrow, wide = (profile_of({"x": cloud()}, "twonn", confidence=level).frame.iloc[0] for level in (0.5, 0.99))
    assert wide["ci_low"] < narrow["ci_low"] < narrow["dimension"] < narrow["ci_high"] < wide["ci_high"]
    assert narrow["dimension"] == wide["dimension"]
    assert narrow["std_error"] == wide["std_error"]


# The intervals, by simulation: the truth is the scatter of the estimates over independent draws


@pytest.fixture(scope="module", params=[2, 4])
def draws(request):
    """The rows of 60 independent draws of 300 points, uniform in a cube."""
    rows = []
    for number in range(60):
        points = np.random.default_rng(1000 * request.param + number).uniform(size=(300, request.param))
        rows.append(profile_of({"x": points}, ["twonn", "twonn_ml", "mle"]).frame)
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("name", ["twonn", "twonn_ml", "mle"])
def test_intervals_cover_as_often_as_they_say(draws, name):
    own = draws[draws["estimator"] == name]
    expected = own["dimension"].mean()
    covered = (own["ci_low"] <= expected) & (expected <= own["ci_high"])
    assert 0.88 <= covered.mean() <= 1.0


@pytest.mark.parametrize("name", ["twonn", "twonn_ml", "mle"])
def test_standard_errors_are_the_scatter_of_the_estimates(draws, name):
    own = draws[draws["estimator"] == name]
    assert own["std_error"].mean() == pytest.approx(own["dimension"].std(ddof=1), rel=0.2)


def test_the_standard_error_of_twonn_is_about_its_closed_form():
    """Denti et al. 2022: d / sqrt(n) for the maximum-likelihood estimate."""
    row = profile_of({"x": np.random.default_rng(0).uniform(size=(2000, 3))}, "twonn_ml").frame.iloc[0]
    assert row["std_error"] == pytest.approx(row["dimension"] / 2000**0.5, rel=0.35)


def test_tokens_of_one_text_stay_in_one_half():
    texts = np.repeat(np.arange(11), 30)
    for side in split_texts(texts, seed=0):
        halves = {text: set(side[texts == text]) for text in range(11)}
        assert all(len(half) == 1 for half in halves.values())
        assert sum(half == {True} for half in halves.values()) in (5, 6)


def test_tokens_that_depend_on_their_text_have_wider_intervals_than_independent_points():
    """Each text has its own covariance, so tokens of one text tell the same again and again."""
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.normal(size=(60, 6)) * rng.uniform(0.02, 1, size=6) ** 2 for _ in range(12)])
    name = "lpca_participation_ratio"
    blind = profile_of({"x": points}, name).frame["std_error"].item()
    aware = profile_of(tokens(points, 12), name).frame["std_error"].item()
    assert aware > 2 * blind


def test_neighbors_that_all_belong_to_one_text_are_searched_until_both_halves_have_enough():
    """Tight clusters, one a text: a point's first 59 neighbors are all on its own side or all on the other."""
    rng = np.random.default_rng(3)
    points = np.concatenate([rng.normal(size=(60, 4)) + center for center in 1000 * rng.normal(size=(12, 4))])
    frame = profile_of(tokens(points, 12), ["twonn", "mle"], k=10).frame
    assert frame["n_points"].tolist() == [720, 720]
    assert frame["dimension"].between(3, 5).all()


@pytest.mark.filterwarnings("ignore:only 45 texts:UserWarning")
def test_only_what_is_expensive_has_its_interval_from_few_splits():
    names = ["mle", "tle", "corrint", "fishers", "lpca_ratio"]
    narrow, wide = (profile_of({"x": cloud(45, n_features)}, names) for n_features in (10, 1025))
    counts = [[len(profile.half_gaps["x", name]) for name in names] for profile in (narrow, wide)]
    assert counts == [[30, 6, 6, 6, 30], [30, 6, 6, 6, 6]]


# What is refused or warned about


@pytest.fixture
def no_search(monkeypatch):
    """A neighbor search fails the test."""

    def fail(*_args, **_options):
        raise AssertionError("a neighbor graph was built")

    monkeypatch.setattr("gelora_viz.dimension._graph.nearest", fail)


@pytest.mark.parametrize(("n_points", "options"), [(10, {}), (42, {"k": 20}), (6, {"estimators": "twonn"})])
def test_too_few_points_are_refused_before_any_work(no_search, n_points, options):
    with pytest.raises(InputError, match=f"{n_points} points are too few"):
        profile_of({"x": cloud(n_points)}, **options)


def test_the_fewest_points_that_are_accepted_do_have_an_interval():
    with pytest.warns(UserWarning, match="only 43 texts"):
        frame = profile_of({"x": cloud(43)}, k=20).frame
    assert np.isfinite(frame["std_error"]).all()


def test_few_points_warn_and_enough_do_not(recwarn):
    profile_of({"x": cloud(60)}, "twonn")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="only 40 texts"):
        profile_of({"x": cloud(40)}, "twonn")


def test_an_unknown_estimator_is_refused_before_any_work(no_search):
    with pytest.raises(InputError, match="did you mean twonn"):
        profile_of({"x": cloud()}, "twonnn")


def test_a_constant_layer_is_named(no_search):
    with pytest.raises(InputError, match="all 200 points of layer 'block 2' are equal"):
        profile_of({"block 1": cloud(), "block 2": np.ones((200, 3))})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_with_values_that_are_not_finite_is_named_with_their_number(no_search, bad):
    damaged = cloud()
    damaged[[1, 5, 9], 0] = bad
    with pytest.raises(InputError, match="layer 'block 2' have NaN or infinite values in 3 of 200 rows"):
        profile_of({"block 1": cloud(), "block 2": damaged})


def test_a_layer_of_mostly_duplicates_is_named():
    with pytest.raises(InputError, match=r"layer 'block 2'.*30 distinct points \(210 given\)"):
        profile_of({"block 1": cloud(210), "block 2": np.repeat(cloud(30), 7, axis=0)})


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, "0.95", None])
def test_a_confidence_that_is_no_number_between_zero_and_one_is_refused(confidence):
    with pytest.raises(InputError, match=f"confidence is {confidence!r}; give a number between 0 and 1"):
        profile_of({"x": cloud()}, confidence=confidence)


@pytest.mark.parametrize("k", [2, 0, 20.0, "20", None, True])
def test_a_k_that_is_no_whole_number_of_at_least_3_is_refused(k):
    with pytest.raises(InputError, match=f"k is {k!r}; give a whole number of at least 3"):
        profile_of({"x": cloud()}, k=k)
