"""The largest adapter of a method that a parameter budget pays for, so that methods can be compared at one size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, get_peft_model
from torch import nn

from gelora_viz._checks import check_model, check_whole, describe
from gelora_viz.adapters.genlora import GenLoraConfig
from gelora_viz.errors import InputError, first_line
from gelora_viz.ranks import Matrix, find_matrices

_Config = TypeVar("_Config", bound=PeftConfig)
_INIT_OVER_TARGET = 1.5
"""AdaLoRA begins with this many times the rank that it keeps, as in its paper's experiments."""
_HIGHEST = 1 << 20
"""Highest rank tried for methods that set no limit of their own, such as VeRA."""


def fit_budget(config: _Config, model: nn.Module, budget: int) -> _Config:
    """The configuration with the highest rank whose adapter trains no more parameters than the budget.

    What PEFT makes of a rank is counted, on matrices of the model's shapes without storage, so that DoRA's magnitudes
    count and VeRA's frozen projections do not. Of AdaLoRA, the ranks count that it keeps, equally many of every
    matrix: at first it trains half as many again, and where matrices differ in size it may keep more of the large
    ones; a run's result says how many parameters it kept.

    Args:
        config: configuration of a method whose size grows with a rank r: LoraConfig and its variants, AdaLoraConfig,
            VeraConfig, LoHaConfig, GenLoraConfig and others. Its rank is replaced, and alpha in proportion.
        model: the model that the adapter is for; left unchanged.
        budget: trainable parameters, such as `uniform_budget(model, 4)`.

    Returns:
        A copy with that rank. Its target_modules are the full names of the matrices in the model's blocks that the
        configuration's name; those of None are PEFT's choice for the model, as in `find_matrices`.

    Raises:
        InputError: if the method has no rank or its size does not grow with it, PEFT refuses it, rank_pattern sets
            ranks one by one, or the budget does not pay for the lowest rank (with what that costs).

    Example:
        >>> from peft import LoraConfig
        >>> import gelora_viz as gv
        >>> model, _, _ = gv.load_model("minilm")
        >>> budget = gv.uniform_budget(model, 4)
        >>> gv.fit_budget(LoraConfig(use_dora=True), model, budget).r  # its magnitudes take a part of it
        3
    """
    budget = check_whole(budget, "budget")
    check_model(model)
    if not isinstance(config, PeftConfig):
        raise InputError(f"config is {describe(config)}; give a PEFT configuration, such as LoraConfig()")
    name = type(config).__name__
    if not hasattr(config, "r"):
        raise InputError(f"{name} has no rank r to fit to a budget; set its size by hand")
    if getattr(config, "rank_pattern", None):
        raise InputError("rank_pattern sets ranks one by one; leave it out, or make a plan with allocate_ranks")
    matrices = find_matrices(model, getattr(config, "target_modules", None))
    fitted = _Fitted(config, matrices)
    lowest = fitted.count(1)
    if fitted.most > 1 and fitted.count(2) <= lowest:
        raise InputError(f"the size of {name} does not grow with its rank r; set it by hand")
    if lowest > budget:
        raise InputError(
            f"budget {budget:,} does not pay for {name}'s lowest rank, which takes {lowest:,} parameters; raise it"
        )
    fits, fails = 1, 2
    # LoKr's factors stop growing at some rank, and higher ones change nothing.
    while fails <= fitted.most and fitted.count(fits) < fitted.count(fails) <= budget:
        fits, fails = fails, 2 * fails
    fails = min(fails, fitted.most + 1)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if fitted.count(middle) <= budget else (fits, middle)
    return fitted.config(fits)


class _Fitted:
    """A configuration at any rank, counted in steps: GenLoRA's rank stays a multiple of its groups.

    Attributes:
        most: the highest number of steps.
    """

    def __init__(self, config: Any, matrices: Sequence[Matrix]) -> None:  # noqa: ANN401 - a PeftConfig with an r
        self._config, self._matrices = config, matrices
        self._step = 1
        highest = _HIGHEST
        if isinstance(config, GenLoraConfig):
            self._step, highest = config.num_groups, config.num_groups * config.num_rbfs
        if isinstance(config, GenLoraConfig | LoraConfig):
            highest = min(highest, *(matrix.max_rank for matrix in matrices))
        self.most = highest // self._step

    def config(self, steps: int) -> Any:  # noqa: ANN401 - of the same class
        """The configuration at that rank."""
        rank, config = steps * self._step, copy.deepcopy(self._config)
        config.target_modules = [matrix.module for matrix in self._matrices]
        if isinstance(config, AdaLoraConfig):
            config.target_r, config.init_r = rank, max(rank + 1, round(_INIT_OVER_TARGET * rank))
            return config
        for alpha in ("lora_alpha", "alpha"):
            if getattr(config, alpha, None) is not None:
                setattr(config, alpha, getattr(config, alpha) * rank / config.r)
        config.r = rank
        return config

    def count(self, steps: int) -> int:
        """Parameters that the adapter trains, or AdaLoRA keeps, at that rank."""
        config = self.config(steps)
        if isinstance(config, AdaLoraConfig):
            return sum(config.target_r * (matrix.cost + 1) for matrix in self._matrices)
        try:
            with torch.device("meta"):
                adapted = get_peft_model(_shapes(self._matrices), config, low_cpu_mem_usage=True)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"PEFT refuses {type(config).__name__} with r = {config.r} ({first_line(error)}); set its size by "
                "hand"
            ) from error
        return sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


def _shapes(matrices: Sequence[Matrix]) -> nn.Module:
    """A model of nothing but these matrices, under their names."""
    root = nn.Module()
    for matrix in matrices:
        *folders, name = matrix.module.split(".")
        parent = root
        for folder in folders:
            if not hasattr(parent, folder):
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(name, nn.Linear(matrix.in_features, matrix.out_features, bias=False))
    return root
