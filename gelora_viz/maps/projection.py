"""The result: where UMAP has put the points of one layer, and which texts or tokens they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gelora_viz._reading import Fields, naming_file, parse_json
from gelora_viz._results import write_bytes
from gelora_viz._version import __version__
from gelora_viz.errors import StudyError

_KIND = "projection"
_SCHEMA_VERSION = 1
_AXES = ("x", "y", "z")


@dataclass(frozen=True, eq=False)
class Projection:
    """Points of one layer on a plane (2 components) or in space (3), by UMAP.

    What such a map shows is which points are neighbors. Distances between clusters, their sizes and how dense they
    look are not those of the hidden states, and neither is an empty place between them: UMAP evens out densities,
    and leaves noise in clumps too. Intrinsic dimensions are estimated from the hidden states, never from a map.

    Attributes:
        frame: one row per point: point (its row in the activations), x, y, with 3 components z, text (position in the
            captured list) and token (string; None for pooled points).
        layer: the layer that the points are from.
        settings: n_components, n_neighbors, min_dist, seed, n_points (in the activations, of which the frame may
            hold a sample), pooling, and umap, the version of umap-learn.

    References:
        McInnes, Healy & Melville 2018, UMAP, https://arxiv.org/abs/1802.03426.
        Chari & Pachter 2023, The specious art of single-cell genomics, doi:10.1371/journal.pcbi.1011288, on what is
        lost between hundreds of dimensions and two.
    """

    frame: pd.DataFrame
    layer: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_components(self) -> int:
        """2 or 3."""
        return 3 if "z" in self.frame else 2

    @property
    def coordinates(self) -> np.ndarray:
        """Places of the points, (n_points, n_components), float32."""
        return self.frame[list(_AXES[: self.n_components])].to_numpy(np.float32)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file; raises `StudyError` where its folder cannot be written."""
        tokens = None if self.frame["token"].isna().all() else self.frame["token"].tolist()
        arrays = {"coordinates": self.coordinates}
        arrays |= {name: self.frame[name].to_numpy(np.int64) for name in ("point", "text")}
        return write_arrays(path, arrays, {"layer": self.layer, "settings": dict(self.settings), "tokens": tokens})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Projection:
        """Read what `save` wrote; raises `StudyError` if it is missing, damaged or from another version."""
        arrays, about = read_arrays(path)
        with naming_file(path, _KIND):
            fields = Fields(about, _KIND)
            tokens = [None] * len(arrays["point"]) if about.get("tokens") is None else fields.texts("tokens")
            _check_arrays(arrays, len(tokens))
            return cls(
                make_frame(arrays["coordinates"], arrays["point"], arrays["text"], tokens),
                layer=fields.text("layer"),
                settings=fields.mapping("settings"),
            )

    def __repr__(self) -> str:
        return f"Projection({self.layer!r}: {len(self.frame):,} points, {self.n_components} components)"

    def _repr_html_(self) -> str:
        from gelora_viz.plots import umap  # a later room, only when the map is looked at

        return umap(self).to_svg()


def make_frame(coordinates: np.ndarray, points: np.ndarray, texts: Any, tokens: Any) -> pd.DataFrame:  # noqa: ANN401
    """The frame of a projection from its columns."""
    places = {axis: coordinates[:, column] for column, axis in enumerate(_AXES[: coordinates.shape[1]])}
    frame = pd.DataFrame({"point": points, **places, "text": np.asarray(texts)})
    frame["token"] = pd.Series(list(tokens), dtype=object)
    return frame


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Path:
    """Write a safetensors file, whole or not at all, with what else is to be said as JSON in its header."""
    document = {"kind": _KIND, "schema_version": _SCHEMA_VERSION, "gelora_viz": __version__, **about}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return write_bytes(path, save(contiguous, metadata={_KIND: json.dumps(document)}))


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote; raises `StudyError` for anything else."""
    source = Path(path)
    if not source.exists():
        raise StudyError(f"no projection at {source}; compute it with gelora_viz.project and save it first")
    try:
        with safe_open(source, framework="numpy") as file:
            document = parse_json((file.metadata() or {})[_KIND])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StudyError(f"cannot read {source} as a projection: {error}; delete it and project again") from error
    if not isinstance(document, dict):
        raise StudyError(f"{source} describes no projection, but {str(document)[:60]!r}; delete it and project again")
    if document.get("schema_version") != _SCHEMA_VERSION:
        raise StudyError(
            f"{source} has schema version {document.get('schema_version')!r}, written by gelora_viz "
            f"{document.get('gelora_viz')}; this gelora_viz {__version__} reads version {_SCHEMA_VERSION}: project "
            "again, or install that version"
        )
    return arrays, document


def _check_arrays(arrays: Mapping[str, np.ndarray], n_points: int) -> None:
    """Raise `StudyError` unless these are the places of so many points and what they stand for."""
    shapes = {name: arrays[name].shape for name in ("coordinates", "point", "text")}
    if shapes["coordinates"] not in ((n_points, 2), (n_points, 3)) or {shapes["point"], shapes["text"]} != {
        (n_points,)
    }:
        raise StudyError(f"its arrays have the shapes {shapes}, not those of {n_points} points; project again")
