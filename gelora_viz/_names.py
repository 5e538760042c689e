"""Names that models have and users give: endings of module names, and near misses."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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
