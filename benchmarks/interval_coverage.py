"""Do the intervals hold? Draw clouds of known dimension many times and count how often the interval covers.

Prints, for each estimator, the mean estimate, its standard deviation over the draws beside the mean reported
standard error, and how many of the nominal 95 % intervals cover (a) the estimator's own mean over the draws, which
is what they are for, and (b) the true dimension, which finite-sample bias takes them away from as the dimension
grows.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from machine import describe_machine

from gelora_viz import Activations, estimate_dimension

N_POINTS = 1000
DIMENSIONS = (2, 4, 6)
NAMES = (
    "twonn", "twonn_ml", "gride", "mle", "mle_levina_bickel", "mom", "mind_ml", "mada", "knn", "tle", "ess",
    "corrint", "lpca_participation_ratio",
)  # fmt: skip


def main(n_draws: int) -> None:
    """Print one row per dimension and estimator."""
    generator = np.random.default_rng(0)
    rows = []
    for dimension in DIMENSIONS:
        frames = [
            estimate_dimension(
                Activations.from_arrays({"cube": generator.uniform(size=(N_POINTS, dimension))}),
                NAMES,
                seed=draw,
                progress=False,
            ).frame
            for draw in range(n_draws)
        ]
        draws = pd.concat(frames, ignore_index=True)
        for name, found in draws.groupby("estimator", sort=False):
            mean = found["dimension"].mean()
            rows.append(
                {
                    "true": dimension,
                    "estimator": name,
                    "mean": mean,
                    "sd of draws": found["dimension"].std(),
                    "mean std_error": found["std_error"].mean(),
                    "covers mean": ((found["ci_low"] <= mean) & (mean <= found["ci_high"])).mean(),
                    "covers truth": ((found["ci_low"] <= dimension) & (dimension <= found["ci_high"])).mean(),
                }
            )
    print(describe_machine("numpy", "numba", "scikit-learn"))
    print(f"uniform cubes, {N_POINTS} points, {n_draws} draws, seed 0")
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("draws", nargs="?", type=int, default=200, help="number of draws (default: %(default)s)")
    main(parser.parse_args().draws)
