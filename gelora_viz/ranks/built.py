"""What PEFT built, matrix by matrix, beside what a plan says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from peft import PeftModel
from peft.tuners.lora import LoraLayer

from gelora_viz.errors import InputError


class Built(NamedTuple):
    """The LoRA of one matrix: its rank, its scale alpha / r, and the parameters of A and B."""

    rank: int
    scale: float
    n_parameters: int


def read_built(model: PeftModel) -> dict[str, Built]:
    """Full name in the base model of each module, or of experts' parameter, -> its LoRA of the active adapter."""
    adapter = model.active_adapter
    found = {}
    for name, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer) or adapter not in module.r:
            continue
        parameter = getattr(module, "parameter_name", None)
        own = f"{name.removesuffix('.base_layer')}.{parameter}" if parameter else name
        factors = [module.lora_A, module.lora_B]
        count = sum(
            weight.numel()
            for factor in factors
            if adapter in factor
            for name_of, weight in factor[adapter].named_parameters()
            if name_of == "weight"
        )
        found[own] = Built(int(module.r[adapter]), float(module.scaling[adapter]), count)
    return found


def compare_built(built: Mapping[str, Built], planned: Mapping[str, Built]) -> None:
    """Raise `InputError` unless PEFT built what was planned, with the first difference and what to do about it.

    Args:
        built: what `read_built` found.
        planned: the same of the plan, of the matrices with a rank above 0.
    """
    further = [name for name in built if name not in planned]
    missing = [name for name in planned if name not in built]
    if further:
        lacking = f", and not {missing[0]}" if missing else ""
        raise InputError(
            f"PEFT adapted {len(further)} modules that the plan does not name, such as {further[0]}{lacking}; "
            + (
                "it takes some names for those of experts: set the rank of these to 0, as in "
                f'plan.with_rank("{missing[0]}", 0)'
                if missing
                else "give the model to the configuration: plan.to_peft_config(model)"
            )
        )
    if missing:
        raise InputError(
            f"PEFT did not adapt {len(missing)} of {len(planned)} planned modules, such as {missing[0]}; leave out "
            "exclude_modules, modules_to_save and layers_to_transform, or set the rank of these to 0"
        )
    for name, plan in planned.items():
        made = built[name]
        if made.rank != plan.rank:
            raise InputError(
                f"PEFT gave {name} rank {made.rank}, and the plan rank {plan.rank}; use plan.to_peft_config(model) "
                "as it is"
            )
        if not math.isclose(made.scale, plan.scale, rel_tol=1e-6):
            raise InputError(
                f"PEFT scales {name} by {made.scale:g}, and the plan by {plan.scale:g}; use "
                "plan.to_peft_config(model) as it is, and check with the alpha_over_rank that you gave it"
            )
        if made.n_parameters != plan.n_parameters:
            raise InputError(
                f"PEFT made {made.n_parameters:,} parameters for {name}, and the plan counts {plan.n_parameters:,}; "
                "allocate ranks for this model"
            )
