"""Which steps of a study are finished, and with which settings: study.json."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gelora_viz._checks import check_folder
from gelora_viz._locks import FileLock
from gelora_viz._reading import Fields, naming_file
from gelora_viz._results import read_result, write_json
from gelora_viz.errors import StudyError
from gelora_viz.study.listing import check_links

_KIND = "study"
_BEGIN = "begin one with Study.create(path, model=..., data=...), or gelora-viz profile PATH --model ... --data ..."


class StudyRecord:
    """The record of a study's steps, which several processes may read and write at the same time.

    Args:
        path: the study's folder.

    Raises:
        StudyError: if the folder holds no study, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self._file = path / "study.json"
        if not self._file.exists():
            raise StudyError(f"no study at {path}; {_BEGIN}")
        check_links(path)
        if "data" not in self._steps():
            raise StudyError(f"{self._file} names no model and no data; remove it, and {_BEGIN}")

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> StudyRecord:
        """Write the record of a new study, whose texts are in the folder already.

        Args:
            path: the study's folder; a record that is there is replaced.
            settings: the study's model and data, and how the data were read.
        """
        write_json(path / "study.json", _KIND, {"steps": {"data": _finished(settings)}})
        return cls(path)

    @property
    def has_results(self) -> bool:
        """Whether any step beyond the data is finished."""
        return any(step != "data" for step in self._steps())

    def settings_of(self, step: str) -> dict[str, Any] | None:
        """The settings with which a step was finished, or None."""
        known = self._steps().get(step)
        return None if known is None else dict(known["settings"])

    def is_finished(self, step: str, settings: Mapping[str, Any], *outputs: Path) -> bool:
        """Whether a step was finished with exactly these settings and its outputs still exist."""
        known = self._steps().get(step)
        return (
            known is not None
            and known["digest"] == settings_digest(settings)
            and all(output.exists() for output in outputs)
        )

    def finish(self, step: str, settings: Mapping[str, Any]) -> None:
        """Record that a step is finished."""
        entry = _finished(settings)
        self._change(lambda steps: steps.update({step: entry}))

    def withdraw(self, step: str) -> None:
        """Forget a step that is about to be repeated."""
        if step in self._steps():
            self._change(lambda steps: steps.pop(step, None))

    def _steps(self) -> dict[str, Any]:
        """Read the steps again, since another process may have finished some."""
        return read_result(self._file, _KIND, _read_steps)

    def _change(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Read, change and write under one lock, so that nothing another process records meanwhile is lost."""
        with FileLock(self._file.with_name(".study.json.lock")):
            steps = self._steps()
            change(steps)
            write_json(self._file, _KIND, {"steps": steps})


def open_record(path: str | os.PathLike[str]) -> StudyRecord:
    """The record of the study in a folder.

    Raises:
        InputError: if the folder's name begins with a dash.
        StudyError: if the folder holds no study, or one of another version.
    """
    return StudyRecord(check_folder(path, "study folder"))


def _read_steps(content: Mapping[str, Any]) -> dict[str, Any]:
    """The steps of study.json, each with the settings and the digest that it was finished with."""
    steps = Fields(content, _KIND).mapping("steps")
    for name, step in steps.items():
        fields = Fields(step, f"step {name}")
        fields.text("digest")
        fields.mapping("settings")
    return steps


def check_settings(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a study's data, or `StudyError` where study.json does not name them as it should."""
    with naming_file(path / "study.json", _KIND):
        fields = Fields(settings, "study's settings")
        for name in ("model", "data"):
            fields.text(name)
        for name in ("seed", "n_duplicates", "n_unlabelled"):
            fields.whole(name)
    return dict(settings)


def prepare_folder(path: Path) -> list[Path]:
    """Make sure that a study can begin in the folder; return the folders created for it, innermost first.

    Raises:
        StudyError: if the folder cannot be written, or holds other things than a study.
    """
    made = [each for each in (path, *path.parents) if not each.exists()]
    if path.is_dir() and not (path / "study.json").exists():
        foreign = [
            each.name for each in path.iterdir() if each.name != "data.jsonl" and not each.name.startswith(".")
        ]
        if foreign:
            raise StudyError(
                f"{path} is not empty and holds no study.json, so it is not a study; choose a new folder"
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"cannot write {path}: {error.strerror or error}; choose a folder you can write to"
        ) from error
    return made


def settings_digest(settings: Mapping[str, Any]) -> str:
    """A fingerprint of settings, the same for equal settings whatever their order."""
    canonical = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _finished(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "settings": dict(settings),
        "digest": settings_digest(settings),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
