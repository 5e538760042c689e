"""GenLoRA, in our reconstruction, as a PEFT method: importing this package registers it with PEFT.

Afterwards `peft.get_peft_model`, `PeftModel.from_pretrained`, merging and everything else works as for PEFT's own
methods. An adapter loaded in a process that has not imported it fails with PEFT's `KeyError: 'GENLORA'`.
"""

from gelora_viz.adapters.genlora.config import GenLoraConfig
from gelora_viz.adapters.genlora.generator import generate_factor
from gelora_viz.adapters.genlora.layer import GenLoraLayer, GenLoraLinear
from gelora_viz.adapters.genlora.model import GenLoraModel
from gelora_viz.adapters.genlora.registration import register

__all__ = ["GenLoraConfig", "GenLoraLayer", "GenLoraLinear", "GenLoraModel", "generate_factor"]

register(GenLoraConfig, GenLoraModel)
