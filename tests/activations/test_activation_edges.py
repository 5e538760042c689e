"""Inputs at the edge of what a capture or a given cloud can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gelora_viz.activations import Activations, capture
from gelora_viz.errors import InputError


def test_the_same_array_under_two_names_can_be_saved(tmp_path):
    points = np.ones((4, 2), dtype=np.float32)
    Activations.from_arrays({"a": points, "b": points}).save(tmp_path)
    kept = Activations.load(tmp_path)
    assert all(np.array_equal(kept[layer], points) for layer in ("a", "b"))


def test_arrays_are_copied():
    points = np.ones((4, 2), dtype=np.float32)
    activations = Activations.from_arrays({"a": points})
    points[:] = 7
    assert activations["a"].max() == 1


@pytest.mark.parametrize("array", [[["x", "y"]], np.array([[None, 1.0]])])
def test_arrays_that_are_no_numbers(array):
    with pytest.raises(InputError):
        Activations.from_arrays({"a": array})


def test_a_max_length_beyond_the_models_positions(tiny):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match="max_length is 500, more than the model's longest input of 128 tokens"):
        capture(model, tokenizer, ["The rain fell softly. " * 100], max_length=500, progress=False)


def test_a_decoder_blocks_tokens_are_the_same_by_pattern(tiny, texts):
    model, tokenizer = tiny("t5")
    options = {"pooling": "tokens", "progress": False}
    own = capture(model, tokenizer, texts[:3], layers="decoder.block.0", **options)
    blocks = capture(model, tokenizer, texts[:3], **options)
    torch.testing.assert_close(own["decoder.block.0"], blocks["decoder.block.0"])


def test_special_tokens_written_in_a_text_are_special_too(tiny):
    model, tokenizer = tiny("bert")
    tokens = capture(model, tokenizer, ["rain [SEP] wind"], pooling="tokens", progress=False).provenance["token"]
    assert "[SEP]" not in tokens.tolist()


def test_layers_that_share_one_block_are_refused():
    from transformers import AlbertConfig, AlbertModel

    from gelora_viz.activations import find_blocks

    config = AlbertConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=16,
    )
    with pytest.raises(InputError, match="several times for 6 layers"):
        find_blocks(AlbertModel(config))
