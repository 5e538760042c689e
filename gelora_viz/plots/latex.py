"""Result frames as LaTeX: booktabs tables whose texts are escaped and whose intervals stand next to their values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

from gelora_viz._text import to_one_line
from gelora_viz.errors import InputError
from gelora_viz.plots.frames import require_columns

if TYPE_CHECKING:
    import pandas as pd

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_UNKNOWN = "--"


def escape_latex(text: str) -> str:
    """The text as LaTeX source, in which nothing is a command, a comment or mathematics."""
    return "".join(_ESCAPES.get(character, character) for character in to_one_line(text))


def latex_table(
    frame: pd.DataFrame, *, caption: str, label: str, bold: Mapping[str, Sequence[bool]] | None = None
) -> str:
    r"""A result's frame as a LaTeX table, for a document that loads `booktabs`.

    An interval joins its value in one cell, "0.871 [0.852, 0.888]": ci_low and ci_high the column before them (a
    standard error in between stays a column of its own), x_low and x_high the column x. Numbers of a column share
    their decimals, unknown ones are dashes.

    Args:
        frame: any result's `.frame`, or some of its columns.
        caption: plain text; it is escaped like every other text.
        label: key by which `\ref` finds the table: letters, digits and ":._-".
        bold: column -> whether each of its cells is bold. Nothing is bold by itself: the best number of a column is
            often best by chance, and only what is known to differ should stand out.

    Returns:
        The source of a `table` environment.

    Raises:
        InputError: if the frame has no rows, the label could not stand in a LaTeX source, or `bold` does not fit.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"run": ["a_1"], "accuracy": [0.5], "ci_low": [0.4], "ci_high": [0.6]})
        >>> print(latex_table(frame, caption="Runs", label="tab:runs").splitlines()[8])
        a\_1 & 0.500 [0.400, 0.600] \\
    """
    require_columns(frame, (), "table")
    if not re.fullmatch(r"[\w:.\-]+", label, flags=re.ASCII):
        raise InputError(f"label {label!r} has characters that LaTeX would not take; use letters, digits and ':._-'")
    for name, cells in (bold or {}).items():
        if name not in frame or len(cells) != len(frame):
            raise InputError(
                f"bold has {len(cells)} cells for {name!r}; give one cell per row, for a column of the frame"
            )
    columns = list(_columns(frame, bold or {}))
    rows = zip(*(cells for _, _, cells in columns), strict=True)
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{''.join(alignment for _, alignment, _ in columns)}}}",
            r"\toprule",
            " & ".join(heading for heading, _, _ in columns) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _columns(frame: pd.DataFrame, bold: Mapping[str, Sequence[bool]]) -> Iterator[tuple[str, str, list[str]]]:
    """Heading, alignment and cells of each column, intervals joined to their values."""
    intervals = _intervals(list(map(str, frame.columns)))
    ends = {end for pair in intervals.values() for end in pair}
    for name in map(str, frame.columns):
        if name in ends:
            continue
        values = list(frame[name])
        decimals = _decimals(values)
        cells = [_cell(value, decimals) for value in values]
        if name in intervals:
            low, high = (list(frame[end]) for end in intervals[name])
            cells = [
                cell if _UNKNOWN in (low_cell := _cell(below, decimals), high_cell := _cell(above, decimals))
                else f"{cell} [{low_cell}, {high_cell}]"
                for cell, below, above in zip(cells, low, high, strict=True)
            ]  # fmt: skip
        stressed = bold.get(name, [False] * len(cells))
        cells = [rf"\textbf{{{cell}}}" if stress else cell for cell, stress in zip(cells, stressed, strict=True)]
        numeric = all(value is None or (isinstance(value, Real) and not isinstance(value, bool)) for value in values)
        yield escape_latex(name.replace("_", " ")), "r" if numeric else "l", cells


def _intervals(names: list[str]) -> dict[str, tuple[str, str]]:
    """Which column each pair of interval ends belongs to."""
    intervals = {
        name: (f"{name}_low", f"{name}_high") for name in names if {f"{name}_low", f"{name}_high"} <= set(names)
    }
    if {"ci_low", "ci_high"} <= set(names):
        before = [name for name in names[: names.index("ci_low")] if name not in {"std_error", "ci_high"}]
        if before and before[-1] not in intervals:
            intervals[before[-1]] = ("ci_low", "ci_high")
    return intervals


def _decimals(values: list[object]) -> int:
    """How many decimals give the largest number of a column about three digits; none where all are whole."""
    sizes = [abs(float(value)) for value in values if isinstance(value, Real) and math.isfinite(value)]
    if not sizes or all(isinstance(value, Integral) for value in values):
        return 0
    largest = max(sizes)
    return 3 if largest < 10 else 1 if largest < 1000 else 0


def _cell(value: object, decimals: int) -> str:
    match value:
        case None:
            return _UNKNOWN
        case bool():
            return "yes" if value else "no"
        case Real():
            if not math.isfinite(value):
                return _UNKNOWN
            digits = f"{abs(float(value)):,.{decimals}f}".replace(",", r"\,")
            return f"$-${digits}" if value < 0 and float(digits.replace(r"\,", "")) else digits
        case _:
            text = escape_latex(str(value))
            # After the end of a row, TeX would take these for an option of that end.
            return f"{{}}{text}" if text.startswith(("[", "*")) else text
