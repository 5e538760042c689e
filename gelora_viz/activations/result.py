"""The result of a capture: one cloud of points per layer, with what each point stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gelora_viz._checks import check_path, check_text, describe
from gelora_viz._reading import Fields
from gelora_viz._results import (
    frame_html,
    frame_to_records,
    read_json,
    read_result,
    records_to_frame,
    write_json,
)
from gelora_viz.activations.storage import LayerFile, StoredPoints, explain_write_errors, file_name, is_layer_file
from gelora_viz.errors import InputError, StudyError, first_line

KIND = "activations"
DOCUMENT = "activations.json"
"""Its presence says that a folder's points are complete."""
_LAYER_COLUMNS = ["layer", "stack", "depth"]
_PROVENANCE_COLUMNS = ["text", "token", "position"]


@dataclass(frozen=True, eq=False)
class Activations:
    """Points of every captured layer; row i is the same text (or token) in all of them.

    Attributes:
        points: layer name -> (n_points, n_features) on the CPU, in the type they are kept in. Of activations that
            live in a folder (`capture(..., store=...)`, `load`) a layer is read when it is asked for.
        layer_frame: one row per layer: layer, stack ("" or "encoder" / "decoder"), depth (0 = embeddings).
        provenance: one row per point: text (position in the captured list), token (string; None for pooled points)
            and position (of the token in its text; -1 for pooled points). Of images: the image's number, None, and
            the patch's, row by row from the upper left.
        pooling: how a text became points.
        settings: what else is needed to repeat the capture: model, n_texts, layers, max_points, max_length, dtype and
            seed; and as origin the model's architecture and a fingerprint of its weights.
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
        if not isinstance(arrays, Mapping) or not arrays:
            raise InputError(
                f"arrays is {describe(arrays)}; give a mapping from layer names to (n_points, n_features) arrays"
            )
        points = {}
        check_text(pooling, "pooling", "given")
        for layer, array in arrays.items():
            check_text(layer, "a layer's name in arrays", "embeddings")  # 5 and "5" would be one layer
            try:
                tensor = torch.as_tensor(np.asarray(array) if not isinstance(array, torch.Tensor) else array)
            except (TypeError, ValueError) as error:
                reason = first_line(error)
                raise InputError(f"layer {layer!r} holds no numbers ({reason}); give an array of numbers") from error
            if tensor.ndim != 2:
                raise InputError(f"layer {layer!r} has shape {tuple(tensor.shape)}; give (n_points, n_features)")
            points[layer] = tensor.detach().to("cpu", torch.float32).contiguous().clone()
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
        """The points (n_points, n_features) of one layer, float32 whatever they are kept in."""
        if not isinstance(layer, str) or layer not in self.points:
            raise InputError(f"no layer {describe(layer)}; layers are {', '.join(self.layers)}")
        return self.points[layer].to(torch.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per layer: layer, stack, depth, n_points, n_features, mean_norm (Euclidean length of points)."""
        rows = self._sizes()
        rows["mean_norm"] = [float(self[layer].norm(dim=1).mean()) for layer in self]  # one layer in memory at a time
        return rows

    def _sizes(self) -> pd.DataFrame:
        """The frame without what needs reading the points."""
        stored = self.points if isinstance(self.points, StoredPoints) else None
        shapes = [tuple(self.points[layer].shape) if stored is None else stored.shape(layer) for layer in self]
        rows = self.layer_frame.copy()
        rows["n_points"] = [n_points for n_points, _ in shapes]
        rows["n_features"] = [n_features for _, n_features in shapes]
        return rows

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a folder with a safetensors file per layer and activations.json.

        Activations that were saved there before stay whole until these are: the files get names of their own, and the
        JSON, which names them, changes in one moment. Activations that live in this very folder stay as they are.

        Raises:
            StudyError: if the folder cannot be written; what it held is still there.
        """
        folder = check_path(path, "path")
        if isinstance(self.points, StoredPoints) and self.points.folder.resolve() == folder.resolve():
            return folder
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        old = _files_of(folder)
        files = _free_names(self.layers, old)
        try:
            for layer, name in files.items():
                points = self.points[layer]
                file = LayerFile(folder / name, points.shape[0], points.shape[1], points.dtype)
                file.create()
                file.write(np.arange(len(points)), points)
                file.sync()
            self.describe(folder, files)
        except BaseException:
            _remove(folder, files.values())
            raise
        _remove(folder, old)
        return folder

    def describe(self, folder: Path, files: Mapping[str, str], identity: Mapping[str, Any] | None = None) -> None:
        """Write activations.json next to points that are already in `folder`.

        Args:
            folder: the folder with the points.
            files: layer -> file name.
            identity: what the points depend on, kept where a later capture will compare it.
        """
        content = {
            "pooling": self.pooling,
            "settings": dict(self.settings),
            "layers": frame_to_records(self.layer_frame),
            "files": dict(files),
            "provenance": {name: self.provenance[name].tolist() for name in _PROVENANCE_COLUMNS},
        }
        write_json(folder / DOCUMENT, KIND, content | ({"identity": dict(identity)} if identity else {}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Activations:
        """Open what `save` or `capture(..., store=...)` wrote; each layer's points are read when they are asked for.

        Raises:
            StudyError: if it is missing, incomplete, damaged or from another version.
        """
        folder = check_path(path, "path")
        return read_result(folder / DOCUMENT, KIND, lambda content: cls._from_dict(folder, content))

    @classmethod
    def _from_dict(cls, folder: Path, content: Mapping[str, Any]) -> Activations:
        fields = Fields(content, KIND)
        layers = records_to_frame(fields.rows("layers"), _LAYER_COLUMNS, texts=("layer", "stack"))
        given = Fields(fields.mapping("provenance"), "provenance")
        provenance = pd.DataFrame({name: given.wholes(name) for name in ("text", "position")})
        provenance.insert(1, "token", pd.Series(given.texts_or_none("token"), dtype=object))
        points = StoredPoints(folder, fields.mapping("files"))
        if set(layers["layer"]) != set(points) or any(points.shape(each)[0] != len(provenance) for each in points):
            raise StudyError(f"the files in {folder} are not of these layers and points; capture again")
        return cls(
            points=points,
            layer_frame=layers,
            provenance=provenance,
            pooling=fields.text("pooling"),
            settings=fields.mapping("settings"),
        )

    def __repr__(self) -> str:
        return f"Activations({len(self.layers)} layers, {self.n_points} points, pooling {self.pooling!r})"

    def _repr_html_(self) -> str:
        # A page is shown often, and points on disk may be many times the memory.
        shown = self._sizes() if isinstance(self.points, StoredPoints) else self.frame
        return frame_html(shown, caption=repr(self))


def _files_of(folder: Path) -> list[str]:
    """Files of the activations saved in a folder; nobody else's, whatever activations.json says."""
    if not (folder / DOCUMENT).exists():
        return []
    try:
        named = Fields(read_json(folder / DOCUMENT, KIND), KIND).mapping("files").values()
    except StudyError:
        return []
    return [name for name in named if is_layer_file(name)]


def _free_names(layers: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Layer -> file name, none of which is taken: numbered from 0, or from behind the highest number taken."""
    first = 0
    names = {layer: file_name(number, layer) for number, layer in enumerate(layers)}
    if set(names.values()) & set(taken):
        first = 1 + max(int(name.partition("-")[0]) for name in taken)
    return {layer: file_name(first + number, layer) for number, layer in enumerate(layers)}


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):  # a file too many harms nobody
            (folder / name).unlink(missing_ok=True)
