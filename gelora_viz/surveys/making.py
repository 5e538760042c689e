"""A survey: run the model on two short inputs, watch it, and say what a reader must know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from torch import nn
from transformers import PreTrainedTokenizerBase

from gelora_viz._checks import check_model
from gelora_viz.activations import (
    Layer,
    Seen,
    Stack,
    check_data,
    choose_stack,
    evaluating,
    find_reader,
    find_stacks,
    largest_change,
    load_first_pair,
    look,
    reading,
    unwrap,
)
from gelora_viz.surveys.passes import Pass, watch_pass
from gelora_viz.surveys.result import BLOCK_COLUMNS, MATRIX_COLUMNS, STACK_COLUMNS, ModelSurvey
from gelora_viz.surveys.weights import ADAPTABLE, Weight, list_weights, place_of

_TEXTS = ("A cat sat down.", "The night train to the coast was half an hour late, and nobody in it minded much.")


def survey(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | Any,  # noqa: ANN401 - or an image processor
    texts: Sequence[Any] | None = None,
    *,
    stack: str | None = None,
) -> ModelSurvey:
    """Run a model on two short inputs, and write down what it did.

    What names and shapes suggest about a model is often wrong: a text does not reach the tower for images, a matrix
    is read as a weight and never called, experts are no linear layers, a text's states change with its batch. Five
    short forward passes, one with a backward pass, show it: one input alone, again, and beside a longer one. Weights,
    gradients, modes and hooks are left as they were.

    Args:
        model: a transformer, with or without task head or adapters.
        tokenizer: the model's own; or its image processor.
        texts: of these, a short one and a longer one are read; by default two sentences. With an image processor,
            images.
        stack: the stack that must run, where the model has several: a label or path, as in `capture`.

    Raises:
        InputError: if the model has no recognizable blocks, or does not run on texts, or images, alone (with its
            class and what it wanted), or the chosen stack is not reached.

    Example:
        >>> from gelora_viz.sources import load_model
        >>> model, tokenizer, _ = load_model("minilm")
        >>> survey(model, tokenizer)
        ModelSurvey(BertModel: 1 of 1 stacks and 37 of 37 matrices reached, 0 notes)
    """
    check_model(model)
    data = check_data(tokenizer, list(_TEXTS) if texts is None else texts)
    called, transformer = unwrap(model)
    stacks = find_stacks(transformer)
    wanted = None if stack is None else choose_stack(stacks, stack)
    alone, together = load_first_pair(tokenizer, data, transformer)
    weights = list_weights(transformer)
    blocks = [name for each in stacks for name in each.blocks]
    layers = [Layer(name, each.label, i, name, "output") for each in stacks for i, name in enumerate(each.blocks, 1)]
    with reading(called), evaluating(called):
        reader, ran = find_reader(called, transformer, stacks, alone, wanted)
        part = transformer.get_submodule(reader) if reader else called
        seen = look(part, transformer, layers, alone, together)
        modules = list(dict.fromkeys(weight.module for weight in weights))
        last = [each.blocks[-1] for each in stacks]
        watched = watch_pass(part, transformer, modules, blocks, last, together)
    order = sorted(ran, key=lambda each: list(seen).index(each.blocks[0]))
    found = _Found(type(transformer).__name__, reader, stacks, order, weights, seen, watched, largest_change(called))
    matrices = _matrix_frame(found)
    block_frame = _block_frame(found, transformer, matrices)
    main = next(iter(together.values()))
    return ModelSurvey(
        found.name,
        matrices,
        _stack_frame(found),
        block_frame,
        reader,
        tuple(_notes(found, matrices, block_frame)),
        {"n_tokens": [int(next(iter(alone.values())).shape[1]), int(main.shape[1])], "largest_change": found.limit},
    )


class _Found(NamedTuple):
    """What the passes showed."""

    name: str
    reader: str
    stacks: list[Stack]
    ran: list[Stack]
    weights: list[Weight]
    seen: Mapping[str, Seen]
    watched: Pass
    limit: float


def _matrix_frame(found: _Found) -> pd.DataFrame:
    blocks = [name for stack in found.stacks for name in stack.blocks]
    with_gradient = found.watched.with_gradient
    rows = []
    for weight in found.weights:
        block = next((name for name in blocks if weight.name.startswith(f"{name}.")), None)
        gradient = None if with_gradient is None or weight.kind == "router" else weight.module in with_gradient
        reached = found.watched.calls[weight.module] > 0
        shape = (weight.in_features, weight.out_features, weight.n_matrices, weight.size)
        rows.append((weight.name, block, weight.kind, *shape, reached, gradient))
    return pd.DataFrame(rows, columns=MATRIX_COLUMNS)


def _stack_frame(found: _Found) -> pd.DataFrame:
    rows = []
    for stack in found.stacks:
        states = [found.seen[name] for name in stack.blocks if name in found.seen]
        reached = stack in found.ran
        rows.append(
            (
                stack.label,
                stack.path,
                found.ran.index(stack) + 1 if reached else math.nan,
                reached,
                len(stack.blocks),
                states[-1].width if states else math.nan,
                states[-1].axis if states else math.nan,
                max((each.batch_change for each in states), default=math.nan),
                max((each.pass_change for each in states), default=math.nan),
                found.watched.final_norms.get(stack.blocks[-1]),
            )
        )
    return pd.DataFrame(rows, columns=STACK_COLUMNS)


def _block_frame(found: _Found, transformer: nn.Module, matrices: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for stack in found.stacks:
        for depth, name in enumerate(stack.blocks, start=1):
            own = matrices[(matrices["block"] == name) & (matrices["kind"] != "adapter")]
            served = int(own.loc[own["kind"].isin(ADAPTABLE) & own["reached"], "n_weights"].sum())
            total = int(own["n_weights"].sum()) + _count_other(transformer.get_submodule(name), name, found.weights)
            share = 1 - served / total if total else math.nan
            rows.append((name, stack.label, depth, found.watched.calls[name] > 0, total, served, share))
    return pd.DataFrame(rows, columns=BLOCK_COLUMNS)


def _count_other(block: nn.Module, name: str, weights: Sequence[Weight]) -> int:
    """Weights of a block outside its matrices: biases, norms, convolutions."""
    counted = {weight.name if weight.kind == "experts" else f"{weight.name}.weight" for weight in weights}
    adapters = tuple(f"{weight.module}." for weight in weights if weight.kind == "adapter")
    return sum(
        parameter.numel()
        for own, parameter in block.named_parameters()
        if f"{name}.{own}" not in counted and not (adapters and f"{name}.{own}".startswith(adapters))
    )


def _notes(found: _Found, matrices: pd.DataFrame, blocks: pd.DataFrame) -> Iterator[str]:
    """What a reader must know."""
    if found.reader:
        yield f"{found.name} does not run on this input alone; its part {found.reader} was called by itself."
    unread = [stack.path for stack in found.stacks if stack not in found.ran]
    if unread:
        yield f"This input reaches {', '.join(stack.path for stack in found.ran)}, and never {', '.join(unread)}."
    for stack in found.ran:
        yield from _notes_of_states(stack, found)
    in_read = matrices[matrices["block"].isin([name for stack in found.ran for name in stack.blocks])]
    own = in_read[in_read["kind"] != "adapter"]
    places = {place_of(name) for name in own.loc[own["reached"], "matrix"]}
    idle = own.loc[[place_of(name) not in places for name in own["matrix"]], "matrix"]
    if len(idle):
        yield f"{len(idle)} matrices are never called, such as {idle.iloc[0]}; no adapter on them would do anything."
    flat = own.loc[own["reached"] & own["gradient"].eq(False), "matrix"]
    if len(flat):
        yield f"The output does not depend on {len(flat)} matrices, such as {flat.iloc[0]}."
    experts = own[own["kind"] == "experts"]
    if len(experts):
        share = experts["n_weights"].sum() / blocks.loc[blocks["block"].isin(own["block"]), "n_weights"].sum()
        yield (
            f"Experts hold {share:.0%} of the blocks' weights in {len(experts)} parameters of "
            f"{experts['n_matrices'].iloc[0]} matrices each, which no adapter on linear layers reaches."
        )
    n_routers = int((own["kind"] == "router").sum())
    if n_routers:
        yield f"{n_routers} matrices are routers, which choose experts; plans leave them out."
    n_adapters = int((in_read["kind"] == "adapter").sum())
    if n_adapters:
        yield f"{n_adapters} matrices belong to an adapter that is there already; plans leave them out."


def _notes_of_states(stack: Stack, found: _Found) -> Iterator[str]:
    states = [found.seen[name] for name in stack.blocks if name in found.seen]
    if any(each.axis == 1 for each in states):
        yield f"{stack.path} is sequence-first: its states are (tokens, texts, features)."
    passes = max(each.pass_change for each in states)
    beside = max(each.batch_change for each in states)
    if passes > found.limit:
        yield f"{stack.path} gives other states in each pass (they change by {passes:.1%}), so they say little."
    elif beside > found.limit:
        yield f"A text's states in {stack.path} depend on its batch (they change by {beside:.1%}); use batch_size=1."
    times = max(found.watched.calls[name] for name in stack.blocks)
    if times > 1:
        yield f"A block of {stack.path} runs {times} times in one pass; only its first states are captured."
    norm = found.watched.final_norms.get(stack.blocks[-1])
    if norm is not None and stack.owner and not norm.startswith(f"{stack.owner}."):
        yield f"The final norm of {stack.path} stands outside of it, at {norm}."
    width = found.watched.width
    if width is not None and stack is found.ran[-1] and width != states[-1].width:
        yield f"The model's last hidden state has {width} features, and its blocks' states have {states[-1].width}."
