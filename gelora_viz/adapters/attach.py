"""Put an adapter on a model through PEFT, after checking that it was meant for that model."""

from __future__ import annotations

from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, set_seed

from gelora_viz.errors import InputError
from gelora_viz.ranks import RankPlan
from gelora_viz.ranks.matrices import matrix_shape


def add_adapter(model: PreTrainedModel, adapter: RankPlan | PeftConfig, *, seed: int = 0) -> PeftModel:
    """Wrap a model with a fresh adapter; only the adapter's parameters stay trainable.

    Args:
        model: the model to adapt; changed in place, as PEFT does.
        adapter: a rank plan, or a PEFT configuration of any method.
        seed: of the adapter's initial weights.

    Raises:
        InputError: if a plan names modules that the model does not have, or has with another shape; if a
            configuration's target modules match nothing.
    """
    if isinstance(adapter, RankPlan):
        _check_plan(model, adapter)
        config: PeftConfig = adapter.to_peft_config()
    else:
        config = adapter
    set_seed(seed)
    try:
        adapted = get_peft_model(model, config)
    except (ValueError, TypeError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"PEFT refuses the adapter ({reason}); check its target_modules, ranks and task") from error
    if isinstance(adapter, RankPlan):
        trainable = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
        if trainable != adapter.n_parameters:
            raise InputError(
                f"the plan counts {adapter.n_parameters:,} parameters but PEFT made {trainable:,}: a name of the "
                "plan matches further modules of this model; make a plan for it"
            )
    return adapted


def _check_plan(model: nn.Module, plan: RankPlan) -> None:
    modules = dict(model.named_modules())
    differing = []
    for row in plan.frame.itertuples():
        name, shape = str(row.module), (int(row.in_features), int(row.out_features))
        found = matrix_shape(modules[name]) if name in modules else None
        if found != shape:
            has = "missing" if found is None else f"{found[0]} x {found[1]}"
            differing.append(f"{name} ({has}, planned {shape[0]} x {shape[1]})")
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"the plan was made for another model: {', '.join(differing[:3])}{more}; allocate ranks for this one"
        )
