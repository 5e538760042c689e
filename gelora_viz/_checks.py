"""Arguments that many steps take, checked in one way before anything is done with them."""

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


def check_seed(seed: object) -> int:
    """The seed; raises `InputError` unless it is a whole number from 0 to 2**32 - 1, as numpy and torch both take."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed!r}; give a whole number from 0 to {2**32 - 1}")
    return seed
