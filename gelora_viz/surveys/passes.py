"""Which matrices a forward pass calls, and which of those a backward pass reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gelora_viz.activations import evaluating, find_reader, find_stacks, reading, run_once, unwrap, watching_norms
from gelora_viz.errors import InputError
from gelora_viz.surveys.weights import list_weights


@dataclass(eq=False)
class Pass:
    """What happened in one forward pass, and in the backward pass after it.

    Attributes:
        calls: module -> how often it was called.
        with_gradient: modules whose output the model's output depends on; None where there was no backward pass.
        final_norms: last block -> the norm, outside the blocks, that reads its output, and its states.
        width: features of the model's last hidden state; None where it gives none.
    """

    calls: Counter[str] = field(default_factory=Counter)
    with_gradient: set[str] | None = None
    final_norms: dict[str, str] = field(default_factory=dict)
    width: int | None = None


def watch_pass(
    model: nn.Module,
    transformer: nn.Module,
    modules: Sequence[str],
    blocks: Sequence[str],
    last: Sequence[str],
    inputs: Mapping[str, torch.Tensor],
) -> Pass:
    """One forward and one backward pass.

    Parameters get no gradient: it is taken at the outputs of the modules, which an adapter on them adds to.

    Args:
        model: what is called.
        transformer: the module whose names these are.
        modules: those whose calls and gradients are wanted.
        blocks: names of the blocks, whose calls are counted, too.
        last: the last block of each stack.
        inputs: tensors by the names of the forward pass's arguments.
    """
    seen = Pass()
    outputs: dict[str, list[torch.Tensor]] = {}
    norms = watching_norms(transformer, last, blocks, seen.final_norms)
    with torch.enable_grad(), _counting(transformer, modules, blocks, seen, outputs), norms:
        given = run_once(model, transformer, inputs)
        state = getattr(given, "last_hidden_state", None)
        seen.width = None if state is None else int(state.shape[-1])
        try:
            seen.with_gradient = _reached_backward(outputs, _floats(given))
        except RuntimeError:  # some quantized layers have no backward pass
            seen.with_gradient = None
    return seen


@contextmanager
def _counting(
    transformer: nn.Module,
    modules: Sequence[str],
    blocks: Sequence[str],
    seen: Pass,
    outputs: dict[str, list[torch.Tensor]],
) -> Iterator[None]:
    wanted = [
        *((name, _note_output(name, seen, outputs)) for name in modules),
        *((name, _note_call(name, seen)) for name in blocks),
    ]
    handles = [transformer.get_submodule(name).register_forward_hook(hook) for name, hook in wanted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note_output(name: str, seen: Pass, outputs: dict[str, list[torch.Tensor]]) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: object, output: Any) -> torch.Tensor | None:  # noqa: ANN401
        seen.calls[name] += 1
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return None
        # The same numbers, from where gradients flow on, also where all weights are frozen.
        marked = output + torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True)
        outputs.setdefault(name, []).append(marked)
        return marked

    return hook


def _note_call(name: str, seen: Pass) -> Callable[..., None]:
    def hook(*_: object) -> None:
        seen.calls[name] += 1

    return hook


def _floats(given: Any) -> list[torch.Tensor]:  # noqa: ANN401
    """The floating-point tensors that a model gives out."""
    values = given.values() if isinstance(given, Mapping) else given if isinstance(given, tuple | list) else [given]
    return [value for value in values if isinstance(value, torch.Tensor) and value.requires_grad]


def _reached_backward(outputs: Mapping[str, list[torch.Tensor]], given: Sequence[torch.Tensor]) -> set[str] | None:
    """The modules on whose outputs what was given depends."""
    flat = [(name, each) for name, several in outputs.items() for each in several]
    if not flat or not given:
        return None
    # Random proportions: the sum of what a norm gives out would be constant.
    draw = torch.Generator().manual_seed(0)
    parts = [(value.float() * torch.randn(value.shape, generator=draw).to(value.device)).sum() for value in given]
    found = torch.autograd.grad(
        torch.stack([part.cpu() for part in parts]).sum(), [t for _, t in flat], allow_unused=True
    )
    return {
        name for (name, _), gradient in zip(flat, found, strict=True) if gradient is not None and bool(gradient.any())
    }


def find_reached(model: nn.Module) -> set[str] | None:
    """The modules with matrices that a forward pass on a few tokens calls; None where it does not run on these.

    It costs next to nothing, and tells matrices that are read as weights (Mamba) or wait for other inputs (LUKE's
    entities) from those that an adapter can serve.
    """
    called, transformer = unwrap(model)
    if any(weight.is_meta for weight in transformer.parameters()):
        return None
    calls: set[str] = set()
    handles = []
    inputs = _dummy_inputs(transformer)
    try:
        with reading(called), evaluating(called):
            reader, _ = find_reader(called, transformer, find_stacks(transformer), inputs)
            for name in dict.fromkeys(weight.module for weight in list_weights(transformer)):
                module = transformer.get_submodule(name)
                handles.append(module.register_forward_hook(lambda *_, name=name: calls.add(name)))
            run_once(transformer.get_submodule(reader) if reader else called, transformer, inputs)
    except InputError:
        return None
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _dummy_inputs(transformer: nn.Module) -> dict[str, torch.Tensor]:
    ids = torch.arange(1, 9).reshape(1, -1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(getattr(transformer, "config", None), "is_encoder_decoder", False):
        inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": torch.ones_like(ids)}
    return inputs
