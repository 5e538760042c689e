"""AdamW for the adapter and the head, each with its own learning rate, and the schedule that both follow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from gelora_viz.runs import RunSpec


def build_optimizer(spec: RunSpec, backbone: nn.Module, head: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW without weight decay; its first group has the adapter's learning rate, which with LoRA+ is that of A."""
    optimizer: torch.optim.Optimizer
    if spec.plus_ratio is None or not isinstance(backbone, PeftModel):
        trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW([{"params": trained, "lr": spec.learning_rate}], weight_decay=0.0)
    else:
        optimizer = create_loraplus_optimizer(
            backbone, torch.optim.AdamW, lr=spec.learning_rate, loraplus_lr_ratio=spec.plus_ratio, weight_decay=0.0
        )
    if head:
        optimizer.add_param_group({"params": list(head), "lr": spec.head_learning_rate})
    return optimizer


def build_schedule(spec: RunSpec, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The schedule over the run's steps, as transformers has it under that name."""
    schedule: LRScheduler = get_scheduler(
        spec.schedule,
        optimizer,
        num_warmup_steps=math.ceil(spec.warmup * spec.steps),
        num_training_steps=spec.steps,
    )
    return schedule
