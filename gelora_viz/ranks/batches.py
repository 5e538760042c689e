"""Batches of model inputs for the strategies that run the model, which is left as it was."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from gelora_viz._checks import describe
from gelora_viz.activations import input_device
from gelora_viz.errors import InputError

ModelInputs = Mapping[str, torch.Tensor]
"""Model inputs by name, such as input_ids and attention_mask."""


def check_batches(batches: object, strategy: str) -> list[ModelInputs]:
    """The batches as a list; raises `InputError` unless there is one, and each maps names to tensors."""
    if batches is None:
        raise InputError(
            f'strategy "{strategy}" runs the model and needs batches; give a list of model inputs, such as '
            "sample_batches(data, model, tokenizer)"
        )
    if isinstance(batches, Mapping | str) or not hasattr(batches, "__iter__"):
        raise InputError(f"batches is {describe(batches)}; give a list of model inputs")
    listed = list(batches)
    if not listed:
        raise InputError("batches is empty; give at least one batch of model inputs")
    for number, batch in enumerate(listed):
        if not isinstance(batch, Mapping) or not all(isinstance(each, torch.Tensor) for each in batch.values()):
            raise InputError(
                f"batch {number} of batches is {describe(batch)}, not a mapping of names to tensors; give model "
                "inputs such as {'input_ids': ..., 'attention_mask': ...}"
            )
    return listed


def takes_labels(model: nn.Module) -> bool:
    """Whether the model's forward pass names an argument "labels", as those that compute a loss do."""
    return "labels" in inspect.signature(model.forward).parameters


@contextmanager
def same_random_state(model: nn.Module) -> Iterator[None]:
    """Random numbers drawn inside the block are drawn again afterward."""
    device = input_device(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
