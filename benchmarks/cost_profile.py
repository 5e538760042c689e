"""What an analysis costs as it grows: seconds against number of points, features, neighbors and layers.

One quantity changes at a time from 4,000 points, 384 features, k = 20 and one layer; the default estimators with
their intervals are timed, and the graph alone. Writes benchmarks/results/cost_profile.csv, which
docs/make_pictures.py draws.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe_machine

from gelora_viz import Activations, estimate_dimension, neighbor_graph

BASE = {"points": 4000, "features": 384, "neighbors": 20, "layers": 1}
STEPS = {
    "points": (1000, 2000, 4000, 8000, 16000),
    "features": (96, 192, 384, 768, 1536),
    "neighbors": (5, 10, 20, 50, 100),
    "layers": (1, 2, 4, 8),
}
RESULTS = Path(__file__).parent / "results" / "cost_profile.csv"


def cloud(n_points: int, n_features: int, seed: int) -> np.ndarray:
    """A noisy, bent sheet of 12 dimensions, in float32."""
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(n_points, 12)) @ rng.normal(size=(12, n_features))
    return (np.tanh(0.3 * flat) + 0.05 * rng.normal(size=(n_points, n_features))).astype(np.float32)


def seconds_of(size: dict[str, int], n_rounds: int) -> tuple[float, float]:
    """Median seconds of the graph alone and of the whole analysis."""
    layers = {f"layer {seed}": cloud(size["points"], size["features"], seed) for seed in range(size["layers"])}
    activations = Activations.from_arrays(layers)
    graphs, analyses = [], []
    for _ in range(n_rounds):
        start = time.perf_counter()
        for points in layers.values():
            neighbor_graph(points, size["neighbors"])
        middle = time.perf_counter()
        estimate_dimension(activations, k=size["neighbors"], progress=False)
        graphs.append(middle - start)
        analyses.append(time.perf_counter() - middle)
    return float(np.median(graphs)), float(np.median(analyses))


def main(n_rounds: int) -> None:
    """Measure, print and write the table."""
    seconds_of({**BASE, "points": 300}, 1)  # compiles, loads
    rows = []
    for axis, values in STEPS.items():
        for value in values:
            graph, analysis = seconds_of({**BASE, axis: value}, n_rounds)
            rows.append({"axis": axis, "value": value, "graph": graph, "analysis": analysis})
    table = pd.DataFrame(rows).round(4)
    header = describe_machine("numpy", "numba", "torch")
    print(header)
    print(table.to_string(index=False))
    RESULTS.write_text(f"{header}\n{table.to_csv(index=False)}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="number of rounds (default: %(default)s)")
    main(parser.parse_args().rounds)
