"""Where a plan's matrices are in a model: the one it was made with, or a larger one around that."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from gelora_viz.errors import InputError
from gelora_viz.surveys import matrix_shape

_Shapes = Mapping[str, tuple[int, int]]


def base_of(model: nn.Module) -> nn.Module:
    """The model that names are counted from: without PEFT around it."""
    peft = sys.modules.get("peft")
    if peft is not None and isinstance(model, peft.PeftModel):
        base: nn.Module = model.get_base_model()
        return base
    return model


def place_modules(model: nn.Module, shapes: _Shapes, made_with: str | None = None) -> dict[str, str]:
    """The full name in the model of each planned matrix.

    A plan made with a part of the model, such as `model.language_model` or the backbone inside a task head, has names
    that lack the part's own. They are put before them where just one part fits.

    Args:
        model: the model to be adapted, or one that is.
        shapes: planned module -> (in_features, out_features).
        made_with: class of the model that the plan was made with, which decides where several parts fit.

    Raises:
        InputError: if the names or shapes are another model's, or fit several parts.
    """
    there = {name: shape for name, module in base_of(model).named_modules() if (shape := _shape(module)) is not None}
    differing = _differing(there, shapes, "")
    if not differing:
        return {name: name for name in shapes}
    first = next(iter(shapes))
    prefixes = [name.removesuffix(first) for name in there if name.endswith(f".{first}")]
    fitting = [prefix for prefix in prefixes if not _differing(there, shapes, prefix)]
    if len(fitting) > 1:
        fitting = [
            prefix
            for prefix in fitting
            if type(base_of(model).get_submodule(prefix.removesuffix("."))).__name__ == made_with
        ] or fitting
    if len(fitting) == 1:
        return {name: f"{fitting[0]}{name}" for name in shapes}
    if fitting:
        raise InputError(
            f"the plan fits several parts of {type(base_of(model)).__name__} "
            f"({', '.join(prefix.removesuffix('.') for prefix in fitting)}); allocate ranks with this whole model, "
            "and choose one with stack"
        )
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise InputError(
        f"the plan was made for another model: {', '.join(differing[:3])}{more}; allocate ranks for this one"
    )


def _shape(module: nn.Module) -> tuple[int, int] | None:
    layer: Any = module
    return matrix_shape(layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer)


def _differing(there: _Shapes, shapes: _Shapes, prefix: str) -> list[str]:
    """What is missing or of another shape under a prefix, in words."""
    found = []
    for name, planned in shapes.items():
        shape = there.get(f"{prefix}{name}")
        if shape != planned:
            has = "missing" if shape is None else f"{shape[0]} x {shape[1]}"
            found.append(f"{name} ({has}, planned {planned[0]} x {planned[1]})")
    return found


def needs_expression(model: nn.Module, modules: set[str]) -> bool:
    """Whether full names, read as endings as PEFT reads a list, would match other modules of the model, too."""
    endings = tuple(f".{module}" for module in modules)
    return any(name.endswith(endings) for name, _ in base_of(model).named_modules())
