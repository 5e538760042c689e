"""Drawings on paper: a matplotlib figure at the size and in the fonts of a venue, and the file to submit.

Neither a browser nor pyplot's global state; the same drawing gives the same bytes.
"""

from __future__ import annotations

import html
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz._checks import check_path, describe
from gelora_viz._results import write_bytes
from gelora_viz._version import __version__
from gelora_viz.errors import InputError
from gelora_viz.plots.latex import escape_latex
from gelora_viz.plots.paper_axes import WHISKERS, cell_colors, draw_subplot, set_log
from gelora_viz.plots.venue import FORMATS, PLAIN, Width, find_tex, paper_settings

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from gelora_viz.plots.drawing import Drawing, Subplot
    from gelora_viz.plots.marks import Cells

_POINTS = 72.0  # per inch
_LEAST_HEIGHT, _MOST_HEIGHT = 1.05, 1.6  # inches of a subplot
_MAP_HEIGHT = 3.2  # inches of a map at the most
_POSITION_HEIGHT = 0.2  # inches per position of a horizontal subplot
_CELL_HEIGHT = 0.155  # inches of a cell: one line of small print
_NUMBER_SIZE = 5.0  # points, of the numbers in cells
_PAGE_PIXELS = 150.0  # per inch, of what a web page shows as pixels
_PAGE_INK = "#010203"  # stands for the page's own color until the SVG is written; nothing else is drawn in it


def draw_matplotlib(drawing: Drawing, venue: str, width: Width) -> Figure:
    """What `Drawing.to_matplotlib` returns."""
    import matplotlib as mpl

    with mpl.rc_context(paper_settings(venue, width)):
        return _draw(drawing, text=str)


def draw_svg(drawing: Drawing, width: Width) -> str:
    """What `Drawing.to_svg` returns."""
    import matplotlib as mpl

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    page: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 8.0,
        "savefig.transparent": True,
        "savefig.dpi": _PAGE_PIXELS,
        **dict.fromkeys(inked, _PAGE_INK),
    }
    with mpl.rc_context({**paper_settings(PLAIN, width), **page}):
        content = io.StringIO()
        _draw(drawing, text=str).savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]  # a page has a document type of its own
    for color in (_PAGE_INK, WHISKERS):
        svg = svg.replace(color, "currentColor")
    label = html.escape(f"{drawing.title}. {drawing.caption}".strip(), quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" style="max-width: 100%; height: auto" ', 1)


def save_drawing(drawing: Drawing, path: str | os.PathLike[str], venue: str, width: Width, about: str) -> Path:
    """What `Drawing.save` does."""
    import matplotlib as mpl

    target = check_path(path, "path")
    if not isinstance(about, str):
        raise InputError(f"about is {describe(about)}; give a string, such as the study and its seed")
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"cannot write a figure as {target.name!r}; end its name in one of {', '.join(FORMATS)}")
    settings = paper_settings(venue, width)
    if suffix == ".pgf":
        settings["pgf.texsystem"] = find_tex()
    with mpl.rc_context(settings):
        # Only PGF sets text with LaTeX, and so reads it as source.
        figure = _draw(drawing, text=escape_latex if suffix == ".pgf" else str)
        content = io.BytesIO()
        figure.savefig(content, format=suffix[1:], **_metadata(drawing, suffix, about))
    return write_bytes(target, content.getvalue())


