"""Run a model once over the texts and keep what its blocks give out."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from gelora_viz._checks import check_seed
from gelora_viz.activations.blocks import find_blocks
from gelora_viz.activations.inputs import TokenizedText, collate, is_encoder_decoder, to_device, tokenize
from gelora_viz.activations.pooling import Pooling, PoolingFunction, check_pooling, pool_texts
from gelora_viz.activations.result import Activations
from gelora_viz.errors import InputError
from gelora_viz.sources.texts import check_texts

logger = logging.getLogger("gelora_viz")

MAX_TOKEN_POINTS = 10_000
"""Tokens sampled when pooling="tokens" and max_points is None: more make the graph slow and say little more."""
_AUTO_BATCH_SIZE = 64


class _Stop(Exception):  # noqa: N818 - control flow, not an error
    """Raised by the last hook: nothing after the last wanted block needs to run."""


def capture(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    layers: str | Sequence[str] = "blocks",
    pooling: Pooling | PoolingFunction | str = "mean",
    max_points: int | None = None,
    batch_size: int | str = "auto",
    max_length: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Activations:
    """Capture hidden states with forward hooks, in one pass that stops after the last wanted layer.

    Attention masks are honoured and a text's point does not depend on the batch it travelled in. Special tokens are
    part of the mean (as in sentence encoders) and left out of token clouds. An encoder-decoder reads each text with
    its encoder and, shifted right, with its decoder. What is captured is what a block gives out: a model whose
    `hidden_states` end with a final norm differs from ours in that last entry only. Hooks are removed and the
    training mode is restored whatever happens.

    Args:
        model: a transformer, with or without task head, on any device.
        tokenizer: the model's own.
        texts: strings, not empty.
        layers: "blocks" (embeddings and every block's output), or glob patterns of module names
            ("encoder.layer.*.attention.output") whose outputs are wanted.
        pooling: "mean", "last", "cls" or a function of (hidden, mask): one point per text; "tokens": one per token.
        max_points: at most so many points, a uniform seeded choice, the same in every layer. None keeps every text,
            and 10,000 tokens.
        batch_size: texts a batch; "auto" starts with 64 of similar length and halves when memory runs out.
        max_length: tokens kept of each text; by default the model's longest input, 512 at most.
        seed: of the choice of points.
        progress: show a tqdm bar.

    Returns:
        Activations with float32 points on the CPU.

    Raises:
        InputError: for unusable texts or arguments, a model without recognisable blocks, or a pattern that matches
            nothing.

    Example:
        >>> from gelora_viz.sources import load_model
        >>> model, tokenizer, _ = load_model("minilm")
        >>> capture(model, tokenizer, ["a cat", "a dog"], progress=False)["embeddings"].shape
        torch.Size([2, 384])
    """
    check_pooling(pooling)
    check_seed(seed)
    texts = check_texts(texts)
    if max_points is not None and max_points < 1:
        raise InputError(f"max_points is {max_points}; it must be at least 1")
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f'batch_size is {batch_size!r}; give "auto" or a number of at least 1')
    wanted = _wanted_layers(model, layers)
    rows = tokenize(tokenizer, texts, model=model, max_length=max_length)
    chosen = _choose_points(rows, pooling, max_points, seed, shifted=is_encoder_decoder(model))
    collected = _run(model, tokenizer, rows, wanted, pooling, chosen, batch_size, progress=progress)
    first = wanted["layer"].iloc[0]
    if len(collected[first]) != len(chosen):
        raise InputError(
            f"layer {first!r} gave {len(collected[first])} points for {len(chosen)}; is it a block's output?"
        )
    tokens = (
        tokenizer.convert_ids_to_tokens([rows[text].ids[at] for text, at in chosen]) if pooling == "tokens" else None
    )
    return Activations(
        points=collected,
        layer_frame=wanted[["layer", "stack", "depth"]],
        provenance=pd.DataFrame({"text": chosen[:, 0], "token": tokens, "position": chosen[:, 1]}),
        pooling=pooling if isinstance(pooling, str) else getattr(pooling, "__name__", "function"),
        settings={
            "model": str(getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__),
            "n_texts": len(texts),
            "max_points": max_points,
            "max_length": max_length,
            "seed": seed,
        },
    )


def _wanted_layers(model: nn.Module, layers: str | Sequence[str]) -> pd.DataFrame:
    """One row per layer to capture: layer (its name), stack, depth, module (whose hook), reads_input."""
    if layers == "blocks":
        rows: list[dict[str, Any]] = []
        for block in find_blocks(model):
            if block.depth == 1:
                name = f"{block.stack}.embeddings" if block.stack else "embeddings"
                rows.append(
                    {"layer": name, "stack": block.stack, "depth": 0, "module": block.name, "reads_input": True}
                )
            rows.append(
                {
                    "layer": block.name,
                    "stack": block.stack,
                    "depth": block.depth,
                    "module": block.name,
                    "reads_input": False,
                }
            )
        return pd.DataFrame(rows)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names = [name for name, _ in model.named_modules() if name]
    matched = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    unused = [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]
    if unused or not matched:
        raise InputError(f"no module matches {unused or patterns}; module names look like {', '.join(names[:6])}, …")
    two_stacks = is_encoder_decoder(model)
    stacks = [("decoder" if "decoder" in name.split(".") else "encoder") if two_stacks else "" for name in matched]
    return pd.DataFrame(
        {"layer": matched, "stack": stacks, "depth": range(len(matched)), "module": matched, "reads_input": False}
    )


def _choose_points(
    rows: Sequence[TokenizedText], pooling: object, max_points: int | None, seed: int, *, shifted: bool
) -> np.ndarray:
    """(n_points, 2): text and token position of every point to keep, in order; position -1 stands for the whole text.

    Everything is tokenised before the first forward pass, so a uniform choice without replacement needs no reservoir.
    A decoder whose inputs are shifted right reads token t at position t + 1: tokens without one are left out.
    """
    if pooling == "tokens":
        positions = [np.flatnonzero(~row.special) for row in rows]
        if shifted:
            positions = [at[at + 1 < len(row.ids)] for at, row in zip(positions, rows, strict=True)]
        every = np.concatenate([np.column_stack([np.full(len(at), text), at]) for text, at in enumerate(positions)])
        if len(every) == 0:
            raise InputError("the texts have no tokens besides special ones; give other texts or another pooling")
        limit = MAX_TOKEN_POINTS if max_points is None else max_points
    else:
        every = np.column_stack([np.arange(len(rows)), np.full(len(rows), -1)])
        limit = len(every) if max_points is None else max_points
    if len(every) <= limit:
        return every
    return every[np.sort(np.random.default_rng(seed).choice(len(every), size=limit, replace=False))]


def _run(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TokenizedText],
    wanted: pd.DataFrame,
    pooling: Any,  # noqa: ANN401 - checked before
    chosen: np.ndarray,
    batch_size: int | str,
    *,
    progress: bool,
) -> dict[str, torch.Tensor]:
    """The chosen points of every wanted layer, layer name -> (n_points, n_features)."""
    texts = np.unique(chosen[:, 0])
    by_length = texts[np.argsort([-len(rows[text].ids) for text in texts], kind="stable")]
    points_of = _positions_by_text(chosen)
    size = _AUTO_BATCH_SIZE if batch_size == "auto" else int(batch_size)
    collected: dict[str, torch.Tensor] = {}
    shifted_layers = set(wanted.loc[wanted["stack"] == "decoder", "layer"]) if is_encoder_decoder(model) else set()
    with _evaluating(model), tqdm(total=len(texts), desc="capturing", unit="text", disable=not progress) as bar:
        start = 0
        while start < len(by_length):
            members = by_length[start : start + size]
            try:
                hidden, mask = _forward(model, tokenizer, [rows[text] for text in members], wanted)
            except torch.OutOfMemoryError:
                if batch_size != "auto" or size == 1:
                    raise InputError(
                        f"out of memory with batches of {len(members)} texts; lower batch_size or max_length"
                    ) from None
                size = max(1, size // 2)
                logger.warning("out of memory: batches of %d texts from here on", size)
                torch.cuda.empty_cache()
                continue
            where = np.concatenate([points_of[text] for text in members])
            for layer, states in hidden.items():
                if pooling == "tokens":
                    row = np.repeat(np.arange(len(members)), [len(points_of[text]) for text in members])
                    at = chosen[where, 1] + (layer in shifted_layers)
                    points = states[torch.as_tensor(row), torch.as_tensor(at)]
                else:
                    points = pool_texts(states, mask, pooling)
                if layer not in collected:
                    collected[layer] = torch.empty((len(chosen), points.shape[-1]), dtype=torch.float32)
                collected[layer][torch.as_tensor(where)] = points.detach().to("cpu", torch.float32)
            start += len(members)
            bar.update(len(members))
    return {layer: collected[layer] for layer in wanted["layer"]}


def _positions_by_text(chosen: np.ndarray) -> dict[int, np.ndarray]:
    """Text -> rows of `chosen` that belong to it."""
    starts = np.flatnonzero(np.diff(chosen[:, 0], prepend=-1))
    groups = np.split(np.arange(len(chosen)), starts[1:])
    return {int(chosen[group[0], 0]): group for group in groups}


def _forward(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: Sequence[TokenizedText], wanted: pd.DataFrame
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Hidden states (n_texts, n_tokens, n_features) of the wanted layers for one batch, and its attention mask."""
    batch = to_device(collate(rows, tokenizer=tokenizer, model=model), model)
    hidden: dict[str, torch.Tensor] = {}

    def keep(layer: str, states: torch.Tensor) -> None:
        if not isinstance(states, torch.Tensor) or states.ndim != 3 or states.shape[:2] != batch["input_ids"].shape:
            shape = tuple(states.shape) if isinstance(states, torch.Tensor) else type(states).__name__
            raise InputError(
                f"module {layer!r} gives {shape}, not hidden states of shape (texts, tokens, features); "
                "choose other layers"
            )
        hidden[layer] = states
        if len(hidden) == len(wanted):
            raise _Stop

    with _hooks(model, wanted, keep), suppress(_Stop):
        model(**batch)
    missing = [layer for layer in wanted["layer"] if layer not in hidden]
    if missing:
        raise InputError(f"the forward pass never reached {', '.join(missing)}; choose layers that run")
    return hidden, batch["attention_mask"]


@contextmanager
def _hooks(model: nn.Module, wanted: pd.DataFrame, keep: Callable[[str, Any], None]) -> Iterator[None]:
    """Forward hooks that hand each wanted layer's states to `keep`; removed on the way out."""
    handles = []
    try:
        for row in wanted.itertuples():
            module = model.get_submodule(str(row.module))
            if row.reads_input:
                handles.append(
                    module.register_forward_pre_hook(_reading_input(str(row.layer), keep), with_kwargs=True)
                )
            else:
                handles.append(module.register_forward_hook(_reading_output(str(row.layer), keep)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reading_input(layer: str, keep: Callable[[str, Any], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(layer, args[0] if args else kwargs.get("hidden_states"))

    return hook


def _reading_output(layer: str, keep: Callable[[str, Any], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        keep(layer, output[0] if isinstance(output, tuple | list) else output)

    return hook


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own training flag is restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
