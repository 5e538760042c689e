"""What stays the same in every picture: an estimator's name and look, and what a band is."""

from __future__ import annotations

from gelora_viz.dimension import ESTIMATORS
from gelora_viz.plots.marks import BLUE, GRAY, GREEN, ORANGE, PURPLE, SKY, Style, style_number

_ESTIMATOR_STYLES = {
    "twonn": Style(BLUE, "solid", "circle"),
    "mle": Style(GREEN, "dash", "square"),
    "twonn_ml": Style(ORANGE, "dashdot", "triangle-up"),
    "lpca_participation_ratio": Style(PURPLE, "dot", "diamond"),
    "lpca_maxgap": Style(GRAY, "dashdot", "triangle-down"),
    "gride": Style(SKY, "dot", "cross"),
}
"""Chosen so that the default estimators can be told apart; the others follow in the catalog's order."""


def estimator_style(name: str, index: int = 0) -> Style:
    """The look of an estimator, the same in every picture.

    Args:
        name: a name in the catalog, or the name of an estimator of your own.
        index: tells apart estimators of your own in one picture.
    """
    if name in _ESTIMATOR_STYLES:
        return _ESTIMATOR_STYLES[name]
    others = [each for each in ESTIMATORS if each not in _ESTIMATOR_STYLES]
    place = others.index(name) if name in others else len(others) + index
    return style_number(len(_ESTIMATOR_STYLES) + place)


def estimator_title(name: str) -> str:
    """The title of an estimator, such as "TwoNN" for "twonn"; the name of one of your own stands for itself."""
    return ESTIMATORS[name].title if name in ESTIMATORS else name


def interval_caption(confidence: float) -> str:
    """A sentence for a caption that says what bands are."""
    return f"Bands are {100 * confidence:g} % confidence intervals."
