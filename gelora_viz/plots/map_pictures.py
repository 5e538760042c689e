"""Pictures of maps: the points of one layer or of several side by side, in the colours of classes or of a number."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gelora_viz.errors import InputError
from gelora_viz.plots.description import BLUE, COLORS, GREY, MARKERS, Drawing, Panel, Series, Style
from gelora_viz.plots.frames import require_columns

if TYPE_CHECKING:
    import pandas as pd

    from gelora_viz.plots.results import Mapped

CAPTION = (
    "A UMAP shows which points are neighbours. Distances between clusters, their sizes and densities, and the empty "
    "places between them are not those of the hidden states."
)
MOST_CLASSES = len(COLORS)
"""With more classes, the most frequent ones but one keep a colour of their own, and the others share grey."""
OTHER = "other"
# matplotlib's cividis from 0.2 to 0.95: perceptually uniform, read alike with every kind of colour vision (Nunez,
# Anderton & Renslow 2018), and without the ends that vanish on a dark or on a white page.
CIVIDIS = ("#2a3f6d", "#505a6d", "#6b6f75", "#878579", "#a59c74", "#c5b467", "#e6cf51")
_MOST_COLUMNS = 3
_NO_LABEL = "no label"


def describe_umap(
    projections: Mapped | Mapping[str, Mapped],
    *,
    labels: Sequence[object] | None = None,
    local: pd.DataFrame | None = None,
) -> Drawing:
    """Where UMAP has put the points of one layer, or of several side by side.

    Of a map in space, its view along the third axis is shown. Each panel has a scale of its own, for a UMAP has no
    unit: that one is larger than another means nothing.

    Args:
        projections: from `project`; or several by the title of their panel, such as {"embeddings": ..., "last": ...}.
        labels: the class of each captured text, for colours and marks: up to 7, or the 6 most frequent and "other".
        local: from `local_dimension`, for colours instead: a row per point, a column per layer.

    Raises:
        InputError: if there is no projection; labels or local dimensions do not belong to it; both are given.
    """
    maps = dict(projections) if isinstance(projections, Mapping) else {projections.layer: projections}
    if not maps:
        raise InputError("no projection to draw; give one from gelora_viz.project, or a mapping of several")
    if labels is not None and local is not None:
        raise InputError("labels and local dimensions both name the colours; give one of them")
    for each in maps.values():
        require_columns(each.frame, ("point", "x", "y", "text"), "projection")
    if local is not None:
        return describe_values(maps, {title: _values_of(each, local) for title, each in maps.items()})
    if labels is not None:
        return describe_classes(maps, {title: classes_of_points(each.frame, labels) for title, each in maps.items()})
    whole = {
        title: (_series(each, np.arange(len(each.frame)), "points", Style(BLUE)),) for title, each in maps.items()
    }
    return _describe(maps, whole)


def describe_classes(maps: Mapping[str, Mapped], classes: Mapping[str, Sequence[str]]) -> Drawing:
    """Maps in the colours of classes, of which each point of each map has one."""
    return _describe(maps, _by_class(classes, maps))


def describe_values(maps: Mapping[str, Mapped], values: Mapping[str, np.ndarray]) -> Drawing:
    """Maps in the colours of local dimensions, of which each point of each map has one."""
    return _describe(maps, _by_value(values, maps), "Colours are local dimensions, estimated from the hidden states.")


def _describe(maps: Mapping[str, Mapped], series: Mapping[str, tuple[Series, ...]], colors: str = "") -> Drawing:
    panels = tuple(Panel(title if len(maps) > 1 else "", "", "", series[title], is_map=True) for title in maps)
    return Drawing(
        f"UMAP of {_say_layers(maps)}", panels, _caption(maps, colors), columns=min(len(panels), _MOST_COLUMNS)
    )


def classes_of_points(frame: pd.DataFrame, labels: Sequence[object]) -> list[str]:
    """The class of each row of a projection's frame, from one label per captured text."""
    texts = frame["text"].to_numpy()
    if len(labels) <= int(texts.max()):
        raise InputError(
            f"{len(labels)} labels for points of texts up to number {int(texts.max())}, counted from 0; give one "
            "label for each captured text"
        )
    listed = list(labels)
    return [_NO_LABEL if _is_missing(listed[text]) else str(listed[text]) for text in texts]


