"""GenLoRA on a GPU: what the CPU gives, compiled or not, inside a CUDA graph, and at close to LoRA's memory."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import set_seed

from gelora_viz import GenLoraConfig
from gelora_viz.adapters.genlora.generator import generate_factor, initial_raw_width

pytestmark = pytest.mark.gpu
R, N_GROUPS, N_RBFS, N = 32, 8, 4, 4096


def parts(device):
    """Latents, weights, centers and raw widths, the same on every device."""
    generator = torch.Generator().manual_seed(0)
    shape = (R, N_GROUPS, N_RBFS)
    drawn = [
        torch.randn(N, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        initial_raw_width(N_RBFS) + 0.1 * torch.randn(shape, generator=generator),
    ]
    return [each.to(device).requires_grad_() for each in drawn]


@pytest.mark.parametrize("own_rbfs", [False, True], ids=["grid", "full"])
def test_factors_and_gradients_are_the_cpu_s(own_rbfs, caplog):
    factors, gradients = {}, {}
    for device in ("cpu", "cuda"):
        inputs = parts(device)[: 4 if own_rbfs else 2]
        factors[device] = generate_factor(*inputs)
        above = torch.linspace(-1, 1, R * N, device=device).view(R, N)
        gradients[device] = torch.autograd.grad(factors[device], inputs, above)
    torch.testing.assert_close(factors["cuda"].cpu(), factors["cpu"], rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(gradients["cuda"], gradients["cpu"], strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=5e-3, atol=5e-2)
    assert not caplog.records, "the generator could not be compiled"


@pytest.mark.parametrize("own_rbfs", [False, True], ids=["grid", "full"])
def test_a_training_step_can_be_captured_as_a_cuda_graph(own_rbfs):
    set_seed(0)
    config = GenLoraConfig(
        r=R, num_groups=N_GROUPS, num_rbfs=N_RBFS, target_modules=["0"], init_weights=False,
        train_centers=own_rbfs, train_widths=own_rbfs,
    )  # fmt: skip
    model = get_peft_model(nn.Sequential(nn.Linear(512, 512)).cuda().bfloat16(), config)
    twin = copy.deepcopy(model)
    x = torch.randn(64, 512, device="cuda", dtype=torch.bfloat16)

    def step(each):
        each(x).float().square().mean().backward()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(model)
    torch.cuda.current_stream().wait_stream(stream)
    model.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(model)
    graph.replay()
    torch.cuda.synchronize()
    step(twin)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-2, atol=1e-4)


def test_a_step_at_4096_takes_hardly_more_memory_than_lora_s():
    peaks = {}
    for name, config in (
        ("lora", LoraConfig(r=R, target_modules=["0"])),
        ("genlora", GenLoraConfig(r=R, num_groups=N_GROUPS, num_rbfs=8, target_modules=["0"])),
    ):
        model = get_peft_model(nn.Sequential(nn.Linear(N, N)).cuda().bfloat16(), config)
        x = torch.randn(2048, N, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3):
            torch.cuda.reset_peak_memory_stats()
            model(x).float().square().mean().backward()
        peaks[name] = torch.cuda.max_memory_allocated()
        del model, x
    assert peaks["genlora"] < 1.05 * peaks["lora"]
