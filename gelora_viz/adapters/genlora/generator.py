"""The basis-vector generator of our GenLoRA reconstruction: a latent vector and radial basis functions give a matrix.

    F[j, k] = sum_q w[j, g(k), q] * exp(-((z[k] - c[j, g(k), q]) / s[j, g(k), q])^2)

F is A (r, in) or B^T (r, out); row j is a basis vector. z is the factor's latent vector, one number per coordinate
k. The coordinates fall into G contiguous groups, g(k) is the group of k, and every row has K radial basis functions
(RBFs) of its own in every group, with weight w, center c and width s. Where neither centers nor widths train, they
are one fixed grid that all rows and groups share.

GenLoRA (arXiv 2602.05709) says that latent vectors and lightweight RBFs synthesize the basis vectors; the form above,
the groups, the widths' bound and the initialization are our reconstruction.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from gelora_viz.errors import first_line

logger = logging.getLogger("gelora_viz")

_GRID_END = 2.0
"""Centers begin evenly spaced from -2 to 2, where 95 % of a standard normal latent lies."""
_LEAST_WIDTH = 0.1
"""Widths stay above this share of the initial one, so that |d phi / d z| <= 0.858 / width is bounded."""


def grid(num_rbfs: int, device: torch.device | None = None) -> tuple[torch.Tensor, float]:
    """Initial centers (num_rbfs,) and the width that all of them begin with: their distance."""
    if num_rbfs == 1:
        return torch.zeros(1, device=device), _GRID_END
    return torch.linspace(-_GRID_END, _GRID_END, num_rbfs, device=device), 2 * _GRID_END / (num_rbfs - 1)


def _widths_from(raw: torch.Tensor) -> torch.Tensor:
    """Widths (r, G, K) from what is trained: always above the least width, and never stuck there."""
    least = _LEAST_WIDTH * grid(raw.shape[-1])[1]
    return least + torch.nn.functional.softplus(raw)


def initial_raw_width(num_rbfs: int) -> float:
    """The trained number that stands for the initial width."""
    return math.log(math.expm1((1 - _LEAST_WIDTH) * grid(num_rbfs)[1]))


def initial_weight_scale(latent: torch.Tensor, num_rbfs: int) -> torch.Tensor:
    """Standard deviation of normal weights that gives F the variance 1 / (3 n) of PEFT's freshly made LoRA A."""
    centers, width = grid(num_rbfs, latent.device)
    phi = torch.exp(-(((latent.float()[:, None] - centers) / width) ** 2))
    energy = phi.square().sum(1).mean()
    return (3 * len(latent) * energy).rsqrt()


def generate_factor(
    latent: torch.Tensor,
    weights: torch.Tensor,
    centers: torch.Tensor | None = None,
    raw_widths: torch.Tensor | None = None,
) -> torch.Tensor:
    """The generated factor, in float32.

    The tensor (r, n, K) of all RBFs at all coordinates is never held: on a shared grid a (n, K) one serves all rows,
    and otherwise one RBF after the other is added, and computed again for the gradient.

    Args:
        latent: (n,), one number per coordinate.
        weights: (r, G, K).
        centers: (r, G, K), or None for the fixed grid.
        raw_widths: (r, G, K) as in `_widths_from`, or None for the fixed width.

    Returns:
        (r, n)
    """
    n = len(latent)
    _, n_groups, n_rbfs = weights.shape
    with torch.autocast(latent.device.type, enabled=False):
        z, w = _in_groups(latent.float(), n_groups), weights.float()
        fixed_centers, fixed_width = grid(n_rbfs, latent.device)
        if centers is None and raw_widths is None:
            phi = torch.exp(-(((z[:, :, None] - fixed_centers) / fixed_width) ** 2))
            rows = torch.bmm(w.transpose(0, 1), phi.transpose(1, 2)).transpose(0, 1)
        else:
            c = (fixed_centers if centers is None else centers.float()).expand_as(w)
            s = w.new_full((), fixed_width).expand_as(w) if raw_widths is None else _widths_from(raw_widths.float())
            rows = _SumOfRbfs.apply(z, w, c, s)  # type: ignore[no-untyped-call]
        return _out_of_groups(rows, n)


