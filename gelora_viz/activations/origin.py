"""Which model hidden states come from: its architecture, and a fingerprint of its weights.

Names do not tell models apart: a BERT and a RoBERTa of one size have blocks of the same names and shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from gelora_viz.activations.blocks import find_blocks
from gelora_viz.errors import InputError

_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "hidden_act")
"""What of a config decides how a block computes; other entries are about heads, vocabularies and training."""
_SAMPLES = 32
"""Numbers read of each weight: any training changes some of them."""


def describe_origin(model: nn.Module) -> dict[str, Any]:
    """The architecture and the weights of a model's blocks; empty where it has no recognizable blocks.

    A task head, the vocabulary and adapters are not part of it: hidden states of a model tell about it with any of
    them. Of the weights a sample is read, rounded to bfloat16, so that a model has one fingerprint in whatever
    floating type it is loaded; it is None where weights are quantized, or kept elsewhere by accelerate.

    Returns:
        Values that JSON can hold, by name: model_type, block (its class), n_blocks, sizes of the config, weights.
    """
    try:
        blocks = [model.get_submodule(block.name) for block in find_blocks(model)]
    except InputError:
        return {}
    config = getattr(model, "config", None)
    sizes = {name: getattr(config, name, None) for name in _SIZES}
    return {
        "model_type": getattr(config, "model_type", None),
        "block": ", ".join(dict.fromkeys(type(block).__name__ for block in blocks)),
        "n_blocks": len(blocks),
        **{name: size for name, size in sizes.items() if isinstance(size, str | int)},
        "weights": _fingerprint(blocks),
    }


def compare_origins(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[list[str], bool]:
    """How two models differ, as far as both are known.

    Returns:
        What differs of the architecture, in words, and whether the weights differ.
    """
    known = [name for name in there if name in here and name != "weights"]
    differing = [f"{name} {there[name]}, not {here[name]}" for name in known if there[name] != here[name]]
    weights = [origin.get("weights") for origin in (there, here)]
    return differing, None not in weights and weights[0] != weights[1]


def _fingerprint(blocks: list[nn.Module]) -> str | None:
    samples = []
    for block in blocks:
        for name, weight in sorted(_own_weights(block)):
            if weight.is_meta or not weight.is_floating_point() or weight.dtype.itemsize == 1:
                return None
            flat = weight.detach().reshape(-1)
            samples.append((name, flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES].to("cpu", torch.bfloat16)))
    whole = hashlib.blake2b(digest_size=16)
    for name, sample in samples:
        whole.update(name.encode() + sample.view(torch.int16).numpy().tobytes())
    return whole.hexdigest()


def _own_weights(block: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The block's parameters with the names that they have without adapters."""
    adapted = [name for name, module in block.named_modules() if hasattr(module, "base_layer")]
    for name, weight in block.named_parameters():
        around = next((each for each in adapted if name.startswith(f"{each}.")), None)
        if around is None or name.startswith(f"{around}.base_layer."):
            yield name.replace(".base_layer.", "."), weight
