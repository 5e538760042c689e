"""Where a run goes while the folder that is meant for it holds a finished one, which is never lost.

runs/probe               a run
runs/probe-2             one of other settings, launched when runs/probe had finished
runs/probe-replacement   one that takes the place of runs/probe once it has finished too
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gelora_viz.runs.folder import RunFolder

_REPLACEMENT = "-replacement"


def add_number(name: str, number: int) -> str:
    """The name of the second, third, ... of its kind: probe-2."""
    return name if number == 1 else f"{name}-{number}"


def numbered(path: Path) -> Iterator[Path]:
    """The folders that a run meant for this one may be in, in order, without end."""
    return (path.with_name(add_number(path.name, number)) for number in itertools.count(1))


def existing(path: Path) -> Iterator[Path]:
    """Those that exist, up to the first that does not, and the replacement of the first."""
    yield from itertools.takewhile(Path.exists, numbered(path))
    if (replacement := replacement_of(path)).exists():
        yield replacement


def is_finished(path: Path) -> bool:
    """Whether there is a run with a result."""
    return (path / "result.json").exists()


def free_place(path: Path) -> tuple[Path, int]:
    """The first folder without a finished run, and its number; later ones are passed over where a run goes on."""
    for number, place in enumerate(numbered(path), start=1):
        if not is_finished(place) and (number == 1 or not RunFolder(place).is_going_on):
            return place, number
    raise AssertionError("numbers have no end")


def replacement_of(path: Path) -> Path:
    """Where the run is trained that is to take the place of a finished one."""
    return path.with_name(path.name + _REPLACEMENT)


def replaced_by(path: Path) -> Path | None:
    """The folder whose place a replacement takes when it has finished; None for any other run."""
    if not (path.name.endswith(_REPLACEMENT) and RunFolder(path).is_replacement):
        return None
    return path.with_name(path.name.removesuffix(_REPLACEMENT))


def take_place(path: Path) -> Path:
    """Put a finished replacement in the place of the run that it replaces; returns its folder from then on.

    The old run is moved aside, the new one moved in, and then the old one removed: at no time is there none.

    Raises:
        OSError: if a folder cannot be moved; both runs are there then, the old one in its place.
    """
    target = replaced_by(path)
    if target is None:
        return path
    aside = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(FileNotFoundError):
        target.rename(aside)
    try:
        path.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    RunFolder(target).mark_as_replacement(is_one=False)
    shutil.rmtree(aside, ignore_errors=True)
    return target
