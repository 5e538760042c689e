"""The layers that an adapter changes, and each one's update: its factors if it has them, otherwise the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from peft.tuners.oft.layer import OFTLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from gelora_viz._checks import describe
from gelora_viz.adapters import GenLoraLayer
from gelora_viz.errors import InputError
from gelora_viz.spectra.merging import check_in_memory, difference, outputs_by_inputs, place_of, plain_copy


class Adapted(NamedTuple):
    """One adapted layer.

    Attributes:
        module: its name in the base model.
        layer: PEFT's layer around the base model's.
        rank: the assigned rank; NaN for methods without one.
    """

    module: str
    layer: Any
    rank: float


@dataclass(frozen=True, eq=False)
class Update:
    """The update of one weight matrix in float64, outputs by inputs, (out, in), however the layer stores its weight.

    Attributes:
        module: the matrix's name in the base model.
        rank: the assigned rank; NaN for methods without one.
        parts: (left (out, r), right (r, in)) with dW = left right, or (dW,).
        moves_bias: whether merging the adapter changes the layer's bias as well, as IA3 does.
    """

    module: str
    rank: float
    parts: tuple[torch.Tensor, ...]
    moves_bias: bool = False

    @property
    def whole(self) -> torch.Tensor:
        """DW (out, in); formed from its factors where it has them."""
        return self.parts[0] if len(self.parts) == 1 else self.parts[0] @ self.parts[1]

    @property
    def shapes(self) -> tuple[object, ...]:
        """The shapes that updates must share to be decomposed together."""
        return (*(tuple(part.shape) for part in self.parts), self.parts[0].device)

    @property
    def n_bytes(self) -> int:
        """Memory of the parts."""
        return sum(part.numel() * part.element_size() for part in self.parts)


def find_adapted(peft_model: Any, adapter_name: str, *, asked_by: str) -> list[Adapted]:  # noqa: ANN401 - checked
    """The layers with the adapter, in the model's order; every weight of the adapter is checked.

    Raises:
        InputError: if there is no adapter, none of this name, none that changes a weight; if its weights are not in
            memory, or hold NaN or infinite values (with the module's name).
    """
    if not isinstance(peft_model, PeftModel):
        raise InputError(f"{asked_by} needs a PEFT model, not {describe(peft_model)}; load it with PeftModel")
    if not isinstance(adapter_name, str) or adapter_name not in peft_model.peft_config:
        raise InputError(f"no adapter {describe(adapter_name)}; the model has {', '.join(peft_model.peft_config)}")
    config = peft_model.peft_config[adapter_name]
    found = [
        Adapted(name, layer, _assigned_rank(layer, adapter_name, name, config))
        for name, layer in peft_model.get_base_model().named_modules()
        if isinstance(layer, BaseTunerLayer)
        and any(adapter_name in getattr(layer, parameters, {}) for parameters in layer.adapter_layer_names)
    ]
    if not found:
        raise InputError(
            f"adapter {adapter_name!r} ({method_name(peft_model, adapter_name)}) changes no weight matrix, so it has "
            "no updates; give an adapter that does, such as LoRA"
        )
    for adapted in found:
        _check_weights(adapted, adapter_name)
    return found


def method_name(peft_model: PeftModel, adapter_name: str) -> str:
    """The adapter's method in PEFT's capitals, such as LORA."""
    return str(peft_model.peft_config[adapter_name].peft_type).rpartition(".")[2]


def _check_weights(adapted: Adapted, adapter_name: str) -> None:
    for name, weight in adapted.layer.named_parameters():
        if adapter_name in name.split(".") and not name.startswith("base_layer."):
            check_in_memory(weight, adapted.module)
            _check_finite(weight, adapted.module)


def _check_finite(values: torch.Tensor, module: str) -> None:
    """Raise `InputError` with the module's name if there are NaN or infinite values."""
    if not torch.isfinite(values).all():
        raise InputError(
            f"the update of {module} holds NaN or infinite values; the training diverged: lower the learning rate"
        )


def _assigned_rank(layer: Any, adapter_name: str, module: str, config: Any) -> float:  # noqa: ANN401 - PEFT's
    """The rank that was requested; for AdaLoRA, what its allocator has kept."""
    ranks = getattr(layer, "r", None)
    if isinstance(layer, OFTLayer) or not isinstance(ranks, dict) or adapter_name not in ranks:
        return float("nan")  # OFT's r counts blocks
    if isinstance(layer, AdaLoraLayer):
        kept = config.rank_pattern or {}
        for name in (f"{module}.lora_E.{adapter_name}", f"{module}.lora_E"):  # in training, and once saved
            if name in kept:
                return float(sum(kept[name]))
    return float(ranks[adapter_name])


@torch.no_grad()
def read_update(adapted: Adapted, adapter_name: str, device: torch.device | None = None) -> Update:
    """The update of one layer.

    Args:
        adapted: from `find_adapted`.
        adapter_name: the adapter.
        device: where to compute; None takes the layer's own device, or the CPU where that has no float64.

    Raises:
        InputError: if the method cannot be merged, or what it adapts is not a matrix.
    """
    module, layer, rank = adapted
    factors = _factors(layer, adapter_name, device)
    if factors is not None:
        return Update(module, rank, factors)
    update, moves_bias = difference(layer, adapter_name, module, device)
    _check_finite(update, module)
    return Update(module, min(rank, *update.shape), (update,), moves_bias)  # VeRA's r exceeds what a matrix can hold


@torch.no_grad()
def read_weight(adapted: Adapted, device: torch.device | None = None) -> torch.Tensor:
    """The layer's weight without any adapter, in float64, (out, in).

    Raises:
        InputError: if the weight is quantized and cannot be dequantized, or is not a matrix.
    """
    base = plain_copy(adapted.layer, adapted.module, device).get_base_layer()
    return outputs_by_inputs(base.weight.detach(), base)


def _factors(
    layer: Any,  # noqa: ANN401 - PEFT's
    adapter_name: str,
    device: torch.device | None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Left (out, r) and right (r, in) with dW = left right; None if dW is not stored that way.

    DoRA and other variants of LoRA rescale or gate their product, and LoRA on experts holds several.
    """

    def exact(factor: Any) -> torch.Tensor:  # noqa: ANN401 - PEFT's
        return torch.as_tensor(factor.detach()).to(**place_of(factor, device))

    if isinstance(layer, GenLoraLayer):
        a, b = layer.factors(adapter_name)
        return layer.scaling[adapter_name] * exact(b), exact(a)
    if isinstance(layer, AdaLoraLayer):
        # As in its forward pass; what the allocator took away is zero in E.
        scale = layer.scaling[adapter_name] / (float(layer.ranknum[adapter_name]) + 1e-5)
        values, vectors = exact(layer.lora_E[adapter_name]), exact(layer.lora_A[adapter_name])
        return scale * exact(layer.lora_B[adapter_name]), values * vectors
    if not isinstance(layer, LoraLayer) or isinstance(layer, ParamWrapper) or adapter_name in layer.lora_variant:
        return None
    scale = layer.scaling[adapter_name]
    if adapter_name in layer.lora_embedding_A:
        return scale * exact(layer.lora_embedding_B[adapter_name]), exact(layer.lora_embedding_A[adapter_name])
    if isinstance(layer.lora_A[adapter_name], nn.Linear):
        return scale * exact(layer.lora_B[adapter_name].weight), exact(layer.lora_A[adapter_name].weight)
    return None
