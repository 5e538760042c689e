"""Find the blocks of a transformer by its structure, not by a table of model names."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from gelora_viz._checks import check_model
from gelora_viz.errors import InputError

_SMALLEST_SHARE = 0.2
"""A list of modules with less than this share of the largest list's parameters is not a stack of blocks."""


class Block(NamedTuple):
    """One transformer block.

    Attributes:
        name: its full module name in the model, such as "encoder.layer.3".
        stack: "encoder" or "decoder" in an encoder-decoder, "" where the model has a single stack.
        depth: 1 for the first block of its stack; depth 0 is what that block reads, the embeddings.
    """

    name: str
    stack: str
    depth: int


def find_blocks(model: nn.Module) -> list[Block]:
    """The blocks of a transformer, stack by stack, in the order in which a forward pass runs them.

    A stack is a `ModuleList` of modules of one class that lies in no other such list and holds a good share of the
    parameters. Encoder-decoders have two; the encoder comes first.

    A block's output is not always the model's last hidden state. In GPT-2, GPT-NeoX, Llama, Qwen2 and Qwen3,
    Mistral, Gemma, Phi and T5 (both stacks) a final norm follows the last block, and transformers'
    `hidden_states[-1]` is taken after it. In BERT, RoBERTa, DistilBERT, DeBERTa-v2, ELECTRA and BART no norm
    follows. In ViT one does, and in CLIP's vision tower one for the class token only; their `hidden_states[-1]` is
    taken before it. `capture` gives the state before the norm with layers="blocks" and the one after it with
    layers="hidden_states"; of CLIP's, whose blocks' owner gives it out without norm, the former in both.

    Args:
        model: any module; a transformer with or without its task head.

    Raises:
        InputError: if there is no such list (name the layers by module patterns instead), or layers share one block.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> find_blocks(BertModel(BertConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=1)))[0]
        Block(name='encoder.layer.0', stack='', depth=1)
    """
    stacks = _stacks(check_model(model))
    if not stacks:
        raise InputError(
            f"{type(model).__name__} has no recognizable blocks (no ModuleList of alike transformer blocks); "
            "name its layers by module patterns, for example layers=['encoder.*.output']"
        )
    if len(stacks) == 1:
        _check_not_shared(model, len(next(iter(stacks.values()))))
    labels = _stack_labels(list(stacks)) if len(stacks) > 1 else dict.fromkeys(stacks, "")
    order = sorted(stacks, key=lambda name: "decoder" in labels[name])
    return [
        Block(f"{name}.{child}", labels[name], position)
        for name in order
        for position, (child, _) in enumerate(stacks[name].named_children(), start=1)
    ]


def _check_not_shared(model: nn.Module, n_blocks: int) -> None:
    """Refuse a model that runs the same block several times (ALBERT): one module then has many hidden states."""
    n_layers = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    if isinstance(n_layers, int) and n_layers > n_blocks and n_layers % n_blocks == 0:
        raise InputError(
            f"{type(model).__name__} runs {n_blocks} blocks several times for {n_layers} layers; hooks cannot tell "
            "layers of shared weights apart; choose a model with a block for each layer"
        )


def _stacks(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Outermost lists of alike modules, without the small ones."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) > 0 and not nested and _holds_blocks(module):
            found[name] = module
    sizes = {name: sum(parameter.numel() for parameter in stack.parameters()) for name, stack in found.items()}
    largest = max(sizes.values(), default=0)
    return {name: stack for name, stack in found.items() if sizes[name] >= _SMALLEST_SHARE * largest > 0}


def _holds_blocks(modules: nn.ModuleList) -> bool:
    """Whether all members are of one class and each is made of several modules with weights, as a block is."""
    alike = len({type(module) for module in modules}) == 1
    n_weighted = sum(1 for module in modules[0].modules() if next(module.parameters(recurse=False), None) is not None)
    return alike and n_weighted > 1


def _stack_labels(names: list[str]) -> dict[str, str]:
    """Encoder / decoder where the module names say so, the list's own name otherwise."""
    labels = {}
    for name in names:
        parts = name.split(".")
        labels[name] = next((part for part in parts if part in ("encoder", "decoder")), name)
    return labels
