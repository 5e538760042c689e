"""Files that somebody else may have written: JSON within limits, fields of the type they must have, paths that stay.

What a file says is data. Anything in it that is not as gelora_viz writes it becomes one `StudyError`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gelora_viz.errors import GeloraVizError, StudyError

MOST_BYTES = 1 << 30
"""Of a JSON file; a table with a row for each of ten million tokens is smaller."""
_MOST_LEVELS = 64
_LARGEST_INTEGER = 1 << 63
"""Neither numpy nor pandas takes it, or anything larger."""
_SHOWN = 60
"""Characters of a value in an error message."""
_AS_SAVED = "give a file as gelora_viz has saved it, or delete it and run its step again"


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it cannot be read.
        ValueError: if it is something else, such as a pipe, which might never end, or larger than `most` bytes.
    """
    # Without waiting, as a pipe that nobody writes to would make us.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > most:
            raise ValueError(f"it has {status.st_size:,} bytes, and at most {most:,} are read")
        return stream.read()


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401 - any JSON
    """What JSON says, if it is no deeper and its numbers are no larger than results can be.

    Raises:
        ValueError: for anything else, also NaN and infinities, which JSON does not have.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        parsed = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep") from error
    if text.count("[") + text.count("{") > _MOST_LEVELS:
        _check_depth(parsed)
    if "\\u" in text:
        json.dumps(parsed, ensure_ascii=False).encode()  # half a character cannot be written again
    return parsed


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= len(str(_LARGEST_INTEGER)) + 1 else _LARGEST_INTEGER
    return number if abs(number) < _LARGEST_INTEGER else _refuse(digits)


def _float(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _refuse(digits)


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"the number {number[:_SHOWN]} is too large, or none")


def _check_depth(parsed: object) -> None:
    level = [parsed]
    for _ in range(_MOST_LEVELS + 1):
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")


@contextmanager
def naming_file(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Raise `StudyError` with the file's name where its content cannot be used, whatever part of it that is."""
    try:
        yield
    except GeloraVizError as error:
        raise StudyError(f"cannot use the {kind} in {os.fspath(path)}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise StudyError(
            f"cannot use the {kind} in {os.fspath(path)}: {type(error).__name__}, {str(error)[:200]}; {_AS_SAVED}"
        ) from error


class Fields:
    """The fields of a JSON object, each of the type that it must have.

    Args:
        content: the object.
        what: what it is, for error messages.

    Raises:
        StudyError: if it is no object; later, if a field is missing or of another type.
    """

    def __init__(self, content: object, what: str) -> None:
        self._content, self._what = (
            content if isinstance(content, Mapping) else _complain(what, content, "object"),
            what,
        )

    def text(self, name: str) -> str:
        """A text."""
        value = self._value(name)
        return value if isinstance(value, str) else self._complain(name, "text")

    def whole(self, name: str, *, at_least: int = 0) -> int:
        """A whole number."""
        value = self._value(name)
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
        return value if is_whole else self._complain(name, f"whole number of at least {at_least}")

    def number(self, name: str) -> float:
        """A number."""
        value = self._value(name)
        return value if is_number(value) else self._complain(name, "number")

    def truth(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        return value if isinstance(value, bool) else self._complain(name, "truth value")

    def mapping(self, name: str) -> dict[str, Any]:
        """An object."""
        value = self._value(name)
        return dict(value) if isinstance(value, Mapping) else self._complain(name, "object")

    def rows(self, name: str) -> list[Any]:
        """A list."""
        value = self._value(name)
        return list(value) if isinstance(value, list | tuple) else self._complain(name, "list")

    def wholes(self, name: str) -> list[int]:
        """A list of whole numbers."""
        values = self.rows(name)
        known = all(isinstance(each, int) and not isinstance(each, bool) for each in values)
        return values if known else self._complain(name, "list of whole numbers")

    def texts_or_none(self, name: str) -> list[str | None]:
        """A list of texts and nulls."""
        values = self.rows(name)
        known = all(each is None or isinstance(each, str) for each in values)
        return values if known else self._complain(name, "list of texts")

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        values = self.rows(name)
        return values if all(isinstance(each, str) for each in values) else self._complain(name, "list of texts")

    def numbers(self, name: str) -> list[float]:
        """A list of numbers."""
        values = self.rows(name)
        known = all(each is None or is_number(each) for each in values)
        return values if known else self._complain(name, "list of numbers and nulls")

    def _value(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        if name not in self._content:
            raise StudyError(f"the {self._what} lacks {name!r}; {_AS_SAVED}")
        return self._content[name]

    def _complain(self, name: str, expected: str) -> NoReturn:
        _complain(f"{name} of the {self._what}", self._content[name], expected)


def is_number(value: object) -> bool:
    """Whether it is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_records(records: object, columns: Collection[str], texts: Collection[str] | None = None) -> list[Any]:
    """The rows of a table, each with all columns and a single value in each.

    Args:
        records: what should be such rows.
        columns: names of the columns.
        texts: names of those that hold texts, the others hold numbers or truth values; None leaves that open.

    Raises:
        StudyError: if they are not; with the first row that is not.
    """
    if not isinstance(records, list | tuple):
        _complain("the table", records, "list of rows")
    for number, row in enumerate(records):
        if not isinstance(row, Mapping):
            _complain(f"row {number}", row, "object")
        lacking = [name for name in columns if name not in row]
        if lacking:
            raise StudyError(f"row {number} lacks {', '.join(lacking)}; {_AS_SAVED}")
        for name in columns:
            value = row[name]
            if value is None:
                continue
            fits = isinstance(value, str | bool | int | float)
            if fits and texts is not None:
                fits = isinstance(value, str) == (name in texts)
            if not fits:
                kind = "single value" if texts is None else "text" if name in texts else "number or truth value"
                _complain(f"{name} in row {number}", value, kind)
    return list(records)


def _complain(what: str, value: object, expected: str) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    raise StudyError(f"{what} is {shown}, not {'an' if expected[0] in 'aeiou' else 'a'} {expected}; {_AS_SAVED}")


def inside(folder: Path, name: str) -> Path:
    """The path that a file names, if it lies within a folder once symbolic links are followed.

    Raises:
        StudyError: if it does not, or is the folder itself.
    """
    try:
        root, path = folder.resolve(), (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a zero byte
        raise StudyError(f"{name!r} is no name of a file in {folder} ({error}); remove it there") from error
    if root not in path.parents:
        raise StudyError(
            f"{name!r} leads out of {folder}, and nothing outside of it is read or written; put a file or folder of "
            "its own there"
        )
    return folder / name


def remove(path: Path) -> None:
    """Remove a file or a folder, or a symbolic link and not what it leads to; nothing where there is nothing."""
    if path.is_dir() and not path.is_symlink() and not _is_junction(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_junction(path: Path) -> bool:
    """Whether it is a link between folders as Windows has it, which Python knows from 3.12 on."""
    return bool(getattr(path, "is_junction", bool)())
