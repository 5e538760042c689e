"""Which steps of a study are finished, and for which settings: study.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gelora_viz._results import read_json, write_json
from gelora_viz.errors import StudyError

_KIND = "study"


class Memory:
    """The memory of a study.

    Args:
        path: the study's folder; made if it does not exist.

    Raises:
        StudyError: if the folder cannot be written, or holds a study of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        file = path / "study.json"
        if file.exists():
            self._content = read_json(file, _KIND)
        else:
            if path.is_dir() and any(path.iterdir()):
                raise StudyError(
                    f"{path} is not empty and holds no study.json, so it is no study; choose a new folder"
                )
            self._content = {"steps": {}}
        self._made = [each for each in (path, *path.parents) if not each.exists()]
        if not file.exists():
            self._write()  # at once: an unwritable folder is to be found out before any work is done

    @property
    def has_results(self) -> bool:
        """Whether any step beyond the data is finished."""
        return any(step != "data" for step in self._content["steps"])

    def forget(self) -> None:
        """Take back a study that could not be begun: its files, and the folder if it was made for it."""
        for name in ("study.json", "data.jsonl"):
            (self._path / name).unlink(missing_ok=True)
        for folder in self._made:
            folder.rmdir()

    def recall(self, step: str) -> dict[str, Any] | None:
        """Settings with which a step was finished, or None."""
        known = self._content["steps"].get(step)
        return None if known is None else dict(known["settings"])

    def is_done(self, step: str, settings: Mapping[str, Any], *outputs: Path) -> bool:
        """Whether a step was finished with these very settings and its outputs are still there."""
        known = self._content["steps"].get(step)
        return (
            known is not None and known["digest"] == digest(settings) and all(output.exists() for output in outputs)
        )

    def remember(self, step: str, settings: Mapping[str, Any]) -> None:
        """Record that a step is finished, beside what other processes have recorded meanwhile."""
        self._content = read_json(self._path / "study.json", _KIND)
        self._content["steps"][step] = {
            "settings": dict(settings),
            "digest": digest(settings),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._write()

    def withdraw(self, step: str) -> None:
        """A step is about to be taken anew: what was recorded of it is no longer so."""
        if step in self._content["steps"]:
            self._content = read_json(self._path / "study.json", _KIND)
            self._content["steps"].pop(step, None)
            self._write()

    def _write(self) -> None:
        content = {
            name: value
            for name, value in self._content.items()
            if name not in ("kind", "schema_version", "gelora_viz")
        }
        write_json(self._path / "study.json", _KIND, content)


def digest(settings: Mapping[str, Any]) -> str:
    """A fingerprint of settings, the same for equal settings whatever their order."""
    canonical = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """A fingerprint of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
