"""From a name, a file or an object to texts with optional labels, split into train, validation and test."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gelora_viz._checks import check_choice, check_seed, check_text, check_whole, describe
from gelora_viz._results import frame_html, write_text
from gelora_viz.errors import InputError, SourceError, first_line
from gelora_viz.sources.icd10 import load_icd10

SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {
    "train": ("train", "unsup", "unlab"),  # what has no labels is left out where others have some
    "validation": ("val", "dev", "eval"),
    "test": ("test", "holdout", "held"),
}
"""Split -> how the names begin that it goes by."""
_SHARES = {"test": 0.2, "validation": 0.1}
_COLUMNS = ["split", "text", "label", "group"]
_TEXT_COLUMNS = ("text", "sentence", "content", "description", "document", "review")
_LABEL_COLUMNS = ("label", "labels", "class", "category", "target")

DATA_NAMES: dict[str, Callable[..., pd.DataFrame]] = {"icd10cm": load_icd10}
"""Names that need no network. "icd10cm": ICD-10-CM diagnosis descriptions and their chapters (US public domain)."""


@dataclass(frozen=True, eq=False)
class TextData:
    """Texts, their labels where there are any, and their split.

    Attributes:
        frame: one row per text: split ("train" | "validation" | "test"), text, label (a string, or None),
            group (texts of one group are not independent, such as siblings of one category; None where unknown).
        name: where the texts came from.
        n_duplicates: repeated texts that were left out (the first of each stays).
        n_unlabelled: texts without a label that were left out because others have one.
    """

    frame: pd.DataFrame
    name: str
    n_duplicates: int = 0
    n_unlabelled: int = 0
    label_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        labels = self.frame["label"].dropna().unique()
        object.__setattr__(self, "label_names", tuple(sorted(str(label) for label in labels)))

    def texts(self, split: str = "train") -> list[str]:
        """The texts of one split, in order."""
        return self._rows(split)["text"].tolist()

    def labels(self, split: str = "train") -> np.ndarray:
        """Class numbers (n_texts,) of one split, as positions in `label_names`.

        Raises:
            InputError: if the data set has no labels.
        """
        if not self.label_names:
            raise InputError(f"the data set {self.name!r} has no labels; name its label column to fine-tune on it")
        positions = {name: number for number, name in enumerate(self.label_names)}
        return self._rows(split)["label"].map(positions).to_numpy(dtype=np.int64)

    def groups(self, split: str = "train") -> list[str | None]:
        """The group of each text of one split; None where the source names no groups."""
        return self._rows(split)["group"].tolist()

    def _rows(self, split: str) -> pd.DataFrame:
        check_choice(split, "split", SPLITS)
        return self.frame[self.frame["split"] == split]

    @property
    def digest(self) -> str:
        """Fingerprint of the texts, labels and splits."""
        return hashlib.sha256(self._as_lines().encode()).hexdigest()[:16]

    def _as_lines(self) -> str:
        rows = self.frame[_COLUMNS].to_dict(orient="records")
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON lines with the columns of `frame`, which `load_texts` reads back."""
        return write_text(path, self._as_lines())

    def __repr__(self) -> str:
        counts = self.frame["split"].value_counts()
        sizes = ", ".join(f"{counts.get(split, 0)} {split}" for split in SPLITS)
        return f"TextData({self.name!r}: {sizes}; {len(self.label_names)} classes)"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self), max_rows=8)


