"""Batches through the model: the longest texts first, each layer reduced to its points as it is reached."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from gelora_viz.activations.corpus import Batch, Corpus
from gelora_viz.activations.holding import reading
from gelora_viz.activations.layers import Layer, Stop, evaluating, hooks
from gelora_viz.activations.looking import check_seen, is_out_of_memory, look, read_behind_norms, switched_off
from gelora_viz.activations.offload import input_device, named_weights, put_back
from gelora_viz.activations.pairs import load_pair
from gelora_viz.activations.pooling import pool_texts
from gelora_viz.activations.sample import Sample
from gelora_viz.activations.storage import check_width, narrow
from gelora_viz.errors import InputError, StudyError

logger = logging.getLogger("gelora_viz")

_AUTO_BATCH_SIZE = 64
_PIECE = 512
"""Texts read at a time where the model does not run."""


class Destination(Protocol):
    """Where points go: `MemoryPoints`, or a `Journal` on disk.

    Attributes:
        n_done: number of texts, in the order of the sample, whose points are there already.
    """

    n_done: int

    def write(self, layer: str, rows: np.ndarray, points: torch.Tensor) -> None:
        """Take points (n_rows, n_features) of a layer."""

    def note(self, n_done: int, *, last: bool = False) -> None:
        """All points of the first `n_done` texts have been written."""


class MemoryPoints(dict[str, torch.Tensor]):
    """Layer -> points (n_points, n_features), in memory."""

    n_done = 0

    def __init__(self, n_points: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._n_points, self._dtype = n_points, dtype

    def write(self, layer: str, rows: np.ndarray, points: torch.Tensor) -> None:
        """Write points to their rows."""
        if layer not in self:
            self[layer] = torch.empty((self._n_points, points.shape[1]), dtype=self._dtype)
        check_width(layer, points.shape[1], self[layer].shape[1])
        self[layer][torch.as_tensor(rows)] = narrow(points, self._dtype, layer)

    def note(self, n_done: int, *, last: bool = False) -> None:
        """Nothing to do: what is in memory is lost with the process."""


def run(
    model: nn.Module,
    transformer: nn.Module,
    corpus: Corpus,
    sample: Sample,
    layers: Sequence[Layer],
    destination: Destination,
    *,
    pooling: Any,  # noqa: ANN401 - checked before
    batch_size: int | str,
    progress: bool,
    reader: str = "",
) -> None:
    """Send the sample's points of every layer to `destination`, from where it stopped last time.

    Two of the inputs are looked at first (see `looking`). `reader` names the part of the transformer that is called;
    by default the model itself is.
    """
    called = transformer.get_submodule(reader) if reader else model
    order = sample.order(corpus)
    done = destination.n_done
    read_again = done if pooling == "tokens" else 0  # points of whole texts have no position or token to name
    for start in range(0, read_again, _PIECE):
        members = order[start : min(start + _PIECE, read_again)]
        sample.fill_in(members, corpus.load(members, tensors=False))
    size = _AUTO_BATCH_SIZE if batch_size == "auto" else int(batch_size)
    bar = tqdm(total=len(order), initial=done, desc="capturing", unit="text", disable=not progress)
    try:
        with reading(model), evaluating(model), bar:
            axes: dict[str, int] = {}
            if done < len(order):
                axes, layers = _look(called, transformer, corpus, order, layers, batch_size)
            while done < len(order):
                members = order[done : done + size]
                batch = corpus.load(members)
                sample.fill_in(members, batch)
                rows, places = sample.rows(members)
                reduce = _Reduction(pooling, batch, places, sample.position[rows], axes)
                points = _forward_if_it_fits(called, transformer, layers, batch, reduce)
                if points is None:
                    size = _smaller(size, len(members), batch_size)
                    continue
                for layer, found in points.items():
                    _check_finite(found, layer, model)
                    destination.write(layer, rows, found)
                done += len(members)
                destination.note(done)
                bar.update(len(members))
        destination.note(done, last=True)
    except BaseException:
        with suppress(StudyError):  # whose cause is what is being raised already
            destination.note(done, last=True)
        raise


def _look(
    model: nn.Module, transformer: nn.Module, corpus: Corpus, order: np.ndarray, layers: Sequence[Layer],
    batch_size: int | str,
) -> tuple[dict[str, int], Sequence[Layer]]:  # fmt: skip
    """The axis of the texts in each layer's states, and where to read those behind a final norm.

    Raises:
        InputError: if two texts show that the states are not the texts' own.
    """
    alone, together = load_pair(corpus, order)
    try:
        layers = read_behind_norms(model, transformer, layers, alone)
        seen = look(model, transformer, layers, alone, together)
    except RuntimeError as error:
        if is_out_of_memory(error):  # the batches that follow say what to do
            return {}, layers
        raise
    check_seen(seen, transformer, one_by_one=batch_size == 1)
    return {name: each.axis for name, each in seen.items() if each.axis is not None}, layers


def _check_finite(points: torch.Tensor, layer: str, model: nn.Module) -> None:
    """Raise `InputError`, with the likely cause, where hidden states are NaN or infinite: no dimension can be."""
    finite = torch.isfinite(points).all(dim=1)
    if bool(finite.all()):
        return
    broken = next((name for name, weight in named_weights(model) if _is_broken(weight)), None)
    floating = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    if broken is not None:
        cause = f"so has the model's weight {broken.lstrip('.')}; load an undamaged checkpoint"
    elif floating == torch.float16:
        cause = "numbers grow beyond what float16 holds; load the model in bfloat16 or float32"
    else:
        cause = f"the weights are finite ({floating}); check the model and the pooling, or load it in float32"
    n_bad = int((~finite).sum())
    raise InputError(f"layer {layer!r} has NaN or infinite hidden states in {n_bad} of {len(points)} points: {cause}")


def _is_broken(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.dtype.itemsize > 1 and not bool(torch.isfinite(weight).all())


def _smaller(size: int, n_members: int, batch_size: int | str) -> int:
    if batch_size != "auto" or size == 1:
        raise InputError(f"out of memory with batches of {n_members} texts; lower batch_size or max_length")
    size = max(1, size // 2)
    logger.warning("out of memory: batches of %d texts from here on", size)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return size


def _forward_if_it_fits(
    model: nn.Module, transformer: nn.Module, layers: Sequence[Layer], batch: Batch, reduce: _Reduction
) -> dict[str, torch.Tensor] | None:
    """Points by layer; None where memory ran out, once the exception and all it held are gone."""
    try:
        return _forward(model, transformer, layers, batch, reduce)
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise


def _forward(
    model: nn.Module, transformer: nn.Module, layers: Sequence[Layer], batch: Batch, reduce: _Reduction
) -> dict[str, torch.Tensor]:
    """Points of the wanted layers for one batch, from a forward pass that ends at the last of them."""
    found: dict[str, torch.Tensor] = {}

    def keep(layer: Layer, states: Any) -> None:  # noqa: ANN401
        if layer.name in found:
            return  # a module may run again for something else, as DeBERTa's projections do for relative positions
        found[layer.name] = reduce(layer, states)
        if len(found) == len(layers):
            raise Stop

    device = input_device(model)
    inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
    inputs |= switched_off(transformer if hasattr(model, "get_base_model") else model)
    try:
        with hooks(model, transformer, layers, keep), suppress(Stop):
            model(**inputs)
    finally:
        put_back(model)
    missing = [layer.name for layer in layers if layer.name not in found]
    if missing:
        raise InputError(f"the forward pass never reached {', '.join(missing)}; choose layers that run")
    return found


class _Reduction:
    """From a layer's hidden states of a batch to the points wanted of it, while they are still in the cache.

    Args:
        pooling: how a text's hidden states become points (see `capture`).
        batch: the texts or images.
        places: with pooling "tokens", for each point its text's place in the batch.
        positions: with pooling "tokens", for each point its token's position.
        axes: layer -> axis of the texts in its states, where it is known.
    """

    def __init__(
        self,
        pooling: Any,  # noqa: ANN401 - checked before
        batch: Batch,
        places: np.ndarray,
        positions: np.ndarray,
        axes: Mapping[str, int],
    ) -> None:
        self._pooling, self._batch, self._axes = pooling, batch, axes
        self._places, self._positions = torch.as_tensor(places), torch.as_tensor(positions)
        self._widths: dict[str, int] = {}

    def __call__(self, layer: Layer, states: Any) -> torch.Tensor:  # noqa: ANN401
        if self._axes.get(layer.name) == 1 and isinstance(states, torch.Tensor):
            states = states.transpose(0, 1)
        self._check(layer, states)
        if self._pooling == "tokens":
            at = self._positions + self._shift(layer, states)
            return states[self._places.to(states.device), at.to(states.device)]
        mask = self._batch.mask
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.long)
        return pool_texts(states, mask.to(states.device), self._pooling)

    def _shift(self, layer: Layer, states: torch.Tensor) -> int:
        """How many positions after its own a token's state is found."""
        if self._batch.n_patches is not None:
            return states.shape[1] - self._batch.n_patches  # class and register tokens come first
        return int(layer.stack == "decoder" and "decoder_input_ids" in self._batch.tensors)

    def _check(self, layer: Layer, states: Any) -> None:  # noqa: ANN401
        mask = self._batch.mask
        shape: object = tuple(states.shape) if isinstance(states, torch.Tensor) else type(states).__name__
        wanted = (len(self._batch.positions), *(() if mask is None else mask.shape[1:]))
        if not isinstance(shape, tuple) or len(shape) != 3 or shape[: len(wanted)] != wanted:
            verb = "reads" if layer.side == "input" else "gives"
            raise InputError(
                f"module {layer.module!r} {verb} {shape}, not hidden states of shape (texts, tokens, features); "
                "choose other layers"
            )
        width = self._widths.setdefault(layer.stack, shape[2])
        behind_norm = layer.side == "output" and layer.module != layer.name
        if behind_norm and shape[2] != width:
            raise InputError(
                f"module {layer.module or 'the model'!r} owns the blocks, but gives {shape[2]} features and they "
                f'{width}, so no hidden states; choose layers="blocks"'
            )
        if self._batch.n_patches is not None:
            self._check_image_tokens(layer, shape[1], self._batch.n_patches)

    def _check_image_tokens(self, layer: Layer, n_tokens: int, n_patches: int) -> None:
        if self._pooling == "tokens" and n_tokens < n_patches:
            raise InputError(
                f"layer {layer.name!r} has {n_tokens} tokens for {n_patches} patches, so not every patch has one; "
                "choose pooling mean"
            )
        if self._pooling == "cls" and n_tokens == n_patches:
            raise InputError(
                f"layer {layer.name!r} has {n_tokens} tokens for {n_patches} patches, so there is no class token; "
                "choose pooling mean or tokens"
            )
