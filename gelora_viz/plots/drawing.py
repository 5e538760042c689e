"""The drawing: what a picture of results says, as pure data, and the three ways to see it.

`screen` draws it with plotly, `paper` with matplotlib; neither is loaded before something is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz.plots.marks import Cells, Series

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from gelora_viz.plots.venue import Width

_VENUE = "icml2026"
"""What is drawn for where nobody says otherwise; it needs no tueplots."""
_MOST_NAMES = 6
"""Series that a drawing's repr lists."""


@dataclass(frozen=True)
class Subplot:
    """One pair of axes.

    Attributes:
        title: what sets this subplot apart from its neighbors; may be empty.
        x_label: label of the axis of positions.
        y_label: label of the axis of values.
        series: what is drawn, in this order, the first one below.
        x_ticks: positions to label; empty leaves them to the renderer.
        x_tick_labels: one label per tick.
        x_notes: texts on the opposite side of the subplot, one per tick; may be empty.
        notes_label: heading of the notes.
        x_range: ends of the axis of positions, so that subplots line up; None fits the data.
        y_range: ends of the axis of values, so that subplots can be compared; None fits the data.
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
    """A picture of results, which every function of `gelora_viz.plots` returns.

    At the end of a notebook cell it shows itself as an interactive plotly figure. `save` writes the same picture for
    a paper, `to_svg` draws it for a web page, `to_plotly` and `to_matplotlib` give figures to change by hand.

    Attributes:
        title: what the picture shows; drawn on the screen, and the title in a file's metadata.
        subplots: the subplots in reading order, row by row.
        caption: what bands, bars and marks stand for; drawn on the screen, for the caption in a paper.
        columns: subplots per row.
        shared_x: whether the subplots of a column share their axis of positions, labeled under the lowest one.

    Example:
        >>> from gelora_viz.plots import Drawing, Series, Style, Subplot
        >>> line = Series("line", x=(0, 1), y=(2.0, 3.0), label="TwoNN", style=Style("#0072B2"))
        >>> Drawing("Dimension", (Subplot("", "Block", "Dimension", (line,)),))
        Drawing('Dimension': 1 subplot, showing TwoNN)
    """

    title: str
    subplots: tuple[Subplot, ...]
    caption: str = ""
    columns: int = 1
    shared_x: bool = False

    @property
    def rows(self) -> int:
        """How many rows the subplots fill."""
        return -(-len(self.subplots) // self.columns)

    def places(self) -> Iterator[tuple[int, int, Subplot]]:
        """Each subplot with its row and column, counted from zero."""
        for index, subplot in enumerate(self.subplots):
            yield index // self.columns, index % self.columns, subplot

    def is_lowest(self, row: int, column: int) -> bool:
        """Whether no subplot stands below this place; the last row may be short."""
        return (row + 1) * self.columns + column >= len(self.subplots)

    @property
    def cells(self) -> Cells | None:
        """The cells of the first subplot that has any; those of one drawing share their color scale."""
        return next((subplot.cells for subplot in self.subplots if subplot.cells is not None), None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the series, each once."""
        return tuple(dict.fromkeys(series.label for subplot in self.subplots for series in subplot.series))

    @property
    def has_legend(self) -> bool:
        """Whether there is more than one name to tell apart."""
        return len(self.labels) > 1

    def to_plotly(self) -> go.Figure:
        """The picture as a plotly figure, for a notebook or a web page.

        Returns:
            A `plotly.graph_objects.Figure`, as wide as its place on the page, with values and details on hover. Texts
            are escaped: plotly renders some HTML, and names of runs and layers come from outside.
        """
        from gelora_viz.plots.screen import draw_plotly

        return draw_plotly(self)

    def to_matplotlib(self, venue: str = _VENUE, width: Width = "column") -> Figure:
        r"""The picture as a matplotlib figure, to change by hand.

        Title and caption are left to the document's own `\caption`. Prefer `save` to write a file: some of
        matplotlib's settings, such as the format of the fonts, only count while the file is written.

        Args:
            venue: the venue whose sizes and fonts to use, such as "plain" or "icml2026"; `save` lists them.
            width: "column" or "text", the two widths of a two-column page.

        Raises:
            InputError: if the venue or the width is unknown, or the venue's sizes need tueplots and it is not
                installed.
        """
        from gelora_viz.plots.paper import draw_matplotlib

        return draw_matplotlib(self, venue, width)

    def to_svg(self, width: Width = "text") -> str:
        """The picture as one <svg> element for a web page or a saved notebook; it needs no script and no library.

        Text and axes take the color of the text around them, so that the picture suits light and dark pages, and text
        stays text. The title is not drawn: screen readers say it, with the caption.

        Args:
            width: "column" or "text", the two widths of a two-column page.
        """
        from gelora_viz.plots.paper import draw_svg

        return draw_svg(self, width)

    def save(
        self, path: str | os.PathLike[str], venue: str = _VENUE, width: Width = "column", about: str = ""
    ) -> Path:
        """Save the picture for a paper: the venue's width and fonts, TrueType only, the same bytes every time.

        The file is written whole or not at all.

        Args:
            path: where to save it, ending in .pdf, .pgf (needs LaTeX on this machine), .svg or .png; missing folders
                are made.
            venue: "plain"; "aaai2026", "acl2024", "iclr2025", "iclr2026", "icml2025", "icml2026", "neurips2025" or
                "neurips2026"; or with the extra `gelora_viz[paper]` a bundle of tueplots such as "icml2024".
            width: "column" or "text", the two widths of a two-column page; a one-column venue has only the latter.
            about: where the results come from, such as the study and its seed; kept in the file's metadata.

        Returns:
            The path that was written.

        Raises:
            InputError: if the venue, the width or the suffix is unknown, the venue's sizes need tueplots and it is
                not installed, or LaTeX is missing for .pgf.
            StudyError: if the file cannot be written.
        """
        from gelora_viz.plots.paper import save_drawing

        return save_drawing(self, path, venue, width, about)

    def __repr__(self) -> str:
        names = self.labels or (() if self.cells is None else self.cells.rows)
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        shown = f", showing {', '.join(names[:_MOST_NAMES])}{more}" if names else ""
        n_subplots = len(self.subplots)
        return f"Drawing({self.title!r}: {n_subplots} subplot{'' if n_subplots == 1 else 's'}{shown})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """What a notebook shows: the plotly figure, and with it the SVG for pages that cannot draw it.

        Such are notebooks converted by nbconvert, or looked at where no kernel runs. Where plotly is set to show
        figures elsewhere, as in a browser for IPython's terminal, it does.
        """
        import plotly.io as pio

        figure = self.to_plotly()
        interactive = figure._repr_mimebundle_(include, exclude)
        if interactive:
            return {"text/plain": repr(self), "image/svg+xml": self.to_svg(), **interactive}
        if pio.renderers.default:
            pio.show(figure)
        return {"text/plain": repr(self)}
