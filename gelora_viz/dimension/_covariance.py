"""lPCA: the eigenvalues of the covariance, in descending order, and the estimators that read them.

Global and linear: a curved sheet counts all the directions it bends through, so none of them is a manifold dimension.
"""

from __future__ import annotations

import numpy as np

RATIO_VARIANCE = 0.95
"""Share of the variance that "ratio" keeps. (scikit-dimension's default of 0.05 keeps 5 %.)"""
_FAN_SIGNAL, _FAN_GAP, _FAN_VARIANCE = 0.95, 10.0, 0.8
"""Constants of Fan et al. 2010: share of variance that is signal, a large gap, share of variance to explain."""

_ROWS = 8192


def moments(points: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum x x^T and x over points about this mean, in float64, a block of rows at a time."""
    n_features = points.shape[1]
    moment, total = np.zeros((n_features, n_features)), np.zeros(n_features)
    for start in range(0, len(points), _ROWS):
        block = points[start : start + _ROWS] - mean
        moment += block.T @ block
        total += block.sum(axis=0)
    return moment, total


def eigenvalues(moment: np.ndarray, total: np.ndarray, n_points: int) -> np.ndarray:
    """Compute covariance eigenvalues, at most n - 1, from the sums of x x^T and of x over the points."""
    mean = total / n_points
    values = np.linalg.eigvalsh(moment / n_points - np.outer(mean, mean))[::-1]
    return np.clip(values[: n_points - 1], 0.0, None)


def lpca_participation_ratio(eigenvalues: np.ndarray) -> float:
    """Participation ratio of the covariance, (sum l)^2 / sum l^2: how many directions share the variance.

    Gao et al. 2017, doi:10.1101/214262.
    """
    return float(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())


def lpca_maxgap(eigenvalues: np.ndarray) -> float:
    """Number of eigenvalues before the largest ratio of one to the next; where the rest are rounding, those above it.

    Bruske & Sommer 1998, doi:10.1109/34.682189. An argmax: it can jump from 1 to n_features between similar layers.
    """
    above = eigenvalues[eigenvalues > eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps]
    if len(above) < len(eigenvalues) or len(above) == 1:
        return float(len(above))  # an exactly flat cloud: the fall to rounding is the largest gap
    return float(np.argmax(above[:-1] / above[1:]) + 1)


def lpca_ratio(eigenvalues: np.ndarray) -> float:
    """Fewest directions that hold 95 % of the variance.

    Jolliffe 2002, Principal Component Analysis, section 6.1.1.
    """
    shares = np.cumsum(eigenvalues) / eigenvalues.sum()
    return float(np.sum(shares < RATIO_VARIANCE) + 1)


def lpca_fan(eigenvalues: np.ndarray) -> float:
    """Fewest directions before a gap that exceeds 10, or that explain 80 % of the variance above the noise.

    Noise is the mean eigenvalue beyond the first 95 % of the variance. Fan, Gu, Qiao & Zhang 2010, arXiv:1002.2050.
    """
    first_noise = np.flatnonzero(np.cumsum(eigenvalues) / eigenvalues.sum() > _FAN_SIGNAL)[0]
    if first_noise == 0:
        return 1.0  # one direction holds it all, and there is no telling the others from noise
    signal = eigenvalues - eigenvalues[first_noise:].mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.flatnonzero(signal[:-1] / signal[1:] > _FAN_GAP)
        enough = np.flatnonzero(np.cumsum(signal) / signal.sum() > _FAN_VARIANCE)
    found = np.concatenate([wide, enough])
    return float(found.min() + 1) if len(found) else float(len(eigenvalues))


def lpca_kaiser(eigenvalues: np.ndarray) -> float:
    """Number of eigenvalues above their mean.

    Kaiser 1960, doi:10.1177/001316446002000116, with the covariance in place of the correlation.
    """
    return float(np.sum(eigenvalues > eigenvalues.mean())) or 1.0
