"""How far from the truth are dimension estimates, as they are and with their finite-sample bias corrected?

Prints (a) the mean error over all of scikit-dimension's BenchmarkManifolds by group of true dimension, for each
estimator raw and corrected with either family, and for `calibrated_dimension`; (b) the estimates manifold by
manifold; (c) how often corrected intervals cover the true dimension of balls, Gaussians, cubes and spheres; (d) the
simulated expectation behind the correction beside real clouds with real neighbor graphs; (e) estimates on other
curved and uneven sets. Calibration saw balls and Gaussians only. But the assumptions of `calibrated_dimension` (that
the dimension is extrapolated to scale 0, the odds of a slope, the number of neighbors) were settled with (a) and (b)
in view, some thirty settings in all, and how far intervals are widened after (c) and (e): for "all scales" these
manifolds are a development set. The single corrected estimators had nothing to tune.
Takes about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import skdim
from machine import describe_machine

from gelora_viz.dimension import ESTIMATORS, NeighborGraph, calibrate, correct_bias, fit_scales, neighbor_graph
from gelora_viz.dimension._distance_laws import FAMILIES
from gelora_viz.dimension._estimator import SCALE_NEIGHBORS
from gelora_viz.dimension._intervals import interval, split_half_error

NAMES = ("twonn", "twonn_ml", "gride", "mle", "mle_levina_bickel", "mom", "mada", "mind_ml")
K = 20
SCALES = (20, SCALE_NEIGHBORS, 65)
GROUPS = {"<=6": (0, 6), "7-12": (7, 12), "13-24": (13, 24), "70": (25, 100)}
N_SPLITS = 30
COVERAGE_POINTS = 1000
COVERAGE_DIMENSIONS = (2, 6, 12, 24)
OTHER_DRAWS = 5


def main(options: argparse.Namespace) -> None:
    """Run everything."""
    warnings.filterwarnings("ignore", module="skdim")
    print(describe_machine("numpy", "scipy", "scikit-dimension"))
    estimates = pd.DataFrame(_benchmark_estimates(options.points, options.seeds))
    print(f"\n(a) BenchmarkManifolds, {options.points} points, seeds 0 to {options.seeds - 1}, k = {K}:")
    print("mean |estimate - true| by group of true dimension, mean over seeds ± its standard error")
    print(_by_group(estimates).to_string())
    print("\n(b) mean over seeds, manifold by manifold")
    print(_by_manifold(estimates).to_string(float_format="%.2f"))
    print(f"\n(c) {COVERAGE_POINTS} points, {options.draws} draws: share of 95 % intervals that hold the truth")
    print(pd.DataFrame(_coverage(options.draws)).to_string(index=False, float_format="%.2f"))
    print(f"\n(d) mean estimate of real clouds of {options.points} points, 10 draws, and the simulated expectation")
    print(pd.DataFrame(_brute_force(options.points)).to_string(index=False, float_format="%.3f"))
    print(f"\n(e) mean of {OTHER_DRAWS} estimates of other sets, {options.points} points")
    print(pd.DataFrame(_other_estimates(options.points)).to_string(index=False, float_format="%.2f"))


def _benchmark_estimates(n_points: int, n_seeds: int) -> Iterator[dict[str, object]]:
    """One row for each seed, manifold, estimator and way of correcting it."""
    for seed in range(n_seeds):
        benchmark = skdim.datasets.BenchmarkManifolds(random_state=seed)
        for manifold, points in benchmark.generate(n=n_points).items():
            true = int(benchmark.truth.loc[manifold, "Intrinsic Dimension"])
            row = {"seed": seed, "manifold": manifold, "true": true}
            graph = neighbor_graph(points, max(SCALES))
            for name in NAMES:
                k = ESTIMATORS[name].neighbors(K)
                raw = ESTIMATORS[name].formula(graph.nearest(k))
                yield row | {"estimator": name, "reading": "raw", "estimate": raw}
                for family in FAMILIES:
                    calibration = calibrate(ESTIMATORS[name], graph.n_points, k, family=family)
                    corrected = min(calibration.corrected(raw), points.shape[1])
                    yield row | {"estimator": name, "reading": family, "estimate": corrected}
            for k in SCALES:
                fit = fit_scales(graph.nearest(k), points.shape[1])
                yield row | {"estimator": f"all scales, k={k}", "reading": "fitted", "estimate": fit.dimension}


def _by_group(estimates: pd.DataFrame) -> pd.DataFrame:
    error = (estimates["estimate"] - estimates["true"]).abs()
    group = pd.cut(estimates["true"], [0, *(high for _, high in GROUPS.values())], labels=list(GROUPS))
    by_seed = error.groupby(
        [estimates["estimator"], estimates["reading"], group, estimates["seed"]], sort=False, observed=True
    ).mean()
    over_seeds = by_seed.groupby(level=[0, 1, 2], sort=False, observed=True)
    text = over_seeds.mean().map("{:.2f}".format) + " ± " + over_seeds.sem().map("{:.2f}".format)
    return text.unstack()[list(GROUPS)]  # noqa: PD010 - a series has no pivot_table


def _by_manifold(estimates: pd.DataFrame) -> pd.DataFrame:
    shown = estimates[estimates["estimator"].isin(["twonn", "mle", f"all scales, k={SCALE_NEIGHBORS}"])]
    table = shown.pivot_table(
        index=["true", "manifold"], columns=["estimator", "reading"], values="estimate", sort=False
    )
    return table.sort_index()


def _shapes() -> dict[str, Callable[[np.random.Generator, int, int], np.ndarray]]:
    def sphere(generator: np.random.Generator, n_points: int, dimension: int) -> np.ndarray:
        points = generator.normal(size=(n_points, dimension + 1))
        return points / np.linalg.norm(points, axis=1)[:, None]

    def ball(generator: np.random.Generator, n_points: int, dimension: int) -> np.ndarray:
        points = generator.normal(size=(n_points, dimension))
        radii = generator.uniform(size=n_points) ** (1 / dimension)
        return points * (radii / np.linalg.norm(points, axis=1))[:, None]

    return {
        "ball": ball,
        "gaussian": lambda generator, n_points, dimension: generator.normal(size=(n_points, dimension)),
        "cube": lambda generator, n_points, dimension: generator.uniform(size=(n_points, dimension)),
        "sphere": sphere,
    }


def _coverage(n_draws: int) -> Iterator[dict[str, object]]:
    generator = np.random.default_rng(0)
    for shape, draw in _shapes().items():
        for dimension in COVERAGE_DIMENSIONS:
            rows = pd.DataFrame(
                row
                for _ in range(n_draws)
                for row in _intervals(draw(generator, COVERAGE_POINTS, dimension), generator)
            )
            rows["covers"] = (rows["low"] <= dimension) & (dimension <= rows["high"])
            rows["width"] = rows["high"] - rows["low"]
            for interval_name, found in rows.groupby("interval", sort=False):
                yield {
                    "shape": shape, "true": dimension, "interval": interval_name, "mean": found["value"].mean(),
                    "mean width": found["width"].mean(), "covers": found["covers"].mean(),
                }  # fmt: skip


def _intervals(points: np.ndarray, generator: np.random.Generator) -> Iterator[dict[str, object]]:
    """Raw and corrected intervals of one cloud; in more features than dimensions, so that no limit helps."""
    n_features = 1000
    graph = neighbor_graph(points, 4 * SCALE_NEIGHBORS)
    halves = [graph.halves(generator.permutation(graph.n_points) % 2 == 1, SCALE_NEIGHBORS) for _ in range(N_SPLITS)]
    for name in ("twonn", "mle"):
        estimator, k = ESTIMATORS[name], ESTIMATORS[name].neighbors(K)
        value, low, high = _split_half(lambda half, e=estimator, k=k: e.formula(half.nearest(k)), graph, halves)
        yield {"interval": f"{name}, raw", "value": value, "low": low, "high": high}
        value, low, high = correct_bias(
            estimator, value, low, high, n_points=graph.n_points, k=k, n_features=n_features
        )
        yield {"interval": f"{name}, corrected", "value": value, "low": low, "high": high}
    fit = fit_scales(graph.nearest(SCALE_NEIGHBORS))
    low, high = fit.interval()
    yield {"interval": "all scales, its own", "value": fit.dimension, "low": low, "high": high}
    value, low, high = _split_half(lambda half: fit_scales(half.nearest(SCALE_NEIGHBORS)).dimension, graph, halves)
    yield {"interval": "all scales, split halves", "value": value, "low": low, "high": high}


def _split_half(
    estimate: Callable[[NeighborGraph], float],
    graph: NeighborGraph,
    halves: list[tuple[NeighborGraph, NeighborGraph]],
) -> tuple[float, float, float]:
    value = estimate(graph)
    gaps = np.array([estimate(one) - estimate(other) for one, other in halves])
    return value, *interval(value, split_half_error(gaps), len(gaps), 0.95)


def _brute_force(n_points: int) -> Iterator[dict[str, object]]:
    generator = np.random.default_rng(0)
    for family in FAMILIES:
        for dimension in (2, 6, 24, 70):
            graphs = [neighbor_graph(_shapes()[family](generator, n_points, dimension), K) for _ in range(10)]
            for name in ("twonn", "mle"):
                k = ESTIMATORS[name].neighbors(K)
                found = np.array([ESTIMATORS[name].formula(graph.nearest(k)) for graph in graphs])
                calibration = calibrate(ESTIMATORS[name], n_points, k, family=family)
                simulated = np.interp(dimension, calibration.dimensions, calibration.expected)
                yield {
                    "family": family, "true": dimension, "estimator": name, "clouds": found.mean(),
                    "std_error": found.std(ddof=1) / np.sqrt(len(found)), "simulated": simulated,
                    "its std_error": np.interp(dimension, calibration.dimensions, calibration.std_error),
                }  # fmt: skip


def _other_sets(generator: np.random.Generator, n_points: int, dimension: int) -> dict[str, np.ndarray]:
    normal = generator.normal(size=(n_points, dimension))
    angles = generator.uniform(0, 2 * np.pi, size=(n_points, dimension))
    first, second = generator.normal(size=(dimension, 64)) / np.sqrt(dimension), generator.normal(size=(64, 64)) / 8
    return {
        "flat torus, curved in 2d": np.hstack([np.cos(angles), np.sin(angles)]),
        "two tanh layers of a Gaussian": np.tanh(np.tanh(normal @ first) @ second),
        "Gaussian, axes 1 to 0.3": normal * np.geomspace(1, 0.3, dimension),
        "Dirichlet(1)": generator.dirichlet(np.ones(dimension + 1), size=n_points),
        "exponential": generator.exponential(size=(n_points, dimension)),
        "Student t, 5 degrees": normal / np.sqrt(generator.chisquare(5, size=(n_points, 1)) / 5),
    }


def _other_estimates(n_points: int) -> Iterator[dict[str, object]]:
    generator = np.random.default_rng(0)
    for dimension in COVERAGE_DIMENSIONS:
        rows = [
            {"set": name, "true": dimension, **_estimates(points)}
            for _ in range(OTHER_DRAWS)
            for name, points in _other_sets(generator, n_points, dimension).items()
        ]
        yield from pd.DataFrame(rows).groupby(["set", "true"], sort=False, as_index=False).mean().to_dict("records")


def _estimates(points: np.ndarray) -> dict[str, float]:
    """TwoNN and MLE, raw and corrected for a ball, and the fit to all scales; no limit by the number of features."""
    graph = neighbor_graph(points, SCALE_NEIGHBORS)
    found = {}
    for name in ("twonn", "mle"):
        k = ESTIMATORS[name].neighbors(K)
        found[name] = ESTIMATORS[name].formula(graph.nearest(k))
        found[f"{name}, ball"] = calibrate(ESTIMATORS[name], graph.n_points, k).corrected(found[name])
    fit = fit_scales(graph)
    low, high = fit.interval()
    return found | {"all scales": fit.dimension, "low": low, "high": high, "slope": fit.slope_probability}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--points", type=int, default=2500, help="number of points of each cloud (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=40, help="number of clouds for coverage (default: %(default)s)")
    main(parser.parse_args())