def choose_classes(classes: Sequence[str]) -> list[str]:
    """Classes with a colour of their own, the most frequent first, and `OTHER` last where there are more."""
    names = [name for name, _ in Counter(sorted(classes)).most_common()]
    return names if len(names) <= MOST_CLASSES else [*names[: MOST_CLASSES - 1], OTHER]


def class_style(index: int, name: str) -> Style:
    """The look of a class: no colour and no mark twice."""
    return Style(GREY, marker=MARKERS[-1]) if name == OTHER else Style(COLORS[index], marker=MARKERS[index])


def value_range(values: np.ndarray) -> tuple[float, float]:
    """Where a scale of colours begins and ends, so that a few extreme points do not take all of it."""
    known = values[np.isfinite(values)]
    low, high = (float(each) for each in np.quantile(known, (0.02, 0.98))) if len(known) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _by_class(classes: Mapping[str, Sequence[str]], maps: Mapping[str, Mapped]) -> dict[str, tuple[Series, ...]]:
    """One series per class, in the same look in every panel."""
    chosen = choose_classes([name for of_map in classes.values() for name in of_map])
    found = {}
    for title, each in maps.items():
        names = np.array([name if name in chosen else OTHER for name in classes[title]], dtype=object)
        # The rarest last, so that a large class does not hide it.
        found[title] = tuple(
            _series(each, np.flatnonzero(names == name), name, class_style(index, name))
            for index, name in enumerate(chosen)
        )
    return found


def _by_value(values: Mapping[str, np.ndarray], maps: Mapping[str, Mapped]) -> dict[str, tuple[Series, ...]]:
    """One series per step of the colours, the same steps in every panel."""
    low, high = value_range(np.concatenate(list(values.values())))
    ends = np.linspace(low, high, len(CIVIDIS) + 1)
    names = [f"{start:.3g} to {end:.3g}" for start, end in itertools.pairwise(ends)]
    found = {}
    for title, each in maps.items():
        step = np.clip(np.searchsorted(ends, values[title], side="right") - 1, 0, len(CIVIDIS) - 1)
        found[title] = tuple(
            _series(each, np.flatnonzero(step == index), name, Style(CIVIDIS[index]))
            for index, name in enumerate(names)
        )
    return found


def _series(each: Mapped, rows: np.ndarray, label: str, style: Style) -> Series:
    shown = each.frame.iloc[rows]
    tokens = shown["token"] if "token" in shown else [None] * len(shown)
    return Series(
        kind="points",
        x=tuple(map(float, shown["x"])),
        y=tuple(map(float, shown["y"])),
        label=label,
        style=style,
        details=tuple(
            f"text {text}" if _is_missing(token) else f"text {text}, token {token}"
            for text, token in zip(shown["text"], tokens, strict=True)
        ),
    )


def _values_of(each: Mapped, local: pd.DataFrame) -> np.ndarray:
    if each.layer not in local.columns or len(local) <= int(each.frame["point"].max()):
        raise InputError(
            f"the local dimensions have {len(local)} rows and columns {', '.join(map(str, local.columns))}, and the "
            f"projection is of layer {each.layer!r} with points up to number {int(each.frame['point'].max())}; take "
            "both from the same activations"
        )
    return local[each.layer].to_numpy(float)[each.frame["point"].to_numpy()]


def _say_layers(maps: Mapping[str, Mapped]) -> str:
    return next(iter(maps.values())).layer if len(maps) == 1 else f"{len(maps)} layers"


def _caption(maps: Mapping[str, Mapped], colors: str) -> str:
    said = [CAPTION]
    settings = [each.settings for each in maps.values()]
    made = {(each.get("n_neighbors"), each.get("min_dist")) for each in settings}
    if len(made) == 1 and None not in (only := next(iter(made))):
        said.append(f"{only[0]} neighbours, min_dist {only[1]:g}.")
    if any("z" in each.frame for each in maps.values()):
        said.append("Seen along the third axis.")
    return " ".join([*said, colors]).strip()


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
