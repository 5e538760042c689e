"""The colors of maps, in a notebook's panel as in a picture: a look for each class, a scale for a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gelora_viz.errors import InputError
from gelora_viz.plots.marks import COLORS, GRAY, MARKERS, Style

if TYPE_CHECKING:
    import pandas as pd

OTHER = "other"
# matplotlib's cividis from 0.2 to 0.95: perceptually uniform, read alike with every kind of color vision (Nunez,
# Anderton & Renslow 2018), and without the ends that vanish on a dark or on a white page.
_CIVIDIS = ("#2a3f6d", "#505a6d", "#6b6f75", "#878579", "#a59c74", "#c5b467", "#e6cf51")
_MOST_CLASSES = len(COLORS)
_NO_LABEL = "no label"


class ColorScale(NamedTuple):
    """Which colors stand for which numbers.

    Attributes:
        low: the number at the first color; smaller ones have the same.
        high: the number at the last color; larger ones have the same.
        colors: evenly spaced from low to high, "#rrggbb".
    """

    low: float
    high: float
    colors: tuple[str, ...]


def color_scale(values: np.ndarray) -> ColorScale:
    """A scale from dark to bright for these numbers, on which a few extreme ones do not take all of it.

    Args:
        values: one number per point, (n_points,); NaN is left out.

    Returns:
        A scale from their 2 % to their 98 % quantile.
    """
    known = values[np.isfinite(values)]
    low, high = (float(each) for each in np.quantile(known, (0.02, 0.98))) if len(known) else (0.0, 1.0)
    return ColorScale(*((low, high) if high > low else (low - 0.5, low + 0.5)), _CIVIDIS)


def class_styles(classes: Sequence[str]) -> dict[str, Style]:
    """The look of each class, the most frequent first; no color and no marker twice.

    Args:
        classes: one per point.

    Returns:
        Class -> style. Of more than 7 classes the 6 most frequent have a look of their own, and all others share that
        of "other", the last one.

    Example:
        >>> list(class_styles(["a", "b", "b"]))
        ['b', 'a']
        >>> list(class_styles("aabbccddeeffgh"))
        ['a', 'b', 'c', 'd', 'e', 'f', 'other']
    """
    names = [name for name, _ in Counter(sorted(classes)).most_common()]
    if len(names) > _MOST_CLASSES:
        names = [*[name for name in names if name != OTHER][: _MOST_CLASSES - 1], OTHER]
    return {
        name: Style(GRAY, marker=MARKERS[-1]) if name == OTHER else Style(COLORS[index], marker=MARKERS[index])
        for index, name in enumerate(names)
    }


def name_classes(points: pd.DataFrame, labels: Sequence[object]) -> list[str]:
    """The class of each point, from one label per captured text.

    Args:
        points: one row per point, whose column text is its text's place in the captured list.
        labels: one per captured text; None and NaN become "no label".

    Raises:
        InputError: if there are fewer labels than texts.
    """
    texts = points["text"].to_numpy()
    if len(labels) <= int(texts.max()):
        raise InputError(
            f"{len(labels)} labels for points of texts up to number {int(texts.max())}, counted from 0; give one "
            "label for each captured text"
        )
    listed = list(labels)
    return [_NO_LABEL if is_missing(listed[text]) else str(listed[text]) for text in texts]


def is_missing(value: object) -> bool:
    """Whether a cell holds nothing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
