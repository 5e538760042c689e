"""Which weight matrices of a model can be adapted, how large they are, and which block they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz._checks import check_names
from gelora_viz._names import did_you_mean, goes_by
from gelora_viz.activations import Block, find_blocks
from gelora_viz.errors import InputError

_ALL_LINEAR = "all-linear"


class Matrix(NamedTuple):
    """One weight matrix that LoRA can adapt.

    Attributes:
        module: full module name in the model.
        block: the transformer block it lies in.
        in_features: inputs of the matrix.
        out_features: outputs of the matrix.
        conv1d: whether it is a Conv1D, whose weight is stored transposed.
    """

    module: str
    block: Block
    in_features: int
    out_features: int
    conv1d: bool = False

    @property
    def cost(self) -> int:
        """Trainable parameters of one more rank: in + out."""
        return self.in_features + self.out_features

    @property
    def max_rank(self) -> int:
        """The rank beyond which a low-rank update is not low-rank any more: min(in, out)."""
        return min(self.in_features, self.out_features)


def find_matrices(model: nn.Module, target_modules: str | Sequence[str] | None = None) -> list[Matrix]:
    """The matrices inside the model's blocks that `target_modules` names, in the order of the forward pass.

    Args:
        model: a transformer, with or without task head.
        target_modules: what to adapt, as PEFT takes it: module-name endings (["query", "value"]), a regular
            expression for the full name, or "all-linear". None takes PEFT's own choice for the model's type, and
            every linear layer where PEFT has none. Matrices outside the blocks (poolers, heads) belong to no layer
            and are left out.

    Raises:
        InputError: if a name, or the expression, matches nothing (with the nearest names), nothing in the blocks, or
            only modules that are not linear layers (with their type); if the model has no recognizable blocks.
    """
    blocks = find_blocks(model)
    wanted = _default_targets(model) if target_modules is None else target_modules
    modules = dict(model.named_modules())
    shapes = {name: matrix_shape(module) for name, module in modules.items()}
    linear = {name: shape for name, shape in shapes.items() if shape is not None}
    if target_modules is not None and wanted != _ALL_LINEAR:
        for each in check_names(wanted, "target_modules", "query"):
            _check_target(each, modules, linear, blocks, is_ending=not isinstance(wanted, str))
    found = []
    for block in blocks:
        for name, (inputs, outputs) in linear.items():
            if name.startswith(f"{block.name}.") and _matches(name, wanted):
                found.append(Matrix(name, block, inputs, outputs, isinstance(modules[name], Conv1D)))
    if not found:
        raise InputError(
            f"target_modules {[wanted] if isinstance(wanted, str) else list(wanted)} match no linear layer in the "
            f"blocks; endings are {', '.join(_endings(linear, blocks))}"
        )
    return found


def _check_target(
    target: str,
    modules: Mapping[str, nn.Module],
    linear: Mapping[str, tuple[int, int]],
    blocks: Sequence[Block],
    *,
    is_ending: bool,
) -> None:
    """Raise `InputError` unless a name or regular expression matches a linear layer somewhere in the model."""
    wanted = [target] if is_ending else target
    matched = [name for name in modules if _matches(name, wanted)]
    if any(name in linear for name in matched):
        return
    endings = _endings(linear, blocks)
    if matched:
        kind = type(modules[matched[0]]).__name__
        raise InputError(
            f"target_modules {[target]} match no linear layer but {kind}, such as {matched[0]}; only linear layers "
            f"(nn.Linear, Conv1D) get a rank, and their endings are {', '.join(endings)}"
        )
    raise InputError(f"target_modules {[target]} match no linear layer; {did_you_mean(target, endings)}")


def _endings(linear: Mapping[str, tuple[int, int]], blocks: Sequence[Block]) -> list[str]:
    """The last parts of the names of the linear layers in the blocks."""
    return sorted({name.rsplit(".", 1)[-1] for name in linear if any(name.startswith(f"{b.name}.") for b in blocks)})


def _default_targets(model: nn.Module) -> str | list[str]:
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type)
    return _ALL_LINEAR if known is None else known if isinstance(known, str) else list(known)


def _matches(name: str, wanted: str | Sequence[str]) -> bool:
    """PEFT's reading of target_modules: "all-linear", a regular expression, or a list of names and endings."""
    if wanted == _ALL_LINEAR:
        return True
    if isinstance(wanted, str):
        try:
            return re.fullmatch(wanted, name) is not None
        except re.error as error:
            raise InputError(
                f"target_modules is {wanted!r}, no regular expression ({error}); give names or a valid expression"
            ) from error
    return any(goes_by(name, ending) for ending in wanted)


def matrix_shape(module: nn.Module) -> tuple[int, int] | None:
    """(in_features, out_features) of a linear layer or Conv1D; None for any other module."""
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return int(inputs), int(outputs)
    return (module.in_features, module.out_features) if isinstance(module, nn.Linear) else None
