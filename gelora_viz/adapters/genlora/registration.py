"""Tell PEFT about GenLoRA, once per process."""

from __future__ import annotations

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method

from gelora_viz.adapters.genlora.peft_type import GENLORA, genlora_type


def register(config_cls: type[PeftConfig], model_cls: type[BaseTuner]) -> None:
    """Register the method; registering again, as after a reload in a notebook, puts the newer classes there."""
    method = genlora_type()
    for registry in (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING):
        registry.pop(method, None)
    register_peft_method(name=GENLORA.lower(), config_cls=config_cls, model_cls=model_cls)
