"""The neighbor graph of a large layer on a GPU: 100,000 points of 4,096 features with 100 neighbors, exact.

Prints the seconds of the graph and of every estimator that reads its distances, the fraction of the time that the
bare float32 matrix product takes, peak memory on the device, and the same for 20,000 x 1,024. torchid publishes 28 ms
per estimator for the latter, each with a graph of its own.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from machine import describe_machine

from gelora_viz.dimension import ESTIMATORS, Cloud

K = 100
SIZES = ((100_000, 4096), (20_000, 1024))


def product_seconds(points: np.ndarray, n_rounds: int) -> float:
    """Median seconds of all float32 products in blocks, on the device."""
    x = torch.as_tensor(points, device="cuda")
    taken = []
    for _ in range(n_rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for block in torch.split(x, max(1, 2**29 // (4 * len(x)))):
            block @ x.T
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


def main(n_rounds: int) -> None:
    """Print one block of lines per size."""
    if not torch.cuda.is_available():
        print("no CUDA device is visible, so nothing was measured; run this where there is one")
        return
    print(describe_machine("torch", "numpy"))
    closed = [each for each in ESTIMATORS.values() if each.kind == "distances" and each.name != "calibrated"]
    for n_points, n_features in SIZES:
        rng = np.random.default_rng(0)
        flat = rng.normal(size=(n_points, 20)).astype(np.float32)
        points = np.tanh(0.3 * flat @ rng.normal(size=(20, n_features)).astype(np.float32))
        points += 0.05 * rng.standard_normal(points.shape, dtype=np.float32)
        product = product_seconds(points, n_rounds)
        graphs, estimates = [], []
        for _ in range(n_rounds + 1):
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            cloud = Cloud(points, K, device="cuda")
            cloud.graph(K)
            middle = time.perf_counter()
            for each in closed:
                each(cloud, K)
            graphs.append(middle - start)
            estimates.append(time.perf_counter() - middle)
        graph_seconds, estimate_seconds = float(np.median(graphs[1:])), float(np.median(estimates[1:]))
        print(f"\n{n_points:,} points, {n_features:,} features, k = {K}, median of {n_rounds} rounds after a first")
        print(f"{product:8.3f} s  float32 matrix product, all pairs")
        print(
            f"{graph_seconds:8.3f} s  exact graph with transfers; the product is {product / graph_seconds:.0%} of it"
        )
        print(f"{estimate_seconds:8.3f} s  {len(closed)} estimators on it: {', '.join(each.name for each in closed)}")
        print(f"{torch.cuda.max_memory_allocated() / 2**30:8.2f} GiB peak on the device")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="number of rounds (default: %(default)s)")
    main(parser.parse_args().rounds)
