"""How an update relates to its weight: within the weight's main directions, or outside them."""

from __future__ import annotations

import torch

from gelora_viz.spectra.updates import Update

WEIGHT_COLUMNS = ["overlap", "overlap_by_chance", "n_intruders"]
_N_LEADING = 10
"""Leading singular vectors of the tuned weight that may be intruders: k of Shuttleworth et al. 2024 and of PEFT."""
_INTRUDER_COSINE = 0.5
"""Leading vectors closer than this to one of the pretrained weight's do not intrude: their epsilon, and PEFT's."""


def compare_with_weight(update: Update, weight: torch.Tensor, rank: int) -> dict[str, float]:
    """Overlap of an update with its weight's main directions, and the number of intruder dimensions.

    Args:
        update: the update dW.
        weight: the pretrained weight W (out, in), float64, on the update's device.
        rank: how many of the weight's leading directions to compare with; the update's own rank.

    Returns:
        overlap: ||U^T dW V||^2 / ||dW||^2, with the first `rank` left and right singular vectors U and V of W: the
        share of the update's energy that amplifies, or undoes, what the weight does most. overlap_by_chance: what an
        update in random directions has, rank^2 / (out in). n_intruders: how many of the first 10 left singular
        vectors of W + dW have a cosine below 0.5 with every one of W. Overlaps of a zero update are NaN.

    References:
        Hu et al. 2021, LoRA, section 7.3, projects the weight onto the update's directions; this is the other way
        round, and a share. Shuttleworth et al. 2024, https://arxiv.org/abs/2410.21228, algorithm 1.
    """
    change = update.whole
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    energy = float(change.square().sum())
    inside = float((left[:, :rank].T @ change @ right[:rank].T).square().sum())
    leading = torch.linalg.svd(weight + change, full_matrices=False).U[:, :_N_LEADING]
    nearest = (leading.T @ left).abs().amax(dim=1)
    known = energy > 0
    return {
        "overlap": inside / energy if known else float("nan"),
        "overlap_by_chance": rank**2 / change.numel() if known else float("nan"),
        "n_intruders": int((nearest < _INTRUDER_COSINE).sum()),
    }
