"""UMAP of a layer: the same map for the same seed, kept in the cache, with neighbors where they belong."""

from __future__ import annotations

import importlib.metadata
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from sklearn.manifold import trustworthiness

import gelora_viz as gv
from gelora_viz.errors import InputError, StudyError
from gelora_viz.maps import umap as computing

NASTY = "<script>alert(1)</script> & 'quotes'"


def cloud(n_points=150, layers=("a", "b")):
    """Three clusters in twelve dimensions, in another random turn for each layer."""
    generator = np.random.default_rng(0)
    centers = 8 * generator.normal(size=(3, 12))
    points = centers[np.arange(n_points) % 3] + generator.normal(size=(n_points, 12))
    turns = [np.linalg.qr(generator.normal(size=(12, 12)))[0] for _ in layers]
    return gv.Activations.from_arrays({layer: points @ turn for layer, turn in zip(layers, turns, strict=True)})


@pytest.fixture
def count_fits(monkeypatch):
    """How often UMAP has been computed."""
    fits, fit = [], computing._fit
    monkeypatch.setattr(computing, "_fit", lambda *args, **options: fits.append(args) or fit(*args, **options))
    return fits


def project(activations, layer="a", **options):
    return gv.project(activations, layer, **{"cache": False, "progress": False} | options)


def test_neighbors_stay_neighbors_far_better_than_by_chance():
    activations = cloud()
    found = project(activations)
    original = activations["a"].numpy()
    shuffled = np.random.default_rng(1).permutation(found.coordinates)
    assert trustworthiness(original, found.coordinates) > 0.85
    assert trustworthiness(original, shuffled) < 0.6


def test_a_seed_gives_one_map_and_another_seed_another():
    activations = cloud()
    first, again, other = (project(activations, seed=seed).coordinates for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_function_hears_how_much_is_done_and_changes_nothing():
    heard = []
    activations = cloud()
    found = project(activations, progress=heard.append)
    assert heard == sorted(heard)
    assert 0 < heard[0] < 0.05
    assert heard[-1] == 1
    np.testing.assert_array_equal(found.coordinates, project(activations).coordinates)


def test_maps_of_other_threads_keep_their_own_bar(monkeypatch):
    from umap import layouts

    drawn, heard = [], []
    monkeypatch.setattr(layouts, "tqdm", lambda epochs, **_: drawn.append(len(epochs)) or epochs)

    def tell(share):
        heard.append(share)
        if len(heard) == 1:
            other = threading.Thread(target=lambda: list(layouts.tqdm(range(3), desc="another's")))
            other.start()
            other.join()

    project(cloud(), progress=tell)
    assert drawn == [3]
    assert heard[-1] == 1


def test_a_function_that_fails_leaves_umap_s_own_bar_in_its_place():
    from umap import layouts

    before = layouts.tqdm
    with pytest.raises(ZeroDivisionError):
        project(cloud(), progress=lambda _: 1 / 0)
    assert layouts.tqdm is before


def test_a_map_is_computed_once_for_the_same_points_and_settings(tmp_path, count_fits):
    activations = cloud()
    first = project(activations, cache=tmp_path)
    again = project(cloud(), cache=tmp_path)
    pd.testing.assert_frame_equal(first.frame, again.frame)
    assert len(count_fits) == 1
    for options in ({"seed": 1}, {"n_neighbors": 10}, {"min_dist": 0.5}, {"n_components": 3}, {"layer": "b"}):
        project(activations, cache=tmp_path, **options)
    assert len(count_fits) == 6


def test_a_damaged_file_in_the_cache_is_computed_again(tmp_path, count_fits, caplog):
    first = project(cloud(), cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"half a file")
    np.testing.assert_array_equal(project(cloud(), cache=tmp_path).coordinates, first.coordinates)
    assert len(count_fits) == 2
    assert "damaged" in caplog.text


def test_the_cache_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path))
    project(cloud(), cache=True)
    assert [path.suffix for path in (tmp_path / "maps").iterdir()] == [".safetensors"]


def test_a_sample_is_the_same_rows_in_every_layer_and_keeps_texts_and_tokens():
    activations = cloud()
    tokens = [f"t{row}" for row in range(150)]
    activations.provenance["token"] = tokens
    activations.provenance["text"] = np.arange(150) // 3
    first, second = (project(activations, layer, max_points=60) for layer in ("a", "b"))
    assert len(first.frame) == 60
    assert list(first.frame["point"]) == list(second.frame["point"])
    for row in first.frame.itertuples():
        assert (row.text, row.token) == (row.point // 3, tokens[row.point])
    assert first.settings["n_points"] == 150


@pytest.mark.parametrize("tokens", [True, False])
def test_save_and_load_give_the_same_projection(tmp_path, tokens):
    activations = cloud()
    if tokens:
        activations.provenance["token"] = NASTY
    found = project(activations, n_components=3)
    loaded = gv.Projection.load(found.save(tmp_path / "new" / "map.safetensors"))
    pd.testing.assert_frame_equal(loaded.frame, found.frame)
    assert (loaded.layer, loaded.settings) == (found.layer, found.settings)
    assert loaded.n_components == 3


def test_what_cannot_be_loaded_says_why(tmp_path):
    with pytest.raises(StudyError, match="no projection at"):
        gv.Projection.load(tmp_path / "none")
    (tmp_path / "other").write_text("{}")
    with pytest.raises(StudyError, match="cannot read"):
        gv.Projection.load(tmp_path / "other")


def test_a_notebook_shows_a_picture_whose_texts_are_escaped():
    activations = cloud(layers=(NASTY,))
    shown = project(activations, NASTY)._repr_html_()
    root = ET.fromstring(shown)  # noqa: S314 - made here
    assert NASTY in root.get("aria-label")
    assert "<script" not in shown
    assert "neighbors" in root.get("aria-label")


def test_umap_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    def find(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", find)
    with pytest.raises(InputError, match=r"install gelora_viz\[umap\]"):
        project(cloud())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "c"}, "no layer 'c'; layers are a, b"),
        ({"n_components": 4}, "n_components is 4"),
        ({"n_neighbors": 150}, "150 points, and a map with n_neighbors=150 needs more"),
        ({"min_dist": 2}, "min_dist is 2"),
        ({"max_points": 10}, "max_points is 10; give a whole number of at least 16"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_projected_is_refused_with_its_value(options, message):
    with pytest.raises(InputError, match=message):
        project(cloud(), **options | ({"max_points": 200} if "n_neighbors" in options else {}))


def test_points_without_a_map_are_refused():
    for points, message in (
        (np.ones((50, 4)), "all 50 points"),
        (np.full((50, 4), np.nan), "NaN or infinite"),
        (np.random.default_rng(0).normal(size=(50, 2)), "2 features"),
    ):
        with pytest.raises(InputError, match=message):
            project(gv.Activations.from_arrays({"a": points}))
