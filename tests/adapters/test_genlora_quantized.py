"""GenLoRA on layers that bitsandbytes has quantized: as on any other layer, up to the rounding of quantization."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import set_seed

from gelora_viz import GenLoraConfig
from gelora_viz.errors import InputError

bitsandbytes = pytest.importorskip("bitsandbytes")

WIDTH = 64
ROUNDING = {"8bit": 0.02, "4bit": 0.15}
"""Relative change of the output that quantizing the merged weight anew may make."""
each_kind = pytest.mark.parametrize("kind", ROUNDING)


class OneLayer(nn.Module):
    def __init__(self, kind):
        super().__init__()
        if kind == "8bit":
            self.linear = bitsandbytes.nn.Linear8bitLt(WIDTH, WIDTH, has_fp16_weights=False)
        else:
            self.linear = bitsandbytes.nn.Linear4bit(WIDTH, WIDTH, compute_dtype=torch.float32, quant_type="nf4")

    def forward(self, x):
        return self.linear(x)


@pytest.fixture
def x():
    return torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0))


def quantized(kind):
    set_seed(0)
    return OneLayer(kind).to("cpu")  # moving is what quantizes


def adapted(kind, *, moved=True):
    model = quantized(kind)
    config = GenLoraConfig(r=4, num_groups=2, num_rbfs=4, target_modules=["linear"], init_weights=not moved)
    return get_peft_model(model, config)


@each_kind
def test_a_fresh_adapter_changes_nothing_and_a_trained_one_learns(kind, x):
    torch.testing.assert_close(adapted(kind, moved=False)(x), quantized(kind)(x))
    wrapped = adapted(kind)
    wrapped(x).square().mean().backward()
    assert all(each.grad.abs().sum() > 0 for each in wrapped.parameters() if each.requires_grad)
    assert "quantization_backend='bnb" in repr(wrapped.base_model.model.linear)


@each_kind
def test_the_output_is_the_quantized_layer_s_plus_the_update(kind, x):
    wrapped = adapted(kind)
    update = wrapped.base_model.model.linear.get_delta_weight("default")
    torch.testing.assert_close(wrapped(x), quantized(kind)(x) + x @ update.T, rtol=1e-3, atol=1e-3)


@each_kind
def test_merging_quantizes_the_sum_and_unloading_leaves_a_quantized_layer(kind, x):
    wrapped = adapted(kind)
    with_adapter, base = wrapped(x).detach(), quantized(kind)(x)
    assert (with_adapter - base).norm() > 0.1 * base.norm()
    wrapped.merge_adapter(safe_merge=True)
    assert (wrapped(x) - with_adapter).norm() < ROUNDING[kind] * with_adapter.norm()
    wrapped.unmerge_adapter()
    assert (wrapped(x) - with_adapter).norm() < 2 * ROUNDING[kind] * with_adapter.norm()
    unloaded = wrapped.merge_and_unload()
    assert isinstance(unloaded.linear, type(quantized(kind).linear))
    assert (unloaded(x) - with_adapter).norm() < 3 * ROUNDING[kind] * with_adapter.norm()


def test_weights_that_were_packed_for_the_cpu_are_not_merged_wrongly_but_refused(x):
    wrapped = adapted("4bit")
    wrapped.base_model.model.linear.get_base_layer().weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(InputError, match="bitsandbytes has packed these 4-bit weights"):
        wrapped.merge_adapter()
