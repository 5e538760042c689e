"""A device that a user named, checked before anything is put on it."""

from __future__ import annotations

import torch

from gelora_viz.errors import InputError


def resolve_device(name: str | None) -> torch.device:
    """The torch device of this name; None means the CPU.

    Raises:
        InputError: if torch does not know the device, or this machine does not have it.
    """
    try:
        device = torch.device(name or "cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here ({reason}); give cpu, or leave it out") from error
    return device
