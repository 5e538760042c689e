"""What stays the same in every figure: an estimator's name and look, and what a band is."""

from __future__ import annotations

from gelora_viz.plots.description import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, Style, style_number

ESTIMATOR_STYLES = {
    "twonn": Style(BLUE, "solid", "circle"),
    "mle": Style(GREEN, "dash", "square"),
    "twonn_ml": Style(ORANGE, "dashdot", "triangle-up"),
    "lpca_participation_ratio": Style(PURPLE, "dot", "diamond"),
    "lpca_maxgap": Style(GREY, "dashdot", "triangle-down"),
    "gride": Style(SKY, "dot", "cross"),
}
"""Chosen to be told apart where the default estimators stand together; the others follow in the catalogue's order."""


def estimator_style(name: str, index: int = 0) -> Style:
    """One look per estimator, whichever of them a figure shows; `index` tells apart names that are not ours."""
    from gelora_viz.dimension import ESTIMATORS  # here, since it loads torch

    if name in ESTIMATOR_STYLES:
        return ESTIMATOR_STYLES[name]
    others = [each for each in ESTIMATORS if each not in ESTIMATOR_STYLES]
    place = others.index(name) if name in others else len(others) + index
    return style_number(len(ESTIMATOR_STYLES) + place)


def estimator_title(name: str) -> str:
    """As the estimator calls itself; a name of the user's own stands for itself."""
    from gelora_viz.dimension import ESTIMATORS  # here, since it loads torch

    return ESTIMATORS[name].title if name in ESTIMATORS else name


def interval_caption(confidence: float) -> str:
    """What bands are."""
    return f"Bands are {100 * confidence:g} % confidence intervals."
