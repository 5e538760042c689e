"""The captured points as an object: rows that belong together, saved and loaded unchanged."""

import time

import numpy as np
import pandas as pd
import pytest
import torch

from gelora_viz.activations import Activations, capture, result, storage
from gelora_viz.errors import InputError, StudyError


@pytest.fixture
def captured(tiny, texts):
    model, tokenizer = tiny("t5")
    return capture(model, tokenizer, texts[:6], pooling="tokens", max_points=20, seed=3, progress=False)


def test_arrays_become_layers_in_the_order_given():
    rng = np.random.default_rng(0)
    arrays = {"embeddings": rng.normal(size=(5, 3)), "b": torch.zeros(5, 2), "a": [[1, 2]] * 5}
    activations = Activations.from_arrays(arrays)
    assert activations.layers == list(activations) == ["embeddings", "b", "a"]
    assert activations.frame["depth"].tolist() == [0, 1, 2]
    assert (len(activations), activations.n_points, activations.pooling) == (3, 5, "given")
    assert all(activations[layer].dtype == torch.float32 for layer in activations)
    np.testing.assert_allclose(activations["embeddings"], arrays["embeddings"], rtol=1e-6)


def test_points_of_any_float_type_with_or_without_gradient_are_taken():
    points = torch.randn(4, 2, dtype=torch.bfloat16, requires_grad=True)
    kept = Activations.from_arrays({"x": points})["x"]
    assert not kept.requires_grad
    assert torch.equal(kept, points.detach().float())


def test_no_arrays_are_refused():
    with pytest.raises(InputError, match=r"arrays is \{\}; give a mapping"):
        Activations.from_arrays({})


@pytest.mark.parametrize("shape", [(4,), (4, 2, 3), ()])
def test_an_array_that_is_no_table_is_refused_with_layer_and_shape(shape):
    with pytest.raises(InputError) as error:
        Activations.from_arrays({"fine": np.zeros((4, 2)), "odd": np.zeros(shape)})
    assert f"layer 'odd' has shape {shape}" in str(error.value)


def test_layers_with_different_numbers_of_points_are_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"'a': 4, 'b': 5.*row i must be the same text"):
        Activations.from_arrays({"a": np.zeros((4, 2)), "b": np.zeros((5, 2))})


def test_an_unknown_layer_is_refused_with_the_layers_there_are():
    with pytest.raises(InputError, match="no layer 'block 7'; layers are a, b"):
        Activations.from_arrays({"a": np.zeros((4, 2)), "b": np.zeros((4, 2))})["block 7"]


def test_the_frame_has_a_row_per_layer():
    frame = Activations.from_arrays({"a": [[3.0, 4.0], [0.0, 1.0]], "b": np.zeros((2, 5))}).frame
    assert list(frame.columns) == ["layer", "stack", "depth", "n_points", "n_features", "mean_norm"]
    assert frame["n_features"].tolist() == [2, 5]
    assert frame["mean_norm"].tolist() == [3.0, 0.0]


def test_what_was_saved_loads_unchanged(captured, tmp_path):
    again = Activations.load(captured.save(tmp_path / "study" / "activations"))
    assert again.layers == captured.layers
    assert all(torch.equal(again[layer], captured[layer]) for layer in captured)
    pd.testing.assert_frame_equal(again.layer_frame, captured.layer_frame)
    pd.testing.assert_frame_equal(again.provenance, captured.provenance, check_dtype=False)
    assert (again.pooling, dict(again.settings)) == (captured.pooling, dict(captured.settings))


def test_pooled_points_have_no_token_after_loading_either(tiny, texts, tmp_path):
    model, tokenizer = tiny("bert")
    activations = capture(model, tokenizer, texts[:3], progress=False)
    again = Activations.load(activations.save(tmp_path))
    assert again.provenance["token"].tolist() == activations.provenance["token"].tolist() == [None] * 3


def test_saving_again_replaces_what_was_there(captured, tmp_path):
    captured.save(tmp_path)
    Activations.from_arrays({"x": np.ones((2, 2))}).save(tmp_path)
    assert Activations.load(tmp_path).layers == ["x"]


def test_nothing_saved_is_a_pickle(captured, tmp_path):
    captured.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_save_that_was_cut_off_does_not_load(captured, tmp_path):
    captured.save(tmp_path)
    (tmp_path / "activations.json").unlink()
    with pytest.raises(StudyError, match="no activations at"):
        Activations.load(tmp_path)


def test_missing_or_damaged_points_are_named(captured, tmp_path):
    captured.save(tmp_path)
    file = tmp_path / "000-encoder.embeddings.safetensors"
    file.write_bytes(b"damaged")
    with pytest.raises(StudyError, match=r"cannot read .*000-encoder.*capture again"):
        Activations.load(tmp_path)
    file.unlink()
    with pytest.raises(StudyError, match=r"cannot read .*000-encoder"):
        Activations.load(tmp_path)


def test_points_replaced_after_loading_are_not_mistaken_for_those_that_were_loaded(captured, tmp_path):
    captured.save(tmp_path)
    loaded = Activations.load(tmp_path)
    time.sleep(0.01)
    captured.save(tmp_path)
    with pytest.raises(StudyError, match="has changed since these activations were loaded; load them again"):
        loaded[loaded.layers[0]]


def test_what_was_loaded_can_be_saved_elsewhere_and_onto_itself(captured, tmp_path):
    loaded = Activations.load(captured.save(tmp_path / "one"))
    loaded.save(tmp_path / "one")
    again = Activations.load(loaded.save(tmp_path / "two"))
    assert all(torch.equal(again[layer], captured[layer]) for layer in captured)


@pytest.mark.parametrize("n_writes", range(5))  # the files of four layers, and the JSON that names them
@pytest.mark.parametrize("killed", [False, True])
def test_a_save_that_fails_leaves_what_was_saved_before(captured, tmp_path, monkeypatch, n_writes, killed):
    layers = captured.layers[:4]
    old = Activations.from_arrays({layer: np.full((30, 3), 7.0) for layer in layers})
    new = Activations.from_arrays({layer: captured[layer] for layer in layers})
    old.save(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    with monkeypatch.context() as broken:
        place = (result, "write_json") if n_writes == 4 else (storage.os, "fsync")
        broken.setattr(*place, fail_after(0 if n_writes == 4 else n_writes))
        if killed:  # nobody removes what was begun
            broken.setattr(result, "_remove", lambda *_: None)
        with pytest.raises(StudyError, match="cannot write"):
            new.save(tmp_path)
    again = Activations.load(tmp_path)
    assert all(torch.equal(again[layer], old[layer]) for layer in layers)
    assert killed or {path.name for path in tmp_path.iterdir()} == before

    again = Activations.load(new.save(tmp_path))
    assert all(torch.equal(again[layer], new[layer]) for layer in layers)
    assert len(list(tmp_path.iterdir())) == len(before)


def fail_after(n_calls):
    """A function that can be called so many times, as a disk that becomes full."""
    left = iter(range(n_calls))

    def fail(*_arguments, **_options):
        if next(left, None) is None:
            raise StudyError("cannot write it: no space left; free space")

    return fail


def test_saving_touches_no_file_of_others(captured, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"a model")
    captured.save(tmp_path)
    captured.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"a model"


def test_a_folder_that_cannot_be_written_is_named(captured, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match=r"cannot write .*file"):
        captured.save(tmp_path / "file")


def test_a_page_shows_layer_names_as_text():
    page = Activations.from_arrays({"<b>layer</b>": np.zeros((2, 2))})._repr_html_()
    assert "&lt;b&gt;layer&lt;/b&gt;" in page
