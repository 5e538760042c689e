"""The panel Explorer without a page: which map is there, what is sent of it, and what a point is."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from panel_examples import make_points

import gelora_viz as gv
from gelora_viz.errors import InputError
from gelora_viz.widgets import Explorer, map_maker
from gelora_viz.widgets.explorer import LONGEST_TEXT, quantize

NASTY = "<script>window.pwned = 1</script> \u202e & \"quotes\" 'too'"
TEXTS = [f"{NASTY} number {number}" for number in range(400)]
LABELS = [f"class {number % 4}" for number in range(400)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all tests of this file: each map is computed once."""
    return tmp_path_factory.mktemp("maps")


@pytest.fixture(scope="module")
def activations():
    return make_points()


@pytest.fixture(scope="module")
def profile(activations):
    return gv.estimate_dimension(activations, ["twonn", "mle"], progress=False)


@pytest.fixture
def explore(activations, profile, cache):
    def make(**options):
        return Explorer(activations, profile, **{"cache": cache, "texts": TEXTS, "labels": LABELS} | options)

    return make


@pytest.fixture
def sent(monkeypatch):
    """What panels have sent to their page: [(content, buffers)]."""
    messages = []
    monkeypatch.setattr(Explorer, "send", lambda _, content, buffers=None: messages.append((content, buffers)))
    return messages


def test_the_first_map_is_that_of_the_largest_dimension(explore, profile):
    panel = explore().wait(60)
    rows = profile.of("twonn")
    assert panel.layer == panel.shown["layer"] == rows.loc[rows["dimension"].idxmax(), "layer"]
    assert panel.ready == [panel.layer]
    assert (panel.working, panel.error) == ("", "")
    assert "400 points" in panel.status


def test_another_layer_is_another_map_of_the_same_points(explore):
    panel = explore().wait(60)
    first = panel.projection
    panel.set_state({"layer": "embeddings"})
    panel.wait(60)
    assert panel.shown["layer"] == panel.projection.layer == "embeddings"
    assert list(panel.projection.frame["point"]) == list(first.frame["point"])
    assert set(panel.ready) == {first.layer, "embeddings"}
    version = panel.shown["version"]
    panel.set_state({"layer": first.layer})
    assert panel.working == ""
    assert panel.shown["version"] == version + 1
    assert panel.projection is first


def test_the_page_gets_bytes_when_it_asks_and_the_state_stays_small(explore, sent):
    panel = explore().wait(60)
    panel._handle_custom_msg({"call": "send_map"}, [])
    ((content, (places, colors)),) = sent
    assert content == {"map": panel.shown}
    assert len(places) == 400 * 3 * 2
    assert len(colors) == 400
    names = [entry[0] for entry in panel.legend["entries"]]
    assert [names[key] for key in colors] == LABELS
    state = {name: value for name, value in panel.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) < 10_000
    assert len(panel._esm) + len(panel._css) < 100_000


def test_bytes_are_the_coordinates_to_a_part_in_65535():
    coordinates = np.random.default_rng(0).normal(size=(50, 2)) * (3, 1)
    back = np.frombuffer(quantize(coordinates), "<u2").reshape(-1, 3)
    assert set(back[:, 2]) == {32768}
    reach = np.ptp(coordinates[:, 0])
    middle = (coordinates.max(axis=0) + coordinates.min(axis=0)) / 2
    found = (back[:, :2] / 65535 - 0.5) * reach + middle
    np.testing.assert_allclose(found, coordinates, atol=reach / 65535)
    assert set(np.frombuffer(quantize(np.ones((4, 3))), "<u2")) == {32768}


def test_a_later_map_is_turned_towards_the_first_without_changing_its_distances(explore):
    panel = explore().wait(60)
    first = panel._turn(panel.projection)
    panel.layer = "embeddings"
    panel.wait(60)
    raw = panel.projection.coordinates - panel.projection.coordinates.mean(axis=0)
    turned = panel._turn(panel.projection)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(raw, axis=1), rtol=1e-4)
    assert (turned * first).sum() >= (raw * first).sum() - 1e-3


def test_a_point_says_its_text_and_facts_and_no_other_text_is_sent(explore, sent):
    panel = explore().wait(60)
    for row in (7, -1, 400, "7", None, 1.5):
        panel._handle_custom_msg({"ask": row}, [])
    ((content, _),) = sent
    about = content["about"]
    assert about["row"] == 7
    assert about["text"] == TEXTS[7]
    assert about["facts"] == ["Text 7", "label class 3"]


def test_a_long_text_is_cut_and_counted(explore, sent):
    long = ["\ud800" + "word " * 30_000] * 400
    explore(texts=long).wait(60)._handle_custom_msg({"ask": 0}, [])
    about = sent[0][0]["about"]
    assert len(about["text"]) <= LONGEST_TEXT
    assert about["left"] == len(long[0]) - LONGEST_TEXT
    about["text"].encode("utf-8")


