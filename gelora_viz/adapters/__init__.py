"""A rank plan or a PEFT configuration onto a model; GenLoRA, in our reconstruction, as one more PEFT method."""

from gelora_viz.adapters.attach import add_adapter, config_from_dict
from gelora_viz.adapters.budget import fit_budget
from gelora_viz.adapters.genlora import GenLoraConfig, GenLoraLayer, GenLoraModel, generate_factor

__all__ = [
    "GenLoraConfig",
    "GenLoraLayer",
    "GenLoraModel",
    "add_adapter",
    "config_from_dict",
    "fit_budget",
    "generate_factor",
]
