"""Which weight matrices of a model can be adapted, how large they are, and which block they belong to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz.activations import Block, find_blocks
from gelora_viz.errors import InputError

ALL_LINEAR = "all-linear"


class Matrix(NamedTuple):
    """One weight matrix that LoRA can adapt.

    Attributes:
        module: full module name in the model.
        block: the transformer block it lies in.
        in_features: inputs of the matrix.
        out_features: outputs of the matrix.
    """

    module: str
    block: Block
    in_features: int
    out_features: int

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
        target_modules: as in PEFT: module-name endings (["query", "value"]), a regular expression for the full name,
            or "all-linear". None takes PEFT's own choice for the model's type, and every linear layer where PEFT has
            none. Matrices outside the blocks (poolers, heads) belong to no layer and are left out.

    Raises:
        InputError: if nothing in the blocks matches (with the nearest names), or the model has no recognisable
            blocks.
    """
    blocks = find_blocks(model)
    wanted = _default_targets(model) if target_modules is None else target_modules
    shapes = {name: matrix_shape(module) for name, module in model.named_modules()}
    linear = {name: shape for name, shape in shapes.items() if shape is not None}
    found = []
    for block in blocks:
        for name, (inputs, outputs) in linear.items():
            if name.startswith(f"{block.name}.") and _matches(name, wanted):
                found.append(Matrix(name, block, inputs, outputs))
    if not found:
        endings = sorted(
            {name.rsplit(".", 1)[-1] for name in linear if any(name.startswith(f"{b.name}.") for b in blocks)}
        )
        given = [wanted] if isinstance(wanted, str) else list(wanted)
        near = sorted({hit for each in given for hit in get_close_matches(each, endings, n=2, cutoff=0.5)})
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"target_modules {given} match no linear layer in the blocks; {hint}endings are {', '.join(endings)}"
        )
    return found


def _default_targets(model: nn.Module) -> str | list[str]:
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type)
    return ALL_LINEAR if known is None else known if isinstance(known, str) else list(known)


def _matches(name: str, wanted: str | Sequence[str]) -> bool:
    """PEFT's reading of target_modules: "all-linear", a regular expression, or a list of names and endings."""
    if wanted == ALL_LINEAR:
        return True
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == ending or name.endswith(f".{ending}") for ending in wanted)


def matrix_shape(module: nn.Module) -> tuple[int, int] | None:
    """(in_features, out_features) of a linear layer or Conv1D; None for any other module."""
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return int(inputs), int(outputs)
    return (module.in_features, module.out_features) if isinstance(module, nn.Linear) else None