def load_texts(
    source: Any = "icd10cm",  # noqa: ANN401 - a name, a path, a list, a frame or a datasets object
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    max_texts: int | None = None,
    seed: int = 0,
) -> TextData:
    """Load texts for capturing and, where they have labels, for fine-tuning.

    Args:
        source: "icd10cm" (embedded, offline); a .csv, .tsv, .jsonl, .json, .parquet or .txt file (one text per line);
            a Hub data set id ("stanfordnlp/sst2" or "nyu-mll/glue:sst2" with a configuration); a list of texts; a
            pandas DataFrame; a `datasets.Dataset` or `DatasetDict`.
        text_column: the column with the texts; by default the first of the usual names, or the only text column.
        label_column: the column with the classes; by default the first of the usual names, if there is one.
        max_texts: keep at most this many training texts (seeded random choice); validation and test keep a quarter of
            it.
        seed: seed of the splits and choices.

    Returns:
        Texts split into train, validation and test: the source's own splits where it has them (a column "split", or
        the splits of a `DatasetDict`), otherwise 70 : 10 : 20 at random within each class, whole groups together
        where a column "group" names them. Repeated texts are left out, and so are texts without a label where others
        have one; both are counted.

    Raises:
        SourceError: if the source is unknown or unreadable; the message says which names exist.
        InputError: if texts are empty or not strings, or a column is missing.

    Example:
        >>> load_texts(["one text", "another text", "a third"])
        TextData('list of 3 texts': 3 train, 0 validation, 0 test; 0 classes)
    """
    check_seed(seed)
    if max_texts is not None:
        check_whole(max_texts, "max_texts")
    for column, argument in ((text_column, "text_column"), (label_column, "label_column")):
        if column is not None:
            check_text(column, argument, "text" if column is text_column else "label")
    frame, name = _read(source, seed=seed)
    frame = _choose_columns(frame, name, text_column, label_column)
    if frame.empty:
        raise InputError(f"{name} has no rows; give at least one text")
    _check_texts(frame["text"], name)
    labeled = frame[frame["label"].notna()] if frame["label"].notna().any() else frame
    distinct = labeled.drop_duplicates(subset="text", ignore_index=True)
    chosen = _split(distinct, seed)
    if max_texts is not None:
        chosen = _thin(chosen, max_texts, seed)
    before = source if isinstance(source, TextData) else TextData(frame, name)
    return TextData(
        chosen[_COLUMNS].reset_index(drop=True),
        name,
        n_duplicates=before.n_duplicates + len(labeled) - len(distinct),
        n_unlabelled=before.n_unlabelled + len(frame) - len(labeled),
    )


def check_texts(texts: Iterable[object], *, name: str = "texts") -> list[str]:
    """Return `texts` as a list of strings, or raise `InputError` with the first offending entry and its position."""
    if isinstance(texts, str):
        raise InputError(f"{name} is a single string; give a list of texts")
    if not isinstance(texts, Iterable) or isinstance(texts, bytes | Mapping):
        raise InputError(f"{name} is {describe(texts)}; give a list of texts")
    if isinstance(texts, set | frozenset):
        raise InputError(f"{name} is a set, whose order is another each time; give a list of texts")
    entries = list(texts)
    if not entries:
        raise InputError(f"{name} is empty; give at least one text")
    _check_texts(entries, name)
    return [str(entry) for entry in entries]


def _check_texts(texts: Iterable[object], name: str) -> None:
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"text {position} of {name} is {describe(text)} ({type(text).__name__}), not a string; drop or "
                "convert it"
            )
        if not text.strip():
            raise InputError(f"text {position} of {name} is empty ({text!r}); drop empty texts first")


def _read(source: Any, *, seed: int) -> tuple[pd.DataFrame, str]:  # noqa: ANN401
    """The raw rows behind a source, and a name for them."""
    if isinstance(source, TextData):
        return source.frame, source.name
    if isinstance(source, str):
        check_text(source, "source", "icd10cm")
    if isinstance(source, pd.DataFrame):
        return source, f"DataFrame of {len(source)} rows"
    if isinstance(source, str) and source in DATA_NAMES:
        return DATA_NAMES[source](seed=seed), source
    if isinstance(source, os.PathLike) or (isinstance(source, str) and _looks_like_a_file(source)):
        return _read_file(Path(source).expanduser()), Path(source).name
    if isinstance(source, str):
        return _read_hub(source), source
    if hasattr(source, "to_pandas") or (
        isinstance(source, dict) and source and all(hasattr(part, "to_pandas") for part in source.values())
    ):
        return _from_datasets(source), type(source).__name__
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        texts = check_texts(source, name="source")
        return pd.DataFrame({"text": pd.Series(texts, dtype=object)}), f"list of {len(texts)} texts"
    raise SourceError(
        f"source is {describe(source)}, which holds no texts; give one of the names ({', '.join(DATA_NAMES)}), a "
        "file, a Hub data set id, a list of texts, a DataFrame or a datasets object"
    )


