"""What a capture cannot give or keep is said with its cause: broken weights, a narrow type, a limit on files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gelora_viz.activations import Activations, capture
from gelora_viz.errors import InputError, StudyError

resource = pytest.importorskip("resource")


@pytest.fixture
def small_files():
    """Files of this process may have 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def break_weight(model):
    with torch.no_grad():
        model.encoder.layer[1].output.dense.weight[0, 0] = math.nan


def make_large(model):
    with torch.no_grad():
        model.encoder.layer[1].output.LayerNorm.weight.mul_(1e6)
    model.to(torch.float16)


def spoil_output(model):
    model.encoder.layer[1].register_forward_hook(lambda _module, _args, output: output * math.inf)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (break_weight, r"the model's weight encoder\.layer\.1\.output\.dense\.weight; load an undamaged checkpoint"),
        (make_large, r"encoder\.layer\.1\.output\.LayerNorm\.weight; load"),
        (spoil_output, r"the weights are finite \(torch\.float32\); check the model"),
    ],
    ids=["NaN weight", "infinite weight", "the model's code"],
)
def test_hidden_states_that_are_no_numbers_name_the_layer_and_the_likely_cause(tiny, texts, spoil, cause):
    model, tokenizer = tiny("bert")
    spoil(model)
    with pytest.raises(
        InputError, match=rf"layer 'encoder\.layer\.1' has NaN or infinite .* 6 of 6 points: .*{cause}"
    ):
        capture(model, tokenizer, texts[:6], progress=False)


def test_float16_that_overflows_in_a_block_is_named_as_such(tiny, texts):
    model, tokenizer = tiny("llama")
    with torch.no_grad():
        for name, weight in model.layers[1].mlp.named_parameters():
            weight.mul_(2000 if "down" not in name else 60_000 / float(weight.abs().max()))
    model.to(torch.float16)
    with pytest.raises(
        InputError, match=r"layer 'layers\.1' .* beyond what float16 holds; load the model in bfloat16"
    ):
        capture(model, tokenizer, texts[:6], progress=False)


@pytest.mark.parametrize("n_points", [2000, 20], ids=["points", "provenance"])
def test_a_limit_on_files_is_named_with_the_file(tmp_path, small_files, n_points):
    arrays = {"x": np.ones((n_points, 4)), "y" * 9_990: np.ones((n_points, 4))}
    with pytest.raises(StudyError, match=r"cannot write .*(safetensors|json): File too large; .*ulimit -f"):
        Activations.from_arrays(arrays).save(tmp_path / "activations")


def test_a_limit_on_files_is_named_when_a_store_is_filled(tmp_path, tiny, texts, small_files):
    model, tokenizer = tiny("bert")
    with pytest.raises(StudyError, match=r"cannot write .*safetensors: File too large; .*ulimit -f"):
        capture(model, tokenizer, texts[:200], store=tmp_path / "store", progress=False)
