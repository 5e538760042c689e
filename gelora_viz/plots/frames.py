"""How a picture reads a result's frame: the columns it needs, as plain floats."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gelora_viz.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def require_columns(frame: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise `InputError` if a frame has no rows, or lacks a column that a picture reads."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(f"the {what} lacks column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    if frame.empty:
        raise InputError(f"the {what} has no rows; there is nothing to draw")


def floats(values: Iterable[float | None]) -> tuple[float, ...]:
    """Values as a series holds them; None, which stands for an unknown value in a loaded frame, becomes NaN."""
    return tuple(math.nan if value is None else float(value) for value in values)
