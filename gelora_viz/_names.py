"""Names that models have and users give: endings of module names, near misses, and what a file may be called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from gelora_viz.errors import InputError

_FILE_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)))
)
"""What Windows takes for a device, whatever stands behind a dot."""


def goes_by(module: str, name: str) -> bool:
    """Whether a module is called so: `name` is its full name or the last parts of it, as in PEFT's target_modules.

    Example:
        >>> goes_by("encoder.layer.0.query", "query"), goes_by("encoder.layer.0.subquery", "query")
        (True, False)
    """
    return module == name or module.endswith(f".{name}")


def did_you_mean(given: str, known: Iterable[str], *, most: int = 12) -> str:
    """The end of an error message about an unknown name: the nearest known ones, or else `most` of them."""
    names = list(dict.fromkeys(known))
    near = get_close_matches(given, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"there is {', '.join(names[:most])}{more}"


def is_file_name(name: object) -> bool:
    """Whether it can be the name of a plan, a run, a comparison or another thing that becomes a file.

    Example:
        >>> is_file_name("gelora-r4.2"), is_file_name("../x"), is_file_name("CON.txt")
        (True, False, False)
    """
    return (
        isinstance(name, str)
        and _FILE_NAME.fullmatch(name) is not None
        and name.partition(".")[0].lower() not in _DEVICES
    )


def check_file_name(name: object, what: str, taken: Iterable[str] = ()) -> str:
    """The name of a thing that becomes a file or a folder.

    Args:
        name: what was given.
        what: the name's role in an error message, such as "plan name".
        taken: names of the things of this kind that there are. Some systems hold names that differ in capital and
            small letters alone for the same; the very same name is the caller's affair.

    Raises:
        InputError: unless all systems can have a file of this name, which leads to no other folder.
    """
    if not isinstance(name, str) or not is_file_name(name):
        raise InputError(
            f"{what} {str(name)[:100]!r} names no file; it must be letters, digits, dots, dashes and underscores "
            "(100 at most), begin with no dot or dash, end with no dot, and be no device of Windows such as CON"
        )
    alike = next((each for each in taken if each != name and each.lower() == name.lower()), None)
    if alike is not None:
        raise InputError(
            f"{what} {name!r} differs from {alike!r} in capital letters alone, which some systems take for the same; "
            "choose another name"
        )
    return name
