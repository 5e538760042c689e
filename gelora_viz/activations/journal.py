"""A capture into a folder that outlives its process: what is safely on disk, and whose capture it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gelora_viz._locks import FileLock
from gelora_viz._reading import Fields
from gelora_viz._results import read_json, read_result, write_json
from gelora_viz.activations.result import DOCUMENT, KIND
from gelora_viz.activations.storage import (
    LayerFile,
    check_space,
    check_width,
    explain_write_errors,
    file_name,
    narrow,
    sync,
)
from gelora_viz.errors import InputError, StudyError

logger = logging.getLogger("gelora_viz")

_JOURNAL = "capture.json"
_LOCK = ".lock"
_KIND = "unfinished capture"
_SECONDS = 5.0
"""Between two entries: each waits for the disk, and what a kill costs is at most this."""
_DIGESTED = ("weights", "adapters", "texts", "images", "tokenizer", "image processor", "model")


class Journal:
    """Where the points of a running capture go, so that a killed one is continued.

    Args:
        folder: folder of the capture; made if it does not exist.
        identity: what the points depend on, by name; see `identity.describe_capture`.
        layers: names of the layers, in order.
        n_points: number of points in each layer.
        dtype: data type that the points are kept in.

    Attributes:
        n_done: number of texts, in the order in which they are run, whose points are safely on disk.

    Raises:
        InputError: if the folder holds a capture of something else; the message says what differs.
        StudyError: if it cannot be written, or holds other files.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], layers: list[str], n_points: int, dtype: torch.dtype
    ) -> None:
        self._folder, self._identity, self._dtype, self._n_points = folder, dict(identity), dtype, n_points
        self.files = {layer: file_name(number, layer) for number, layer in enumerate(layers)}
        self._open: dict[str, LayerFile] = {}
        self._written_at = time.monotonic()
        self.n_done = 0
        widths = self._read_widths()
        for layer, n_features in widths.items():
            self._open[layer] = self._file(layer, n_features)
        if not widths:
            self._write()  # at once: an unwritable folder is found out before any work is done

    def write(self, layer: str, rows: np.ndarray, points: torch.Tensor) -> None:
        """Write points (n_rows, n_features) of a layer to their rows."""
        kept = narrow(points, self._dtype, layer)
        if layer not in self._open:
            file = self._file(layer, kept.shape[1])
            if not self._open:
                check_space(self._folder, file.size * len(self.files))
            file.create()
            self._open[layer] = file
        check_width(layer, kept.shape[1], self._open[layer].n_features)
        self._open[layer].write(rows, kept)

    def note(self, n_done: int, *, last: bool = False) -> None:
        """All points of the first `n_done` texts are written: record it, now and then, once they are on disk."""
        if last or time.monotonic() - self._written_at >= _SECONDS:
            for file in self._open.values():
                file.sync()
            self.n_done = n_done
            self._write()
            self._written_at = time.monotonic()

    def close(self) -> None:
        """Remove the journal of a capture that is complete."""
        (self._folder / _JOURNAL).unlink(missing_ok=True)

    def _file(self, layer: str, n_features: int) -> LayerFile:
        return LayerFile(self._folder / self.files[layer], self._n_points, n_features, self._dtype)

    def _read_widths(self) -> dict[str, int]:
        """Number of features by layer where a capture is under way, nothing where one begins."""
        document = read_journal(self._folder)
        if document is None:
            return {}
        check_identity(self._folder, document["identity"], self._identity)
        self.n_done = document["n_done"]
        widths: dict[str, int] = document["n_features"]
        complete = all(
            (self._folder / name).is_file()
            and not (self._folder / name).is_symlink()
            and (self._folder / name).stat().st_size == self._file(layer, widths.get(layer, 0)).size
            for layer, name in self.files.items()
        )
        if self.n_done == 0 or not complete:
            self.n_done = 0
            return {}
        logger.info("going on with the capture in %s after its first %d texts", self._folder, self.n_done)
        return widths

    def _write(self) -> None:
        path = self._folder / _JOURNAL
        content = {
            "identity": self._identity,
            "n_done": self.n_done,
            "n_features": {layer: file.n_features for layer, file in self._open.items()},
        }
        write_json(path, _KIND, content)
        with explain_write_errors(path):
            sync(path)


def check_identity(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise `InputError` with what differs unless a folder's capture is of the same model, data and options."""
    if not there:
        raise InputError(f"{folder} holds activations saved from elsewhere; choose another folder as store")
    differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if differing:
        reasons = [
            f"other {name}" if name in _DIGESTED else f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
            for name in differing
        ]
        raise InputError(
            f"{folder} holds another capture ({'; '.join(reasons)}); choose another store, or delete that one"
        )


def read_journal(folder: Path) -> dict[str, Any] | None:
    """The entries of a capture under way; None where there is none.

    Raises:
        StudyError: if they are damaged.
    """
    path = folder / _JOURNAL
    if not path.exists():
        return None
    return read_result(path, _KIND, _read_entries)


def _read_entries(content: Mapping[str, Any]) -> dict[str, Any]:
    fields = Fields(content, _KIND)
    widths = Fields(fields.mapping("n_features"), "numbers of features")
    return {
        "identity": fields.mapping("identity"),
        "n_done": fields.whole("n_done"),
        "n_features": {layer: widths.whole(layer, at_least=1) for layer in content["n_features"]},
    }


def finished_identity(folder: Path) -> dict[str, Any] | None:
    """The identity of the complete capture that a folder holds; None where it holds none.

    Raises:
        StudyError: if the folder holds other files and no capture.
    """
    if (folder / DOCUMENT).exists():
        document = read_json(folder / DOCUMENT, KIND)
        return Fields(document, KIND).mapping("identity") if document.get("identity") else {}
    # A process killed in its very first entry leaves that entry's temporary file, ".capture.json.…".
    own = (_LOCK, f".{_JOURNAL}.")
    others = [each.name for each in folder.iterdir() if not each.name.startswith(own)] if folder.is_dir() else []
    if others and not (folder / _JOURNAL).exists():
        raise StudyError(f"{folder} is not empty ({others[0]}, …) and holds no capture; choose a new folder")
    return None


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process captures into this folder; a killed process keeps nobody waiting."""
    lock = FileLock(folder / _LOCK)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not lock.acquire():
            logger.warning("another process captures into %s; waiting for it", folder)
            lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()
