"""Models whose weights accelerate keeps elsewhere: where inputs go, and how weights come and go back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def input_device(model: nn.Module) -> torch.device:
    """Where the model reads its inputs.

    Weights that accelerate keeps in memory or on disk are on the device "meta" between forward passes; the model's
    own hook then knows where it computes.
    """
    hook = getattr(model, "_hf_hook", None)
    if getattr(hook, "execution_device", None) is not None:
        return torch.device(hook.execution_device)  # type: ignore[union-attr]
    for module in model.modules():
        for tensor in module.parameters(recurse=False):
            if tensor.device.type != "meta":
                return tensor.device
        inner = getattr(module, "_hf_hook", None)
        if getattr(inner, "execution_device", None) is not None:
            return torch.device(inner.execution_device)  # type: ignore[union-attr]
    return torch.device("cpu")


def put_back(model: nn.Module) -> None:
    """Send home the offloaded weights of modules whose forward pass was cut short.

    accelerate fetches a module's weights before its forward pass and drops them after it. An exception, such as the
    early stop, skips the second half for every module around the place where it was raised.
    """
    for module in model.modules():
        for hook in _offloading_hooks(module):
            fetched_before = hasattr(hook, "tied_pointers_to_remove")  # else it has nothing to drop, and cannot
            if fetched_before and any(
                tensor.device.type != "meta" for tensor in module.parameters(recurse=hook.place_submodules)
            ):
                hook.post_forward(module, None)


def _offloading_hooks(module: nn.Module) -> list[Any]:
    hook = getattr(module, "_hf_hook", None)
    if hook is None:
        return []
    from accelerate.hooks import AlignDevicesHook

    return [each for each in getattr(hook, "hooks", (hook,)) if isinstance(each, AlignDevicesHook) and each.offload]


def named_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and buffer once, with its full name; offloaded ones are fetched a module at a time."""
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        fetched: dict[str, torch.Tensor] = {}
        for hook in _offloading_hooks(module):
            if not hook.place_submodules:
                names = [name for name, tensor in module.named_parameters(recurse=False) if tensor.is_meta]
                fetched = {name: hook.weights_map[name] for name in names}
            else:
                names = [name for name, tensor in module.named_parameters() if tensor.is_meta]
                yield from ((f"{module_name}.{name}", hook.weights_map[name]) for name in names)
        for name, tensor in itertools.chain(
            module.named_parameters(recurse=False), module.named_buffers(recurse=False)
        ):
            here = fetched.get(name, tensor)
            if here.is_meta or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            yield f"{module_name}.{name}", here