def _read_separated(path: Path, separator: str) -> pd.DataFrame:
    """Every cell as the text it is: a label "NA" or "007" means what it says."""
    try:
        frame = _parse(path, separator, csv.QUOTE_MINIMAL)
        swallowed = separator == "\t" and any(
            isinstance(cell, str) and "\t" in cell and "\n" in cell for column in frame for cell in frame[column]
        )
    except pd.errors.ParserError:
        if separator != "\t":
            raise
        swallowed = True
    if swallowed:  # a quote that opens no quoted cell, as in GLUE's files
        frame = _parse(path, separator, csv.QUOTE_NONE)
    if len(frame.columns) == 1 and any(other in frame.columns[0] for other in ";\t|"):
        raise ValueError(
            f"its only column is {frame.columns[0]!r}; is it separated by something other than {separator!r}"
        )
    return frame


def _parse(path: Path, separator: str, quoting: Literal[0, 3]) -> pd.DataFrame:
    with warnings.catch_warnings():
        # A row longer than the header would lose its end, or shift all columns by one.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                path, sep=separator, dtype=str, keep_default_na=False, index_col=False, quoting=quoting,
                encoding="utf-8-sig",
            )  # fmt: skip
        except pd.errors.ParserWarning as error:
            raise ValueError("a row has more cells than the header; quote texts that hold the separator") from error


