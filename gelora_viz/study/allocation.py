"""What an allocation of a study reads beside its profile, and the settings by which a finished one is known again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from gelora_viz.ranks import find_strategy
from gelora_viz.sources import LoadedModel, TextData
from gelora_viz.training import TextClassifier, fit_probe, sample_batches


def model_readings(strategy: str, loaded: LoadedModel, data: TextData, *, n_texts: int, seed: int) -> dict[str, Any]:
    """The arguments `batches` and `loss` of `allocate_ranks`, for a strategy that runs the model; none for others.

    The batches are of training texts. The loss is the cross-entropy of a linear probe that is fitted to them when it
    is first asked for.

    Raises:
        InputError: for an unknown strategy, or "gradient" without labels.
    """
    if find_strategy(strategy).reads != "batches":
        return {}
    if strategy == "gradient":
        data.labels("train")  # without labels there is no loss, which is to be said before the model runs
    model, tokenizer, _ = loaded
    batches = sample_batches(data, model, tokenizer, n_texts=n_texts, seed=seed)

    @cache
    def probe() -> TextClassifier:
        return fit_probe(model, batches)

    def loss(_model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return probe()(**batch).loss

    return {"batches": batches, "loss": loss}


def allocation_settings(
    *,
    strategy: str,
    pooling: str,
    estimator: str,
    budget: int | None,
    budget_rank: int | None,
    target_modules: str | Sequence[str] | None,
    rounding: str | None,
    min_rank: int,
    max_rank: int | None,
    n_texts: int,
    seed: int,
    profile: str | None,
) -> Mapping[str, Any]:
    """What the plan depends on; None for an option that its strategy does not read."""
    chosen = find_strategy(strategy)
    runs_model = chosen.reads == "batches"
    return {
        "strategy": strategy, "pooling": pooling, "estimator": estimator, "budget": budget,
        "budget_rank": budget_rank, "target_modules": target_modules,
        "rounding": rounding if chosen.bounds else None, "min_rank": min_rank, "max_rank": max_rank,
        "n_texts": n_texts if runs_model else None, "seed": seed if runs_model or strategy == "random" else None,
        "profile": profile,
    }  # fmt: skip
