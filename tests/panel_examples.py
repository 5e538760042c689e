"""Models and results for the tests and benchmarks of panels, made in a moment: the notebooks there import them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import tiny_models
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gelora_viz import Activations, DimensionProfile, UpdateSpectrum, find_blocks
from gelora_viz.dimension import PROFILE_COLUMNS
from gelora_viz.dimension._intervals import interval, split_half_error

if TYPE_CHECKING:
    from torch import nn

    from gelora_viz.ranks import RankPlan

SEVEN_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tiny_model(architecture: str = "bert") -> nn.Module:
    """A real and tiny model, as in the other tests."""
    return tiny_models.build(architecture)[0]


def large_model(n_layers: int = 96) -> nn.Module:
    """A decoder of a large language model's shapes, whose weights take no memory."""
    config = LlamaConfig(
        num_hidden_layers=n_layers,
        hidden_size=8192,
        intermediate_size=28672,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=1000,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def make_profile(model: nn.Module, estimators: Sequence[str] = ("twonn", "mle")) -> DimensionProfile:
    """A profile with a hump over the depth of each stack, as real models have one."""
    generator = np.random.default_rng(0)
    blocks = find_blocks(model)
    rows, gaps = [], {}
    for place, stack in enumerate(dict.fromkeys(block.stack for block in blocks)):
        of_stack = [block for block in blocks if block.stack == stack]
        layers = [f"{stack} embeddings".strip(), *(block.name for block in of_stack)]
        for depth, layer in enumerate(layers):
            hump = 9 + 2 * place + 6 * math.sin(math.pi * depth / len(of_stack)) + 1.5 * math.sin(2.1 * depth)
            for shift, estimator in enumerate(estimators):
                gaps[layer, estimator] = generator.normal(scale=0.8, size=30)
                error = split_half_error(gaps[layer, estimator])
                dimension = hump + 1.3 * shift
                low, high = interval(dimension, error, 30, 0.95)
                rows.append([layer, stack, depth, estimator, dimension, error, low, high, 480, 0])
    return DimensionProfile(pd.DataFrame(rows, columns=PROFILE_COLUMNS), gaps, pooling="mean")


def make_spectrum(plan: RankPlan) -> UpdateSpectrum:
    """What a run with this plan may have used of its ranks."""
    adapted = plan.frame[plan.frame["rank"] > 0]
    shares = np.random.default_rng(1).uniform(0.4, 0.95, size=len(adapted))
    reached = np.maximum(1.0, adapted["rank"].to_numpy() * shares)
    frame = pd.DataFrame({"module": adapted["module"], "rank": adapted["rank"], "entropy_rank": reached})
    return UpdateSpectrum(frame.reset_index(drop=True), {}, "LORA")


def make_points(n_points: int = 400, layers: Sequence[str] = ("embeddings", "block 1", "block 2")) -> Activations:
    """Four clusters of texts in every layer, in ever more dimensions."""
    generator = np.random.default_rng(0)
    cluster = np.arange(n_points) % 4
    arrays = {}
    for depth, layer in enumerate(layers):
        centers = 10 * generator.normal(size=(4, 16))
        width = np.where(np.arange(16) < 3 + 3 * depth, 1.0, 0.05)
        arrays[layer] = centers[cluster] + width * generator.normal(size=(n_points, 16))
    return Activations.from_arrays(arrays)
