"""Pictures of maps: the points of one layer or of several side by side, in the colors of classes or of a number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gelora_viz.errors import InputError
from gelora_viz.maps import Projection
from gelora_viz.plots.arguments import check_kind, check_kinds
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import require_columns
from gelora_viz.plots.map_colors import OTHER, class_styles, color_scale, is_missing, name_classes
from gelora_viz.plots.marks import BLUE, Series, Style

if TYPE_CHECKING:
    import pandas as pd

_CAPTION = (
    "A UMAP shows which points are neighbors. Distances between clusters, their sizes and densities, and the empty "
    "places between them are not those of the hidden states."
)
_MOST_COLUMNS = 3


def umap(
    projections: Projection | Mapping[str, Projection],
    *,
    labels: Sequence[object] | None = None,
    local: pd.DataFrame | None = None,
) -> Drawing:
    """Where UMAP has put the points of one layer, or of several side by side.

    Of a map in space, the view along the third axis is shown. Each subplot has a scale of its own, for a UMAP has no
    unit: that one is larger than another means nothing. On the screen, points are drawn with WebGL.

    Args:
        projections: a map, or several by the title of their subplot, such as {"embeddings": ..., "last": ...}.
        labels: the class of each captured text, for colors and markers: up to 7, or the 6 most frequent and "other".
        local: local dimensions from `local_dimension`, for colors instead: a row per point, a column per layer.

    Returns:
        The drawing.

    Raises:
        InputError: if this is no projection or mapping of some, labels or local dimensions do not belong to it,
            or both are given.
    """
    if isinstance(projections, Mapping):
        check_kinds(projections, Projection, "umap", "{'last': projection}")
        maps = dict(projections)
    else:
        check_kind(projections, Projection, "umap")
        maps = {projections.layer: projections}
    if not maps:
        raise InputError("no projection to draw; give one from gelora_viz.project, or a mapping of several")
    if labels is not None and local is not None:
        raise InputError("labels and local dimensions both set the colors; give one of them")
    for each in maps.values():
        require_columns(each.frame, ("point", "x", "y", "text"), "projection")
    if local is not None:
        return umap_of_values(maps, {title: _values_of(each, local) for title, each in maps.items()})
    if labels is not None:
        return umap_of_classes(maps, {title: name_classes(each.frame, labels) for title, each in maps.items()})
    whole = {
        title: (_series(each, np.arange(len(each.frame)), "points", Style(BLUE)),) for title, each in maps.items()
    }
    return _draw(maps, whole)


def umap_of_classes(maps: Mapping[str, Projection], classes: Mapping[str, Sequence[str]]) -> Drawing:
    """Maps in the colors of classes that need not be those of texts, such as tokens.

    Args:
        maps: title of a subplot -> its map.
        classes: title -> the class of each point of the map, in the order of its frame.

    Returns:
        The drawing.
    """
    return _draw(maps, _by_class(classes, maps))


def umap_of_values(maps: Mapping[str, Projection], values: Mapping[str, np.ndarray]) -> Drawing:
    """Maps in the colors of local dimensions.

    Args:
        maps: title of a subplot -> its map.
        values: title -> the local dimension at each point of the map, (n_points,), in the order of its frame.

    Returns:
        The drawing.
    """
    return _draw(maps, _by_value(values, maps), "Colors are local dimensions, estimated from the hidden states.")


def _draw(maps: Mapping[str, Projection], series: Mapping[str, tuple[Series, ...]], colors: str = "") -> Drawing:
    subplots = tuple(Subplot(title if len(maps) > 1 else "", "", "", series[title], is_map=True) for title in maps)
    return Drawing(
        f"UMAP of {_say_layers(maps)}", subplots, _caption(maps, colors), columns=min(len(subplots), _MOST_COLUMNS)
    )


def _by_class(classes: Mapping[str, Sequence[str]], maps: Mapping[str, Projection]) -> dict[str, tuple[Series, ...]]:
    """One series per class, in the same look in every subplot."""
    styles = class_styles([name for of_map in classes.values() for name in of_map])
    found = {}
    for title, each in maps.items():
        names = np.array([name if name in styles else OTHER for name in classes[title]], dtype=object)
        # The rarest last, so that a large class does not hide it.
        found[title] = tuple(
            _series(each, np.flatnonzero(names == name), name, style) for name, style in styles.items()
        )
    return found


def _by_value(values: Mapping[str, np.ndarray], maps: Mapping[str, Projection]) -> dict[str, tuple[Series, ...]]:
    """One series per step of the colors, the same steps in every subplot."""
    low, high, colors = color_scale(np.concatenate(list(values.values())))
    ends = np.linspace(low, high, len(colors) + 1)
    names = [f"{start:.3g} to {end:.3g}" for start, end in itertools.pairwise(ends)]
    found = {}
    for title, each in maps.items():
        step = np.clip(np.searchsorted(ends, values[title], side="right") - 1, 0, len(colors) - 1)
        found[title] = tuple(
            _series(each, np.flatnonzero(step == index), name, Style(colors[index]))
            for index, name in enumerate(names)
        )
    return found


def _series(each: Projection, rows: np.ndarray, label: str, style: Style) -> Series:
    shown = each.frame.iloc[rows]
    tokens = shown["token"] if "token" in shown else [None] * len(shown)
    return Series(
        kind="points",
        x=tuple(map(float, shown["x"])),
        y=tuple(map(float, shown["y"])),
        label=label,
        style=style,
        details=tuple(
            f"text {text}" if is_missing(token) else f"text {text}, token {token}"
            for text, token in zip(shown["text"], tokens, strict=True)
        ),
    )


def _values_of(each: Projection, local: pd.DataFrame) -> np.ndarray:
    if each.layer not in local.columns or len(local) <= int(each.frame["point"].max()):
        raise InputError(
            f"the local dimensions have {len(local)} rows and columns {', '.join(map(str, local.columns))}, and the "
            f"projection is of layer {each.layer!r} with points up to number {int(each.frame['point'].max())}; take "
            "both from the same activations"
        )
    return local[each.layer].to_numpy(float)[each.frame["point"].to_numpy()]


def _say_layers(maps: Mapping[str, Projection]) -> str:
    return next(iter(maps.values())).layer if len(maps) == 1 else f"{len(maps)} layers"


def _caption(maps: Mapping[str, Projection], colors: str) -> str:
    said = [_CAPTION]
    settings = [each.settings for each in maps.values()]
    made = {(each.get("n_neighbors"), each.get("min_dist")) for each in settings}
    if len(made) == 1 and None not in (only := next(iter(made))):
        said.append(f"{only[0]} neighbors, min_dist {only[1]:g}.")
    if any("z" in each.frame for each in maps.values()):
        said.append("Seen along the third axis.")
    return " ".join([*said, colors]).strip()
