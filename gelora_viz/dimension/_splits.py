"""How many splits into halves an interval is worth, by what each one costs."""

from __future__ import annotations

N_SPLITS_EXPENSIVE = 6
"""Splits where each one costs as much as a search: coordinates are read, or a covariance of over 1,024 features."""
N_SPLITS_EXTERNAL = 3
"""Splits where scikit-dimension takes minutes for each."""
_WIDE = 1024


def affordable_splits(n_splits: int, n_features: int) -> int:
    """Count the splits for which eigenvalues of both halves are affordable."""
    return n_splits if n_features <= _WIDE else min(n_splits, N_SPLITS_EXPENSIVE)
