"""The neighbor search on a real CUDA device: the same neighbors as on the CPU, within the device's memory."""

import numpy as np
import pytest
import torch

from gelora_viz.dimension import _search as search
from gelora_viz.dimension import neighbor_graph

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def cloud(n_points=5000, n_features=256):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n_points, 12)) @ rng.normal(size=(12, n_features))).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_the_graph_is_the_processors(offset):
    points = cloud()
    points[:, 7] += offset
    on_cpu, on_gpu = neighbor_graph(points, 100), neighbor_graph(points, 100, device="cuda")
    np.testing.assert_array_equal(on_gpu.indices, on_cpu.indices)
    np.testing.assert_allclose(on_gpu.distances, on_cpu.distances, rtol=1e-9)


def test_tf32_does_not_lose_neighbors():
    torch.set_float32_matmul_precision("medium")
    try:
        graph = neighbor_graph(cloud(), 20, device="cuda")
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(graph.indices, neighbor_graph(cloud(), 20).indices)


def test_out_of_memory_makes_the_blocks_smaller(monkeypatch):
    """With so little memory left that the first blocks do not fit."""
    points = cloud(20_000, 64)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(400e6 / torch.cuda.get_device_properties(0).total_memory)
    try:
        graph = neighbor_graph(points, 20, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_array_equal(graph.indices, neighbor_graph(points, 20).indices)


def test_memory_on_the_device_stays_within_the_points_and_a_few_blocks():
    points = cloud(50_000, 512)
    torch.cuda.reset_peak_memory_stats()
    neighbor_graph(points, 100, device="cuda")
    assert torch.cuda.max_memory_allocated() < 2 * points.nbytes + 6 * search._PRODUCT_BYTES
