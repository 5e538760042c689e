"""Damaged checkpoints and absent devices are told in words."""

from __future__ import annotations

import json
import shutil

import pytest

from gelora_viz.errors import InputError, SourceError
from gelora_viz.sources import load_model


@pytest.fixture
def checkpoint(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("bert"), tmp_path / "checkpoint")


@pytest.mark.parametrize("how", ["junk", "truncated"])
def test_damaged_weights_are_a_source_error(checkpoint, how):
    path = checkpoint / "model.safetensors"
    path.write_bytes(b"junk" * 100 if how == "junk" else path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError):
        load_model(checkpoint)


def test_weights_of_another_shape_are_a_source_error(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(SourceError):
        load_model(checkpoint)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(tiny_folder, device):
    with pytest.raises((SourceError, InputError)):
        load_model(tiny_folder("bert"), device=device)


def test_a_folder_without_tokenizer_is_refused(checkpoint):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    with pytest.raises(SourceError):
        load_model(checkpoint)
