"""What AdaLoRA needs besides a training loop: its penalty in the loss, and ranks pruned after every step."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from peft import AdaLoraModel, PeftModel
from peft.tuners.adalora import AdaLoraLayer
from torch import nn
from transformers import TrainerCallback

from gelora_viz.errors import InputError


def is_adalora(backbone: nn.Module) -> TypeGuard[PeftModel]:
    """Whether it is a PEFT model with AdaLoRA."""
    return isinstance(backbone, PeftModel) and isinstance(backbone.base_model, AdaLoraModel)


class AdaLoraCallback(TrainerCallback):
    """Lets AdaLoRA prune ranks by each step's gradients.

    Steps count from 1, so that the last mask falls on step total_step - tfinal, which PEFT's own count from 0 reaches
    only with tfinal > 0.
    """

    def __init__(self, model: PeftModel) -> None:
        self._model = model
        self._allocator: Any = model.base_model

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: after the optimizer's step, before gradients are cleared."""
        if state.global_step == 0:
            _check_gradients(self._model)
        self._allocator.update_and_allocate(state.global_step + 1)


def orthogonality(model: PeftModel) -> torch.Tensor:
    """AdaLoRA's penalty, weighted: how far its factors are from orthonormal, as PEFT computes it.

    PEFT adds it where the model computes its own loss, which a model without task head does not.

    References:
        Zhang et al. 2023, Adaptive budget allocation, eq. (4), https://arxiv.org/abs/2303.10512.
    """
    grams = []
    for layer in _layers(model):
        a, b = layer.lora_A["default"], layer.lora_B["default"]
        grams += [a @ a.T, b.T @ b]
    distances = [torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
    config: Any = model.peft_config["default"]
    weight: float = config.orth_reg_weight
    return weight * torch.stack(distances).mean()


def parameters_kept(model: PeftModel) -> int:
    """Parameters of the ranks that are not pruned: in + out + 1 for each."""
    kept = 0
    for layer in _layers(model):
        cost = layer.lora_A["default"].shape[1] + layer.lora_B["default"].shape[0] + 1
        kept += int((layer.lora_E["default"] != 0).sum()) * cost
    return kept


def _layers(model: PeftModel) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, AdaLoraLayer)]


def _check_gradients(model: PeftModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is None and "lora_" in name:
            module = name.partition(".lora_")[0].removeprefix("base_model.model.")
            raise InputError(
                f"AdaLoRA judges ranks by gradients, and none reached {module}, on which the output does not depend; "
                "leave it out of target_modules"
            )
