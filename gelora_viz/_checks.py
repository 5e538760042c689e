"""Arguments that many steps take, checked in one way before anything is done with them."""

from __future__ import annotations

import math
import numbers
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gelora_viz.errors import InputError, first_line

if TYPE_CHECKING:
    import torch


def resolve_device(name: str | None) -> torch.device:
    """The torch device of this name; None means the CPU.

    Raises:
        InputError: if torch does not know the device, or this machine does not have it.
    """
    import torch  # here, so that the command line can check arguments without it

    try:
        device = torch.device(name or "cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {name!r} cannot be used here ({first_line(error)}); give cpu, or leave it out"
        ) from error
    return device


def check_seed(seed: object) -> int:
    """The seed; raises `InputError` unless it is a whole number from 0 to 2**32 - 1, as numpy and torch both take."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed!r}; give a whole number from 0 to {2**32 - 1}")
    return seed


def check_whole(number: object, name: str, *, at_least: int = 1, or_else: str = "") -> int:
    """The whole number, numpy's too, as a plain one.

    Args:
        number: what was given.
        name: the argument's name, for the message.
        at_least: the lowest one allowed.
        or_else: the word that the caller takes instead, for the message.

    Raises:
        InputError: for anything else or less, with its name.
    """
    if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < at_least:
        word = f', or "{or_else}"' if or_else else ""
        raise InputError(f"{name} is {number!r}; give a whole number of at least {at_least}{word}")
    return int(number)


def check_number(
    number: object,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """The finite real number, numpy's too, as a plain one.

    Args:
        number: what was given.
        name: the argument's name, for the message.
        above: lower end of the range, which is not part of it; or `at_least`, where it is.
        at_least: see `above`.
        below: upper end of the range, which is not part of it; or `at_most`, where it is.
        at_most: see `below`.

    Raises:
        InputError: for anything else, with its name and the range.
    """
    is_real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    if not (
        is_real
        and math.isfinite(value := float(number))  # type: ignore[arg-type]
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    ):
        raise InputError(f"{name} is {number!r}; give a number {_range(above, at_least, below, at_most)}".rstrip())
    return value


def _range(above: float | None, at_least: float | None, below: float | None, at_most: float | None) -> str:
    """The range in words."""
    if above is not None and below is not None:
        return f"between {above:g} and {below:g}"
    low = f"above {above:g}" if above is not None else "" if at_least is None else f"of at least {at_least:g}"
    high = f"below {below:g}" if below is not None else "" if at_most is None else f"at most {at_most:g}"
    return f"{low} and {high}" if low and high else low or high


def check_folder(folder: str | os.PathLike[str], what: str) -> Path:
    """The path of a folder that is to be made or opened.

    Args:
        folder: its path.
        what: the folder's role in an error message, such as "study folder".

    Raises:
        InputError: if its name begins with a dash, as that of an option that was taken for a folder does.
    """
    path = Path(folder)
    if path.name.startswith("-"):
        raise InputError(f"{what} {str(folder)!r} reads like an option; give a name that does not begin with a dash")
    return path


def check_confidence(confidence: object) -> float:
    """The level of an interval; raises `InputError` unless it is a number between 0 and 1."""
    return check_number(confidence, "confidence", above=0, below=1)
