"""Find the blocks of a transformer by its structure, not by a table of model names."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from torch import nn

from gelora_viz._checks import check_model, check_text
from gelora_viz._names import did_you_mean
from gelora_viz.errors import InputError

_SMALLEST_SHARE = 0.2
"""A list of modules with less than this share of the largest list's parameters is not a stack of blocks."""
_KINDS = {
    "vision": ("vision", "visual", "image", "vit"),
    "audio": ("audio", "speech"),
    "language": ("language", "text", "llm"),
}
"""What the stacks of a model with several towers are called, and the parts of module names that say so."""


class Stack(NamedTuple):
    """A list of blocks, one after the other.

    Attributes:
        path: the list's module name in the model, such as "model.language_model.layers".
        label: "encoder" or "decoder" in an encoder-decoder; "language", "vision" or "audio" beside other towers, or
            the path where two would be of one name; "" where the model has a single stack.
        blocks: the blocks' full module names, in their order.
    """

    path: str
    label: str
    blocks: tuple[str, ...]

    @property
    def owner(self) -> str:
        """The module that holds the list, "" for the model itself."""
        return self.path.rpartition(".")[0]


class Block(NamedTuple):
    """One transformer block.

    Attributes:
        name: its full module name in the model, such as "encoder.layer.3".
        stack: the label of its `Stack`: "encoder" or "decoder" in an encoder-decoder, "" where the model has a single
            stack or one was chosen.
        depth: 1 for the first block of its stack; depth 0 is what that block reads, the embeddings.
    """

    name: str
    stack: str
    depth: int


def find_blocks(model: nn.Module, stack: str | None = None) -> list[Block]:
    """The blocks of a transformer, stack by stack, in the order in which a forward pass runs them.

    A stack is a `ModuleList` of modules of one class that lies in no other such list and holds a good share of the
    parameters. Encoder-decoders have two; the encoder comes first. Models that read images or audio beside texts have
    a stack for each, called "language", "vision" and "audio" where their names say so, and by their paths otherwise.

    A block's output is not always the model's last hidden state. In GPT-2, GPT-NeoX, Llama, Qwen2 and Qwen3,
    Mistral, Gemma, Phi and T5 (both stacks) a final norm follows the last block, and transformers'
    `hidden_states[-1]` is taken after it. In BERT, RoBERTa, DistilBERT, DeBERTa-v2, ELECTRA and BART no norm
    follows. In ViT one does, and in CLIP's vision tower one for the class token only; their `hidden_states[-1]` is
    taken before it. `capture` gives the state before the norm with layers="blocks" and the one after it with
    layers="hidden_states"; of CLIP's, whose blocks' owner gives it out without norm, the former in both.

    Args:
        model: any module; a transformer with or without its task head.
        stack: only the blocks of this one: "encoder", "decoder", "language", "vision", "audio", or its path in the
            model, such as "model.visual.blocks".

    Raises:
        InputError: if there is no such list (name the layers by module patterns instead), layers share one block, a
            layer's parts lie in lists of their own (XLM, FlauBERT), or no stack goes by that name.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> find_blocks(BertModel(BertConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=1)))[0]
        Block(name='encoder.layer.0', stack='', depth=1)
    """
    stacks = find_stacks(model)
    return blocks_of(stacks if stack is None else [choose_stack(stacks, stack)])


def blocks_of(stacks: list[Stack]) -> list[Block]:
    """The blocks of these stacks; of a single one without its label."""
    return [
        Block(name, stack.label if len(stacks) > 1 else "", depth)
        for stack in stacks
        for depth, name in enumerate(stack.blocks, start=1)
    ]


def choose_stack(stacks: list[Stack], name: str) -> Stack:
    """The stack of this label or path; raises `InputError` where there is none, with those that there are."""
    check_text(name, "stack", "language")
    for stack in stacks:
        if name in (stack.label, stack.path):
            return stack
    known = [stack.label or stack.path for stack in stacks]
    raise InputError(f"stack is {name!r}, which this model does not have; {did_you_mean(name, known)}")


def find_stacks(model: nn.Module) -> list[Stack]:
    """The stacks of a model, an encoder before its decoder; raises `InputError` as `find_blocks` does."""
    lists = _lists_of_blocks(check_model(model))
    if not lists:
        raise InputError(
            f"{type(model).__name__} has no recognizable blocks (no ModuleList of alike transformer blocks); "
            "name its layers by module patterns, for example layers=['encoder.*.output']"
        )
    if len(lists) == 1:
        _check_not_shared(model, len(next(iter(lists.values()))))
    labels = _labels(list(lists)) if len(lists) > 1 else dict.fromkeys(lists, "")
    _check_whole_blocks(model, lists, labels)
    stacks = [
        Stack(path, labels[path], tuple(f"{path}.{child}" for child, _ in members.named_children()))
        for path, members in lists.items()
    ]
    return sorted(stacks, key=lambda stack: "decoder" in stack.label)


def _check_whole_blocks(model: nn.Module, lists: dict[str, nn.ModuleList], labels: dict[str, str]) -> None:
    """Refuse a model whose layers are spread over lists side by side, so that no module is a block (XLM)."""
    sizes = Counter((path.rpartition(".")[0], len(members)) for path, members in lists.items())
    for (owner, length), count in sizes.items():
        beside = [p for p, members in lists.items() if (p.rpartition(".")[0], len(members)) == (owner, length)]
        if count > 1 and not {labels[path] for path in beside} <= {"encoder", "decoder"}:
            raise InputError(
                f"{type(model).__name__} keeps the parts of its {length} layers in lists side by side "
                f"({', '.join(beside)}), so that no module is a block; name its layers by module patterns, for "
                f"example layers=['{beside[-1]}.*']"
            )


def _check_not_shared(model: nn.Module, n_blocks: int) -> None:
    """Refuse a model that runs the same block several times (ALBERT): one module then has many hidden states."""
    n_layers = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    if isinstance(n_layers, int) and n_layers > n_blocks and n_layers % n_blocks == 0:
        raise InputError(
            f"{type(model).__name__} runs {n_blocks} blocks several times for {n_layers} layers; hooks cannot tell "
            "layers of shared weights apart; choose a model with a block for each layer"
        )


def _lists_of_blocks(model: nn.Module) -> dict[str, nn.ModuleList]:
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


def _labels(paths: list[str]) -> dict[str, str]:
    """What each of several stacks is called: by what it reads, as encoder or decoder, or else by its path."""
    labels = {path: _kind_of(path) or _role_of(path) or path for path in paths}
    for path in _of_one_name(labels):
        labels[path] = _role_of(path) or path
    return labels | {path: path for path in _of_one_name(labels)}


def _of_one_name(labels: dict[str, str]) -> list[str]:
    counts = Counter(labels.values())
    return [path for path, label in labels.items() if counts[label] > 1]


def _kind_of(path: str) -> str | None:
    parts = path.split(".")
    return next((kind for kind, words in _KINDS.items() for part in parts if part.startswith(words)), None)


def _role_of(path: str) -> str | None:
    return next((part for part in path.split(".") if part in ("encoder", "decoder")), None)
