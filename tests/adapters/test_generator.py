"""Generated factors are the sum that the docstring writes down; the source of truth is that sum in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gelora_viz.adapters.genlora.generator import (
    _LEAST_WIDTH,
    _fused,
    _sum_of_rbfs,
    _sum_of_rbfs_gradients,
    _widths_from,
    generate_factor,
    grid,
    initial_raw_width,
    initial_weight_scale,
)
from gelora_viz.spectra import entropy_rank

R, N_GROUPS, N_RBFS = 5, 4, 3


def parts(n, n_groups=N_GROUPS, *, seed=0):
    """Latents, weights, centers and raw widths, all of which want gradients."""
    generator = torch.Generator().manual_seed(seed)
    shape = (R, n_groups, N_RBFS)
    drawn = [torch.randn(n, generator=generator), *(torch.randn(shape, generator=generator) for _ in range(3))]
    return [each.requires_grad_() for each in drawn]


def summed_in_loops(latent, weights, centers, widths):
    n = len(latent)
    group_of = np.concatenate(
        [np.full(len(part), g) for g, part in enumerate(np.array_split(np.arange(n), weights.shape[1]))]
    )
    return torch.stack(
        [
            sum(
                weights[:, g, q] * torch.exp(-(((latent[k] - centers[:, g, q]) / widths[:, g, q]) ** 2))
                for q in range(weights.shape[2])
            )
            for k, g in enumerate(group_of)
        ],
        dim=1,
    )


@pytest.mark.parametrize("n", [8, 21], ids=["equal groups", "unequal groups"])
def test_rows_with_rbfs_of_their_own_are_the_written_sum_and_so_are_their_gradients(n):
    latent, weights, centers, raw = parts(n)
    generated = generate_factor(latent, weights, centers, raw)
    expected = summed_in_loops(latent, weights, centers, _widths_from(raw))
    torch.testing.assert_close(generated, expected)
    above = torch.randn(R, n, generator=torch.Generator().manual_seed(1))
    inputs = (latent, weights, centers, raw)
    ours, theirs = (torch.autograd.grad(each, inputs, above, retain_graph=True) for each in (generated, expected))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [8, 21], ids=["equal groups", "unequal groups"])
def test_a_shared_grid_gives_what_rows_of_their_own_give_at_that_grid(n):
    latent, weights, *_ = parts(n)
    centers = grid(N_RBFS)[0].expand(R, N_GROUPS, N_RBFS).contiguous()
    raw = torch.full((R, N_GROUPS, N_RBFS), initial_raw_width(N_RBFS))
    shared, own = generate_factor(latent, weights), generate_factor(latent, weights, centers, raw)
    torch.testing.assert_close(shared, own)
    gradients = [torch.autograd.grad(each.square().sum(), (latent, weights)) for each in (shared, own)]
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


def test_centres_alone_or_widths_alone_may_be_the_rows_own():
    latent, weights, centers, raw = parts(12)
    fixed_centers, fixed_width = grid(N_RBFS)
    torch.testing.assert_close(
        generate_factor(latent, weights, centers),
        summed_in_loops(latent, weights, centers, torch.full_like(centers, fixed_width)),
    )
    torch.testing.assert_close(
        generate_factor(latent, weights, None, raw),
        summed_in_loops(latent, weights, fixed_centers.expand_as(raw), _widths_from(raw)),
    )


@pytest.mark.parametrize("own_rbfs", [True, False])
def test_nothing_of_the_size_of_all_rbfs_at_all_coordinates_is_ever_held(own_rbfs):
    n = 4096
    latent, weights, centers, raw = parts(n)

    class Largest(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.n_elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else (out,):
                if isinstance(each, torch.Tensor):
                    self.n_elements = max(self.n_elements, each.numel())
            return out

    with Largest() as largest:
        generate_factor(latent, weights, *((centers, raw) if own_rbfs else ())).sum().backward()
    assert R * n <= largest.n_elements < R * n * N_RBFS


def test_widths_stay_above_the_least_one_whatever_training_does_and_their_gradient_never_vanishes():
    raw = torch.tensor([[[-50.0, -5.0, 0.0]]], requires_grad=True)
    widths = _widths_from(raw)
    assert (widths >= _LEAST_WIDTH * grid(3)[1]).all()
    assert _widths_from(torch.full((1, 1, 4), initial_raw_width(4))).flatten().tolist() == pytest.approx([4 / 3] * 4)
    widths[0, 0, 1].backward()
    assert raw.grad[0, 0, 1] > 0
    assert torch.isfinite(_widths_from(torch.full((1, 1, 3), 1e30))).all()


def test_one_rbf_has_a_grid_of_one():
    centers, width = grid(1)
    assert centers.tolist() == [0.0]
    assert width == 2.0


def test_a_fresh_factor_has_the_variance_of_a_fresh_lora_a():
    n = 4096
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(n, generator=generator)
    weights = torch.randn(64, 8, 4, generator=generator) * initial_weight_scale(latent, 4)
    lora_a = torch.nn.init.kaiming_uniform_(torch.empty(64, n), a=math.sqrt(5), generator=generator)
    assert generate_factor(latent, weights).var().item() == pytest.approx(lora_a.var().item(), rel=0.1)


@pytest.mark.parametrize(
    ("n_groups", "n_rbfs", "noted"),
    [(1, 8, 6.4), (4, 8, 21.3), (8, 4, 20.8), (8, 8, 27.0), (16, 8, 29.5)],
)
def test_more_groups_give_fresh_factors_a_higher_effective_rank(n_groups, n_rbfs, noted):
    """Against figures noted from another implementation of the same formula: r = 32, n = 4096, shared grid."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(4096, generator=generator)
    factor = generate_factor(latent, torch.randn(32, n_groups, n_rbfs, generator=generator))
    values = torch.linalg.svdvals(factor.double())
    assert entropy_rank(values.numpy()) == pytest.approx(noted, rel=0.12)
    assert (values > 1e-5 * values[0]).sum() == min(32, n_groups * n_rbfs)