def test_without_texts_and_labels_a_point_has_its_number_and_a_token_its_place(activations, profile, cache, sent):
    tokens = gv.Activations.from_arrays({layer: activations[layer] for layer in activations})
    tokens.provenance["token"] = [NASTY if row % 2 else "the" for row in range(400)]
    tokens.provenance["position"] = 3
    panel = Explorer(tokens, profile, cache=cache).wait(60)
    assert [name for name, _ in panel.colorings] == ["dimension", "token", "nothing"]
    panel.color_by = "token"
    assert {entry[0] for entry in panel.wait(60).legend["entries"]} == {"the", NASTY}
    panel._handle_custom_msg({"ask": 0}, [])
    assert sent[0][0]["about"] == {"facts": ["Text 0", "token 'the' at position 3"], "text": "", "left": 0, "row": 0}


def test_local_dimensions_are_those_of_the_points_shown(explore, activations):
    panel = explore().wait(60)
    panel.color_by = "dimension"
    panel.wait(60)
    expected = gv.local_dimension(activations, progress=False)[panel.layer]
    np.testing.assert_allclose(panel._maker.local_of(panel.layer), expected)
    assert panel.legend["low"] < panel.legend["high"]


def test_space_has_three_coordinates(explore):
    panel = explore()
    panel.n_components = 3
    panel.wait(60)
    assert panel.projection.n_components == panel.shown["n_components"] == 3


def test_python_is_told_what_it_may_set(explore):
    panel = explore().wait(60)
    for name, value, message in (
        ("layer", "block 9", "did you mean block"),
        ("n_components", 4, "n_components is 4; give 2 or 3"),
        ("color_by", "tokens", "color_by is 'tokens'"),
        ("estimator", "tle", "estimator is 'tle'"),
    ):
        with pytest.raises(InputError, match=message):
            setattr(panel, name, value)
    assert panel.layer in panel.layers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["one"]}, "1 texts for points of texts up to number 399"),
        ({"labels": ["one"]}, "1 labels for points"),
        ({"layer": "block 3"}, "layer is 'block 3'"),
        ({"estimator": "tle"}, "no estimates of 'tle'"),
    ],
)
def test_what_does_not_belong_to_the_activations_is_refused(explore, options, message):
    with pytest.raises(InputError, match=message):
        explore(**options)


def test_a_profile_of_other_layers_is_refused(profile):
    with pytest.raises(InputError, match="the profile has layer 'embeddings'"):
        Explorer(make_points(40, ("other",)), profile)


def test_a_failure_in_the_background_is_said_in_the_panel(explore):
    panel = explore(n_neighbors=500).wait(60)
    assert "n_neighbors=500 needs more" in panel.error
    assert isinstance(panel.last_error, InputError)
    assert panel.working == ""


def test_the_kernel_is_free_while_a_map_is_made_and_only_the_newest_request_counts(explore, monkeypatch):
    began_first, release, made = threading.Event(), threading.Event(), []
    project = map_maker.project

    def slow(activations, layer, **options):
        made.append(layer)
        began_first.set()
        release.wait(30)
        return project(activations, layer, **options)

    monkeypatch.setattr(map_maker, "project", slow)
    began = time.monotonic()
    panel = explore(layer="block 2")
    assert time.monotonic() - began < 5
    assert panel.working == "UMAP of block 2"
    assert began_first.wait(30)
    panel.layer = "embeddings"
    panel.layer = "block 1"
    with pytest.raises(TimeoutError, match="UMAP of block 1"):
        panel.wait(0.05)
    release.set()
    panel.wait(60)
    assert made == ["block 2", "block 1"]
    assert panel.shown["layer"] == "block 1"


def test_the_page_hears_how_much_of_a_map_is_done(explore):
    heard = []
    panel = explore(layer="block 2", cache=False)
    panel.observe(lambda change: heard.append(change["new"]), names=["progress"])
    panel.layer = "embeddings"
    panel.wait(60)
    assert panel.shown["layer"] == "embeddings"
    assert heard[-1] == 1
    assert 10 < len(heard) < 150  # a word now and then, not one for each of 500 epochs


def test_the_snapshot_is_the_map_in_its_colors_and_the_curve_before_there_is_one(explore, monkeypatch):
    panel = explore().wait(60)
    drawing = panel.describe()
    assert sorted(drawing.labels) == sorted(set(LABELS))
    assert "Distances between clusters" in drawing.caption
    panel.color_by = "dimension"
    assert len(panel.wait(60).describe().labels) == 7
    panel.color_by = "nothing"
    assert panel.describe().labels == ("points",)
    monkeypatch.setattr(map_maker.MapMaker, "ask", lambda *_: None)
    assert "Intrinsic dimension" in explore().snapshot()._repr_html_()
