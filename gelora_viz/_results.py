"""How results reach the disk and the page: atomic JSON with a schema version, and small escaped HTML tables.

Every result object of the toolkit is a frozen dataclass with `.frame`, `.save(path)`, `.load(path)` and
`_repr_html_`; this module holds what they share. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gelora_viz._reading import check_records, naming_file, parse_json, read_bytes
from gelora_viz._text import to_spreadsheet
from gelora_viz._version import __version__
from gelora_viz.errors import InputError, StudyError

if TYPE_CHECKING:
    import pandas as pd  # imported where it is needed: a waiting worker writes JSON and stays small

SCHEMA_VERSION = 1
_Result = TypeVar("_Result")
_UMASK = os.umask(0)  # it can only be read by setting it
os.umask(_UMASK)


def write_json(path: str | os.PathLike[str], kind: str, content: Mapping[str, Any]) -> Path:
    """Write `content` as JSON so that a crash leaves the old file or the new one, never half of either.

    Args:
        path: the file to write; missing parent folders are made.
        kind: what the file holds, such as "dimension profile"; checked again by `read_json`.
        content: JSON-able values; numpy scalars and arrays, NaN (as null) and paths are converted.

    Raises:
        StudyError: if the folder cannot be written.
    """
    document = {"kind": kind, "schema_version": SCHEMA_VERSION, "gelora_viz": __version__, **_plain(content)}
    return write_text(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """`write_bytes` of a text in UTF-8."""
    return write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a temporary file and move it into place, so that there is the old file or the new one.

    Raises:
        StudyError: if the folder cannot be made or written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, 0o666 & ~_UMASK)  # noqa: PTH101 - mkstemp's 0600 would hide the file from colleagues
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StudyError(
            f"cannot write {target}: {error.strerror or error}; choose a folder you can write to"
        ) from error
    return target


def file_digest(path: str | os.PathLike[str]) -> str:
    """A fingerprint of a file's content."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def read_json(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        StudyError: if the file is missing, is not JSON or beyond all measure, holds another kind of result, or has
            another schema version.
    """
    source = Path(path)
    try:
        document = parse_json(read_bytes(source))
    except FileNotFoundError as error:
        raise StudyError(f"no {kind} at {source}; run the step that makes it first") from error
    except (OSError, ValueError) as error:
        raise StudyError(f"cannot read {source} as a {kind}: {error}; delete it and run its step again") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        found = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise StudyError(f"{source} holds {found!r:.60}, not a {kind}; give the path of a {kind}")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise StudyError(
            f"{source} has schema version {document.get('schema_version')!r:.60}, written by gelora_viz "
            f"{str(document.get('gelora_viz'))[:60]}; this gelora_viz {__version__} reads version {SCHEMA_VERSION}: "
            "start a new folder or install that version"
        )
    return document


def read_result(path: str | os.PathLike[str], kind: str, build: Callable[[dict[str, Any]], _Result]) -> _Result:
    """Read what `write_json` wrote and build the result from it.

    Raises:
        StudyError: as `read_json` does, and with the file's name where the result cannot be built.
    """
    document = read_json(path, kind)
    with naming_file(path, kind):
        return build(document)


def frame_to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as JSON-able dictionaries; NaN becomes null."""
    return [_plain(record) for record in frame.to_dict(orient="records")]


def records_to_frame(records: object, columns: Sequence[str], texts: Collection[str] | None = None) -> pd.DataFrame:
    """The inverse of `frame_to_records`, with the columns in a fixed order even when there are no rows.

    Args:
        records: the rows.
        columns: names of the columns.
        texts: names of those that hold texts, the others hold numbers or truth values; None leaves that open.

    Raises:
        StudyError: if these are no such rows.
    """
    import pandas as pd

    return pd.DataFrame.from_records(check_records(records, columns, texts), columns=list(columns))


def write_csv(path: str | os.PathLike[str], frame: pd.DataFrame) -> Path:
    """Write a table as CSV, in which no text is a formula of the spreadsheet that opens it."""
    return write_text(path, frame.map(to_spreadsheet).to_csv(index=False))


def frame_html(frame: pd.DataFrame, *, caption: str, digits: int = 3, max_rows: int = 60) -> str:
    """A small HTML table, every text escaped, that follows the page's own colors."""
    shown = frame.head(max_rows)
    head = "".join(f"<th style='text-align:left'>{html.escape(str(column))}</th>" for column in shown.columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:left'>{html.escape(format_cell(value, digits))}</td>" for value in row)
        + "</tr>"
        for row in shown.itertuples(index=False)
    )
    left_out = f" ({len(frame) - len(shown)} more rows in .frame)" if len(frame) > len(shown) else ""
    title = html.escape(caption + left_out)
    return (
        f"<table class='gelora-viz'><caption style='text-align:left;caption-side:top'>{title}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def format_cell(value: Any, decimals: int | None = None) -> str:  # noqa: ANN401 - whatever a frame holds
    """A value as a table shows it.

    Args:
        value: None and NaN become a dash, truth values yes and no, and whole numbers get thousands separators.
        decimals: digits after the point of numbers that are not whole; by default three below 10 and one from there
            on.
    """
    match value.item() if hasattr(value, "item") else value:  # numpy's
        case None:
            return "–"
        case bool(truth):
            return "yes" if truth else "no"
        case int(number):
            return f"{number:,}"
        case float(number):
            if decimals is None:
                decimals = 3 if abs(number) < 10 else 1
            return "–" if math.isnan(number) else f"{number:.{decimals}f}"
        case other:
            return "–" if other != other else str(other)  # what pandas has for no time


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON-able value in, any out
    """Convert to what JSON knows; NaN becomes null, an infinity or an unknown type is an error."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            if math.isinf(value):
                raise InputError(f"cannot save the infinite number {value}; results must be finite or NaN")
            return None if math.isnan(value) else float(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
        case os.PathLike():
            return os.fspath(value)
        case _:
            return _plain_array(value)


def _plain_array(value: Any) -> Any:  # noqa: ANN401 - as above
    """What numpy and pandas have for a value."""
    import numpy as np
    import pandas as pd

    match value:
        case np.bool_() | np.integer():
            return value.item()
        case np.floating():
            return _plain(float(value))
        case np.ndarray():
            return _plain(value.tolist())
        case _ if pd.isna(value):
            return None
        case _:
            raise InputError(f"cannot save a {type(value).__name__} as JSON: {value!r}")
