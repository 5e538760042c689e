"""What one layer costs: our graph and estimators against scikit-learn's graph and scikit-dimension's fits.

Everything runs in one process, in turns, and the ratios are of medians. Peak memory is that of a process of its own
for each item, less what the process held before. torchid is timed where it is installed (it needs Python 3.13).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pandas as pd
import skdim
from machine import describe_machine, peak_mib
from sklearn.neighbors import NearestNeighbors

from gelora_viz import Activations, estimate_dimension, neighbor_graph
from gelora_viz.dimension import ESTIMATORS, Cloud

K = 20
SIX = ("twonn", "gride", "mle", "mom", "mind_ml", "mada")
CLOSED = tuple(each.name for each in ESTIMATORS.values() if each.kind == "distances" and each.name != "calibrated")


def cloud(n_points: int, n_features: int) -> np.ndarray:
    """A noisy, bent sheet of 12 dimensions, in float32."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(n_points, 12)) @ rng.normal(size=(12, n_features))
    return (np.tanh(0.3 * flat) + 0.05 * rng.normal(size=(n_points, n_features))).astype(np.float32)


def product(points: np.ndarray, *, half: bool) -> None:
    """The matrix product of all pairs, or of each pair once, in blocks of 1,000 rows."""
    for start in range(0, len(points), 1000):
        points[start : start + 1000] @ points[start if half else 0 :].T


def values_of(points: np.ndarray, names: tuple[str, ...]) -> list[float]:
    """One graph, then every estimate, without intervals."""
    cloud = Cloud(points, max(K, *(ESTIMATORS[name].neighbors(K) for name in names)))
    return [ESTIMATORS[name](cloud, K) for name in names]


def profile_of(points: np.ndarray, names: tuple[str, ...]) -> None:
    """The same with standard errors and intervals: what users call."""
    estimate_dimension(Activations.from_arrays({"x": points}), list(names), k=K, progress=False)


PEERS: dict[str, Callable[[np.ndarray], object]] = {
    "twonn": lambda x: skdim.id.TwoNN().fit(x),
    "gride": lambda x: skdim.id.GRIDE(n1=K // 2).fit(x),
    "mle": lambda x: skdim.id.MLE().fit(x, n_neighbors=K),
    "mom": lambda x: skdim.id.MOM().fit(x, n_neighbors=K),
    "mind_ml": lambda x: skdim.id.MiND_ML(k=K - 1, D=50).fit(x),
    "mada": lambda x: skdim.id.MADA().fit(x, n_neighbors=K),
}

ITEMS: dict[str, Callable[[np.ndarray], object]] = {
    "matrix product, all pairs": lambda x: product(x, half=False),
    "matrix product, each pair once": lambda x: product(x, half=True),
    "scikit-learn graph": lambda x: NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x).kneighbors(),
    "our graph": lambda x: neighbor_graph(x, K),
    f"our {len(CLOSED)} on the distances": lambda x: values_of(x, CLOSED),
    f"our {len(CLOSED)} with intervals": lambda x: profile_of(x, CLOSED),
    "our calibrated": lambda x: values_of(x, ("calibrated",)),
    "our TLE and ESS": lambda x: values_of(x, ("tle", "ess")),
    "our CorrInt": lambda x: values_of(x, ("corrint",)),
    "our FisherS": lambda x: values_of(x, ("fishers",)),
    "our six": lambda x: values_of(x, SIX),
    "our six with intervals": lambda x: profile_of(x, SIX),
    "our MADA": lambda x: values_of(x, ("mada",)),
    **{f"scikit-dimension {name}": PEERS[name] for name in SIX},
}


def time_all(points: np.ndarray, n_rounds: int) -> pd.Series:
    """Median seconds of every item, in turns; scikit-dimension's MADA takes half a minute and runs once."""
    seconds: dict[str, list[float]] = {name: [] for name in ITEMS}
    for work in ITEMS.values():
        work(points[:300])  # compiles, loads
    for turn in range(n_rounds):
        for name, work in ITEMS.items():
            if name == "scikit-dimension mada" and turn:
                continue
            start = time.perf_counter()
            work(points)
            seconds[name].append(time.perf_counter() - start)
    return pd.Series({name: float(np.median(taken)) for name, taken in seconds.items()})


def peak_memory(name: str, n_points: int, n_features: int) -> float:
    """Megabytes that one item needs beyond the points and the loaded libraries."""
    run = subprocess.run(
        [sys.executable, __file__, str(n_points), str(n_features), "--memory", name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(run.stdout)


def print_peak_memory(name: str, points: np.ndarray) -> None:
    """In a process of its own."""
    ITEMS[name](points[:300])
    before = peak_mib()
    ITEMS[name](points)
    print(peak_mib() - before)


def main(n_points: int, n_features: int, n_rounds: int) -> None:
    """Print seconds, memory, and the ratios that matter."""
    points = cloud(n_points, n_features)
    seconds = time_all(points, n_rounds)
    memory = {name: peak_memory(name, n_points, n_features) for name in ITEMS}
    print(describe_machine("numpy", "scikit-learn", "scikit-dimension", "torch"))
    print(
        f"{n_points:,} points, {n_features} features, k = {K}, median of {n_rounds} rounds (scikit-dimension mada: 1)"
    )
    print(pd.DataFrame({"seconds": seconds.round(3), "peak MB": pd.Series(memory).round()}).to_string())
    graph, six = seconds["scikit-learn graph"], sum(seconds[f"scikit-dimension {name}"] for name in SIX)
    without_mada = six - seconds["scikit-dimension mada"]
    print("\nratios")
    for text, value in {
        "our graph / product of each pair once (its floor)": seconds["our graph"]
        / seconds["matrix product, each pair once"],
        "our graph / scikit-learn graph": seconds["our graph"] / graph,
        "graph and all on the distances / scikit-learn graph": seconds[f"our {len(CLOSED)} on the distances"] / graph,
        "the same with intervals / scikit-learn graph": seconds[f"our {len(CLOSED)} with intervals"] / graph,
        "six scikit-dimension fits / our six": six / seconds["our six"],
        "six scikit-dimension fits / our six with intervals": six / seconds["our six with intervals"],
        "five without MADA / our six with intervals": without_mada / seconds["our six with intervals"],
        "scikit-dimension MADA / our MADA": seconds["scikit-dimension mada"] / seconds["our MADA"],
    }.items():
        print(f"{value:8.2f}  {text}")
    if find_spec("torchid") is None:
        print("torchid is not installed here (it needs Python 3.13), so it was not timed")
    else:
        time_torchid(points, seconds["our six"])


def time_torchid(points: np.ndarray, ours: float) -> None:
    """The same estimators of torchid on the CPU, as far as it has them."""
    import torch
    import torchid

    x = torch.from_numpy(points)
    names = [name for name in ("TwoNN", "MLE", "MOM", "MADA") if hasattr(torchid, name)]
    start = time.perf_counter()
    for name in names:
        getattr(torchid, name)().fit(x)
    print(f"{(time.perf_counter() - start) / ours:8.2f}  torchid {', '.join(names)} / our six")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="?", type=int, default=10_000, help="number of points (default: %(default)s)")
    parser.add_argument(
        "features", nargs="?", type=int, default=384, help="number of features (default: %(default)s)"
    )
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument(
        "--memory", choices=ITEMS, metavar="ITEM", help="only print the peak memory of this item, in MiB"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.memory:
        print_peak_memory(options.memory, cloud(options.points, options.features))
    else:
        main(options.points, options.features, options.rounds)
