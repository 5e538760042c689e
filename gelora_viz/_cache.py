"""Where files are kept that are made once and used by every study of this user."""

from __future__ import annotations

import os
from pathlib import Path

from gelora_viz.errors import InputError

ORIGIN_FILE = "origin.json"
"""Says where a fetched model comes from. Written last, so a folder that has it is complete."""


def cache_folder(kind: str) -> Path:
    """The folder for one kind of file, such as "models"; it is not made here.

    `GELORA_VIZ_CACHE` names the folder that holds all kinds. Without it that is `gelora_viz` in `XDG_CACHE_HOME`, or
    in `~/.cache`.

    Raises:
        InputError: if neither variable is set and this user has no home folder, as in some containers.
    """
    own = os.environ.get("GELORA_VIZ_CACHE")
    if own:
        return _absolute(own) / kind
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _absolute(shared) / "gelora_viz" / kind


def fetched_model(name: str) -> Path:
    """The folder of a model that `gelora-viz fetch` brings, whether it is there yet or not."""
    return cache_folder("models") / name


def is_fetched(folder: Path) -> bool:
    """Whether a fetch into this folder came to its end."""
    return (folder / ORIGIN_FILE).is_file()


def _absolute(folder: str) -> Path:
    """Absolute, because a worker process need not run in the folder where the variable was set."""
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            f"no home folder to keep {folder} in; set GELORA_VIZ_CACHE to a folder you can write to"
        ) from error
