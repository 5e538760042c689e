"""Adapters that have moved, and what their updates really are."""

from __future__ import annotations

import copy

import torch
from peft import get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D


def trained(model, config, seed=0):
    """`model` with an adapter whose every trainable weight has moved at random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # so that a method's own start is the same, whatever tests came before
        adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return adapted


def updates(peft_model, base):
    """Module -> update (out, in) in float64, by merging the adapter and subtracting the base weights."""
    merged = copy.deepcopy(peft_model).double().merge_and_unload()
    found = {}
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            difference = merged.get_submodule(name).weight.detach() - module.weight.detach().double()
            if difference.any():
                found[name] = difference if isinstance(module, nn.Linear) else difference.T
    return found


def output_of(model, batch):
    """Last hidden states or logits in evaluation mode, not of padding."""
    with torch.no_grad():
        output = model.eval()(**batch)
    states = (output.logits if hasattr(output, "logits") else output.last_hidden_state).double()
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    return states if mask is None or states.ndim == 2 else states[mask.bool()]


def change_of_output(model, other, batch):
    """Relative Frobenius change from one model's output to the other's."""
    before, after = output_of(model, batch), output_of(other, batch)
    return float((after - before).norm() / before.norm())
