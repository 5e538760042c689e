"""Weights for matrices from a pass of gradients: how much the loss depends on their entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from gelora_viz.activations import evaluating, input_device
from gelora_viz.errors import InputError
from gelora_viz.ranks.batches import ModelInputs, same_random_state, takes_labels
from gelora_viz.surveys import matrix_shape

Loss = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
"""From the model and a batch on its device to a scalar."""


def gradient_sensitivity(
    model: nn.Module,
    modules: Sequence[str],
    batches: Sequence[ModelInputs],
    loss: Loss | None = None,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """How much the loss depends on a matrix: the mean of |w dL/dw| over its entries w and over batches, in one pass.

    To first order |w dL/dw| is how much the loss changes when the entry is set to 0. The model runs in evaluation
    mode, so dropout does not enter. Training modes, `requires_grad`, gradients and the random state are left as they
    were, whatever happens.

    Args:
        model: the model to be adapted.
        modules: names of its matrices.
        batches: model inputs, with labels where the model computes its own loss.
        loss: function of the model and a batch that returns a scalar; by default `model(**batch).loss`.
        progress: show a bar.

    Returns:
        Module -> mean sensitivity; 0 for a matrix that no batch has reached.

    Raises:
        InputError: if the model gives no loss, the loss depends on none of the matrices, a sensitivity is not finite
            (with the module's name), or weights are not floating-point numbers in memory.

    References:
        Molchanov et al. 2019, Importance Estimation for Neural Network Pruning, https://arxiv.org/abs/1906.10771;
        Zhang et al. 2023, AdaLoRA, https://arxiv.org/abs/2303.10512, eq. 8.
    """
    weights = {module: _weight(model, module) for module in modules}
    compute = _own_loss(model) if loss is None else loss
    device = input_device(model)
    totals = dict.fromkeys(modules, 0.0)
    with evaluating(model), torch.enable_grad(), _trainable(model, weights.values()), same_random_state(model):
        for batch in tqdm(batches, desc="gradients", unit="batch", disable=not progress):
            value = compute(model, {name: tensor.to(device) for name, tensor in batch.items()})
            _check_loss(value)
            gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            for (module, weight), gradient in zip(weights.items(), gradients, strict=True):
                if gradient is not None:
                    totals[module] += float((weight.detach().float() * gradient.float()).abs().mean())
    found = {module: total / len(batches) for module, total in totals.items()}
    unusable = [module for module, value in found.items() if not math.isfinite(value)]
    if unusable:
        raise InputError(
            f"the sensitivity of {', '.join(unusable[:3])} is not finite; check the loss and the weights, or load "
            "the model in float32"
        )
    if not any(found.values()):
        raise InputError("the loss depends on none of the matrices; give a loss that runs the model's blocks")
    return found


def _weight(model: nn.Module, module: str) -> torch.Tensor:
    layer: Any = model.get_submodule(module)
    weight: torch.Tensor = layer.weight
    packed = set(weight.shape) != set(matrix_shape(layer) or ())  # bitsandbytes may store 4 bits as floating point
    if weight.is_meta or packed or not weight.is_floating_point():
        kind = "kept elsewhere by accelerate" if weight.is_meta else "quantized"
        raise InputError(
            f"the weights of {module} are {kind}, so no gradient can be taken for them; load the model in memory, "
            "unquantized"
        )
    return weight


def _own_loss(model: nn.Module) -> Loss:
    if not takes_labels(model):
        raise InputError(
            f"{type(model).__name__} computes no loss (its forward pass takes no labels); give loss=..., a function "
            "of (model, batch) that returns a scalar"
        )

    def compute(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        value = getattr(model(**batch), "loss", None)
        if value is None:
            raise InputError(
                f"{type(model).__name__} gives no loss for a batch of {', '.join(batch)}; add labels to the batches, "
                "or give loss=..., a function of (model, batch) that returns a scalar"
            )
        return value

    return compute


def _check_loss(value: object) -> None:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(f"the loss is {shape}, not a scalar; return one number per batch, such as the mean")
    if not value.requires_grad:
        raise InputError(
            "the loss has no gradient; do not detach it, nor compute it under torch.no_grad() or from other weights"
        )


@contextmanager
def _trainable(model: nn.Module, weights: Iterable[torch.Tensor]) -> Iterator[None]:
    """Only these weights of the model require gradients inside the block."""
    wanted = {id(weight) for weight in weights}
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in flags:
            parameter.requires_grad_(id(parameter) in wanted)
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
