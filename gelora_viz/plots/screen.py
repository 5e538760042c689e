"""Drawings on the screen: a static plotly figure that follows the page, light or dark."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gelora_viz.plots.marks import BAR_WIDTH, LEVEL

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gelora_viz.plots.drawing import Drawing, Subplot
    from gelora_viz.plots.marks import Cells, Series

# Legible on white and on a dark notebook alike; the page's own background shows through.
_INK = "#777777"
_RULES = "rgba(128, 128, 128, 0.25)"
_CLEAR = "rgba(0, 0, 0, 0)"

_ROW_HEIGHT = 240  # pixels
_MAP_HEIGHT = 420  # pixels of a map that stands alone; maps side by side are lower
_CAPTION_WIDTH = 95  # letters a line: what a notebook's column shows
_CAPTION_LINE_HEIGHT = 16
_POSITION_HEIGHT = 34  # pixels per position of a horizontal subplot
_LETTER_WIDTH = 7  # pixels, about
_LEGEND_HEIGHT = 30  # pixels
_FEW_TICKS = 8
_CELL_HEIGHT = 24  # pixels
_MOST_NUMBERED = 28  # columns of cells, beyond which numbers do not fit
_LOG_TICKS = tuple(digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5))
_PANEL_WIDTH = 600  # pixels, about: how densely markers stand is known only to the browser


def draw_plotly(drawing: Drawing) -> go.Figure:
    """What `Drawing.to_plotly` returns."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=drawing.rows,
        cols=drawing.columns,
        shared_xaxes=drawing.shared_x,
        subplot_titles=[_text(subplot.title) for subplot in drawing.subplots],
        vertical_spacing=0.08 if drawing.shared_x else 0.3 / drawing.rows,
        horizontal_spacing=0.12 if drawing.columns > 1 else 0.0,
    )
    named: set[str] = set()
    for row, column, subplot in drawing.places():
        for series in subplot.series:
            place = {"row": row + 1, "col": column + 1}
            band, trace = _trace(subplot, series)
            if band is not None:
                figure.add_trace(band, **place)
            in_legend = drawing.has_legend and series.label not in named
            named.add(series.label)
            figure.add_trace(trace | {"showlegend": in_legend, "legend": _legend_id(row)}, **place)
        if subplot.cells is not None:
            figure.add_trace(
                _cells(subplot.cells, drawing.columns, has_names=column == 0), row=row + 1, col=column + 1
            )
        _set_axes(figure, drawing, subplot, row, column)
    figure.update_layout(_layout(drawing, figure))
    return figure


