"""Memory of the exact neighbor graph of a large layer on the CPU: GiB that it needs beyond the points themselves."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time

import numpy as np
from machine import describe_machine, peak_mib

from gelora_viz import neighbor_graph


def main(n_points: int, n_features: int, k: int) -> None:
    """Print the memory of the points, the peak beyond it, and the time."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((20, n_features), dtype=np.float32)
    points = np.empty((n_points, n_features), dtype=np.float32)
    for start in range(0, n_points, 1000):
        rows = points[start : start + 1000]
        rows[:] = np.tanh(0.3 * rng.standard_normal((len(rows), 20), dtype=np.float32) @ mixing)
    neighbor_graph(points[:300], k)  # compiles, loads
    before = peak_mib()
    start_time = time.perf_counter()
    neighbor_graph(points, k)
    print(describe_machine("numpy", "numba"))
    print(
        f"{n_points:,} points x {n_features:,} features (float32), k = {k}: {points.nbytes / 2**30:.2f} GiB of points"
    )
    print(f"{(peak_mib() - before) / 1024:.2f} GiB of working memory, {time.perf_counter() - start_time:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "points", nargs="?", type=int, default=100_000, help="number of points (default: %(default)s)"
    )
    parser.add_argument(
        "features", nargs="?", type=int, default=4096, help="number of features (default: %(default)s)"
    )
    parser.add_argument("k", nargs="?", type=int, default=100, help="number of neighbors (default: %(default)s)")
    options = parser.parse_args()
    main(options.points, options.features, options.k)
