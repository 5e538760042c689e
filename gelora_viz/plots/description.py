"""What a figure says, before anything is drawn: series or cells in panels in a drawing, and the looks of series.

A picture is a function that returns a `Drawing`; `screen` and `paper` draw any of them. A series gives values over
positions: along the horizontal axis, unless its panel is `horizontal`; there, positions run downwards, values across.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gelora_viz.errors import InputError


@dataclass(frozen=True)
class Style:
    """The look of a series: colour, dash and marker all differ, so that a greyscale print stays readable.

    Attributes:
        color: a hexadecimal colour, "#rrggbb".
        dash: "solid", "dash", "dot" or "dashdot".
        marker: one of `MARKERS`, or `LEVEL`.
    """

    color: str
    dash: str = "solid"
    marker: str = "circle"


# Okabe and Ito's palette for every kind of colour vision, less its yellow and black: one is invisible on white paper,
# the other on a dark screen. https://jfly.uni-koeln.de/color/
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7F7F7F",
)  # fmt: skip
COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)
DASHES = ("solid", "dash", "dashdot", "dot")
MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
# Not a point but a stroke across its position, as wide as a bar.
LEVEL = "level"
BAR_WIDTH = 0.8


def style_number(index: int) -> Style:
    """The look of the `index`-th of any number of series; the first 28 all differ."""
    lap, place = divmod(index, len(COLORS))
    return Style(
        color=COLORS[place],
        dash=DASHES[(place + lap) % len(DASHES)],
        marker=MARKERS[(place + lap) % len(MARKERS)],
    )


@dataclass(frozen=True)
class Series:
    """Values over positions, with the interval that each value comes with.

    Attributes:
        kind: "line", "bars", "markers", or "points": many small marks, whose x and y are equal in rank.
        x: positions.
        y: values; NaN leaves a gap.
        label: the name in the legend; series of one label share one entry.
        style: the look.
        low: lower ends of the intervals, NaN where there is none; a band along a line, else error bars.
        high: upper ends of the intervals.
        details: one more line of text per point, shown on the screen when the pointer rests on it.
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
        """How far each interval reaches below and above its value; zero where there is none, never negative."""
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
        """Whether any value has an interval wider than nothing."""
        return any(below > 0 or above > 0 for below, above in self.intervals())


@dataclass(frozen=True)
class Cells:
    """Values as a table of coloured cells: a row per name, a column per position.

    Attributes:
        x: positions of the columns, each one further than the last.
        rows: names of the rows, from the top.
        values: one row of values per name, all positive; NaN leaves a cell empty.
        label: what the colours stand for.
        low: the value of the darkest colour; the scale between both is logarithmic.
        high: the value of the brightest colour.
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
            raise InputError(f"cells {self.label!r} stand at {self.x}; give positions one apart, and NaN where empty")

    def numbers(self) -> tuple[tuple[str, ...], ...]:
        """Each value with two digits, as it stands in its cell."""
        return tuple(tuple(_two_digits(value) for value in row) for row in self.values)


def _two_digits(value: float) -> str:
    if math.isnan(value):
        return "–"
    rounded = float(f"{value:.2g}")
    return f"{rounded:.0f}" if rounded >= 10 else f"{rounded:.1f}"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what sets this panel apart from its neighbours; may be empty.
        x_label: the axis of positions.
        y_label: the axis of values.
        series: drawn in this order, the first one below.
        x_ticks: positions to label; empty leaves them to the renderer.
        x_tick_labels: their labels.
        x_notes: texts on the opposite side of the panel, one per tick; may be empty.
        notes_label: what the notes are.
        x_range: the ends of the axis of positions, so that panels line up; None fits the data.
        y_range: the ends of the axis of values, so that panels can be compared; None fits the data.
        log_y: whether the axis of values is logarithmic; every value must then be positive.
        y_from_zero: whether the axis of values begins at zero.
        y_whole: whether values are whole numbers, and so the numbers at their axis.
        horizontal: whether positions run downwards and values across.
        is_map: whether both axes have one scale and no numbers, because only nearness has a meaning.
        cells: drawn instead of series, where there are any; their rows are the axis of values.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_ticks: tuple[float, ...] = ()
    x_tick_labels: tuple[str, ...] = ()
    x_notes: tuple[str, ...] = ()
    notes_label: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    log_y: bool = False
    y_from_zero: bool = False
    y_whole: bool = False
    horizontal: bool = False
    is_map: bool = False
    cells: Cells | None = None

    @property
    def n_points(self) -> int:
        """How many positions all series have together."""
        return sum(len(series.x) for series in self.series)


@dataclass(frozen=True)
class Drawing:
    """Panels, row by row.

    Attributes:
        title: what the figure shows; drawn on the screen, and the title in a file's metadata.
        panels: in reading order.
        caption: what bands, bars and marks stand for; drawn on the screen, for the caption in a paper.
        columns: panels per row.
        shared_x: whether the panels of a column share their axis of positions, labelled under the lowest one.
    """

    title: str
    panels: tuple[Panel, ...]
    caption: str = ""
    columns: int = 1
    shared_x: bool = False

    @property
    def rows(self) -> int:
        """How many rows the panels fill."""
        return -(-len(self.panels) // self.columns)

    def places(self) -> Iterator[tuple[int, int, Panel]]:
        """Each panel with its row and column, counted from zero."""
        for index, panel in enumerate(self.panels):
            yield index // self.columns, index % self.columns, panel

    def is_lowest(self, row: int, column: int) -> bool:
        """Whether no panel stands below this place; the last row may be short."""
        return (row + 1) * self.columns + column >= len(self.panels)

    @property
    def cells(self) -> Cells | None:
        """The cells of the first panel that has any; those of one drawing share their scale of colours."""
        return next((panel.cells for panel in self.panels if panel.cells is not None), None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the series, each once."""
        return tuple(dict.fromkeys(series.label for panel in self.panels for series in panel.series))

    @property
    def has_legend(self) -> bool:
        """Whether there is more than one name to tell apart."""
        return len(self.labels) > 1
