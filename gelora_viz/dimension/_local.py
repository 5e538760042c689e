"""The dimension around each point: for coloring maps, and for finding unusual texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

from gelora_viz._checks import check_choice, check_flag, check_result, resolve_device
from gelora_viz.activations import Activations
from gelora_viz.dimension._catalog import ESTIMATORS
from gelora_viz.dimension._cloud import Cloud
from gelora_viz.dimension._points import DEFAULT_K, check_points, naming_layer
from gelora_viz.errors import InputError


def local_dimension(
    activations: Activations,
    estimator: str = "mle",
    *,
    k: int = DEFAULT_K,
    smooth: bool = True,
    device: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Estimate the dimension around every point of every layer.

    An estimate from k neighbors has a standard error of about d / sqrt(k): 22 % with 20. Smoothing combines a
    point's estimate with those of its neighbors by the harmonic mean, as MacKay & Ghahramani 2005 combine all of
    them; what is left are differences between regions, not between points.

    Args:
        activations: captured points.
        estimator: name of an estimator with values for single points: mle, mle_levina_bickel, mom, mada, tle or ess.
        k: number of neighbors of each point.
        smooth: combine each point's estimate with those of its neighbors.
        device: where to search neighbors: None for the CPU, or a torch device such as "cuda".
        progress: show a tqdm bar.

    Returns:
        One row per point, as in `activations.provenance`, and one column per layer. A near-duplicate has the estimate
        of the point that it duplicates.

    Raises:
        InputError: if the estimator has no value for single points, or the points have no dimension.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> local = local_dimension(Activations.from_arrays({"x": points}), progress=False)
        >>> local.shape, bool(local["x"].between(1, 4).all())
        ((500, 1), True)
    """
    check_result(activations, Activations, "activations")
    check_choice(estimator, "estimator", ESTIMATORS)
    each = ESTIMATORS[estimator]
    check_flag(smooth, "smooth")
    check_flag(progress, "progress")
    resolve_device(device)
    if each.local is None:
        able = ", ".join(name for name, one in ESTIMATORS.items() if one.local)
        raise InputError(f"estimator {each.name} has no value for single points; choose one of {able}")
    check_points(activations, [each], k)
    columns = {}
    for layer in tqdm(
        activations, total=len(activations), desc="local dimensions", unit="layer", disable=not progress
    ):
        cloud = Cloud(activations[layer], k, device=device)
        with naming_layer(layer):
            values = each.local(*each.reads.of(cloud, k))
        if smooth:
            inverse = 1 / values
            values = (k + 1) / (inverse + inverse[cloud.graph(k).indices].sum(axis=1))
        columns[layer] = _for_every_row(values, cloud)
    return pd.DataFrame(columns)


def _for_every_row(values: np.ndarray, cloud: Cloud) -> np.ndarray:
    """Spread the distinct points' values over all rows; a near-duplicate has that of the nearest distinct point."""
    every = np.empty(len(cloud.points))
    every[cloud.rows] = values
    dropped = np.setdiff1d(np.arange(len(cloud.points)), cloud.rows)
    if len(dropped):
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(cloud.distinct)
        every[dropped] = values[nearest.kneighbors(cloud.points[dropped], return_distance=False)[:, 0]]
    return every