def _trace(subplot: Subplot, series: Series) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The series as a plotly trace, with the band that goes below it when it has one."""
    positions, values = ("y", "x") if subplot.horizontal else ("x", "y")
    trace: dict[str, Any] = {
        positions: series.x,
        values: _with_gaps(series.y),
        "name": _text(series.label),
        "legendgroup": _text(series.label),
        "hovertext": _hover_texts(subplot, series),
        "hoverinfo": "text",
    }
    match series.kind:
        case "bars":
            look = {"color": _fade(series.style.color, 0.55), "line": {"color": series.style.color, "width": 1}}
            orientation = "h" if subplot.horizontal else "v"
            trace |= {"type": "bar", "orientation": orientation, "width": BAR_WIDTH, "marker": look}
        case "markers" if series.style.marker == LEVEL:
            across, along = series.strokes()
            trace |= {positions: _with_gaps(across), values: _with_gaps(along)}
            trace["hovertext"] = [text for text in trace["hovertext"] for _ in range(3)]
            trace |= {"type": "scatter", "mode": "lines", "line": {"color": series.style.color, "width": 3}}
            trace["cliponaxis"] = False
        case "points":
            trace |= {"type": "scattergl", "mode": "markers", "marker": _small_marker(subplot, series)}
        case _:
            trace |= {"type": "scatter", "mode": _mode(series), "marker": _marker(series)}
            trace["line"] = {"color": series.style.color, "dash": series.style.dash, "width": 2}
    if not series.has_intervals:
        return None, trace
    if series.kind == "line":
        return _band(series, positions, values), trace
    trace[f"error_{values}"] = _whiskers(series)
    return None, trace


def _cells(cells: Cells, columns: int, *, has_names: bool) -> dict[str, Any]:
    """Colored cells as a plotly trace; plotly writes numbers that stand out from their cell."""
    logarithms = [[None if math.isnan(value) else math.log10(value) for value in row] for row in cells.values]
    ticks = [tick for tick in _LOG_TICKS if cells.low <= tick <= cells.high] or [cells.low, cells.high]
    are_wide = len(cells.x) * columns <= _MOST_NUMBERED
    look: dict[str, Any] = {"texttemplate": "%{text}"} if are_wide else {}
    return look | {
        "type": "heatmap",
        "x": cells.x,
        # Names may repeat; their places do not.
        "y": list(range(len(cells.rows))),
        "z": logarithms,
        "zmin": math.log10(cells.low),
        "zmax": math.log10(cells.high),
        "colorscale": "Cividis",
        "xgap": 1 if are_wide else 0,
        "ygap": 1,
        "text": cells.numbers(),
        "hovertext": [[_text(detail) for detail in row] for row in cells.details],
        "hoverinfo": "text",
        "hoverongaps": False,
        "showscale": has_names,
        "colorbar": {
            "title": {"text": _text(cells.label), "side": "right"},
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [f"{tick:.3g}" for tick in ticks],
            "outlinewidth": 0,
            "thickness": 14,
        },
    }


def _whiskers(series: Series) -> dict[str, Any]:
    below, above = zip(*series.intervals(), strict=True)
    if series.style.marker == LEVEL:
        # A stroke is two ends and a gap; its whisker stands at the first.
        below, above = (tuple(each for length in side for each in (length, 0.0, 0.0)) for side in (below, above))
    color = _INK if series.kind == "bars" else series.style.color
    look = {"color": color, "thickness": 1.5, "width": 0}
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below} | look


def _band(series: Series, positions: str, values: str) -> dict[str, Any]:
    """The interval of a line as closed outlines, one for each stretch without a gap."""
    outline_x: list[float | None] = []
    outline_y: list[float | None] = []
    for stretch in _stretches(series):
        xs, lows, highs = zip(*stretch, strict=True)
        outline_x += [*xs, *reversed(xs), None]
        outline_y += [*highs, *reversed(lows), None]
    return {
        "type": "scatter",
        positions: outline_x,
        values: outline_y,
        "mode": "lines",
        "fill": "toself",
        "fillcolor": _fade(series.style.color, 0.2),
        "line": {"color": _fade(series.style.color, 0.5), "width": 0.5},
        "legendgroup": _text(series.label),
        "name": _text(series.label),
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _stretches(series: Series) -> Iterable[list[tuple[float, float, float]]]:
    """Runs of neighboring points whose interval is known."""
    stretch: list[tuple[float, float, float]] = []
    for x, low, high in zip(series.x, series.low or (), series.high or (), strict=True):
        if math.isfinite(low + high):
            stretch.append((x, low, high))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _mode(series: Series) -> str:
    if series.kind == "markers":
        return "markers"
    return "lines" if len(series.x) > 100 else "lines+markers"


def _marker(series: Series) -> dict[str, Any]:
    spacing = _PANEL_WIDTH / max(len(series.x), 1)
    return {"symbol": series.style.marker, "size": min(max(0.7 * spacing, 4.0), 8.0), "color": series.style.color}


def _small_marker(subplot: Subplot, series: Series) -> dict[str, Any]:
    size = min(max(200 / math.sqrt(max(subplot.n_points, 1)), 3.0), 7.0)
    return {"symbol": series.style.marker, "size": size, "color": series.style.color, "opacity": 0.75}


def _with_gaps(values: Sequence[float]) -> list[float | None]:
    """Values as JSON knows them: None where there is none."""
    return [None if math.isnan(value) else value for value in values]


def _hover_texts(subplot: Subplot, series: Series) -> list[str]:
    """Where a point is, its value, and its interval; on a map, what it is."""
    if series.kind == "points":
        return [f"{_text(what)}<br><b>{_text(series.label)}</b>" for what in series.details or [""] * len(series.x)]
    texts = []
    details: Sequence[str] = series.details or tuple(f"{subplot.x_label} {x:g}" for x in series.x)
    intervals = zip(series.low or series.y, series.high or series.y, strict=True)
    for where, y, (low, high) in zip(details, series.y, intervals, strict=True):
        interval = f" [{low:.4g}, {high:.4g}]" if math.isfinite(low + high) and low < high else ""
        texts.append(f"{_text(where)}<br><b>{_text(series.label)}</b>: {y:.4g}{interval}")
    return texts


def _set_axes(figure: go.Figure, drawing: Drawing, subplot: Subplot, row: int, column: int) -> None:
    """Labels, ticks, ranges and notes of one subplot."""
    place = {"row": row + 1, "col": column + 1}
    plain = {"gridcolor": _RULES, "linecolor": _RULES, "zeroline": False, "automargin": True}
    position_axis: dict[str, Any] = plain | {"showgrid": subplot.horizontal or not subplot.x_ticks}
    if drawing.is_lowest(row, column) or not drawing.shared_x:
        position_axis |= {"title_text": _text(subplot.x_label), "showticklabels": True}
    if subplot.x_ticks:
        position_axis |= {"tickvals": subplot.x_ticks, "ticktext": [_text(label) for label in subplot.x_tick_labels]}
    if subplot.x_range is not None:
        position_axis["range"] = subplot.x_range[::-1] if subplot.horizontal else subplot.x_range
    value_axis: dict[str, Any] = plain | {"title_text": _text(subplot.y_label)}
    if subplot.log_y:
        value_axis |= {"type": "log", "tickvals": _LOG_TICKS, "ticktext": [f"{tick:g}" for tick in _LOG_TICKS]}
    if subplot.y_from_zero:
        value_axis["rangemode"] = "tozero"
    if subplot.y_whole and _highest(subplot) < _FEW_TICKS:
        value_axis["dtick"] = 1  # of larger numbers plotly labels whole ones only
    if subplot.y_range is not None:
        value_axis["range"] = [math.log10(end) if subplot.log_y else end for end in subplot.y_range]
    if subplot.cells is not None:
        names = subplot.cells.rows if column == 0 else ()
        value_axis |= {"tickvals": list(range(len(names))), "ticktext": [_text(name) for name in names]}
        value_axis |= {"autorange": "reversed", "showgrid": False, "showticklabels": bool(names)}
    if subplot.is_map:
        for axis in (position_axis, value_axis):
            axis |= {"showgrid": False, "showticklabels": False, "showline": True, "mirror": True}
        axes = figure.get_subplot(row + 1, column + 1)
        value_axis |= {"scaleanchor": axes.xaxis.plotly_name.replace("axis", ""), "scaleratio": 1}
    across, upwards = (value_axis, position_axis) if subplot.horizontal else (position_axis, value_axis)
    figure.update_xaxes(across, **place)
    figure.update_yaxes(upwards, **place)
    if subplot.x_notes:
        _add_notes(figure, subplot, place)


def _highest(subplot: Subplot) -> float:
    """How far the axis of values reaches."""
    if subplot.y_range is not None:
        return subplot.y_range[1]
    return max((y for series in subplot.series for y in series.y if math.isfinite(y)), default=0.0)


def _add_notes(figure: go.Figure, subplot: Subplot, place: dict[str, int]) -> None:
    """Texts on the far side of a horizontal subplot, one next to each position, under a heading."""
    beside = {"x": 1.02, "xref": "x domain", "xanchor": "left", "showarrow": False, "align": "left"}
    for position, note in zip(subplot.x_ticks, subplot.x_notes, strict=True):
        figure.add_annotation(beside | {"y": position, "text": _text(note)}, **place)
    heading = {"y": 1.0, "yref": "y domain", "yanchor": "bottom", "text": _text(subplot.notes_label)}
    figure.add_annotation(beside | heading, **place)


def _layout(drawing: Drawing, figure: go.Figure) -> dict[str, Any]:
    """Size, colors, title, and one legend next to each row of subplots, or below where notes stand there."""
    longest_note = max(
        (len(note) for subplot in drawing.subplots for note in (*subplot.x_notes, subplot.notes_label)), default=0
    )
    heights = [_subplot_height(subplot, drawing.columns) for row, column, subplot in drawing.places() if column == 0]
    layout: dict[str, Any] = {
        "template": "none",
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"color": _INK, "size": 13},
        "title": {"text": _text(drawing.title), "x": 0, "xref": "paper", "xanchor": "left"},
        "margin": {
            "l": 60,
            "r": 20 + _LETTER_WIDTH * longest_note,
            "t": 120 if any(subplot.title or subplot.notes_label for subplot in drawing.subplots) else 90,
            "b": 50,
        },
        "hoverlabel": {"namelength": -1},
    }
    if drawing.caption:
        lines = textwrap.wrap(drawing.caption, _CAPTION_WIDTH)
        layout["title"]["subtitle"] = {"text": "<br>".join(map(_text, lines)), "font": {"size": 12}}
        layout["margin"]["t"] += _CAPTION_LINE_HEIGHT * (len(lines) - 1)
    layout["height"] = layout["margin"]["t"] + layout["margin"]["b"] + sum(heights)
    if longest_note and drawing.has_legend:  # notes stand where legends do otherwise
        layout["margin"]["b"] += _LEGEND_HEIGHT
        layout["height"] += _LEGEND_HEIGHT
    for row in range(drawing.rows):
        if longest_note:
            below = {"orientation": "h", "yref": "container", "y": 0.01, "yanchor": "bottom", "x": 0.0}
            layout[_legend_id(row)] = below | {"xanchor": "left", "bgcolor": _CLEAR}
            continue
        top = figure.get_subplot(row + 1, 1).yaxis.domain[1]
        legend = {"y": top, "yanchor": "top", "x": 1.02, "xanchor": "left", "bgcolor": _CLEAR, "tracegroupgap": 2}
        layout[_legend_id(row)] = legend
    return layout


def _subplot_height(subplot: Subplot, columns: int) -> float:
    if subplot.cells is not None:
        return _CELL_HEIGHT * len(subplot.cells.rows)
    if subplot.is_map:
        return max(_ROW_HEIGHT, _MAP_HEIGHT / columns)
    return max(_ROW_HEIGHT, _POSITION_HEIGHT * len(subplot.x_ticks)) if subplot.horizontal else _ROW_HEIGHT


def _legend_id(row: int) -> str:
    return "legend" if row == 0 else f"legend{row + 1}"


def _fade(color: str, opacity: float) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def _text(text: str) -> str:
    """Escape markup, and the dollar signs that would turn a name into mathematics."""
    return html.escape(text).replace("$", "&#36;").replace("\n", " ")
