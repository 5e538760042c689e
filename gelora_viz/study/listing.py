"""What lies in a study's folder: files of results by their names, and links that lead out of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from gelora_viz._names import is_file_name
from gelora_viz._reading import inside
from gelora_viz.errors import GeloraVizError, StudyError

logger = logging.getLogger("gelora_viz")

_Result = TypeVar("_Result")


def read_all(
    named: Iterable[tuple[str, Path]], load: Callable[[Path], _Result], problems: list[str] | None = None
) -> dict[str, _Result]:
    """Name -> result, of those files that can be read; each of the others is logged with the reason.

    Args:
        named: (name, file) of each.
        load: reads a file.
        problems: takes the reasons instead of the log.
    """
    found = {}
    for name, file in named:
        try:
            if not is_file_name(name):
                raise StudyError(f"{str(file)!r} has a name that gelora_viz gives to nothing; rename it")
            found[name] = load(file)
        except GeloraVizError as error:
            if problems is None:
                logger.warning("left out: %s", error)
            else:
                problems.append(str(error))
    return found


def files_in(folder: Path) -> list[tuple[str, Path]]:
    """(name, file) of the JSON files in a folder."""
    return [(file.stem, file) for file in sorted(folder.glob("*.json"))]


def check_links(folder: Path) -> None:
    """Raise `StudyError` if a link in a study leads out of it.

    What a study writes and removes it looks for by name, so a link from somebody else could make that anything.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            if path.is_symlink():
                inside(folder, str(path.relative_to(folder)))
