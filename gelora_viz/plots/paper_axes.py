"""One subplot on paper: its series or cells, its axes, and the notes beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gelora_viz.plots.marks import BAR_WIDTH, LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, LogNorm
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from gelora_viz.plots.drawing import Subplot
    from gelora_viz.plots.marks import Cells, Series

_MOST_RULED = 40  # columns of cells with white between them
_MOST_VECTORS = 2000  # points of a series; more of them are drawn as pixels, or a page of a paper would open slowly
WHISKERS = "#404040"  # of bars

_DASHES = {"solid": "-", "dash": (0, (5, 2)), "dashdot": (0, (5, 1.5, 1, 1.5)), "dot": (0, (1, 1.2))}
_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle-up": "^",
    "diamond": "D",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
}


def draw_subplot(
    axes: Axes, subplot: Subplot, pitch: float, text: Callable[[str], str], *, has_names: bool
) -> dict[str, Line2D | Patch]:
    """Draw a subplot.

    Args:
        axes: where to draw.
        subplot: what to draw.
        pitch: distance between two positions, in points.
        text: function that escapes a text, where the format needs it.
        has_names: whether rows of cells are named, which is done once for cells side by side.

    Returns:
        Label of a series -> what stands for it in the legend.
    """
    handles: dict[str, Line2D | Patch] = {}
    for series in subplot.series:
        handle = _draw_series(axes, subplot, series, pitch)
        handles.setdefault(series.label, handle)
    if subplot.cells is not None:
        _draw_cells(axes, subplot.cells, text, has_names=has_names)
    _set_axes(axes, subplot, text)
    return handles


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
        linestyle=_DASHES[style.dash],
        marker=_MARKERS[style.marker],
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
        marker=_MARKERS[series.style.marker],
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
        marker=_MARKERS[series.style.marker],
        markersize=min(max(60 / math.sqrt(max(subplot.n_points, 1)), 0.9), 3.0),
        markeredgewidth=0.0,
        alpha=0.7,
        label=series.label,
        rasterized=len(series.x) > _MOST_VECTORS,
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
    colors, scale = cell_colors(cells)
    axes.pcolormesh(
        across, range(len(cells.rows) + 1), values, cmap=colors, norm=scale, edgecolor="face", linewidth=0.1
    )
    rules: dict[str, Any] = {"color": "white", "linewidth": 0.3}
    axes.hlines(range(1, len(cells.rows)), across[0], across[-1], **rules)
    if len(cells.x) <= _MOST_RULED:
        axes.vlines(across[1:-1], 0, len(cells.rows), **rules)
    axes.set_ylim(len(cells.rows), 0)
    names = [text(name) for name in cells.rows] if has_names else []
    axes.set_yticks([row + 0.5 for row in range(len(names))], names, fontsize=rcParams["ytick.labelsize"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def cell_colors(cells: Cells) -> tuple[Colormap, LogNorm]:
    """Cividis: read alike with every kind of color vision, and brighter with every step, for a print in gray."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    return colormaps["cividis"], LogNorm(cells.low, cells.high)


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
        set_log(axes, values)
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


def set_log(axes: Axes, direction: str) -> None:
    """A logarithmic axis with plain numbers, at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{direction}scale": "log"})
    axis = axes.xaxis if direction == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _add_notes(axes: Axes, subplot: Subplot, text: Callable[[str], str]) -> None:
    """Texts on the far side of a horizontal subplot, one next to each position, under a heading."""
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
