"""What a picture is made of: series and cells, and their looks.

A series gives values over positions: along the horizontal axis, unless its subplot is `horizontal`; there, positions
run downwards and values across.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from gelora_viz.errors import InputError


@dataclass(frozen=True)
class Style:
    """The look of a series: color, dash and marker all differ, so that a grayscale print stays readable.

    Attributes:
        color: a hexadecimal color, "#rrggbb".
        dash: "solid", "dash", "dot" or "dashdot".
        marker: "circle", "square", "triangle-up", "diamond", "triangle-down", "cross" or "x"; or "level": not a point
            but a stroke across its position, as wide as a bar.
    """

    color: str
    dash: str = "solid"
    marker: str = "circle"


# Okabe and Ito's palette for every kind of color vision, less its yellow and black: one is invisible on white paper,
# the other on a dark screen. https://jfly.uni-koeln.de/color/
PALETTE = {
    "blue": "#0072B2", "vermillion": "#D55E00", "green": "#009E73", "orange": "#E69F00", "purple": "#CC79A7",
    "sky": "#56B4E9", "grey": "#7F7F7F",
}  # fmt: skip
"""Name -> color, in the order in which series take them."""
COLORS = tuple(PALETTE.values())
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GRAY = COLORS
_DASHES = ("solid", "dash", "dashdot", "dot")
MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
LEVEL = "level"
BAR_WIDTH = 0.8


def style_number(index: int) -> Style:
    """The look of one of any number of series, counted from 0; the first 28 all differ."""
    lap, place = divmod(index, len(COLORS))
    return Style(
        color=COLORS[place],
        dash=_DASHES[(place + lap) % len(_DASHES)],
        marker=MARKERS[(place + lap) % len(MARKERS)],
    )


@dataclass(frozen=True)
class Series:
    """Values over positions, with the interval that each value comes with.

    Attributes:
        kind: "line", "bars", "markers", or "points": many small marks on a map, whose x and y are alike.
        x: positions.
        y: values; NaN leaves a gap.
        label: the name in the legend; series with the same label share one entry.
        style: color, dash and marker.
        low: lower ends of the intervals, NaN where there is none; a band along a line, else error bars.
        high: upper ends of the intervals.
        details: a line of text per point, shown on the screen when the pointer rests on it.
    """

    kind: Literal["line", "bars", "markers", "points"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str
    style: Style
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    details: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise InputError(
                f"series {self.label!r} has one end of its intervals; give both low and high, or neither"
            )
        lengths = {
            len(part) for part in (self.x, self.y, self.low, self.high, self.details or self.x) if part is not None
        }
        if len(lengths) > 1:
            raise InputError(f"series {self.label!r} mixes lengths {sorted(lengths)}; give one value per position")

    def intervals(self) -> tuple[tuple[float, float], ...]:
        """How far each interval reaches below and above its value: zero where there is none, never negative."""
        if self.low is None or self.high is None:
            return tuple((0.0, 0.0) for _ in self.y)
        return tuple(
            (max(y - low, 0.0), max(high - y, 0.0)) if math.isfinite(y) and math.isfinite(low + high) else (0.0, 0.0)
            for y, low, high in zip(self.y, self.low, self.high, strict=True)
        )

    def strokes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Positions and values of a level series as strokes across each position, NaN between them."""
        half = BAR_WIDTH / 2
        return (
            tuple(end for x in self.x for end in (x - half, x + half, math.nan)),
            tuple(end for y in self.y for end in (y, y, math.nan)),
        )

    @property
    def has_intervals(self) -> bool:
        """Whether any value has an interval that is wider than zero."""
        return any(below > 0 or above > 0 for below, above in self.intervals())


@dataclass(frozen=True)
class Cells:
    """A table of colored cells: a row per name, a column per position.

    Attributes:
        x: positions of the columns, one apart.
        rows: names of the rows, from the top.
        values: one row of values per name, all positive; NaN leaves a cell empty.
        label: what the colors stand for.
        low: the value with the darkest color.
        high: the value with the brightest color; the scale from low to high is logarithmic.
        details: a line of text per cell, shown on the screen when the pointer rests on it.
    """

    x: tuple[float, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    label: str
    low: float
    high: float
    details: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for what in (self.values, self.details):
            shape = [len(row) for row in what]
            if shape != [len(self.x)] * len(self.rows):
                wanted = f"{len(self.rows)} of {len(self.x)} values"
                raise InputError(f"cells {self.label!r} have rows of lengths {shape}; give {wanted}")

        if any(after - before != 1 for before, after in itertools.pairwise(self.x)):
            raise InputError(
                f"cells {self.label!r} have positions {self.x}; give positions one apart, with NaN for empty cells"
            )

    def numbers(self) -> tuple[tuple[str, ...], ...]:
        """Each value with two digits, as it is written in its cell."""
        return tuple(tuple(_two_digits(value) for value in row) for row in self.values)


def _two_digits(value: float) -> str:
    if math.isnan(value):
        return "–"
    rounded = float(f"{value:.2g}")
    return f"{rounded:.0f}" if rounded >= 10 else f"{rounded:.1f}"