def _draw(drawing: Drawing, text: Callable[[str], str]) -> Figure:
    """The figure, under the settings in force; `text` escapes what needs it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    width = float(mpl.rcParams["figure.figsize"][0])
    heights = _row_heights(drawing, width)
    figure = Figure(figsize=(width, sum(heights) + _furniture(drawing)))
    grid = figure.subplots(
        drawing.rows,
        drawing.columns,
        squeeze=False,
        sharex="col" if drawing.shared_x else False,
        height_ratios=heights,
    )
    handles: dict[str, Line2D | Patch] = {}
    for row, column, subplot in drawing.places():
        axes = grid[row, column]
        pitch = _pitch(subplot, width / drawing.columns)
        for label, handle in draw_subplot(axes, subplot, pitch, text, has_names=column == 0).items():
            handles.setdefault(label, handle)
        if drawing.shared_x:
            lowest = drawing.is_lowest(row, column)
            axes.tick_params(axis="x", labelbottom=lowest)
            axes.set_xlabel(axes.get_xlabel() if lowest else "")
    for axes in grid.flat[len(drawing.subplots) :]:
        axes.remove()
    figure.align_ylabels()
    if drawing.cells is not None:
        _add_color_scale(figure, drawing.cells, text)
        _number_cells(figure, drawing, grid, text)
    if drawing.has_legend:
        _add_legend(figure, list(handles.values()), [text(label) for label in handles])
    return figure


def _row_heights(drawing: Drawing, width: float) -> list[float]:
    """The height of the subplots of each row, in inches."""
    return [
        _CELL_HEIGHT * len(subplot.cells.rows)
        if subplot.cells is not None
        else _POSITION_HEIGHT * (len(subplot.x_ticks) + 0.5)
        if subplot.horizontal
        else min(0.9 * width / drawing.columns, _MAP_HEIGHT)
        if subplot.is_map
        else min(max(0.4 * width / drawing.columns, _LEAST_HEIGHT), _MOST_HEIGHT)
        for _, column, subplot in drawing.places()
        if column == 0
    ]


def _furniture(drawing: Drawing) -> float:
    """The height of what stands around the subplots, in inches: axis labels, tick labels, titles, the legend."""
    labeled_rows = 1 if drawing.shared_x else drawing.rows
    titled = any(subplot.title or subplot.notes_label for subplot in drawing.subplots)
    legend_lines = len(drawing.labels) / 3 if drawing.has_legend else 0.0
    return 0.35 * labeled_rows + 0.1 * drawing.rows + 0.2 * titled + 0.13 * legend_lines


def _pitch(subplot: Subplot, width: float) -> float:
    """About how far apart positions are, in points."""
    most = max((len(series.x) for series in subplot.series), default=1)
    return 0.8 * width * _POINTS / max(most, 1)


def _add_color_scale(figure: Figure, cells: Cells, text: Callable[[str], str]) -> None:
    from matplotlib.cm import ScalarMappable

    colors, scale = cell_colors(cells)
    bar = figure.colorbar(
        ScalarMappable(scale, colors), ax=figure.axes, orientation="horizontal", location="top",
        fraction=0.03, aspect=40, pad=0.02,
    )  # fmt: skip
    if bar.solids is not None:  # never, of a filled scale
        bar.solids.set_rasterized(False)  # PGF would put pixels into a second file
        bar.solids.set_edgecolor("face")
    bar.outline.set_visible(False)
    bar.set_label(text(cells.label))
    set_log(bar.ax, "x")


def _number_cells(figure: Figure, drawing: Drawing, grid: np.ndarray, text: Callable[[str], str]) -> None:
    """Write the numbers into the cells, where they fit once everything has its place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    for row, column, subplot in drawing.places():
        if (cells := subplot.cells) is None:
            continue
        axes, numbers = grid[row, column], cells.numbers()
        pitch = axes.get_window_extent().width / figure.dpi * _POINTS / (len(cells.x) + 0.2)
        if pitch < 0.58 * _NUMBER_SIZE * max(len(each) for line in numbers for each in line):
            continue
        _, scale = cell_colors(cells)
        for height, line in enumerate(numbers):
            for x, value, number in zip(cells.x, cells.values[height], line, strict=True):
                is_bright = math.isnan(value) or float(scale(value)) > 0.5
                ink = WHISKERS if math.isnan(value) else "black" if is_bright else "white"
                axes.text(
                    x, height + 0.5, text(number), ha="center", va="center_baseline", fontsize=_NUMBER_SIZE, color=ink
                )  # fmt: skip


def _add_legend(figure: Figure, handles: list[Line2D | Patch], labels: list[str]) -> None:
    """One legend above the subplots, in as many columns as fit the figure's width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

    FigureCanvasAgg(figure)  # what measures the legend
    for most in range(min(len(handles), 4), 0, -1):
        # As many columns as the lines need, so that the last line is not left with a single name.
        columns = math.ceil(len(handles) / math.ceil(len(handles) / most))
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= 0.97 * figure.bbox.width:
            break
        legend.remove()
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(max(handle.get_markersize(), 3.0))


def _metadata(drawing: Drawing, suffix: str, about: str) -> dict[str, Any]:
    """Which version made the file, but not when: the same drawing gives the same bytes."""
    maker = f"gelora_viz {__version__}"
    match suffix:
        case ".pdf":
            said = {"Subject": about} if about else {}
            return {"metadata": {"Title": drawing.title, "Creator": maker, "CreationDate": None, **said}}
        case ".svg":
            said = {"Description": about} if about else {}
            return {"metadata": {"Title": drawing.title, "Creator": maker, "Date": None, **said}}
        case ".png":
            said = {"Description": about} if about else {}
            return {"metadata": {"Title": drawing.title, "Software": maker, **said}}
        case _:
            return {}
