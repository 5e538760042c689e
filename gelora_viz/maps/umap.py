"""UMAP of one layer's points: the same map for the same points and seed, computed once and then kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from gelora_viz._cache import cache_folder
from gelora_viz._checks import (
    check_cache,
    check_flag,
    check_number,
    check_result,
    check_seed,
    check_whole,
    describe,
)
from gelora_viz.activations import Activations
from gelora_viz.errors import InputError, StudyError
from gelora_viz.maps.projection import Projection, make_frame, read_arrays, write_arrays

_METHOD = 1
"""Raised when this file computes maps differently."""
_ONE_AT_A_TIME = threading.Lock()
"""Numba's simplest pool of threads ends the process when two threads enter it, as two panels' might."""
_log = logging.getLogger("gelora_viz")


def project(
    activations: Activations,
    layer: str,
    *,
    n_components: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    max_points: int = 20_000,
    seed: int = 0,
    cache: bool | str | os.PathLike[str] = True,
    progress: bool | Callable[[float], None] = True,
) -> Projection:
    """UMAP of a layer's points, in two or three dimensions.

    Neighbors are exact, and the points start from their first principal components, which keeps more of the large
    arrangement than a random start (Kobak & Linderman 2021). With more points than `max_points` a random sample is
    projected, the same rows in every layer, so that maps of several layers show the same texts.

    Read `Projection` before reading a map: distances between clusters and their sizes mean little.

    Args:
        activations: captured points.
        layer: the layer whose points to project; one of `activations.layers`.
        n_components: 2 for a plane, 3 for space.
        n_neighbors: how many neighbors of each point are kept close; few show fine structure, many the coarse one.
        min_dist: how close points may come to each other on the map, 0 to 1.
        max_points: at most this many points; 20,000 take about 25 s on two cores.
        seed: seed of the sample and of the optimization; the same seed gives the same map on the same machine.
        cache: True keeps maps in the user's cache (`$GELORA_VIZ_CACHE`, else gelora_viz in `$XDG_CACHE_HOME` or
            ~/.cache), a path in that folder, False nowhere. The same points, settings and version of umap-learn are
            then never computed twice.
        progress: True shows a tqdm bar; a function is called with the share of UMAP's optimization that is done, from
            0 to 1, after each of its epochs.

    Raises:
        InputError: if the extra `gelora_viz[umap]` is not installed, the layer is unknown, points are too few for
            `n_neighbors` or `n_components`, NaN, infinite or all equal, or a setting is out of range.
        StudyError: if the cache cannot be written.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(100, 5))
        >>> project(Activations.from_arrays({"x": points}), "x", cache=False, progress=False)
        Projection('x': 100 points, 2 components)

    References:
        McInnes, Healy & Melville 2018, https://arxiv.org/abs/1802.03426.
        Kobak & Linderman 2021, doi:10.1038/s41587-020-00809-z, on how a map starts.
    """
    check_result(activations, Activations, "activations")
    if not isinstance(layer, str) or layer not in activations.layers:
        raise InputError(f"no layer {describe(layer)}; layers are {', '.join(activations.layers)}")
    check_cache(cache)
    if not callable(progress):
        check_flag(progress, "progress")
    version = _find_umap()
    _check_settings(n_components, n_neighbors, min_dist, max_points)
    rows = _choose_rows(activations.n_points, max_points, check_seed(seed))
    points = np.ascontiguousarray(activations[layer].numpy()[rows])
    _check_points(points, layer, n_components, n_neighbors)
    settings: dict[str, Any] = {
        "n_components": n_components, "n_neighbors": n_neighbors, "min_dist": float(min_dist), "seed": seed,
        "umap": version,
    }  # fmt: skip
    path = None if cache is False else _path_in_cache(cache, points, settings)
    coordinates = None if path is None else _read(path, len(points), n_components)
    if coordinates is None:
        coordinates = _fit(points, layer, settings, progress=progress)
        if path is not None:
            write_arrays(path, {"coordinates": coordinates}, {"settings": settings})
    provenance = activations.provenance.iloc[rows]
    return Projection(
        make_frame(coordinates, rows, provenance["text"], provenance["token"]),
        layer=layer,
        settings=settings | {"n_points": activations.n_points, "pooling": activations.pooling},
    )


def _choose_rows(n_points: int, max_points: int, seed: int) -> np.ndarray:
    """Rows that are projected, in ascending order: all, or a random sample that depends on the seed alone."""
    if n_points <= max_points:
        return np.arange(n_points)
    return np.sort(np.random.default_rng(seed).choice(n_points, size=max_points, replace=False))


def _find_umap() -> str:
    """The version of umap-learn; it is found without its import, which takes seconds."""
    try:
        return importlib.metadata.version("umap-learn")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError("a map needs umap-learn, which is not installed; install gelora_viz[umap]") from error


def _check_settings(n_components: int, n_neighbors: int, min_dist: float, max_points: int) -> None:
    if check_whole(n_components, "n_components") not in (2, 3):
        raise InputError(f"n_components is {n_components}; give 2 for a plane or 3 for space")
    check_whole(n_neighbors, "n_neighbors", at_least=2)
    check_whole(max_points, "max_points", at_least=n_neighbors + 1)
    check_number(min_dist, "min_dist", at_least=0, at_most=1)


def _check_points(points: np.ndarray, layer: str, n_components: int, n_neighbors: int) -> None:
    n_points, n_features = points.shape
    if n_points <= n_neighbors:
        raise InputError(
            f"layer {layer!r} has {n_points} points, and a map with n_neighbors={n_neighbors} needs more than that; "
            "give more texts, or a smaller n_neighbors"
        )
    if n_features <= n_components:
        raise InputError(
            f"layer {layer!r} has {n_features} features, which are no more than {n_components} components; plot the "
            "points themselves"
        )
    bad = int((~np.isfinite(points).all(axis=1)).sum())
    if bad:
        raise InputError(
            f"layer {layer!r} has NaN or infinite values in {bad} of {n_points} points; capture in float32"
        )
    if (points == points[0]).all():
        raise InputError(f"all {n_points} points of layer {layer!r} are equal, so there is no map; check the texts")


def _path_in_cache(cache: bool | str | os.PathLike[str], points: np.ndarray, settings: dict[str, Any]) -> Path:
    root = cache_folder("maps") if cache is True else Path(os.fspath(cache)).expanduser()  # type: ignore[arg-type]
    key = json.dumps([settings, points.shape, str(points.dtype), _METHOD], sort_keys=True)
    digest = hashlib.sha256(key.encode())
    digest.update(points.data)
    return root / f"{digest.hexdigest()[:32]}.safetensors"


def _read(path: Path, n_points: int, n_components: int) -> np.ndarray | None:
    """Coordinates of an earlier call; None where there are none, or none that can be used."""
    if not path.exists():
        return None
    try:
        coordinates = read_arrays(path)[0]["coordinates"]
    except (StudyError, KeyError):
        coordinates = np.empty((0, 0))
    if coordinates.shape == (n_points, n_components):
        return coordinates
    _log.warning("the cached map %s is damaged; computing it again", path)
    return None


def _fit(
    points: np.ndarray, layer: str, settings: dict[str, Any], *, progress: bool | Callable[[float], None]
) -> np.ndarray:
    centered = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)
    k = settings["n_neighbors"]
    # Exact, and unlike UMAP's own search it lets other threads of the process work meanwhile.
    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(centered).kneighbors(centered)
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        # On its import, that TensorFlow is missing; on a fit, what a seed costs, and that new points cannot be added.
        warnings.simplefilter("ignore")
        from umap import UMAP, layouts  # loads seconds of compiled code

        reducer = UMAP(
            n_components=settings["n_components"],
            n_neighbors=k,
            min_dist=settings["min_dist"],
            random_state=settings["seed"],
            n_jobs=1,
            init="pca",
            precomputed_knn=(indices.astype(np.int32), distances.astype(np.float32), None),
            tqdm_kwds={"desc": f"UMAP of {layer}", "unit": "epoch", "disable": not progress},
        )
        if not callable(progress):
            return np.asarray(reducer.fit_transform(centered), dtype=np.float32)
        # UMAP tells its progress to tqdm alone, and takes no other; a map of somebody else's keeps its bar.
        bar, ours = layouts.tqdm, threading.get_ident()

        def tell_or_draw(epochs: Sequence[int], **options: Any) -> Iterable[int]:  # noqa: ANN401 - tqdm's
            return _tell(epochs, progress) if threading.get_ident() == ours else bar(epochs, **options)

        layouts.tqdm = tell_or_draw
        try:
            return np.asarray(reducer.fit_transform(centered), dtype=np.float32)
        finally:
            layouts.tqdm = bar


def _tell(epochs: Sequence[int], progress: Callable[[float], None]) -> Iterator[int]:
    """The epochs, each followed by a word about what is done."""
    for number, epoch in enumerate(epochs, start=1):
        yield epoch
        progress(number / len(epochs))
