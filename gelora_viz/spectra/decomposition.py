"""Singular values and vectors of updates: equal shapes in one batch, products through small matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from gelora_viz.spectra.updates import Update

_BATCH_BYTES = 2**28
"""Memory that updates may take while they wait to be decomposed together, which takes several times as much."""


class _Decomposition(NamedTuple):
    """DW = U diag(s) V^T.

    Attributes:
        left: U (out, k), orthonormal columns.
        values: s (k,), descending; k = r for an update with factors of rank r, else min(out, in).
        right: V^T (k, in), orthonormal rows.
    """

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor


def in_batches(updates: Iterable[Update], limit: int = _BATCH_BYTES) -> Iterator[list[Update]]:
    """Updates of equal shapes together, in no particular order, so that a GPU decomposes many at once.

    Args:
        updates: read one at a time.
        limit: bytes that may wait; the fullest batch goes when there are more.
    """
    waiting: dict[tuple[object, ...], list[Update]] = defaultdict(list)
    n_bytes = 0
    for update in updates:
        waiting[update.shapes].append(update)
        n_bytes += update.n_bytes
        if n_bytes > limit:
            fullest = max(waiting, key=lambda shapes: len(waiting[shapes]) * waiting[shapes][0].n_bytes)
            batch = waiting.pop(fullest)
            n_bytes -= len(batch) * batch[0].n_bytes
            yield batch
    yield from waiting.values()


def decompose_values(batch: Sequence[Update]) -> torch.Tensor:
    """(n_updates, k) singular values of updates of equal shapes, descending.

    A product is decomposed without ever being formed: with left = Q_l R_l and right^T = Q_r R_r, its singular values
    are those of the r x r matrix R_l R_r^T.
    """
    parts = _stacked(batch)
    return torch.linalg.svdvals(parts[0] if len(parts) == 1 else _triangle(parts[0]) @ _triangle(parts[1].mT).mT)


def decompose(update: Update) -> _Decomposition:
    """Singular values and vectors of one update, of a product through r x r matrices."""
    if len(update.parts) == 1:
        return _Decomposition(*torch.linalg.svd(update.parts[0], full_matrices=False))
    left, left_triangle = torch.linalg.qr(update.parts[0])
    right, right_triangle = torch.linalg.qr(update.parts[1].T)
    small_left, values, small_right = torch.linalg.svd(left_triangle @ right_triangle.T, full_matrices=False)
    return _Decomposition(left @ small_left, values, small_right @ right.T)


def norm_of_product(left: torch.Tensor, right: torch.Tensor) -> float:
    """Frobenius norm of left (out, r) times right (r, in), without forming it."""
    return float((_triangle(left) @ _triangle(right.T).T).norm())


def _stacked(batch: Sequence[Update]) -> list[torch.Tensor]:
    return [torch.stack(parts) for parts in zip(*(update.parts for update in batch), strict=True)]


def _triangle(factors: torch.Tensor) -> torch.Tensor:
    """R (..., r, r) of the QR decomposition."""
    return torch.linalg.qr(factors, mode="r").R
