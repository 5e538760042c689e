"""Which hidden states are wanted, and the hooks that read them during a forward pass."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from gelora_viz._checks import check_names
from gelora_viz.activations.blocks import Block, Stack, blocks_of, find_stacks
from gelora_viz.activations.holding import hold
from gelora_viz.activations.inputs import is_encoder_decoder
from gelora_viz.errors import InputError

_Side = Literal["input", "output"]
_Keep = Callable[["Layer", Any], None]


class Layer(NamedTuple):
    """One place in a transformer whose hidden states are wanted.

    Attributes:
        name: the layer's name in the result.
        stack: "encoder" or "decoder" in an encoder-decoder, "" elsewhere.
        depth: 0 for the embeddings, i for block i; a running number where modules were chosen by pattern.
        module: full name of the module to hook; "" is the transformer itself.
        side: whether what the module reads or what it gives out is wanted.
    """

    name: str
    stack: str
    depth: int
    module: str
    side: _Side


class Stop(Exception):  # noqa: N818 - control flow, not an error
    """Raised in the last hook: nothing after the last wanted layer needs to run."""


def unwrap(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """What to call and what to hook: (model without torch.compile and data parallelism, transformer inside PEFT).

    Names in a `PeftModel` start with "base_model.model."; those of the transformer inside are the base model's own,
    so a profile of an adapted model matches a plan made for its base.

    Raises:
        InputError: for an adapter that puts virtual tokens before the text: hidden states then have no text tokens
            of their own places.
    """
    while type(model).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel"):
        inner: Any = getattr(model, "_orig_mod", None) or model.module
        model = inner
    peft = sys.modules.get("peft")  # no PeftModel can exist before peft was imported
    if peft is None or not isinstance(model, peft.PeftModel):
        return model, model
    for name in model.active_adapters:
        if model.peft_config[name].is_prompt_learning:
            raise InputError(
                f"adapter {name!r} ({model.peft_config[name].peft_type.value}) learns virtual tokens that stand "
                "before every text, so positions are not the texts' own; capture model.get_base_model(), or an "
                "adapter that changes weights, such as LoRA"
            )
    return model, model.get_base_model()


def find_layers(
    transformer: nn.Module, layers: str | Sequence[str], stacks: Sequence[Stack] | None = None
) -> list[Layer]:
    """The layers to capture, in the order of stack and depth, or of the modules where they are named by pattern.

    Args:
        transformer: the transformer inside the model, the second value of `unwrap`.
        layers: "blocks", "hidden_states" or patterns of module names, as in `capture`.
        stacks: whose blocks are meant; by default those of all stacks.

    Raises:
        InputError: if there are no recognizable blocks, or a pattern matches nothing.
    """
    if names_blocks(layers):
        found = _block_layers(blocks_of(list(find_stacks(transformer) if stacks is None else stacks)))
        return _after_final_norms(found) if layers == "hidden_states" else found
    return _layers_by_pattern(transformer, check_names(layers, "layers", "encoder.layer.*"))


def names_blocks(layers: str | Sequence[str]) -> bool:
    """Whether the layers are those of the blocks, and not patterns of module names."""
    return isinstance(layers, str) and layers in ("blocks", "hidden_states")


def _block_layers(blocks: Sequence[Block]) -> list[Layer]:
    """Before each stack's first block its embeddings: what that block reads."""
    found = []
    for block in blocks:
        if block.depth == 1:
            name = f"{block.stack}.embeddings" if block.stack else "embeddings"
            found.append(Layer(name, block.stack, 0, block.name, "input"))
        found.append(Layer(block.name, block.stack, block.depth, block.name, "output"))
    return found


def _after_final_norms(layers: Sequence[Layer]) -> list[Layer]:
    """The last layer of each stack read where the module that owns the blocks gives it out: after any final norm."""
    last = {layer.stack: layer for layer in layers}
    return [
        layer._replace(module=".".join(layer.module.split(".")[:-2])) if last[layer.stack] is layer else layer
        for layer in layers
    ]


def _layers_by_pattern(transformer: nn.Module, patterns: Sequence[str]) -> list[Layer]:
    names = [name for name, _ in transformer.named_modules() if name]
    wanted = [_split_side(pattern) for pattern in patterns]
    unused = [
        given for given, (pattern, _) in zip(patterns, wanted, strict=True) if not fnmatch.filter(names, pattern)
    ]
    if unused:
        raise InputError(
            f"layers: no module matches {', '.join(unused)}; module names look like {', '.join(names[:6])}, …"
        )
    sides: tuple[_Side, ...] = ("input", "output")
    matched = [
        (name, side)
        for name in names
        for side in sides
        if any(side == each and fnmatch.fnmatchcase(name, pattern) for pattern, each in wanted)
    ]
    two_stacks = is_encoder_decoder(transformer)
    return [
        Layer(
            f"{name}:input" if side == "input" else name,
            ("decoder" if "decoder" in name.split(".") else "encoder") if two_stacks else "",
            depth,
            name,
            side,
        )
        for depth, (name, side) in enumerate(matched)
    ]


def _split_side(pattern: str) -> tuple[str, _Side]:
    """("encoder.*", "input") of "encoder.*:input"; a module's output by default."""
    name, colon, side = pattern.partition(":")
    if not colon or side == "output":
        return name, "output"
    if side == "input":
        return name, "input"
    raise InputError(f"pattern {pattern!r} ends in {':' + side!r}; end it in ':input' or ':output', or in neither")


@contextmanager
def hooks(model: nn.Module, transformer: nn.Module, layers: Sequence[Layer], keep: _Keep) -> Iterator[None]:
    """Forward hooks that hand each layer and its states to `keep`; removed on the way out, whatever happens.

    What the transformer as a whole gives out is read from the model around it: PEFT passes its output on, and calls
    its `forward` directly, past any hook.
    """
    handles = []
    try:
        for layer in layers:
            module = transformer.get_submodule(layer.module) if layer.module else model
            if layer.side == "input":
                handles.append(module.register_forward_pre_hook(_read_input(layer, keep), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(_read_output(layer, keep)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read_input(layer: Layer, keep: _Keep) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(layer, args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None)))

    return hook


def _read_output(layer: Layer, keep: _Keep) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        if not isinstance(output, torch.Tensor):
            last = getattr(output, "last_hidden_state", None)
            output = output[0] if last is None and isinstance(output, tuple | list) else last
        keep(layer, output)

    return hook


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, for one thread at a time; every module's own training flag is restored."""
    with hold(model):
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode
