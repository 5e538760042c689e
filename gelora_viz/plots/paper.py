"""Drawings on paper: a matplotlib figure at the size and in the fonts of a venue, and the file to submit.

Neither a browser nor pyplot's global state; the same drawing gives the same bytes.
"""

from __future__ import annotations

import html
import io
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gelora_viz._checks import check_path, describe
from gelora_viz._results import write_bytes
from gelora_viz._version import __version__
from gelora_viz.errors import InputError
from gelora_viz.plots.latex import escape_latex
from gelora_viz.plots.marks import BAR_WIDTH, LEVEL
from gelora_viz.plots.venue import PLAIN, Width, paper_settings

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, LogNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from gelora_viz.plots.drawing import Drawing, Subplot
    from gelora_viz.plots.marks import Cells, Series

FORMATS = (".pdf", ".pgf", ".svg", ".png")
POINTS = 72.0  # per inch
LEAST_HEIGHT, MOST_HEIGHT = 1.05, 1.6  # inches of a subplot
MAP_HEIGHT = 3.2  # inches of a map at the most
POSITION_HEIGHT = 0.2  # inches per position of a horizontal subplot
CELL_HEIGHT = 0.155  # inches of a cell: one line of small print
MOST_RULED = 40  # columns of cells with white between them
NUMBER_SIZE = 5.0  # points, of the numbers in cells
MOST_VECTORS = 2000  # points of a series; more of them are drawn as pixels, or a page of a paper would open slowly
PAGE_PIXELS = 150.0  # per inch, of what a web page shows as pixels
WHISKERS = "#404040"  # of bars
_PAGE_INK = "#010203"  # stands for the page's own color until the SVG is written; nothing else is drawn in it

DASHES = {"solid": "-", "dash": (0, (5, 2)), "dashdot": (0, (5, 1.5, 1, 1.5)), "dot": (0, (1, 1.2))}
MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle-up": "^",
    "diamond": "D",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
}


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
        "savefig.dpi": PAGE_PIXELS,
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
        settings["pgf.texsystem"] = _tex_system()
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
        for series in subplot.series:
            handle = _draw_series(axes, subplot, series, pitch)
            handles.setdefault(series.label, handle)
        if subplot.cells is not None:
            _draw_cells(axes, subplot.cells, text, has_names=column == 0)
        _set_axes(axes, subplot, text)
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
        CELL_HEIGHT * len(subplot.cells.rows)
        if subplot.cells is not None
        else POSITION_HEIGHT * (len(subplot.x_ticks) + 0.5)
        if subplot.horizontal
        else min(0.9 * width / drawing.columns, MAP_HEIGHT)
        if subplot.is_map
        else min(max(0.4 * width / drawing.columns, LEAST_HEIGHT), MOST_HEIGHT)
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
    return 0.8 * width * POINTS / max(most, 1)


def _draw_series(axes: Axes, subplot: Subplot, series: Series, pitch: float) -> Line2D | Patch:
    """Draw one series and return what stands for it in the legend."""
    match series.kind:
        case "line":
            return _draw_line(axes, subplot, series, pitch)
        case "bars":
            return _draw_bars(axes, subplot, series)
        case "markers" if series.style.marker == LEVEL:
            return _draw_levels(axes, subplot, series)
        case "markers":
            return _draw_markers(axes, subplot, series, pitch)
        case "points":
            return _draw_points(axes, subplot, series)


def _draw_line(axes: Axes, subplot: Subplot, series: Series, pitch: float) -> Line2D:
    style = series.style
    if series.has_intervals and series.low is not None and series.high is not None:
        fill = axes.fill_betweenx if subplot.horizontal else axes.fill_between
        fill(series.x, series.low, series.high, color=style.color, alpha=0.2, linewidth=0.3)
    across, upwards = (series.y, series.x) if subplot.horizontal else (series.x, series.y)
    (line,) = axes.plot(
        across,
        upwards,
        color=style.color,
        linestyle=DASHES[style.dash],
        marker=MARKERS[style.marker],
        markersize=3.0,
        markeredgewidth=0.3,
        markeredgecolor="white",
        # Where positions crowd, a marker now and then still tells lines apart.
        markevery=max(1, round(8 / pitch)),
        label=series.label,
    )
    return line


def _draw_bars(axes: Axes, subplot: Subplot, series: Series) -> Patch:
    from matplotlib.colors import to_rgba

    look: dict[str, Any] = {
        "facecolor": to_rgba(series.style.color, 0.45),
        "edgecolor": series.style.color,
        "linewidth": 0.4,
        "label": series.label,
    }
    if subplot.horizontal:
        bars = axes.barh(series.x, series.y, height=BAR_WIDTH, **look)
    else:
        bars = axes.bar(series.x, series.y, width=BAR_WIDTH, **look)
    _draw_whiskers(axes, subplot, series, WHISKERS)
    handle: Patch = bars[0]
    return handle


def _draw_markers(axes: Axes, subplot: Subplot, series: Series, pitch: float) -> Line2D:
    _draw_whiskers(axes, subplot, series, series.style.color)
    across, upwards = (series.y, series.x) if subplot.horizontal else (series.x, series.y)
    (markers,) = axes.plot(
        across,
        upwards,
        color=series.style.color,
        linestyle="none",
        marker=MARKERS[series.style.marker],
        markersize=min(max(0.7 * pitch, 1.6), 3.5),
        markeredgewidth=0.0,
        label=series.label,
        zorder=3,
    )
    return markers


def _draw_points(axes: Axes, subplot: Subplot, series: Series) -> Line2D:
    (points,) = axes.plot(
        series.x,
        series.y,
        color=series.style.color,
        linestyle="none",
        marker=MARKERS[series.style.marker],
        markersize=min(max(60 / math.sqrt(max(subplot.n_points, 1)), 0.9), 3.0),
        markeredgewidth=0.0,
        alpha=0.7,
        label=series.label,
        rasterized=len(series.x) > MOST_VECTORS,
    )
    return points


def _draw_levels(axes: Axes, subplot: Subplot, series: Series) -> Line2D:
    _draw_whiskers(axes, subplot, series, series.style.color)
    positions, values = series.strokes()
    across, upwards = (values, positions) if subplot.horizontal else (positions, values)
    (strokes,) = axes.plot(
        across,
        upwards,
        color=series.style.color,
        linewidth=1.2,
        solid_capstyle="butt",
        label=series.label,
        zorder=3,
        # A level at zero lies on the axis; half of it would be cut.
        clip_on=False,
    )
    return strokes


def _draw_cells(axes: Axes, cells: Cells, text: Callable[[str], str], *, has_names: bool) -> None:
    import numpy as np
    from matplotlib import rcParams

    across = [cells.x[0] - 0.5, *(x + 0.5 for x in cells.x)]
    values = np.ma.masked_invalid(np.array(cells.values, float))
    colors, scale = _cell_colors(cells)
    axes.pcolormesh(
        across, range(len(cells.rows) + 1), values, cmap=colors, norm=scale, edgecolor="face", linewidth=0.1
    )
    rules: dict[str, Any] = {"color": "white", "linewidth": 0.3}
    axes.hlines(range(1, len(cells.rows)), across[0], across[-1], **rules)
    if len(cells.x) <= MOST_RULED:
        axes.vlines(across[1:-1], 0, len(cells.rows), **rules)
    axes.set_ylim(len(cells.rows), 0)
    names = [text(name) for name in cells.rows] if has_names else []
    axes.set_yticks([row + 0.5 for row in range(len(names))], names, fontsize=rcParams["ytick.labelsize"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _cell_colors(cells: Cells) -> tuple[Colormap, LogNorm]:
    """Cividis: read alike with every kind of color vision, and brighter with every step, for a print in gray."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    return colormaps["cividis"], LogNorm(cells.low, cells.high)


def _add_color_scale(figure: Figure, cells: Cells, text: Callable[[str], str]) -> None:
    from matplotlib.cm import ScalarMappable

    colors, scale = _cell_colors(cells)
    bar = figure.colorbar(
        ScalarMappable(scale, colors), ax=figure.axes, orientation="horizontal", location="top",
        fraction=0.03, aspect=40, pad=0.02,
    )  # fmt: skip
    if bar.solids is not None:  # never, of a filled scale
        bar.solids.set_rasterized(False)  # PGF would put pixels into a second file
        bar.solids.set_edgecolor("face")
    bar.outline.set_visible(False)
    bar.set_label(text(cells.label))
    _set_log(bar.ax, "x")


def _number_cells(figure: Figure, drawing: Drawing, grid: np.ndarray, text: Callable[[str], str]) -> None:
    """Write the numbers into the cells, where they fit once everything has its place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    for row, column, subplot in drawing.places():
        if (cells := subplot.cells) is None:
            continue
        axes, numbers = grid[row, column], cells.numbers()
        pitch = axes.get_window_extent().width / figure.dpi * POINTS / (len(cells.x) + 0.2)
        if pitch < 0.58 * NUMBER_SIZE * max(len(each) for line in numbers for each in line):
            continue
        _, scale = _cell_colors(cells)
        for height, line in enumerate(numbers):
            for x, value, number in zip(cells.x, cells.values[height], line, strict=True):
                is_bright = math.isnan(value) or float(scale(value)) > 0.5
                ink = WHISKERS if math.isnan(value) else "black" if is_bright else "white"
                axes.text(
                    x, height + 0.5, text(number), ha="center", va="center_baseline", fontsize=NUMBER_SIZE, color=ink
                )  # fmt: skip


def _draw_whiskers(axes: Axes, subplot: Subplot, series: Series, color: str) -> None:
    """Error bars, where there are intervals."""
    if not series.has_intervals:
        return
    below, above = zip(*series.intervals(), strict=True)
    across, upwards = (series.y, series.x) if subplot.horizontal else (series.x, series.y)
    lengths = (below, above)
    axes.errorbar(
        across,
        upwards,
        xerr=lengths if subplot.horizontal else None,
        yerr=None if subplot.horizontal else lengths,
        fmt="none",
        ecolor=color,
        elinewidth=0.7,
        zorder=2.5,
    )


def _set_axes(axes: Axes, subplot: Subplot, text: Callable[[str], str]) -> None:
    """Labels, ticks, ranges and notes of one subplot."""
    positions, values = ("y", "x") if subplot.horizontal else ("x", "y")
    axes.set_title(text(subplot.title))
    axes.set(**{f"{positions}label": text(subplot.x_label), f"{values}label": text(subplot.y_label)})
    axes.grid(axis="x" if subplot.horizontal else "y", visible=subplot.cells is None)
    if subplot.is_map:
        axes.grid(visible=False)
        axes.set(xticks=(), yticks=(), aspect="equal")
        axes.set_adjustable("datalim")
        return
    if subplot.x_ticks:
        labels = [text(label) for label in subplot.x_tick_labels]
        axes.set(**{f"{positions}ticks": subplot.x_ticks, f"{positions}ticklabels": labels})
    if subplot.x_range is not None:
        axes.set(**{f"{positions}lim": subplot.x_range[::-1] if subplot.horizontal else subplot.x_range})
    if subplot.log_y:
        _set_log(axes, values)
    if subplot.y_from_zero:
        lowest = min((y for series in subplot.series for y in series.y if math.isfinite(y)), default=0.0)
        axes.set(**{f"{values}lim": (min(lowest, 0.0), None)})
    if subplot.y_range is not None:
        axes.set(**{f"{values}lim": subplot.y_range})
    if subplot.y_whole:
        axes.locator_params(axis="x" if subplot.horizontal else "y", integer=True)
    if subplot.horizontal:
        axes.tick_params(axis="y", length=0)
    if subplot.x_notes:
        _add_notes(axes, subplot, text)


def _set_log(axes: Axes, direction: str) -> None:
    """A logarithmic axis with plain numbers, at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{direction}scale": "log"})
    axis = axes.xaxis if direction == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _add_notes(axes: Axes, subplot: Subplot, text: Callable[[str], str]) -> None:
    """Texts on the far side of a horizontal subplot, one beside each position, under a heading."""
    from matplotlib import rcParams

    notes = axes.secondary_yaxis("right")
    notes.set_yticks(subplot.x_ticks, [text(note) for note in subplot.x_notes])
    notes.tick_params(length=0)
    notes.spines["right"].set_visible(False)
    axes.annotate(
        text(subplot.notes_label),
        (1.0, 1.0),
        xytext=(3.5, 2.0),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=rcParams["ytick.labelsize"],
    )


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


def _tex_system() -> str:
    for program in ("pdflatex", "xelatex", "lualatex"):
        if shutil.which(program):
            return program
    raise InputError("PGF figures are measured with LaTeX; install pdflatex, xelatex or lualatex, or save a .pdf")


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
