"""The whole update of a layer: what merging its adapter changes in an unquantized float64 copy."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import torch
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz.errors import InputError

_NO_UPDATE = 4 * torch.finfo(torch.float32).eps
"""Differences up to this share of the weight's norm are rounding; a fresh DoRA has about eps / 2."""
_PACKED_TYPES = ("Params4bit", "Int8Params")
"""Weights of bitsandbytes, whose storage type may be floating-point although their numbers are not."""
_QUANTIZED = "its weight is quantized; load the base model unquantized"


def difference(
    layer: Any,  # noqa: ANN401 - PEFT's
    adapter_name: str,
    module: str,
    device: torch.device | None,
) -> tuple[torch.Tensor, bool]:
    """Merged weight minus base weight, (out, in), and whether the bias moved, both from a copy in float64.

    Some methods multiply (OFT, HRA), rescale (DoRA) or gate (IA3) the weight, and their `get_delta_weight`, if
    there is one, is not the actual change, which is what merging does to the weight.

    Raises:
        InputError: if the layer cannot be merged, or has no weight matrix.
    """
    if _is_packed(layer):
        return _added(layer, adapter_name, module, device), False
    copied = plain_copy(layer, module, device)
    base = copied.get_base_layer()
    before = {name: tensor.detach().clone() for name, tensor in base.named_parameters(recurse=False)}
    try:
        copied.merge(adapter_names=[adapter_name])
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        _refuse_merging(layer, module, error)
    base = copied.get_base_layer()
    update = base.weight.detach() - before["weight"]
    if update.norm() <= _NO_UPDATE * before["weight"].norm():
        update.zero_()
    moves_bias = "bias" in before and not torch.equal(base.bias.detach(), before["bias"])
    return outputs_by_inputs(update, base), moves_bias


def plain_copy(layer: Any, module: str, device: torch.device | None) -> Any:  # noqa: ANN401 - PEFT's
    """A float64 copy of the layer, around a base layer that is neither quantized nor merged.

    Raises:
        InputError: if that has no weight matrix in memory, or one that cannot be dequantized.
    """
    base = layer.get_base_layer()
    weight = getattr(base, "weight", None)
    if layer.quantization_backend is not None or _is_packed(layer):
        plain: nn.Module = _dequantized(layer, module)
    elif weight is None:
        raise InputError(
            f"{type(layer).__name__} of {module} adapts something other than one weight matrix, which cannot be "
            "measured; leave it out of the adapter"
        )
    elif weight.ndim < 2:
        raise InputError(f"the update of {module} is a vector and has no rank; measure adapters of weight matrices")
    else:
        check_in_memory(weight, module)
        plain = copy.deepcopy(base)
    place = place_of(next(plain.parameters()), device)
    # The base layer is put in place of its copy, so that its weight is not held twice.
    copied = copy.deepcopy(layer, {id(base): plain.to(**place)}).to(**place)
    copied.quantization_backend = None
    if copied.merged_adapters:
        copied.unmerge()
    return copied


def _dequantized(layer: Any, module: str) -> nn.Linear:  # noqa: ANN401 - PEFT's
    """The base layer with the weight that its quantization stands for: merging into it then rounds nothing."""
    base = layer.get_base_layer()
    try:
        known = layer.quantization_backend is not None
        weight = layer.get_base_weight() if known else dequantize_module_weight(base)
    except (AttributeError, TypeError) as error:
        _refuse_merging(layer, module, error)
    if not weight.is_floating_point():
        _refuse_merging(layer, module, _QUANTIZED)
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=getattr(base, "bias", None) is not None, device="meta")
    plain.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if plain.bias is not None:
        plain.bias = nn.Parameter(base.bias.detach().clone(), requires_grad=False)
    return plain


def _is_packed(layer: Any) -> bool:  # noqa: ANN401 - PEFT's
    """Whether the weight is quantized in a way that this method's layer can add to but not undo."""
    if layer.quantization_backend is not None:
        return False
    weight = getattr(layer.get_base_layer(), "weight", getattr(layer.get_base_layer(), "qweight", None))
    kind = type(weight)
    known = kind.__name__ in _PACKED_TYPES or kind.__module__.startswith("torchao.")
    return known or (weight is not None and not weight.is_floating_point())


def _added(layer: Any, adapter_name: str, module: str, device: torch.device | None) -> torch.Tensor:  # noqa: ANN401 - PEFT's
    """The update that PEFT itself would add; merging would round it to the quantized weight's few values."""
    if adapter_name in getattr(layer, "lora_variant", {}) or not hasattr(layer, "get_delta_weight"):
        _refuse_merging(layer, module, _QUANTIZED)
    update = layer.get_delta_weight(adapter_name).detach()
    return outputs_by_inputs(update.to(**place_of(update, device)), layer.get_base_layer())


def _refuse_merging(layer: Any, module: str, reason: object) -> NoReturn:  # noqa: ANN401 - PEFT's
    raise InputError(
        f"{type(layer).__name__} of {module} cannot be merged ({reason}), so its update cannot be measured"
    ) from (reason if isinstance(reason, BaseException) else None)


def outputs_by_inputs(weight: torch.Tensor, base: nn.Module) -> torch.Tensor:
    """(out, in) of a weight as the layer stores it; a convolution reads in x height x width numbers."""
    return weight.T if isinstance(base, Conv1D | nn.Embedding) else weight.flatten(1)


def place_of(tensor: torch.Tensor, device: torch.device | None) -> dict[str, Any]:
    """Device and type to compute with: float64, which Apple's GPUs lack."""
    chosen = tensor.device if device is None else device
    return {"device": torch.device("cpu") if chosen.type == "mps" else chosen, "dtype": torch.float64}


def check_in_memory(weight: torch.Tensor, module: str) -> None:
    """Raise `InputError` with the module's name if accelerate keeps the weight elsewhere."""
    if weight.is_meta:
        raise InputError(f"the weights of {module} are offloaded; load the model into memory, without a device_map")
