"""Points on disk: one safetensors file per layer, written row by row and read one layer at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from gelora_viz._checks import describe
from gelora_viz._reading import inside
from gelora_viz._results import write_remedy
from gelora_viz.errors import InputError, StudyError

_TENSOR = "points"
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_LARGEST_HALF = 65504
_LONGEST_NAME = 100
_LAYER_FILE = re.compile(r"[0-9]{3,}-[A-Za-z0-9_.-]*\.safetensors")


def check_dtype(dtype: object) -> torch.dtype:
    """The torch type of this name; raises `InputError` unless it is float32, float16 or bfloat16."""
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise InputError(f"dtype is {describe(dtype)}; choose {', '.join(_DTYPES)}")
    return _DTYPES[name]


def narrow(points: torch.Tensor, dtype: torch.dtype, layer: str) -> torch.Tensor:
    """The points in the type they are kept in, on the CPU.

    Raises:
        InputError: if a finite number becomes infinite in float16.
    """
    here = points.detach().to("cpu", torch.float32)
    kept = here.to(dtype)
    if dtype == torch.float16 and bool((kept.isinf() & here.isfinite()).any()):
        largest = float(here[here.isfinite()].abs().max())
        raise InputError(
            f"layer {layer!r} has values up to {largest:.6g}, beyond float16's {_LARGEST_HALF}; keep points with "
            'dtype="bfloat16" or "float32"'
        )
    return kept


def check_width(layer: str, n_features: int, expected: int) -> None:
    """Raise `InputError` where a batch's points have another number of features than those before."""
    if n_features != expected:
        raise InputError(
            f"layer {layer!r} gives points of {n_features} features in one batch and of {expected} in another; the "
            "pooling function must give every text the same number"
        )


def file_name(number: int, layer: str) -> str:
    """A file name for a layer of any name, such as "003-encoder.layer.2.safetensors"."""
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', layer)[:_LONGEST_NAME]}.safetensors"


def is_layer_file(name: object) -> bool:
    """Whether it is a name that `file_name` gives, and so no path to anything else."""
    return isinstance(name, str) and _LAYER_FILE.fullmatch(name) is not None


class LayerFile:
    """A safetensors file whose rows are written where they belong, in any order.

    Rows go to their place by positional writes and not through a memory map, whose touched pages would count as the
    process's own memory. Rows never written read as zeros.

    Args:
        path: path of the file.
        n_points: number of rows.
        n_features: number of columns.
        dtype: data type of the points.
    """

    def __init__(self, path: Path, n_points: int, n_features: int, dtype: torch.dtype) -> None:
        self.path, self.n_features = path, n_features
        self._row_bytes = n_features * dtype.itemsize
        self._n_bytes = n_points * self._row_bytes
        entry = {"dtype": _NAMES[dtype], "shape": [n_points, n_features], "data_offsets": [0, self._n_bytes]}
        header = json.dumps({_TENSOR: entry}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # the format wants its data aligned
        self._header = struct.pack("<Q", len(header)) + header

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self._header) + self._n_bytes

    def create(self) -> None:
        """Write the header and leave room for the rows; a file of this name is replaced, not overwritten."""
        with explain_write_errors(self.path):
            self.path.unlink(missing_ok=True)
            with self.path.open("wb") as file:
                file.write(self._header)
                file.truncate(self.size)

    def write(self, rows: np.ndarray, points: torch.Tensor) -> None:
        """Write points (n_rows, n_features) to these rows; neighbors in order are written at once."""
        data = points.contiguous().view(torch.uint8).numpy()
        runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1)
        with explain_write_errors(self.path):
            # Where somebody has put a link in the file's place, what it leads to stays as it is.
            flags = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self.path, flags)
            try:
                for run in runs:
                    place = len(self._header) + int(rows[run[0]]) * self._row_bytes
                    _write_at(descriptor, data[run[0] : run[-1] + 1].reshape(-1), place)
            finally:
                os.close(descriptor)

    def sync(self) -> None:
        """Return once everything written has reached the disk."""
        with explain_write_errors(self.path):
            sync(self.path)


def _write_at(descriptor: int, data: np.ndarray, place: int) -> None:
    left = data.data
    while left:  # a write may take only a part, on a full disk for one
        if hasattr(os, "pwrite"):
            written = os.pwrite(descriptor, left, place)
        else:  # Windows
            os.lseek(descriptor, place, os.SEEK_SET)
            written = os.write(descriptor, left)
        left, place = left[written:], place + written


def sync(path: Path) -> None:
    """Flush a file to the disk."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Raise `StudyError`, which says why `path` could not be written, for the operating system's error."""
    try:
        yield
    except OSError as error:
        remedy = write_remedy(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free space and capture again with the same store, which goes on where it stopped"
        raise StudyError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def check_space(folder: Path, n_bytes: int) -> None:
    """Raise `StudyError` where the disk has no room for this many bytes."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise StudyError(
            f"the points need {n_bytes / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB free; free space, choose "
            'another store, or capture less: max_points, fewer layers, dtype="float16" or "bfloat16"'
        )


class StoredPoints(Mapping[str, torch.Tensor]):
    """Points that stay on disk: a layer is read when it is asked for, and forgotten with its tensor.

    Args:
        folder: the folder with the files.
        files: layer -> file name.

    Raises:
        StudyError: if a file is missing, damaged or holds no points; later, when a layer is read, also if its file
            was replaced after this object was made.
    """

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self._paths = {layer: _path_of(folder, name) for layer, name in files.items()}
        self._shapes = {layer: self._read_shape(layer) for layer in self._paths}
        self._stamps = {layer: _stamp(path) for layer, path in self._paths.items()}

    def shape(self, layer: str) -> tuple[int, int]:
        """(n_points, n_features) of a layer, without reading it."""
        return self._shapes[layer]

    def __getitem__(self, layer: str) -> torch.Tensor:
        path = self._paths[layer]
        try:
            if path.exists() and _stamp(path) == self._stamps[layer]:
                return load_file(path)[_TENSOR]
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error) from error
        raise StudyError(f"{path} has changed since these activations were loaded; load them again")

    def __contains__(self, layer: object) -> bool:  # Mapping's own would read the layer
        return layer in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def _read_shape(self, layer: str) -> tuple[int, int]:
        path = self._paths[layer]
        try:
            with safe_open(path, framework="pt") as file:
                n_points, n_features = file.get_slice(_TENSOR).get_shape()
        except (OSError, SafetensorError, ValueError) as error:
            raise _unreadable(path, error) from error
        return int(n_points), int(n_features)


def _path_of(folder: Path, name: object) -> Path:
    """The file of a layer; raises `StudyError` for a name that leads elsewhere."""
    if not isinstance(name, str) or not is_layer_file(name):
        raise StudyError(
            f"{folder} names {str(name)[:60]!r} as the file of a layer, which it cannot be; capture again"
        )
    return inside(folder, name)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _unreadable(path: Path, error: Exception) -> StudyError:
    return StudyError(f"cannot read {path}: {error}; capture again")
