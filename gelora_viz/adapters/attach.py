"""Put an adapter on a model through PEFT, after checking that it was meant for that model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils import PeftType
from peft.utils.other import get_pattern_key
from torch import nn
from transformers import PreTrainedModel, set_seed

from gelora_viz._checks import check_model, check_seed, describe
from gelora_viz._names import did_you_mean, goes_by
from gelora_viz.errors import InputError, first_line
from gelora_viz.ranks import RankPlan
from gelora_viz.surveys import matrix_shape


def add_adapter(model: PreTrainedModel, adapter: RankPlan | PeftConfig, *, seed: int = 0) -> PeftModel:
    """Wrap a model with a fresh adapter; only the adapter's parameters stay trainable.

    A plan made with a part of the model, such as its language model, is put where that part is.

    PEFT passes over names and patterns that match nothing, as long as another one matches something; here each of
    them is an error, since a misspelled module would otherwise just not be adapted.

    Args:
        model: the model to adapt; changed in place, as PEFT does.
        adapter: a rank plan, or a PEFT configuration of any method.
        seed: seed of the adapter's initial weights.

    Raises:
        InputError: if a plan names modules that the model does not have, or has with another shape, or PEFT builds
            something else than planned (see `RankPlan.check`); if a
            configuration's target modules or patterns match nothing (with the nearest names), are of a type that the
            method does not take, or get a LoRA rank above min(in, out).
    """
    check_model(model)
    if not isinstance(adapter, RankPlan | PeftConfig):
        raise InputError(f"adapter is {describe(adapter)}; give a RankPlan or a PEFT configuration: LoraConfig(...)")
    seed = check_seed(seed)
    if isinstance(adapter, RankPlan):
        config: PeftConfig = adapter.to_peft_config(model)
    else:
        config = adapter
        _check_config(model, config)
    set_seed(seed)
    try:
        adapted = get_peft_model(model, config)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"PEFT refuses the adapter ({first_line(error)}); check its target_modules, ranks and task"
        ) from error
    if isinstance(adapter, RankPlan):
        try:
            adapter.check(adapted)
        except InputError:
            adapted.unload()
            raise
    return adapted


def config_from_dict(content: Mapping[str, Any]) -> PeftConfig:
    """The configuration that a `PeftConfig.to_dict` of any method wrote, GenLoRA among them.

    Raises:
        InputError: if PEFT knows no such method, as where it was saved by a newer version.
    """
    method = content.get("peft_type")
    if not isinstance(method, str) or method not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise InputError(f"PEFT knows no method {str(method)[:60]!r}; install the version of PEFT that saved it")
    try:
        config: PeftConfig = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method)].from_peft_type(**content)  # type: ignore[no-untyped-call]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"PEFT makes no {method} of this configuration ({str(error)[:200]}); give one that PEFT has saved"
        ) from error
    return config


def _check_config(model: nn.Module, config: PeftConfig) -> None:
    """Refuse names and patterns that match no module of the model, and LoRA ranks that its matrices cannot have."""
    names = [name for name, _ in model.named_modules() if name]
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, list | set | tuple):
        endings = sorted({name.rpartition(".")[2] for name in names})
        for target in sorted(targets):
            if not any(goes_by(name, target) for name in names):
                raise InputError(
                    f"target_modules has {target!r}, which no module of the {type(model).__name__} is called; "
                    f"{did_you_mean(target, endings)}"
                )
    for attribute in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(config, attribute, None) or {}:
            if not any(_matches(pattern, name) for name in names):
                raise InputError(
                    f"{attribute} has {pattern!r}, which matches no module of the {type(model).__name__}; "
                    f"{did_you_mean(pattern, names)}"
                )
    if isinstance(config, LoraConfig):
        _check_lora_ranks(model, config)


def _check_lora_ranks(model: nn.Module, config: LoraConfig) -> None:
    ranks = config.rank_pattern or {}
    for name, module in model.named_modules():
        shape = matrix_shape(module)
        if shape is None or config.target_modules is None or not check_target_module_exists(config, name):
            continue
        rank = next((rank for pattern, rank in ranks.items() if _matches(pattern, name)), config.r)
        if rank > min(shape):
            raise InputError(
                f"r = {rank} exceeds min(in, out) = {min(shape)} of {name}, a {shape[0]} x {shape[1]} matrix; lower "
                "it there with rank_pattern, or everywhere"
            )


def _matches(pattern: str, name: str) -> bool:
    """Whether a key of rank_pattern or alpha_pattern means this module, as PEFT reads it."""
    return pattern == name or get_pattern_key([pattern], name) == pattern
