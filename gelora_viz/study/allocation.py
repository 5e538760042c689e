"""What an allocation of a study reads beside its profile, and the settings by which a finished one is known again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from gelora_viz.ranks.strategies import find_strategy
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
    """What the plan depends on.

    Earlier studies noted nine of these, and "ceil" for a rounding that was not given. The others are only noted where
    they make a difference, so that the plans of those studies are found again.
    """
    settings: dict[str, Any] = {
        "strategy": strategy, "pooling": pooling, "estimator": estimator, "budget": budget,
        "budget_rank": budget_rank, "target_modules": target_modules, "rounding": rounding or "ceil",
        "max_rank": max_rank, "profile": profile,
    }  # fmt: skip
    chosen = find_strategy(strategy)
    if chosen.bounds and rounding is not None and (budget is not None or budget_rank is not None):
        settings["rounded"] = "before scaling"
    if min_rank != 1:
        settings["min_rank"] = min_rank
    if chosen.reads == "batches":
        settings["n_texts"] = n_texts
    if chosen.reads == "batches" or strategy == "random":
        settings["seed"] = seed
    return settings
