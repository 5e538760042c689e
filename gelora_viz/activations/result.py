"""The result of a capture: one cloud of points per layer, with what each point stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gelora_viz._results import frame_html, frame_to_records, read_json, records_to_frame, write_json
from gelora_viz.errors import InputError, StudyError

_KIND = "activations"
_LAYER_COLUMNS = ["layer", "stack", "depth"]
_PROVENANCE_COLUMNS = ["text", "token", "position"]


@dataclass(frozen=True, eq=False)
class Activations:
    """Points of every captured layer; row i is the same text (or token) in all of them.

    Attributes:
        points: layer name -> (n_points, n_features), float32 on the CPU.
        layer_frame: one row per layer: layer, stack ("" or "encoder" / "decoder"), depth (0 = embeddings).
        provenance: one row per point: text (position in the captured list), token (string; None for pooled points)
            and position (of the token in its text; -1 for pooled points).
        pooling: how a text became points.
        settings: what else is needed to repeat the capture: model, number of texts, seed, max_length.
    """

    points: Mapping[str, torch.Tensor]
    layer_frame: pd.DataFrame
    provenance: pd.DataFrame
    pooling: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], *, pooling: str = "given") -> Activations:
        """Points that come from elsewhere.

        Args:
            arrays: layer name -> (n_points, n_features) array or tensor, in order of depth, the embeddings first. To
                allocate ranks from them, give embeddings and every block, rows being the same texts in all layers.
            pooling: a word for how the points were made, shown in pictures.

        Raises:
            InputError: if there is no array, one is not two-dimensional or holds no numbers, or their numbers of
                points differ.

        Example:
            >>> Activations.from_arrays({"embeddings": np.zeros((5, 3)), "block 1": np.ones((5, 3))})
            Activations(2 layers, 5 points, pooling 'given')
        """
        if not arrays:
            raise InputError("no arrays given; give a mapping from layer names to (n_points, n_features) arrays")
        points = {}
        for layer, array in arrays.items():
            try:
                tensor = torch.as_tensor(np.asarray(array) if not isinstance(array, torch.Tensor) else array)
            except (TypeError, ValueError) as error:
                raise InputError(f"layer {layer!r} holds no numbers ({error}); give an array of numbers") from error
            if tensor.ndim != 2:
                raise InputError(f"layer {layer!r} has shape {tuple(tensor.shape)}; give (n_points, n_features)")
            points[str(layer)] = tensor.detach().to("cpu", torch.float32).contiguous().clone()
        sizes = {layer: len(tensor) for layer, tensor in points.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(
                f"the layers have different numbers of points: {sizes}; row i must be the same text in all"
            )
        n_points = next(iter(sizes.values()))
        return cls(
            points=points,
            layer_frame=pd.DataFrame({"layer": list(points), "stack": "", "depth": range(len(points))}),
            provenance=pd.DataFrame({"text": range(n_points), "token": None, "position": -1}),
            pooling=pooling,
        )

    @property
    def layers(self) -> list[str]:
        """Names of the layers, embeddings first, in the order of depth (encoder before decoder)."""
        return list(self.layer_frame["layer"])

    @property
    def n_points(self) -> int:
        """Number of points in each layer."""
        return len(self.provenance)

    def __getitem__(self, layer: str) -> torch.Tensor:
        """The points (n_points, n_features) of one layer."""
        if layer not in self.points:
            raise InputError(f"no layer {layer!r}; layers are {', '.join(self.layers)}")
        return self.points[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per layer: layer, stack, depth, n_points, n_features, mean_norm (Euclidean length of points)."""
        rows = self.layer_frame.copy()
        rows["n_points"] = [len(self.points[layer]) for layer in self.layers]
        rows["n_features"] = [self.points[layer].shape[1] for layer in self.layers]
        rows["mean_norm"] = [float(self.points[layer].norm(dim=1).mean()) for layer in self.layers]
        return rows

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a folder with points.safetensors and activations.json; the JSON comes last and marks it complete."""
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "activations.json").unlink(missing_ok=True)
            save_file(
                {layer: tensor.contiguous() for layer, tensor in self.points.items()}, folder / "points.safetensors"
            )
        except (OSError, SafetensorError) as error:
            raise StudyError(
                f"cannot write activations to {folder}: {error}; choose a folder you can write to"
            ) from error
        write_json(
            folder / "activations.json",
            _KIND,
            {
                "pooling": self.pooling,
                "settings": dict(self.settings),
                "layers": frame_to_records(self.layer_frame),
                "provenance": {name: self.provenance[name].tolist() for name in _PROVENANCE_COLUMNS},
            },
        )
        return folder

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Activations:
        """Read what `save` wrote; raises `StudyError` where it is missing, incomplete or of another version."""
        folder = Path(path)
        document = read_json(folder / "activations.json", _KIND)
        try:
            points = load_file(folder / "points.safetensors")
        except (OSError, SafetensorError) as error:
            raise StudyError(f"cannot read {folder / 'points.safetensors'}: {error}; capture again") from error
        layers = records_to_frame(document["layers"], _LAYER_COLUMNS)
        provenance = pd.DataFrame(document["provenance"], columns=_PROVENANCE_COLUMNS)
        provenance["token"] = provenance["token"].astype(object).where(provenance["token"].notna(), None)
        return cls(
            points={layer: points[layer] for layer in layers["layer"]},
            layer_frame=layers,
            provenance=provenance,
            pooling=document["pooling"],
            settings=document["settings"],
        )

    def __repr__(self) -> str:
        return f"Activations({len(self.layers)} layers, {self.n_points} points, pooling {self.pooling!r})"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))