def _lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file, ended by line feeds alone: a text may hold what else splitlines() cuts at."""
    return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: _read_separated(path, ","),
    ".tsv": lambda path: _read_separated(path, "\t"),
    ".jsonl": lambda path: pd.DataFrame([json.loads(line) for line in _lines(path) if line.strip()]),
    ".json": lambda path: pd.DataFrame(json.loads(path.read_text(encoding="utf-8-sig"))),
    ".parquet": lambda path: pd.read_parquet(path),
    ".txt": lambda path: pd.DataFrame({"text": _lines(path)}),
}


def _looks_like_a_file(source: str) -> bool:
    path = Path(source).expanduser()
    return path.suffix.lower() in _READERS or path.exists() or source.startswith((".", "/", "~"))


def _read_file(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SourceError(f"no file at {path}; give an existing file or one of the names: {', '.join(DATA_NAMES)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SourceError(
            f"cannot read {path.name}: unknown kind {path.suffix!r}; readable are {', '.join(_READERS)}"
        )
    try:
        return reader(path)
    except (ValueError, TypeError, AttributeError, RecursionError, OSError, ImportError) as error:
        # pandas' parser errors are ValueErrors, and JSON of another shape is any of the first four.
        raise SourceError(f"cannot read {path}: {first_line(error)}; check that it is valid {path.suffix}") from error


def _read_hub(source: str) -> pd.DataFrame:
    """A data set of the Hugging Face Hub, "owner/name" or "owner/name:configuration"."""
    identifier, _, configuration = source.partition(":")
    unknown = (
        f"unknown data set {source!r}: it is none of the names ({', '.join(DATA_NAMES)}), no local file, and as a "
        "Hub id it could not be loaded"
    )
    try:
        import datasets
    except ImportError as error:
        raise SourceError(
            f'{unknown} because `datasets` is missing; run: pip install "gelora_viz[datasets]"'
        ) from error
    try:
        loaded = datasets.load_dataset(identifier, configuration or None)
    except Exception as error:  # datasets raises many unrelated types; each means the same here
        raise SourceError(f"{unknown} ({first_line(error)}); check the spelling, or the network") from error
    return _from_datasets(loaded)


def _from_datasets(source: Any) -> pd.DataFrame:  # noqa: ANN401 - datasets is an extra, so its types are not at hand
    """Rows of a `datasets.Dataset` or `DatasetDict`; class numbers become names, and -1 (unlabeled) None."""
    if isinstance(source, dict):
        parts = [_from_datasets(part).assign(split=_split_name(name)) for name, part in source.items()]
        return pd.concat(parts, ignore_index=True)
    frame: pd.DataFrame = source.to_pandas()
    for column, feature in source.features.items():
        names = getattr(feature, "names", None)
        if names is not None:
            known = [None if pd.isna(number) or number < 0 else names[int(number)] for number in frame[column]]
            frame[column] = pd.Series(known, index=frame.index, dtype=object)
    return frame


def _split_name(name: str) -> str:
    """train, validation or test for the many names that splits go by; raises `InputError` for any other name."""
    lowered = name.lower()
    for split, beginnings in _SPLIT_NAMES.items():
        if lowered.startswith(beginnings):
            return split
    if "train" in lowered:
        return "train"
    raise InputError(
        f"split {name!r} is none of {', '.join(SPLITS)}; rename it, or leave it out: load the others with `datasets` "
        "and give {'train': ..., 'test': ...}"
    )


def _choose_columns(
    frame: pd.DataFrame, name: str, text_column: str | None, label_column: str | None
) -> pd.DataFrame:
    """Keep text, label and split under these names, the labels as strings."""
    columns = [str(column) for column in frame.columns]
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise InputError(f"{name} has several columns named {', '.join(repeated)}; give each its own name")
    frame = frame.set_axis(columns, axis=1)
    for wanted, role in ((text_column, "text"), (label_column, "label")):
        if wanted is not None and wanted not in columns:
            raise InputError(f"{name} has no {role} column {wanted!r}; its columns are {', '.join(columns)}")
    if text_column is None:
        text_column = next((column for column in _TEXT_COLUMNS if column in columns), None)
    if text_column is None:
        strings = [
            column for column in columns if column not in ("split", *_LABEL_COLUMNS) and _holds_strings(frame[column])
        ]
        if len(strings) != 1:
            raise InputError(f"cannot tell which column of {name} holds the texts; name one of {', '.join(columns)}")
        text_column = strings[0]
    if label_column is None:
        label_column = next(
            (column for column in _LABEL_COLUMNS if column in columns and column != text_column), None
        )
    chosen = pd.DataFrame({"text": frame[text_column].astype(object)})
    chosen["label"] = (
        _strings(frame[label_column]) if label_column is not None else _strings(chosen["text"], empty=True)
    )
    group_column = "group" if "group" in columns and "group" not in (text_column, label_column) else None
    chosen["group"] = (
        _strings(frame[group_column]) if group_column is not None else _strings(chosen["text"], empty=True)
    )
    if "split" in columns and "split" not in (text_column, label_column):
        chosen["split"] = [_split_name(str(split)) for split in frame["split"]]
    return chosen


def _strings(column: pd.Series, *, empty: bool = False) -> pd.Series:
    """The column as strings, None where a value is missing, or everywhere."""
    several = next(
        (value for value in column if not empty and isinstance(value, Sized) and not isinstance(value, str)), None
    )
    if several is not None:
        raise InputError(f"the value {several!r} holds several labels; give one label a text")
    values = [None if empty or pd.isna(value) or value == "" else str(value) for value in column]
    return pd.Series(values, index=column.index, dtype=object)


def _holds_strings(column: pd.Series) -> bool:
    """Whether a column holds texts: strings, and not all of them numbers."""
    head = list(column.head(50))
    return bool(head) and all(isinstance(each, str) for each in head) and not all(_is_number(each) for each in head)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Make missing splits out of the training rows, at random within each class, whole groups together."""
    generator = np.random.default_rng(seed)
    if "split" not in frame:
        frame = frame.assign(split="train")
    if frame["label"].isna().all():
        return frame
    missing = [(split, share) for split, share in _SHARES.items() if split not in set(frame["split"])]
    unit = frame["group"].where(frame["group"].notna(), [f"\0{row}" for row in range(len(frame))])
    sizes = frame[frame["split"] == "train"].groupby("label", sort=True).size()
    for split, share in missing:
        for label, size in sizes.items():
            left = unit[(frame["split"] == "train") & (frame["label"] == label)]
            counts = left.value_counts(sort=False)
            order = generator.permutation(len(counts))
            n_units = int(np.searchsorted(np.cumsum(counts.to_numpy()[order]), round(share * size), side="right"))
            moved = set(counts.index[order[:n_units]])
            frame.loc[(frame["split"] == "train") & unit.isin(moved), "split"] = split
    return frame


def _thin(frame: pd.DataFrame, max_texts: int, seed: int) -> pd.DataFrame:
    """A seeded random choice of at most `max_texts` training rows and a quarter of that of the others, order kept."""
    generator = np.random.default_rng(seed)
    kept = []
    for split in SPLITS:
        rows = frame.index[frame["split"] == split].to_numpy()
        limit = max_texts if split == "train" else max(max_texts // 4, 1)
        kept.append(rows if len(rows) <= limit else generator.choice(rows, size=limit, replace=False))
    return frame.loc[np.sort(np.concatenate(kept))]
