"""Models that accelerate spreads over memory and disk are captured like any other, and left as they were."""

import pytest
import torch
from tiny_models import N_BLOCKS
from transformers import AutoModel, AutoTokenizer

from gelora_viz.activations import capture

MAPS = {
    "bert": {"embeddings": "cpu", "encoder.layer.0": "cpu", "encoder.layer.1": "disk", "encoder.layer.2": "disk",
             "pooler": "disk"},
    "llama": {"embed_tokens": "disk", "layers.0": "disk", "layers.1": "cpu", "layers.2": "disk", "norm": "disk",
              "rotary_emb": "cpu"},
    "t5": {"shared": "cpu", "encoder": "cpu", "decoder.embed_tokens": "cpu", "decoder.block": "disk",
           "decoder.final_layer_norm": "disk"},
}  # fmt: skip
each_map = pytest.mark.parametrize("architecture", MAPS)


def devices(model):
    return {name: parameter.device.type for name, parameter in model.named_parameters()}


def dispatched(folder, architecture, offload_folder):
    return AutoModel.from_pretrained(
        folder, device_map=MAPS[architecture], offload_folder=offload_folder, dtype=torch.float32
    )


@each_map
@pytest.mark.parametrize("layers", ["blocks", "hidden_states"])
def test_points_are_those_of_the_model_in_one_piece_time_and_again(
    tiny_folder, texts, tmp_path, architecture, layers
):
    folder = tiny_folder(architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = capture(AutoModel.from_pretrained(folder), tokenizer, texts[:9], layers=layers, progress=False)
    model = dispatched(folder, architecture, tmp_path)
    before = devices(model)
    assert set(before.values()) == {"cpu", "meta"}
    for _ in range(2):
        again = capture(model, tokenizer, texts[:9], layers=layers, batch_size=4, progress=False)
        assert devices(model) == before
        for layer in whole:
            torch.testing.assert_close(again[layer], whole[layer], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pattern", ["encoder.layer.1.attention.self.query", "encoder.layer.2.output.dense:input"])
def test_a_stop_in_the_middle_of_an_offloaded_block_leaves_no_weights_behind(tiny_folder, texts, tmp_path, pattern):
    folder = tiny_folder("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = dispatched(folder, "bert", tmp_path)
    before = devices(model)
    capture(model, tokenizer, texts[:9], layers=pattern, progress=False)
    assert devices(model) == before


def test_weights_fetched_for_a_whole_block_go_back_although_the_block_never_ends(tiny_folder, texts):
    """accelerate fetches all weights of a block at once where a block's class is to be preloaded."""
    from accelerate import cpu_offload

    folder = tiny_folder("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder)
    whole = capture(model, tokenizer, texts[:9], layers="encoder.layer.1.attention", progress=False)
    cpu_offload(model, preload_module_classes=["BertLayer"])
    before = devices(model)
    assert set(before.values()) == {"meta"}
    again = capture(model, tokenizer, texts[:9], layers="encoder.layer.1.attention", progress=False)
    assert devices(model) == before
    torch.testing.assert_close(again["encoder.layer.1.attention"], whole["encoder.layer.1.attention"])


def test_offloaded_weights_are_part_of_the_key(tiny_folder, texts, tmp_path):
    folder = tiny_folder("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = dispatched(folder, "bert", tmp_path / "offload")
    capture(model, tokenizer, texts[:4], cache=tmp_path / "cache", progress=False)
    before = devices(model)
    capture(model, tokenizer, texts[:4], cache=tmp_path / "cache", progress=False)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert devices(model) == before
    other = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        other.encoder.layer[N_BLOCKS - 1].output.dense.weight[0, 0] += 1
    other.save_pretrained(tmp_path / "other")
    capture(dispatched(tmp_path / "other", "bert", tmp_path / "offload 2"), tokenizer, texts[:4],
            cache=tmp_path / "cache", progress=False)  # fmt: skip
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_an_error_of_the_model_is_the_error_that_is_raised(tiny_folder, texts, tmp_path):
    folder = tiny_folder("bert")
    model = dispatched(folder, "bert", tmp_path)
    before = devices(model)

    def fail(*_):
        raise ZeroDivisionError

    model.encoder.layer[1].attention.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        capture(model, AutoTokenizer.from_pretrained(folder), texts[:4], progress=False)
    assert devices(model) == before
