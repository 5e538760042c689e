"""Four measures of how many directions a matrix actually uses, from its singular values; 0 for a zero matrix."""

from __future__ import annotations

import numpy as np

_NUMERICAL_TOLERANCE = 1e-3
"""Singular values below this share of the largest do not count in `numerical_rank`: fp16 rounds them away."""


def entropy_rank(values: np.ndarray) -> float:
    """exp(-sum p log p) with p = s / sum s: the "effective rank" of Roy & Vetterli 2007 (EUSIPCO), definition 1.

    Example:
        >>> entropy_rank(np.array([1.0, 1.0, 0.0]))
        2.0
    """
    positive = values[values > 0]
    if len(positive) == 0:
        return 0.0
    shares = positive / positive.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def stable_rank(values: np.ndarray) -> float:
    """||W||_F^2 / ||W||_2^2, between 1 and the rank; insensitive to small singular values."""
    largest = values.max(initial=0.0)
    return float(np.square(values / largest).sum()) if largest > 0 else 0.0


def participation_ratio(values: np.ndarray) -> float:
    """(sum s^2)^2 / sum s^4: how many directions share the energy."""
    largest = values.max(initial=0.0)
    if largest == 0:
        return 0.0
    squares = np.square(values / largest)
    return float(squares.sum() ** 2 / np.square(squares).sum())


def numerical_rank(values: np.ndarray, tolerance: float = _NUMERICAL_TOLERANCE) -> int:
    """Number of singular values above `tolerance` times the largest."""
    largest = values.max(initial=0.0)
    return int((values > tolerance * largest).sum()) if largest > 0 else 0
