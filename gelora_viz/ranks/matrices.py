"""Which weight matrices of a model can be adapted, how large they are, and which block they belong to."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz._checks import check_names, check_result
from gelora_viz._names import did_you_mean, goes_by
from gelora_viz.activations import Block, Stack, blocks_of, choose_stack, find_stacks
from gelora_viz.errors import GeloraVizWarning, InputError
from gelora_viz.ranks.placing import base_of
from gelora_viz.surveys import ModelSurvey, find_reached, list_weights, matrix_shape, place_of

_ALL_LINEAR = "all-linear"
_ADAPTED = "base_model.model."
"""What names in a `PeftModel` begin with."""
_UNREACHED = "never called, so that an adapter would do nothing"
_REASONS = {
    "router": "routers, which choose experts",
    "adapter": "inside another adapter",
}


class Matrix(NamedTuple):
    """One weight matrix that LoRA can adapt.

    Attributes:
        module: full module name in the model.
        block: the transformer block it lies in.
        in_features: inputs of the matrix.
        out_features: outputs of the matrix.
        conv1d: whether it is a Conv1D, whose weight is stored transposed.
        model_class: class of the model.
    """

    module: str
    block: Block
    in_features: int
    out_features: int
    conv1d: bool = False
    model_class: str | None = None

    @property
    def cost(self) -> int:
        """Trainable parameters of one more rank: in + out."""
        return self.in_features + self.out_features

    @property
    def max_rank(self) -> int:
        """The rank beyond which a low-rank update is not low-rank any more: min(in, out)."""
        return min(self.in_features, self.out_features)


class Choice(NamedTuple):
    """The matrices to adapt, and those that were named but cannot be.

    Attributes:
        matrices: in the order of the forward pass.
        left_out: module -> why it is no matrix for an adapter.
    """

    matrices: list[Matrix]
    left_out: dict[str, str]

    def say(self) -> str | None:
        """One line about what was left out; None where nothing was."""
        if not self.left_out:
            return None
        counts = Counter(self.left_out.values())
        example = {reason: module for module, reason in self.left_out.items()}
        said = "; ".join(f"{count} {reason} (such as {example[reason]})" for reason, count in counts.items())
        return f"matrices left out of the plan: {said}"


def find_matrices(
    model: nn.Module,
    target_modules: str | Sequence[str] | None = None,
    *,
    stack: str | None = None,
    survey: ModelSurvey | None = None,
) -> list[Matrix]:
    """The matrices inside the model's blocks that `target_modules` names, in the order of the forward pass.

    Left out, with a warning, are routers of experts, matrices inside an adapter that is there already, those that
    PEFT takes for experts or refuses, and those that no input reaches: the model reads a few tokens for it, unless it
    is on the device "meta" or there is a survey.

    Args:
        model: a transformer, with or without task head.
        target_modules: what to adapt, as PEFT takes it: module-name endings (["query", "value"]), a regular
            expression for the full name, or "all-linear". None takes PEFT's own choice for the model's type, and
            every linear layer where PEFT has none. Matrices outside the blocks (poolers, heads) belong to no layer
            and are left out.
        stack: of a model with several towers, the one to adapt: a label or path, as in `capture`. By default that
            which the survey's input reached, or the one for language.
        survey: what `survey(model, tokenizer, texts)` gave, to leave out what those inputs do not reach.

    Raises:
        InputError: if a name, or the expression, matches nothing (with the nearest names), nothing in the blocks,
            only modules that are not linear layers (with their type), or only matrices that are left out; if the
            model has no recognizable blocks, or no such stack.

    Warns:
        GeloraVizWarning: if matrices were left out.
    """
    choice = choose_matrices(model, target_modules, stack=stack, survey=survey)
    said = choice.say()
    if said is not None:
        warnings.warn(said, GeloraVizWarning, stacklevel=2)
    return choice.matrices


def choose_matrices(
    model: nn.Module,
    target_modules: str | Sequence[str] | None = None,
    *,
    stack: str | None = None,
    survey: ModelSurvey | None = None,
    layers: Collection[str] = (),
) -> Choice:
    """`find_matrices` without its warning; `layers` are those of a profile, whose stack is then the default."""
    if survey is not None:
        check_result(survey, ModelSurvey, "survey")
    blocks = blocks_of(_choose_stacks(find_stacks(model), stack, survey, layers))
    wanted = _default_targets(model) if target_modules is None else target_modules
    modules = dict(model.named_modules())
    shapes = {name: matrix_shape(module) for name, module in modules.items()}
    linear = {name: shape for name, shape in shapes.items() if shape is not None}
    if target_modules is not None and wanted != _ALL_LINEAR:
        for each in check_names(wanted, "target_modules", "query"):
            _check_target(each, modules, linear, blocks, is_ending=not isinstance(wanted, str))
    named = [
        (block, name)
        for block in blocks
        for name in linear
        if name.startswith(f"{block.name}.") and _matches(name, wanted)
    ]
    left_out = _reasons(model, named, survey) if named else {}
    found = [
        Matrix(name, block, *linear[name], isinstance(modules[name], Conv1D), type(base_of(model)).__name__)
        for block, name in named
        if name not in left_out
    ]
    if not found:
        asked = [wanted] if isinstance(wanted, str) else list(wanted)
        if left_out:
            reason = "; ".join(dict.fromkeys(left_out.values()))
            raise InputError(f"target_modules {asked} match only matrices that are {reason}; choose others")
        raise InputError(
            f"target_modules {asked} match no linear layer in the blocks; endings are "
            f"{', '.join(_endings(linear, blocks))}"
        )
    return Choice(found, left_out)


def _choose_stacks(
    stacks: list[Stack], stack: str | None, survey: ModelSurvey | None, layers: Collection[str]
) -> list[Stack]:
    if stack is not None:
        return [choose_stack(stacks, stack)]
    if survey is not None:
        ran = [each for each in stacks if each.path.removeprefix(_ADAPTED) in survey.reached_stacks]
    else:
        profiled = [each for each in stacks if each.blocks[0] in layers]
        ran = profiled or [each for each in stacks if each.label == "language"]
    return ran or stacks


def _reasons(model: nn.Module, named: Sequence[tuple[Block, str]], survey: ModelSurvey | None) -> dict[str, str]:
    """Why some of these matrices are left out."""
    names = [name for _, name in named]
    kinds = {weight.name: weight.kind for weight in list_weights(model)}
    prefix = _ADAPTED if names[0].startswith(_ADAPTED) else ""
    called = find_reached(model) if survey is None else survey.reached
    reached = {f"{prefix}{name}" for name in called or ()}
    # Of a tower for other inputs nothing is known.
    stacks = {block.name.rpartition(".")[0] for block, _ in named}
    ran = tuple(f"{stack}." for stack in stacks if any(name.startswith(f"{stack}.") for name in reached))
    places = {place_of(name) for name in reached}
    unreached = {name for name in names if name.startswith(ran) and place_of(name) not in places} if ran else set()
    refused = _refused_by_peft(model, {name.rpartition(".")[2] for name in names})
    found = {}
    for name in names:
        if kinds.get(name) in _REASONS:
            found[name] = _REASONS[kinds[name]]
        elif name in unreached:
            found[name] = _UNREACHED
        elif name.rpartition(".")[2] in refused:
            found[name] = "not adapted by PEFT under such a name in this type of model"
    return found


def _refused_by_peft(model: nn.Module, endings: Collection[str]) -> set[str]:
    """Endings that PEFT does not adapt in this type of model, tried on a stand-in of single weights.

    It reads some names as those of experts, which are parameters and no modules, and refuses others for Mamba.
    """
    refused = set()
    with torch.random.fork_rng(devices=[]):  # the weights of the stand-ins are drawn
        for ending in endings:
            stand_in: Any = nn.Module()
            block = nn.Module()
            block.add_module(ending, nn.Linear(1, 1))
            stand_in.add_module("block", block)
            stand_in.config = getattr(base_of(model), "config", None)
            try:
                inject_adapter_in_model(LoraConfig(r=1, target_modules=[ending]), stand_in)
            except ValueError:
                refused.add(ending)
            else:
                if not hasattr(block.get_submodule(ending), "lora_A"):
                    refused.add(ending)
    return refused


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
    config: Any = getattr(model, "config", None)
    of_text = config.get_text_config() if hasattr(config, "get_text_config") else config  # beside one for images
    for each in (config, of_text):
        known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(str(getattr(each, "model_type", "")))
        if known is not None:
            return known if isinstance(known, str) else list(known)
    return _ALL_LINEAR


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
