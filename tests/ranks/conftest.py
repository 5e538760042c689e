"""Dimension profiles with known numbers, so that ranks can be worked out by hand, and batches of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from gelora_viz import DimensionProfile, find_blocks
from gelora_viz.activations import collate, tokenize
from gelora_viz.dimension import PROFILE_COLUMNS
from gelora_viz.dimension._intervals import interval, split_half_error


def make_profile(
    model: nn.Module, *dimensions: Sequence[float], spread: float = 0.1, estimator: str = "twonn"
) -> DimensionProfile:
    """A profile of `model` with these dimensions, embeddings first, one list for each stack.

    Estimates from two halves of the texts differ by `spread`, independently in every layer.
    """
    generator = np.random.default_rng(0)
    blocks = find_blocks(model)
    rows, gaps = [], {}
    for stack, values in zip(dict.fromkeys(block.stack for block in blocks), dimensions, strict=True):
        layers = [f"{stack} embeddings".strip(), *(block.name for block in blocks if block.stack == stack)]
        for depth, (layer, dimension) in enumerate(zip(layers, values, strict=True)):
            gaps[layer, estimator] = generator.normal(scale=spread, size=30)
            error = split_half_error(gaps[layer, estimator])
            low, high = interval(dimension, error, 30, 0.95)
            rows.append([layer, stack, depth, estimator, dimension, error, low, high, 480, 0])
    return DimensionProfile(pd.DataFrame(rows, columns=PROFILE_COLUMNS), gaps, pooling="mean")


@pytest.fixture(scope="session")
def profile_of() -> Callable[..., DimensionProfile]:
    """`profile_of(model, [5.0, 7.3, 6.0, 6.4])`: see `make_profile`."""
    return make_profile


@pytest.fixture(scope="session")
def batches_of(texts) -> Callable[..., list[dict[str, torch.Tensor]]]:
    """`batches_of(model, tokenizer)`: four batches of sixteen texts, as the model reads them."""

    def make(
        model: nn.Module, tokenizer: PreTrainedTokenizerBase, n_batches: int = 4, size: int = 16
    ) -> list[dict[str, torch.Tensor]]:
        rows = tokenize(tokenizer, texts[: n_batches * size], model=model)
        return [
            collate(rows[start : start + size], tokenizer=tokenizer, model=model)
            for start in range(0, len(rows), size)
        ]

    return make