def test_a_half_precision_latent_and_autocast_still_generate_in_float32():
    latent, weights, centers, raw = (each.detach() for each in parts(12))
    expected = generate_factor(latent.bfloat16().float(), weights, centers, raw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shared, own = (
            generate_factor(latent.bfloat16(), weights),
            generate_factor(latent.bfloat16(), weights, centers, raw),
        )
    assert shared.dtype == own.dtype == torch.float32
    torch.testing.assert_close(own, expected)
    torch.testing.assert_close(shared, generate_factor(latent.bfloat16().float(), weights))


def test_where_compiling_fails_the_generator_says_so_once_and_runs_uncompiled(monkeypatch, caplog):
    class OnCuda(torch.Tensor):
        is_cuda = True

    def failing(_function):
        raise RuntimeError("no compiler here\nsecond line")

    monkeypatch.setattr(torch, "compile", failing)
    run = _fused.__wrapped__(lambda x: x + 1)
    with caplog.at_level("WARNING", "gelora_viz"):
        for _ in range(2):
            assert run(torch.ones(2).as_subclass(OnCuda)).tolist() == [2.0, 2.0]
    assert [record.message for record in caplog.records] == [
        "GenLoRA's generator runs uncompiled, and slower: no compiler here"
    ]


def test_compiled_the_generator_and_its_gradient_give_the_same():
    """Traced and lowered as on a GPU, but for the last step, which needs a compiler that not every machine has."""
    compiled_as = {"backend": "aot_eager", "fullgraph": True}
    latent, weights, centers, raw = (each.detach() for each in parts(12))
    inputs = (latent.view(N_GROUPS, -1), weights, centers, _widths_from(raw))
    torch.testing.assert_close(torch.compile(_sum_of_rbfs, **compiled_as)(*inputs), _sum_of_rbfs(*inputs))
    above = torch.ones(R, N_GROUPS, 3)
    compiled = torch.compile(_sum_of_rbfs_gradients, **compiled_as)(above, *inputs)
    plain = _sum_of_rbfs_gradients(above, *inputs)
    for our, their in zip(compiled, plain, strict=True):
        torch.testing.assert_close(our, their)
