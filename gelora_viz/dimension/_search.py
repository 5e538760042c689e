"""Exact nearest neighbors: candidates from a float32 matrix product, their distances recomputed in float64.

On the CPU the matrix product is the floor. Distances are symmetric, so each block of it serves the rows and, turned,
the columns, and only half of the product is ever computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations_with_replacement
from threading import Lock

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from gelora_viz.dimension._kernels import keep_nearest_in_columns, keep_nearest_in_rows, write_distances
from gelora_viz.errors import InputError

logger = logging.getLogger("gelora_viz")

_FEWEST_SPARE = 4
_SPARE_SHARE = 0.1
"""Extra candidates beyond k, so that rounding rarely makes a second search necessary."""
_BLOCK = 1024
"""Rows and columns of one block of products: 4 MB, what stays in a core's cache."""
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Rounding error of a float32 product, over sqrt(n_features) times the norms of its factors; errors add up like a
random walk, and four times its step was never reached in trials."""
_BLAS_LOCK = Lock()
_SECOND_LOOK = 16 * _BLOCK**2
"""Distances held at once where points are searched again: 128 MB."""
_PRODUCT_BYTES = 512 * 2**20
"""Memory for one block of products or differences on an accelerator, to begin with."""
_SMALLEST_PRODUCT_BYTES = 8 * 2**20


def nearest(points: np.ndarray, k: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest other points of each point: distances and indices (n_points, k), ascending.

    Candidates come from float32 products of the centered points; the distances of the candidates are recomputed from
    coordinate differences in float64. Where rounding of the products could have hidden a neighbor, that point is
    searched again among all in float64, so the result is exact; for points that crowd together far from the others
    this second look costs more than the search. Of equally far candidates at the k-th place, any may be taken.

    Args:
        points: (n_points, n_features) float32 or float64, distinct.
        k: number of neighbors, less than n_points.
        device: a CPU or CUDA device.

    Raises:
        InputError: if the accelerator's memory does not hold the points and one small block.
    """
    n_candidates = min(k + max(_FEWEST_SPARE, round(_SPARE_SHARE * k)), len(points) - 1)
    centered, unit = centered_in_single(points)
    if device.type == "cpu":
        candidates, furthest = _candidates(centered, n_candidates)
        distances = exact_distances(points, np.arange(len(points)), candidates)
    else:
        candidates, furthest, distances = _search_on(device, points, centered, n_candidates)
    distances, indices = _sorted(distances, candidates, k)
    if n_candidates < len(points) - 1:
        norms = np.sqrt(np.einsum("ij,ij->i", centered, centered, dtype=np.float64))
        reach = distances[:, -1] / unit
        error = ROUNDING * np.sqrt(points.shape[1]) * (norms + reach) ** 2
        sure = reach**2 <= furthest + norms**2 - error
        doubtful = np.flatnonzero(~sure)
        n_rows = max(1, _SECOND_LOOK // len(points))
        for start in range(0, len(doubtful), n_rows):
            rows = doubtful[start : start + n_rows]
            distances[rows], indices[rows] = _search_in_double(points, rows, k)
    return distances, indices


def centered_in_single(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Center the points and scale them by a power of two, in float32; returns them and that power.

    A large offset in some coordinate would cost the products precision, and squares of very large or very small
    coordinates would leave the range of float32.
    """
    mean = points.mean(axis=0, dtype=np.float64)
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(points), _BLOCK)]
    largest = max(float(np.abs(points[block] - mean).max()) for block in blocks)
    unit = float(2.0 ** np.floor(np.log2(largest)))
    centered = np.empty(points.shape, dtype=np.float32)
    for block in blocks:
        centered[block] = (points[block] - mean) / unit
    return centered, unit


def _sorted(distances: np.ndarray, indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort and keep the k nearest; `indices` are ascending already, so that a stable sort orders equal distances."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)


def _search_in_double(points: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search some points again, by differences to every other point: distances and indices (n_rows, k)."""
    every = np.broadcast_to(np.arange(len(points), dtype=np.int32), (len(rows), len(points)))
    distances = exact_distances(points, rows, every)
    distances[np.arange(len(rows)), rows] = np.inf
    near = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, near, axis=1), near.astype(np.int32)


# On the CPU


def _candidates(centered: np.ndarray, n_candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """Find candidates on the CPU: indices (n_points, n_candidates), ascending, and their largest |y|^2 - 2xy."""
    n_points = len(centered)
    squares = np.einsum("ij,ij->i", centered, centered)
    heaps = np.full((n_points, n_candidates), np.inf, dtype=np.float32)
    indices = np.zeros((n_points, n_candidates), dtype=np.int32)
    blocks = [slice(start, min(start + _BLOCK, n_points)) for start in range(0, n_points, _BLOCK)]
    locks = [Lock() for _ in blocks]

    def one_pair(pair: tuple[int, int]) -> None:
        one, other = pair
        rows, columns = blocks[one], blocks[other]
        products = centered[rows] @ centered[columns].T
        if one == other:
            np.fill_diagonal(products, -np.inf)  # no point is its own neighbor
        with locks[one]:
            keep_nearest_in_rows(products, squares[columns], columns.start, heaps[rows], indices[rows])
        if one != other:
            with locks[other]:
                keep_nearest_in_columns(products, squares[rows], rows.start, heaps[columns], indices[columns])

    pairs = list(combinations_with_replacement(range(len(blocks)), 2))
    # Each thread multiplies a block of its own; threads inside the product would stand in each other's way.
    with one_blas_thread(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(one_pair, pairs))
    indices.sort(axis=1)
    return indices, heaps[:, 0].astype(np.float64)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, for work that runs on several threads of its own.

    The number of threads belongs to the process: one at a time sets it, and sets it back.
    """
    with _BLAS_LOCK, threadpool_limits(1, user_api="blas"):
        yield


def on_threads(work: Callable[[slice], None], n_points: int) -> None:
    """Call `work` on shares of the points, as many at a time as torch has threads."""
    n_threads = torch.get_num_threads()
    share = -(-n_points // (4 * n_threads))
    shares = [slice(start, start + share) for start in range(0, n_points, share)]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, shares))


def exact_distances(points: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute distances (n_rows, n_others) of some points to others, from coordinate differences in float64."""
    out = np.empty(others.shape)
    on_threads(lambda share: write_distances(points, rows[share], others[share], out[share]), len(rows))
    return out


# On an accelerator


def _search_on(
    device: torch.device, points: np.ndarray, centered: np.ndarray, n_candidates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find candidates (ascending), their largest |y|^2 - 2xy and distances; smaller blocks if memory runs out."""
    block_bytes = _PRODUCT_BYTES
    while True:
        try:
            with _full_precision():
                return _search_blocks(device, points, centered, n_candidates, block_bytes)
        except torch.OutOfMemoryError as error:
            if block_bytes <= _SMALLEST_PRODUCT_BYTES:
                raise InputError(
                    f"{device} has too little memory for {len(points):,} points of {points.shape[1]:,} features; "
                    "search on the CPU (device=None), or give fewer points"
                ) from error
        block_bytes //= 4
        logger.warning("out of memory on %s: neighbor search with blocks of %d MB", device, block_bytes // 2**20)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Use full float32 even where the user allows TF32, whose 10 bits would lose neighbors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _search_blocks(
    device: torch.device, points: np.ndarray, centered: np.ndarray, n_candidates: int, block_bytes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = torch.as_tensor(centered, device=device)
    exact = torch.as_tensor(points, device=device)
    squares = x.square().sum(dim=1)
    n_rows = max(1, block_bytes // (4 * len(x)))
    candidates, furthest, distances = [], [], []
    for start in range(0, len(x), n_rows):
        rows = torch.arange(start, min(start + n_rows, len(x)), device=device)
        values = torch.addmm(squares[None, :], x[rows], x.T, alpha=-2.0)
        values[torch.arange(len(rows), device=device), rows] = torch.inf
        nearest_values, near = values.topk(n_candidates, dim=1, largest=False)
        near = near.sort(dim=1).values
        candidates.append(near.to(torch.int32).cpu())
        furthest.append(nearest_values[:, -1].double().cpu())
        distances.append(_differences(exact, rows, near, block_bytes).cpu())
    return torch.cat(candidates).numpy(), torch.cat(furthest).numpy(), torch.cat(distances).numpy()


def _differences(x: torch.Tensor, rows: torch.Tensor, candidates: torch.Tensor, block_bytes: int) -> torch.Tensor:
    """Compute distances (n_rows, n_candidates) in float64, a few rows at a time."""
    n_rows = max(1, block_bytes // (16 * candidates.shape[1] * x.shape[1]))
    parts = [
        (x[near].double() - x[own][:, None].double()).square().sum(dim=2).sqrt()
        for own, near in zip(torch.split(rows, n_rows), torch.split(candidates, n_rows), strict=True)
    ]
    return torch.cat(parts)
