"""From a specification's adapter to a transformer ready to train: frozen, whole, or with a PEFT adapter."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, initialize_lora_eva_weights
from peft.tuners.lora import LoraLayer
from peft.utils import CONFIG_NAME
from torch import nn
from transformers import PreTrainedModel

from gelora_viz._names import goes_by
from gelora_viz._results import write_text
from gelora_viz.adapters import add_adapter
from gelora_viz.errors import InputError, first_line
from gelora_viz.ranks import ModelInputs, RankPlan, find_directions
from gelora_viz.runs import FROZEN, FULL, RunSpec


def adapt(spec: RunSpec, model: PreTrainedModel, batches: Callable[[], Sequence[ModelInputs]]) -> nn.Module:
    """The model as the run trains it; all other weights are frozen.

    Args:
        spec: its adapter, seed and gradient_checkpointing.
        model: changed in place, as PEFT does.
        batches: gives training texts as model inputs, for EVA; called by it alone.

    Raises:
        InputError: if the adapter was meant for another model, PEFT refuses it, or EVA cannot read the texts.
    """
    if spec.gradient_checkpointing:
        _checkpoint(model)
    if spec.adapter in (FROZEN, FULL):
        return model.requires_grad_(spec.adapter == FULL)
    if isinstance(spec.adapter, RankPlan):
        return add_adapter(model, plan_for(spec.adapter, model), seed=spec.seed)
    assert not isinstance(spec.adapter, str)  # noqa: S101 - for the type checker
    config = copy.deepcopy(spec.adapter)  # PEFT writes into it
    if isinstance(config, AdaLoraConfig) and config.total_step is None:
        config.total_step = spec.steps
    adapted = add_adapter(model, config, seed=spec.seed)
    if isinstance(config, LoraConfig) and config.init_lora_weights == "eva":
        if torch.cuda.is_available():
            adapted.to("cuda")
        start_from_eva(adapted, batches())
    return adapted


def plan_for(plan: RankPlan, model: nn.Module) -> RankPlan:
    """The plan under the names that its matrices have in this model.

    In a language model the transformer that a plan was made for lies one level deeper (layers.0 is model.layers.0
    there), so a name means the one module that ends in it.

    Raises:
        InputError: if several modules end in a planned name.
    """
    names = [name for name, _ in model.named_modules()]
    places = {}
    for planned in plan.ranks:
        found = [name for name in names if goes_by(name, planned)]
        if len(found) > 1 and planned not in found:
            raise InputError(
                f"the plan names {planned}, and {len(found)} modules of the {type(model).__name__} end in that "
                f"({', '.join(found[:3])}); make the plan for this model"
            )
        places[planned] = planned if planned in found or not found else found[0]
    if all(planned == found for planned, found in places.items()):
        return plan
    frame = plan.frame.assign(module=[places[str(module)] for module in plan.frame["module"]])
    return RankPlan(frame, plan.strategy, plan.budget, plan.settings)


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
        raise InputError(
            f"PEFT's EVA cannot start this adapter ({first_line(error)}); check its configuration"
        ) from error


def _checkpoint(model: PreTrainedModel) -> None:
    """Recompute hidden states for the gradient; without re-entry, so that frozen embeddings do not block it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(
            f"{type(model).__name__} cannot recompute its hidden states; leave gradient_checkpointing off"
        ) from error


def name_base_model(folder: Path, name: str) -> None:
    """Put a model's name into a saved adapter where PEFT has written the folder that it lies in on this machine.

    After the adapter is saved, since PEFT would look the name up on the Hub while it saves.
    """
    file = folder / CONFIG_NAME
    config = json.loads(file.read_text(encoding="utf-8"))
    here = str(config.get("base_model_name_or_path"))
    write_text(file, json.dumps({**config, "base_model_name_or_path": name}, indent=2, sort_keys=True))
    card = folder / "README.md"
    if card.exists():
        write_text(card, card.read_text(encoding="utf-8").replace(here, name))