class _SumOfRbfs(torch.autograd.Function):
    """The sum over RBFs of rows' own, which keeps nothing of size (r, n) for the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, *inputs: torch.Tensor) -> torch.Tensor:
        """Rows (r, G, s) of latents (G, s), weights, centers and widths (r, G, K)."""
        ctx.save_for_backward(*inputs)
        rows: torch.Tensor = _fused(_sum_of_rbfs)(*inputs)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:  # noqa: ANN401 - torch's
        """Gradients of the four inputs."""
        gradients: tuple[torch.Tensor, ...] = _fused(_sum_of_rbfs_gradients)(gradient, *ctx.saved_tensors)
        return gradients


def _sum_of_rbfs(z: torch.Tensor, w: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros((), device=z.device)
    for q in range(w.shape[2]):
        u = (z - c[:, :, q, None]) / s[:, :, q, None]
        rows = torch.addcmul(rows, w[:, :, q, None], torch.exp(-u * u))
    return rows


def _sum_of_rbfs_gradients(
    gradient: torch.Tensor, z: torch.Tensor, w: torch.Tensor, c: torch.Tensor, s: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    of_z = torch.zeros_like(z)
    of_w, of_c, of_s = [], [], []
    for q in range(w.shape[2]):
        width = s[:, :, q, None]
        u = (z - c[:, :, q, None]) / width
        weighed = gradient * torch.exp(-u * u)
        of_w.append(weighed.sum(2))
        slope = weighed * w[:, :, q, None] * (2 * u / width)  # of c; that of z is its negative
        of_z = of_z - slope.sum(0)
        of_c.append(slope.sum(2))
        of_s.append((slope * u).sum(2))
    return of_z, torch.stack(of_w, 2), torch.stack(of_c, 2), torch.stack(of_s, 2)


@functools.cache
def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, its dozens of small steps compiled into few kernels on CUDA, where launching them costs more.

    On the CPU, inside a model that is being compiled anyway, and where compiling fails, it runs as it stands.
    """
    compile_once = functools.cache(torch.compile)
    can_compile = True

    def run(*inputs: torch.Tensor) -> Any:  # noqa: ANN401 - what `function` returns
        nonlocal can_compile
        if can_compile and inputs[0].is_cuda and not torch.compiler.is_compiling():
            try:
                return compile_once(function)(*inputs)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a compiler can fail with; the result is the same
                can_compile = False
                logger.warning("GenLoRA's generator runs uncompiled, and slower: %s", first_line(error))
        return function(*inputs)

    return run


def _in_groups(latent: torch.Tensor, n_groups: int) -> torch.Tensor:
    """(n,) -> (G, s): contiguous groups, the shorter ones filled up with their last coordinate."""
    n = len(latent)
    if n % n_groups == 0:
        return latent.view(n_groups, -1)
    positions, _ = _layout(n, n_groups, latent.device)
    return latent[positions]


def _out_of_groups(rows: torch.Tensor, n: int) -> torch.Tensor:
    """(r, G, s) -> (r, n), without what was filled up."""
    n_groups = rows.shape[1]
    flat = rows.flatten(1)
    return flat if n % n_groups == 0 else flat.index_select(1, _layout(n, n_groups, rows.device)[1])


@functools.lru_cache(maxsize=256)
def _layout(n: int, n_groups: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinate at each place (G, s), and place of each coordinate (n,), for groups whose sizes differ by one."""
    groups = np.array_split(np.arange(n), n_groups)
    size = len(groups[0])
    positions = np.stack([np.pad(group, (0, size - len(group)), mode="edge") for group in groups])
    places = np.concatenate([number * size + np.arange(len(group)) for number, group in enumerate(groups)])
    return torch.as_tensor(positions, device=device), torch.as_tensor(places, device=device)
