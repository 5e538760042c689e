"""The weight matrices that a model holds, and of which kind each is, as far as its modules show."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from torch import nn
from transformers.pytorch_utils import Conv1D

KINDS = ("linear", "conv1d", "quantized", "experts", "router", "adapter")
ADAPTABLE = ("linear", "conv1d", "quantized")
"""Kinds that an adapter on modules can reach."""
_EXPERT = re.compile(r"experts\.[^.]+\.")


class Weight(NamedTuple):
    """One weight matrix, or the matrices of all experts in one parameter.

    Attributes:
        name: the module's full name; for experts that of the parameter.
        module: full name of the module whose forward pass uses it.
        kind: "linear", "conv1d" (stored transposed), "quantized"; "experts" (a 3-D parameter, a matrix per expert);
            "router" (which chooses experts); "adapter" (inside another adapter).
        in_features: inputs of the matrix.
        out_features: outputs of the matrix.
        n_matrices: number of matrices: 1, or the experts.
    """

    name: str
    module: str
    kind: str
    in_features: int
    out_features: int
    n_matrices: int = 1

    @property
    def size(self) -> int:
        """Number of weights, as they are before they are quantized."""
        return self.in_features * self.out_features * self.n_matrices


def list_weights(model: nn.Module) -> list[Weight]:
    """The matrices of a model in the order of its modules, embeddings and convolutions left out."""
    modules = dict(model.named_modules())
    found = []
    for name, module in modules.items():
        shape = matrix_shape(module) or _other_shape(module, modules.get(name.rpartition(".")[0]))
        if shape is not None:
            found.append(Weight(name, name, _kind(name, module, modules), *shape))
        elif _holds_experts(module):
            found.extend(
                Weight(f"{name}.{own}", name, "experts", *_features(module, weight), len(weight))
                for own, weight in module.named_parameters(recurse=False)
                if weight.ndim == 3
            )
    return found


def place_of(name: str) -> str:
    """The module's name, the same for all experts of a list: which of them run depends on the input."""
    return _EXPERT.sub("experts.*.", name)


def matrix_shape(module: nn.Module) -> tuple[int, int] | None:
    """(in_features, out_features) of a linear layer or Conv1D; None for any other module."""
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return int(inputs), int(outputs)
    return (module.in_features, module.out_features) if isinstance(module, nn.Linear) else None


def _other_shape(module: nn.Module, parent: nn.Module | None) -> tuple[int, int] | None:
    """The shape of a router that is no linear layer, or of a linear layer of another library's."""
    made: Any = module
    if hasattr(module, "qweight") and hasattr(module, "in_features"):
        return int(made.in_features), int(made.out_features)
    if parent is not None and _routes(module, parent):
        return int(made.weight.shape[1]), int(made.weight.shape[0])
    return None


def _kind(name: str, module: nn.Module, modules: dict[str, nn.Module]) -> str:
    parent = modules.get(name.rpartition(".")[0])
    if _is_in_adapter(name, modules):
        return "adapter"
    if parent is not None and _routes(module, parent):
        return "router"
    weight = getattr(module, "weight", None)
    if weight is None or not weight.is_floating_point() or weight.dtype.itemsize == 1:
        return "quantized"
    return "conv1d" if isinstance(module, Conv1D) else "linear"


def _is_in_adapter(name: str, modules: dict[str, nn.Module]) -> bool:
    """Whether the module lies in an adapter around a matrix, and is not that matrix."""
    parts = name.split(".")
    around = (".".join(parts[:end]) for end in range(1, len(parts)))
    return any(
        hasattr(modules[each], "base_layer") and not f"{name}.".startswith(f"{each}.base_layer.") for each in around
    )


def _routes(module: nn.Module, parent: nn.Module) -> bool:
    """Whether a module gives one number for each of the experts beside it."""
    experts = getattr(parent, "experts", None)
    weight = getattr(module, "weight", None)
    if not isinstance(experts, nn.Module) or module is experts or getattr(weight, "ndim", 0) != 2:
        return False
    return weight is not None and weight.shape[0] == _count_experts(experts)


def _count_experts(experts: nn.Module) -> int | None:
    if isinstance(experts, nn.ModuleList | nn.ModuleDict):
        return len(experts)
    return next((len(weight) for weight in experts.parameters() if weight.ndim == 3), None)


def _holds_experts(module: nn.Module) -> bool:
    """Whether 3-D parameters of a module are matrices of experts: those of convolutions are none."""
    weights = [weight for weight in module.parameters(recurse=False) if weight.ndim == 3]
    return "expert" in type(module).__name__.lower() and bool(weights)


def _features(module: nn.Module, weight: nn.Parameter) -> tuple[int, int]:
    """Inputs and outputs of each expert's matrix, as PEFT reads them."""
    _, one, other = weight.shape
    return (int(one), int(other)) if getattr(module, "is_transposed", False) else (int(other), int(one))
