"""A rank plan or a PEFT configuration onto a model: checked first, then handed to PEFT."""

from gelora_viz.adapters.attach import add_adapter

__all__ = ["add_adapter"]
