"""A model's outputs with its adapter, without it, and with low-rank products in the adapter's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from gelora_viz._checks import describe
from gelora_viz.activations import evaluating, input_device
from gelora_viz.errors import InputError, first_line
from gelora_viz.spectra.updates import Adapted

ModelInputs = Mapping[str, torch.Tensor]
Product = tuple[torch.Tensor, torch.Tensor]
"""A (r, in) and B (out, r) of an update B A."""
_OUTPUTS = ("logits", "last_hidden_state")


class _OutputChanges(NamedTuple):
    """Relative Frobenius changes of the model's output over all batches.

    Attributes:
        output_change: between the adapter and the products that stand for it, over the output with the adapter.
        adapter_effect: between the adapter and none, over the output without it.
    """

    output_change: float
    adapter_effect: float


def choose_batches(peft_model: PeftModel, batches: Sequence[ModelInputs] | None) -> tuple[list[ModelInputs], str]:
    """The batches to compare outputs on, and where they come from; the first one is tried.

    Raises:
        InputError: if there are none, or the model cannot read the first.
    """
    if batches is None:
        dummy = getattr(peft_model.get_base_model(), "dummy_inputs", None)
        if not isinstance(dummy, dict):
            raise InputError("the base model has no dummy_inputs to compare outputs on; give batches of tensors")
        chosen: list[ModelInputs] = [dummy]
        source = "dummy_inputs"
    else:
        chosen = list(batches) if isinstance(batches, Iterable) and not isinstance(batches, Mapping | str) else []
        source = "given"
        if not chosen or not all(isinstance(each, Mapping) and _holds_tensors(each) for each in chosen):
            raise InputError(
                f"batches is {describe(batches)}; give a list of dictionaries of tensors, at least one, that the "
                "model reads"
            )
    try:
        with evaluating(peft_model):
            output = _output(peft_model, chosen[0])
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the model cannot read the batch ({first_line(error)}); give batches of what it reads"
        ) from error
    if not torch.isfinite(output).all():
        raise InputError("the model with its adapter returns NaN or infinite values; check it before you compress it")
    return chosen, source


def _holds_tensors(batch: ModelInputs) -> bool:
    return all(isinstance(each, torch.Tensor) for each in batch.values())


def compare_outputs(
    peft_model: PeftModel, adapted: Sequence[Adapted], products: Mapping[str, Product], batches: Sequence[ModelInputs]
) -> _OutputChanges:
    """Run every batch with the adapter, with the products in its place, and with neither.

    Args:
        peft_model: in any mode; it is left as it was, to the bit.
        adapted: the layers that carry the adapter.
        products: what is added to each of them in its place; a layer without one gets nothing.
        batches: what the model reads.
    """
    changed = effect = with_adapter = without = 0.0
    with evaluating(peft_model):
        for batch in batches:
            original = _output(peft_model, batch)
            with _replaced(adapted, products):
                compressed = _output(peft_model, batch)
            with _switched_off(peft_model.modules()):
                base = _output(peft_model, batch)
            changed += float((compressed - original).square().sum())
            effect += float((original - base).square().sum())
            with_adapter += float(original.square().sum())
            without += float(base.square().sum())
    return _OutputChanges(_relative(changed, with_adapter), _relative(effect, without))


def _relative(difference: float, reference: float) -> float:
    return (difference / reference) ** 0.5 if reference > 0 else 0.0


def _output(model: nn.Module, batch: ModelInputs) -> torch.Tensor:
    """Logits or hidden states on the model's device, in at least float32, without padding."""
    device = input_device(model)
    output: Any = model(**{name: tensor.to(device) for name, tensor in batch.items()})
    if not isinstance(output, torch.Tensor):
        named = (getattr(output, name, None) for name in _OUTPUTS)
        output = next((each for each in named if isinstance(each, torch.Tensor)), None)
    if output is None:
        raise TypeError(f"it returns neither {' nor '.join(_OUTPUTS)}")
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    if mask is not None and output.ndim == 3 and output.shape[:2] == mask.shape:
        output = output[mask.to(output.device).bool()]
    return output if output.dtype == torch.float64 else output.float()


@contextmanager
def _switched_off(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Switch PEFT's layers off; its own context manager would also change what requires gradients."""
    switches = [each for each in modules if isinstance(each, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    before = [each.disable_adapters for each in switches]
    try:
        for each in switches:
            each._disable_adapters = True  # noqa: SLF001
        yield
    finally:
        for each, state in zip(switches, before, strict=True):
            each._disable_adapters = state  # noqa: SLF001


@contextmanager
def _replaced(adapted: Sequence[Adapted], products: Mapping[str, Product]) -> Iterator[None]:
    """Let each adapted layer return its base layer's output plus its product's, as LoRA of scale 1 would."""
    with ExitStack() as stack:
        stack.enter_context(_switched_off(each.layer for each in adapted))
        for each in adapted:
            if each.module in products:
                hook = _adding(*products[each.module], embeds=isinstance(each.layer.get_base_layer(), nn.Embedding))
                handle = each.layer.register_forward_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        yield


def _adding(a: torch.Tensor, b: torch.Tensor, *, embeds: bool) -> Callable[..., torch.Tensor]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
        read = args[0] if args else next(iter(kwargs.values()))
        first, second = a.to(output.device), b.to(output.device)
        inner = nn.functional.embedding(read, first.T) if embeds else nn.functional.linear(read.to(a.dtype), first)
        return (output + nn.functional.linear(inner, second)).to(output.dtype)

    return hook
