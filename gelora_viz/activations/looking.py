"""A look at what a model does with two short inputs, before its hidden states are believed.

Shapes and names do not tell which axis is the batch, whether a text's states change with the texts beside it, or
which of several towers reads texts: a few short forward passes do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from gelora_viz.activations.blocks import Stack
from gelora_viz.activations.layers import Layer, Stop, hooks
from gelora_viz.activations.offload import input_device, put_back
from gelora_viz.errors import InputError, first_line

_LARGEST_CHANGE = 1e-3
"""A text's hidden states may differ by this much, relatively, with its batch or from pass to pass."""
_REFUSALS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a model's forward pass raises where it lacks an input or cannot read one."""
_FURTHER_INPUTS = ("pixel_values", "input_values", "input_features", "bbox", "decoder_input_ids", "entity_ids")


class Seen(NamedTuple):
    """What was seen of a layer's hidden states.

    Attributes:
        axis: the axis of the texts, 0 or 1; None where the states are no (texts, tokens, features) in either order.
        width: number of features.
        batch_change: how much a text's states change when a longer one stands beside it, relatively (Frobenius norm);
            NaN where that could not be seen.
        pass_change: how much they change from one pass to the next.
    """

    axis: int | None
    width: int
    batch_change: float
    pass_change: float


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left."""
    # CUDA and MPS say "out of memory", torch's CPU allocator "can't allocate memory".
    message = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in message or "allocate memory" in message


def trace(
    model: nn.Module, transformer: nn.Module, layers: Sequence[Layer], inputs: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """What the layers gave out or read the first time they ran, in the order in which they did.

    The forward pass ends when all have run.

    Args:
        model: what is called: the transformer, a part of it, or the `PeftModel` around it.
        transformer: the module whose names the layers have.
        layers: the layers that are watched; those that never run are missing from the result.
        inputs: tensors by the names of the forward pass's arguments; those that it does not take are left out.

    Raises:
        InputError: if the forward pass fails, with the model's class and what it said.
    """
    states: dict[str, Any] = {}

    def keep(layer: Layer, found: Any) -> None:  # noqa: ANN401
        states.setdefault(layer.name, found)
        if len(states) == len(layers):
            raise Stop

    with hooks(model, transformer, layers, keep), suppress(Stop):
        run_once(model, transformer, inputs)
    return states


def run_once(model: nn.Module, transformer: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401
    """What a forward pass gives out; arguments and errors as of `trace`."""
    called = transformer if hasattr(model, "get_base_model") else model
    taken = _arguments(called)
    device = input_device(model)
    given = {name: tensor.to(device) for name, tensor in inputs.items() if taken is None or name in taken}
    try:
        return model(**given, **switched_off(called))
    except InputError:
        raise
    except _REFUSALS as error:
        if is_out_of_memory(error):
            raise
        further = [name for name in _FURTHER_INPUTS if name not in given and name in _parameters(called)]
        also = f"; it also takes {', '.join(further)}" if further else ""
        raise InputError(
            f"{type(called).__name__} does not run on {', '.join(given)} alone "
            f"({type(error).__name__}: {first_line(error)}{also}); give the part of it that reads them, or name that "
            "part's blocks with stack"
        ) from error
    finally:
        put_back(model)


def _parameters(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def _arguments(module: nn.Module) -> set[str] | None:
    """Names that a forward pass takes; None where it takes any."""
    parameters = _parameters(module)
    return None if any(each.kind == each.VAR_KEYWORD for each in parameters.values()) else set(parameters)


def switched_off(transformer: nn.Module) -> dict[str, bool]:
    """What a model may collect during a forward pass, if its config says so, and nobody here reads."""
    parameters = _parameters(transformer)
    accepted = {"use_cache", "output_hidden_states", "output_attentions"} & parameters.keys()
    if _arguments(transformer) is None and isinstance(transformer, PreTrainedModel):
        accepted |= {"output_hidden_states", "output_attentions"}
    return dict.fromkeys(sorted(accepted), False)


def find_reader(
    model: nn.Module,
    transformer: nn.Module,
    stacks: Sequence[Stack],
    inputs: Mapping[str, torch.Tensor],
    wanted: Stack | None = None,
) -> tuple[str, list[Stack]]:
    """What to call for these inputs, and which stacks then run, in the order in which they do.

    Most models read a text alone; CLIP wants an image with it, and then its text tower is called by itself.

    Args:
        model: what is called first: the transformer, or the `PeftModel` around it.
        transformer: the transformer.
        stacks: all of its stacks.
        inputs: tensors for one or two inputs, what the model reads first.
        wanted: the stack that must run, and that alone is returned.

    Returns:
        The module name of what to call, "" for `model`, and the stacks.

    Raises:
        InputError: if nothing runs, or the wanted stack never does.
    """
    watched = [Layer(stack.path, stack.label, 1, stack.blocks[0], "output") for stack in stacks]
    main = next(iter(inputs))
    by_path = {stack.path: stack for stack in stacks}
    failure: InputError | None = None
    for path in _callable_parts(transformer, [wanted] if wanted else stacks, main):
        try:
            ran = trace(transformer.get_submodule(path) if path else model, transformer, watched, inputs)
        except InputError as error:
            failure = failure or error
            continue
        if ran and (wanted is None or wanted.path in ran):
            return path, [wanted] if wanted else [by_path[each] for each in ran]
    if failure is not None:
        raise failure
    name = wanted.path if wanted else "any stack"
    raise InputError(f"{main} of {type(transformer).__name__} never reach {name}; choose another stack")


def _callable_parts(transformer: nn.Module, stacks: Sequence[Stack], main: str) -> Iterator[str]:
    """The model itself, and then the parts around each stack that read such inputs, from outside in."""
    yield ""
    tried = set()
    for stack in sorted(stacks, key=lambda stack: stack.label != "language"):
        parts = stack.path.split(".")
        for end in range(1, len(parts)):
            path = ".".join(parts[:end])
            part = transformer.get_submodule(path)
            if path not in tried and isinstance(part, PreTrainedModel) and main in _parameters(part):
                tried.add(path)
                yield path


def look(
    model: nn.Module,
    transformer: nn.Module,
    layers: Sequence[Layer],
    alone: Mapping[str, torch.Tensor],
    together: Mapping[str, torch.Tensor],
) -> dict[str, Seen]:
    """What is seen of each layer that runs, in three passes: one input alone, again, and beside another one.

    Args:
        model: what is called, as in `trace`.
        transformer: the module whose names the layers have.
        layers: the layers to watch.
        alone: one text or image.
        together: the same one first, and a second one, for texts a longer one.
    """
    first = trace(model, transformer, layers, alone)
    again = trace(model, transformer, layers, alone)
    beside = trace(model, transformer, layers, together)
    return {name: _compare(first[name], again.get(name), beside.get(name)) for name in first}


def _compare(alone: Any, again: Any, beside: Any) -> Seen:  # noqa: ANN401 - whatever modules give out
    if not isinstance(alone, torch.Tensor) or alone.ndim == 0:
        return Seen(None, 0, float("nan"), float("nan"))
    axis = _axis_of_texts(alone, beside)
    passes = _relative(alone, again)
    if axis is None:
        return Seen(None, int(alone.shape[-1]), float("nan"), passes)
    own, other = alone.select(axis, 0), beside.select(axis, 0)
    return Seen(axis, int(alone.shape[-1]), _relative(own, other[: len(own)]), passes)


def _axis_of_texts(alone: torch.Tensor, beside: Any) -> int | None:  # noqa: ANN401
    """Where one text has a single entry and two texts have two."""
    if not isinstance(beside, torch.Tensor) or alone.ndim != 3 or beside.ndim != 3:
        return None
    return next((axis for axis in (0, 1) if alone.shape[axis] == 1 and beside.shape[axis] == 2), None)


def _relative(one: torch.Tensor, other: Any) -> float:  # noqa: ANN401
    if not isinstance(other, torch.Tensor) or other.shape != one.shape:
        return float("nan")
    size = torch.linalg.vector_norm(one.float())
    return float(torch.linalg.vector_norm(other.float() - one.float()) / size.clamp_min(1e-30))


@contextmanager
def watching_norms(
    transformer: nn.Module, last: Sequence[str], inside: Sequence[str], found: dict[str, str]
) -> Iterator[None]:
    """Note for each of the `last` blocks the norm that reads its output, wherever it stands outside of some modules.

    Args:
        transformer: the module whose names these are.
        last: the last block of each stack.
        inside: modules whose norms are not meant.
        found: filled in: block -> norm.
    """
    states: dict[str, torch.Tensor] = {}

    def note_state(name: str, output: Any) -> None:  # noqa: ANN401
        state = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(state, torch.Tensor):
            states[name] = state

    def note_norm(name: str, args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        if not args or not isinstance(args[0], torch.Tensor) or not isinstance(output, torch.Tensor):
            return
        for block, state in states.items():
            same = state.data_ptr() == args[0].data_ptr() and state.shape == args[0].shape
            if same and output.shape == state.shape:
                found.setdefault(block, name)

    handles = [
        transformer.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: note_state(name, out))
        for name in last
    ]
    handles += [
        module.register_forward_hook(lambda _m, args, out, name=name: note_norm(name, args, out))
        for name, module in _norms_outside(transformer, inside)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _norms_outside(transformer: nn.Module, inside: Sequence[str]) -> list[tuple[str, nn.Module]]:
    within = tuple(f"{name}." for name in inside)
    return [
        (name, module)
        for name, module in transformer.named_modules()
        if "norm" in type(module).__name__.lower() and not name.startswith(within)
    ]


def read_behind_norms(
    model: nn.Module, transformer: nn.Module, layers: Sequence[Layer], inputs: Mapping[str, torch.Tensor]
) -> list[Layer]:
    """The layers, those that are read behind a final norm where that stands, also outside of the blocks' owner.

    The owner's output is behind a norm of its own, as in Llama; DINOv2 and CLIP's text model have theirs outside.
    """
    behind = {layer.name: layer for layer in layers if layer.side == "output" and layer.module != layer.name}
    owners = [layer.module for layer in behind.values()]
    if not behind or "" in owners or not _norms_outside(transformer, owners):
        return list(layers)
    norms: dict[str, str] = {}
    with watching_norms(transformer, list(behind), owners, norms):
        run_once(model, transformer, inputs)
    return [layer._replace(module=norms[layer.name]) if layer.name in norms else layer for layer in layers]


def largest_change(model: nn.Module) -> float:
    """The relative change of hidden states that rounding explains, in the type the model computes in."""
    device = input_device(model).type
    if torch.is_autocast_enabled(device):
        return _tolerance(torch.get_autocast_dtype(device))
    weights = list(model.parameters())
    types = {weight.dtype for weight in weights}
    with suppress(AttributeError):  # where torch has no such setting
        if device == "cuda" and torch.backends.cuda.matmul.allow_tf32:
            types.add(torch.float16)  # as exact as TF32
    if any(not dtype.is_floating_point or dtype.itemsize == 1 for dtype in types):
        types.add(torch.bfloat16)  # quantized weights: some kinds round by what else is in the batch
    return max((_tolerance(dtype) for dtype in types if dtype.is_floating_point and dtype.itemsize > 1), default=0.1)


def _tolerance(dtype: torch.dtype) -> float:
    return max(_LARGEST_CHANGE, 8 * torch.finfo(dtype).eps)


def check_seen(seen: Mapping[str, Seen], model: nn.Module, *, one_by_one: bool) -> None:
    """Refuse hidden states that say little about a text.

    Args:
        seen: what `look` saw, by layer.
        model: the transformer.
        one_by_one: whether each text is read in a batch of its own.

    Raises:
        InputError: if states differ from pass to pass, or a text's with its batch.
    """
    name, limit = type(model).__name__, largest_change(model)
    random = {layer: each.pass_change for layer, each in seen.items() if each.pass_change > limit}
    if random:
        worst = max(random, key=lambda layer: random[layer])
        raise InputError(
            f"{name} gives other hidden states each time it reads the same input (layer {worst!r} changes by "
            f"{random[worst]:.1%}, in evaluation mode), so they say little about it; switch off what is random in "
            "it, such as mask_ratio in the config of ViTMAE"
        )
    mixed = {layer: each.batch_change for layer, each in seen.items() if each.batch_change > limit}
    if mixed and not one_by_one:
        worst = max(mixed, key=lambda layer: mixed[layer])
        raise InputError(
            f"{name} reads padding, so a text's hidden states depend on the texts beside it (layer {worst!r} changes "
            f"by {mixed[worst]:.1%}); give batch_size=1"
        )
