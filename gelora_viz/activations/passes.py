"""Capture: run a model once over texts or images and keep what its blocks give out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from gelora_viz._checks import (
    check_cache,
    check_flag,
    check_model,
    check_path,
    check_seed,
    check_whole,
    describe,
)
from gelora_viz.activations.blocks import choose_stack, find_stacks
from gelora_viz.activations.corpus import Corpus, TextCorpus
from gelora_viz.activations.forward import Destination, MemoryPoints, run
from gelora_viz.activations.holding import reading
from gelora_viz.activations.identity import (
    check_cacheable,
    check_repeatable,
    describe_capture,
    folder_in_cache,
)
from gelora_viz.activations.images import ImageCorpus, check_images, is_image_processor
from gelora_viz.activations.journal import Journal, check_identity, finished_identity, hold_folder, read_journal
from gelora_viz.activations.layers import Layer, evaluating, find_layers, names_blocks, unwrap
from gelora_viz.activations.looking import find_reader
from gelora_viz.activations.origin import describe_origin
from gelora_viz.activations.pairs import load_first_pair
from gelora_viz.activations.pooling import Pooling, PoolingFunction, check_pooling, name_of_pooling
from gelora_viz.activations.result import Activations
from gelora_viz.activations.sample import Sample
from gelora_viz.activations.storage import StoredPoints, check_dtype
from gelora_viz.errors import InputError, StudyError
from gelora_viz.sources import check_texts

logger = logging.getLogger("gelora_viz")

_MAX_TOKEN_POINTS = 10_000
"""Tokens sampled when pooling="tokens" and max_points is None: more make the graph slow and say little more."""


def capture(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | Any,  # noqa: ANN401 - or an image processor, which may need Pillow to name
    texts: Sequence[Any],
    *,
    layers: str | Sequence[str] = "blocks",
    stack: str | None = None,
    pooling: Pooling | PoolingFunction | str = "mean",
    pooling_name: str | None = None,
    max_points: int | None = None,
    batch_size: int | str = "auto",
    max_length: int | None = None,
    dtype: str = "float32",
    store: str | os.PathLike[str] | None = None,
    cache: bool | str | os.PathLike[str] = False,
    seed: int = 0,
    progress: bool = True,
) -> Activations:
    """Capture hidden states with forward hooks, in one pass that stops after the last wanted layer.

    Attention masks are respected, and a text's point does not depend on the batch it was in: before the first batch,
    two of the texts are read alone and together, and a model that gives them other states then, or from pass to pass,
    is refused. Special tokens are
    part of the mean (as in sentence encoders) and left out of token clouds. An encoder-decoder reads each text with
    its encoder and, shifted right, with its decoder. Hooks are removed and the training mode is restored whatever
    happens; gradients are neither computed nor switched off for good.

    The model may be in half precision, dispatched by accelerate over devices, memory and disk, or wrapped by PEFT,
    whose layers then have the names of the base model's. With an image processor and images in place of tokenizer and
    texts, tokens are patches, and "mean" includes the class token as it does special tokens.

    Args:
        model: a transformer, with or without task head, on any device.
        tokenizer: the model's own; or its image processor.
        texts: strings, not empty; or images (PIL images or arrays), read one batch at a time.
        layers: "blocks": the embeddings and what every block gives out. "hidden_states": the same, but the last of
            each stack after the final norm where there is one, as `last_hidden_state` is, and as transformers'
            `output_hidden_states` gives it for language models (`find_blocks` says which have one). Or glob patterns
            of module names ("encoder.layer.*.attention.output"), each of which may end in ":output" (meant if nothing
            is said) or ":input", for what the module gives or reads the first time it runs.
        stack: of a model with several towers, the one whose blocks are meant: "language", "vision", "audio",
            "encoder", "decoder" or its path in the model (`find_blocks` says which there are). By default those that
            run on these texts or images. Layers have the names of the model that was given.
        pooling: "mean", "last", "cls" or a function of (hidden, mask): one point per text; "tokens": one per token.
        pooling_name: what you call a pooling function. A `store` is known by it, so give a function that computes
            something else another name.
        max_points: largest number of points, a uniform seeded choice, the same in every layer. None keeps every text,
            and 10,000 tokens.
        batch_size: texts per batch; "auto" starts with 64 of similar length and halves when memory runs out.
        max_length: tokens kept of each text; by default the model's longest input, 512 at most.
        dtype: how points are kept, in memory and on disk: "float32", "float16" or "bfloat16". `activations[layer]` is
            float32 always.
        store: a folder for points too many for memory, whose use then does not grow with the corpus. A capture that
            was killed is continued by the same call, one that is complete is returned at once; with a pooling
            function only where it has a `pooling_name`. Each layer is a safetensors file, read when it is asked for.
        cache: True keeps the capture in the user's cache (`$GELORA_VIZ_CACHE`, else gelora_viz in
            `$XDG_CACHE_HOME` or ~/.cache), a path in that folder. The same weights, data and options are then never
            captured twice. Nothing is ever deleted there; you may delete any capture's folder at any time.
        seed: seed of the choice of points.
        progress: show a tqdm bar.

    Returns:
        The activations, in memory or read from `store` or `cache` layer by layer.

    Raises:
        InputError: for unusable texts, images or arguments, a model without recognizable blocks or that does not run
            on texts or images alone, a pattern that matches nothing, values too large for float16, hidden states that
            are random, depend on the other texts of a batch (then give batch_size=1), or are NaN or infinite (with
            the layer and the likely cause), a store that holds another capture, or both a store and a cache.
        StudyError: if the store or the cache cannot be written or has no room.

    Example:
        >>> from gelora_viz.sources import load_model
        >>> model, tokenizer, _ = load_model("minilm")
        >>> capture(model, tokenizer, ["a cat", "a dog"], progress=False)["embeddings"].shape
        torch.Size([2, 384])
    """
    check_model(model)
    data = check_data(tokenizer, texts)
    check_pooling(pooling, pooling_name)
    seed = check_seed(seed)
    if max_points is not None:
        max_points = check_whole(max_points, "max_points")
    if max_length is not None:
        max_length = check_whole(max_length, "max_length", at_least=2)
    if not isinstance(batch_size, str) or batch_size != "auto":
        batch_size = check_whole(batch_size, "batch_size", or_else="auto")
    check_flag(progress, "progress")
    if store is not None:
        check_path(store, "store")
    check_cache(cache)
    if store is not None and cache is not False:
        raise InputError(
            f"store {str(store)!r} and cache {cache!r} both name a place for the points; give one of them"
        )
    runner, transformer = unwrap(model)
    reader, found = _choose_layers(runner, transformer, tokenizer, data, layers, stack)
    request = _Request(
        model=runner,
        transformer=transformer,
        processor=tokenizer,
        data=data,
        reader=reader,
        layers=found,
        chosen_layers=layers if isinstance(layers, str) else list(layers),
        stack=stack,
        pooling=pooling,
        pooling_name=pooling_name,
        max_points=max_points,
        max_length=max_length,
        dtype=check_dtype(dtype),
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    if store is not None:
        return _capture_in_folder(request, Path(store), request.identity())
    if cache is not False:
        check_cacheable(runner, pooling)
        identity = request.identity()
        return _capture_in_folder(request, folder_in_cache(cache, identity), identity, replace_damaged=True)
    corpus, sample = request.choose(keep=True)
    points = MemoryPoints(len(sample), request.dtype)
    request.run(corpus, sample, points)
    return request.result({layer.name: points[layer.name] for layer in request.layers}, sample)


def _check_processor(processor: object) -> None:
    """Raise `InputError` unless this is a tokenizer, an image processor, or both at once (see `check_data`)."""
    if not (isinstance(processor, PreTrainedTokenizerBase) or is_image_processor(processor)) and not hasattr(
        processor, "tokenizer"
    ):
        raise InputError(
            f"tokenizer is {describe(processor)}; give the model's own, such as load_model(...).tokenizer, or its "
            "image processor"
        )


def check_data(processor: object, data: Sequence[Any]) -> Sequence[Any]:
    """The texts or images; raises `InputError` unless they, and the tokenizer or image processor, are such."""
    _check_processor(processor)
    if is_image_processor(processor):
        check_images(data)
        return data
    if hasattr(processor, "tokenizer") and hasattr(processor, "image_processor"):
        raise InputError(
            f"{type(processor).__name__} reads texts and images; give its .tokenizer or its .image_processor, and "
            "the part of the model that reads them, such as model.vision_model"
        )
    return check_texts(data)


def _choose_layers(
    model: nn.Module,
    transformer: nn.Module,
    processor: Any,  # noqa: ANN401
    data: Sequence[Any],
    layers: str | Sequence[str],
    stack: str | None,
) -> tuple[str, list[Layer]]:
    """What to call, "" for the model, and the layers: of several towers, those of the chosen one or all that run."""
    if stack is None and not names_blocks(layers):
        return "", find_layers(transformer, layers)
    stacks = find_stacks(transformer)
    wanted = None if stack is None else choose_stack(stacks, stack)
    if len(stacks) == 1 or (wanted is None and {each.label for each in stacks} == {"encoder", "decoder"}):
        return "", find_layers(transformer, layers, stacks)
    alone, _ = load_first_pair(processor, data[:1], transformer)
    with reading(model), evaluating(model):
        reader, ran = find_reader(model, transformer, stacks, alone, wanted)
    return reader, find_layers(transformer, layers, sorted(ran, key=stacks.index))


@dataclass(frozen=True, eq=False)
class _Request:
    """What a call of `capture` asked for, checked."""

    model: nn.Module
    transformer: nn.Module
    processor: Any
    data: Sequence[Any]
    reader: str
    layers: list[Layer]
    chosen_layers: str | list[str]
    stack: str | None
    pooling: Any
    pooling_name: str | None
    max_points: int | None
    max_length: int | None
    dtype: torch.dtype
    seed: int
    batch_size: int | str
    progress: bool

    @property
    def limit(self) -> int | None:
        return _MAX_TOKEN_POINTS if self.max_points is None and self.pooling == "tokens" else self.max_points

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def identity(self) -> dict[str, Any]:
        """What the points depend on; reads all weights and texts once."""
        options = {
            "pooling": name_of_pooling(self.pooling, self.pooling_name),
            "max_points": self.limit,
            "max_length": self.max_length,
            "dtype": self.dtype_name,
            "seed": self.seed,
        }
        return describe_capture(self.model, self.transformer, self.processor, self.data, self.layers, options)

    def choose(self, *, keep: bool) -> tuple[Corpus, Sample]:
        """The corpus, its texts' tokens kept or not, and the points to capture of it."""
        corpus: Corpus
        if is_image_processor(self.processor):
            corpus = ImageCorpus(self.processor, self.data, self.transformer, self.pooling)
        else:
            corpus = TextCorpus(self.processor, self.data, self.transformer, self.max_length, keep)
        return corpus, Sample(corpus, tokens=self.pooling == "tokens", limit=self.limit, seed=self.seed)

    def run(self, corpus: Corpus, sample: Sample, destination: Destination) -> None:
        run(
            self.model, self.transformer, corpus, sample, self.layers, destination,
            pooling=self.pooling, batch_size=self.batch_size, progress=self.progress, reader=self.reader,
        )  # fmt: skip

    def result(self, points: Any, sample: Sample) -> Activations:  # noqa: ANN401
        config = getattr(self.transformer, "config", None)
        return Activations(
            points=points,
            layer_frame=pd.DataFrame(
                [(layer.name, layer.stack, layer.depth) for layer in self.layers], columns=["layer", "stack", "depth"]
            ),
            provenance=sample.provenance(self.processor),
            pooling=name_of_pooling(self.pooling, self.pooling_name),
            settings={
                "model": str(getattr(config, "_name_or_path", "") or type(self.transformer).__name__),
                "n_texts": len(self.data),
                "layers": self.chosen_layers,
                "stack": self.stack,
                "max_points": self.max_points,
                "max_length": self.max_length,
                "dtype": self.dtype_name,
                "seed": self.seed,
                "origin": describe_origin(self.transformer),
            },
        )


def _capture_in_folder(
    request: _Request, folder: Path, identity: dict[str, Any], *, replace_damaged: bool = False
) -> Activations:
    """The capture that a folder holds, after capturing what is missing of it."""
    with hold_folder(folder):
        try:
            there = finished_identity(folder)
            if there is not None or read_journal(folder) is not None:
                check_repeatable(request.pooling, request.pooling_name, folder)
            if there is not None:
                check_identity(folder, there, identity)
                return Activations.load(folder)
        except StudyError:
            if not replace_damaged:
                raise
            logger.warning("the cached capture in %s is damaged; capturing again", folder)
            for file in (*folder.glob("*.safetensors"), *folder.glob("*.json")):
                file.unlink()
        corpus, sample = request.choose(keep=False)
        journal = Journal(folder, identity, [layer.name for layer in request.layers], len(sample), request.dtype)
        request.run(corpus, sample, journal)
        activations = request.result(StoredPoints(folder, journal.files), sample)
        activations.describe(folder, journal.files, identity)
        journal.close()
        return activations
