"""What a study is of: one model and one data set, how they are told from others, and both of them loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from gelora_viz.errors import StudyError
from gelora_viz.sources import DATA_NAMES, MODEL_NAMES, LoadedModel, TextData, load_model, load_texts
from gelora_viz.study.record import StudyRecord, check_settings

_CHOICES = ("text_column", "label_column", "max_texts", "seed")


class StudySource:
    """The model and the texts of a study, in the folder that holds its results.

    Args:
        path: the study's folder.
        record: the record of its steps, the first of which says what model and data it is of.
        trust_remote_code: run Python code that comes with the model.
    """

    def __init__(self, path: Path, record: StudyRecord, *, trust_remote_code: bool = False) -> None:
        self.path = path
        self.record = record
        self.trust_remote_code = trust_remote_code
        self.settings: dict[str, Any] = check_settings(record.settings_of("data") or {}, path)

    @classmethod
    def begin(
        cls,
        path: Path,
        model: str,
        data: Any,  # noqa: ANN401 - whatever load_texts takes
        choices: Mapping[str, Any],
        *,
        made: Sequence[Path],
        trust_remote_code: bool = False,
    ) -> StudySource:
        """Load a model and texts, and keep the texts and the names of both in the folder.

        Args:
            path: the study's folder, which exists.
            model: what `load_model` takes.
            data: what `load_texts` takes.
            choices: text_column, label_column, max_texts and seed of `load_texts`.
            made: the folders that were made for this study, innermost first; removed if something cannot be loaded.
            trust_remote_code: run Python code that comes with the model.

        Raises:
            SourceError: if the model or the data cannot be loaded.
        """
        try:
            texts = load_texts(data, **choices)
            loaded = load_model(_full_path(model), trust_remote_code=trust_remote_code)
            texts.save(path / "data.jsonl")
        except BaseException:
            for each in made:
                each.rmdir()
            raise
        settings = {
            **choices, "model": _full_path(model), "data": texts.name, "source": _source_of(data),
            "content": texts.digest, "n_duplicates": texts.n_duplicates, "n_unlabelled": texts.n_unlabelled,
        }  # fmt: skip
        begun = cls(path, StudyRecord.create(path, settings), trust_remote_code=trust_remote_code)
        begun.loaded = loaded
        return begun

    @property
    def model(self) -> str:
        """Name, full path or Hub id of the model."""
        return str(self.settings["model"])

    @property
    def title(self) -> str:
        """Model and data in a few words, without the folders they lie in."""
        model = Path(self.model)
        return f"{model.name if model.is_absolute() else self.model} on {self.settings['data']}"

    @property
    def data_file(self) -> Path:
        """The file with the texts as they were when the study began."""
        return self.path / "data.jsonl"

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model and its tokenizer; loaded when first needed."""
        return load_model(self.model, trust_remote_code=self.trust_remote_code)

    @cached_property
    def data(self) -> TextData:
        """The texts; read when first needed."""
        texts = load_texts(str(self.data_file))
        counts = {name: int(self.settings[name]) for name in ("n_duplicates", "n_unlabelled")}
        return TextData(texts.frame, str(self.settings["data"]), **counts)

    def check(self, model: str | None, data: Any, choices: Mapping[str, Any]) -> None:  # noqa: ANN401 - as above
        """Raise `StudyError` if the study is of another model, of other data, or of other choices in the data.

        Args:
            model: what `load_model` takes; None is not compared.
            data: what `load_texts` takes; where it is given, all choices are compared, else those that are not None.
            choices: text_column, label_column, max_texts and seed of `load_texts`.
        """
        asked = {name: value for name, value in choices.items() if data is not None or value is not None}
        if model is not None:
            asked["model"] = _full_path(model)
        if data is not None:
            asked |= {"seed": choices["seed"] or 0, "source": _source_of(data)}
            if asked["source"] == self.settings["source"] and asked["source"] not in DATA_NAMES:
                # The same file, id or kind of object may hold other texts by now.
                asked["content"] = load_texts(data, **{name: self.settings[name] for name in _CHOICES}).digest
        for what, value in asked.items():
            if value != self.settings[what]:
                name = {"source": "data", "content": "texts"}.get(what, what)
                own = self.settings[what]
                raise StudyError(f"{self.path} is a study with {name} {own!r}, not {value!r}; choose another folder")


def _source_of(data: object) -> str | None:
    """What tells one source of texts from another: a name, a Hub id or a file's full path; None for objects."""
    if isinstance(data, str | os.PathLike):
        return _full_path(os.fspath(data))
    return data.name if isinstance(data, TextData) else None


def _full_path(name: str) -> str:
    """The full path of a file or folder, so that a study can be resumed from any folder; other names as they are."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and name not in (*MODEL_NAMES, *DATA_NAMES) else name
