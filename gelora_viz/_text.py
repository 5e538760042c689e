"""Text from files and data on its way to a terminal or a spreadsheet, where some characters are commands."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, terminal escapes among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of the text after them
    "\u2028\u2029"  # line ends
    "\ud800-\udfff]"  # halves of a character, which nothing can print
)
_LINE_ENDS = frozenset("\t\n\v\f\r\x85\u2028\u2029")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_one_line(text: str) -> str:
    r"""The text on one line: tabs and line ends are spaces, and other unseen characters are written as Python does.

    Example:
        >>> to_one_line("a\n\x1b[2Jb")
        'a \\x1b[2Jb'
    """
    return _UNSEEN.sub(lambda found: " " if found[0] in _LINE_ENDS else ascii(found[0])[1:-1], text)


def to_spreadsheet(cell: object) -> object:
    """The cell with a "'" before a text that a spreadsheet would take for a formula; all else as it is.

    Example:
        >>> to_spreadsheet("=1+1"), to_spreadsheet("-2.5"), to_spreadsheet(-2.5)
        ("'=1+1", '-2.5', -2.5)
    """
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?", text) is not None
