"""EVA: LoRA whose A starts as the directions of most variance in what each matrix reads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from peft import PeftModel, initialize_lora_eva_weights
from peft.tuners.lora import LoraLayer

from gelora_viz.errors import InputError
from gelora_viz.ranks import ModelInputs, find_directions


def start_from_eva(model: PeftModel, batches: Sequence[ModelInputs]) -> None:
    """Set the A of every LoRA layer to EVA's directions, and with rho > 1 its rank to EVA's.

    With rho = 1 ranks stay as the configuration has them. (PEFT alone would then still move ranks between matrices
    that read the same hidden states.)

    Args:
        model: with one adapter, a LoraConfig with init_lora_weights="eva".
        batches: model inputs without labels; as many as needed are read, from the first on, over and over.

    Raises:
        InputError: if no batch has as many tokens as EVA needs directions, or its directions do not settle.

    References:
        Paischer et al. 2024, One Initialization to Rule them All, https://arxiv.org/abs/2410.07170.
    """
    config: Any = model.peft_config["default"]
    ranks = {name: int(layer.r["default"]) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    keeps_ranks = config.eva_config.rho == 1
    searched = copy.copy(config)
    if keeps_ranks:
        searched.r, searched.rank_pattern = max(ranks.values()), {}
    needed = round(config.eva_config.rho * max(ranks.values()))
    directions = find_directions(model, batches, searched, n_directions=needed, progress=False)
    if keeps_ranks:
        directions = {name: rows[: ranks[name]] for name, rows in directions.items()}
    try:
        initialize_lora_eva_weights(model, eva_state_dict=directions)
    except (ValueError, TypeError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"PEFT's EVA cannot start this adapter ({reason}); check its configuration") from error
