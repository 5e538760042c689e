"""The picture of singular values, and how pictures of many matrices are divided into subplots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gelora_viz._checks import check_names
from gelora_viz.errors import InputError
from gelora_viz.plots.arguments import check_kind
from gelora_viz.plots.drawing import Drawing, Subplot
from gelora_viz.plots.frames import floats
from gelora_viz.plots.marks import BLUE, GREEN, VERMILLION, Series, Style, style_number
from gelora_viz.spectra import UpdateSpectrum

if TYPE_CHECKING:
    import numpy as np

DEPTH_STYLES = (
    Style(BLUE, "solid", "circle"),
    Style(GREEN, "dash", "square"),
    Style(VERMILLION, "dashdot", "triangle-up"),
)
"""Early, middle and late layers, in every picture that has them."""
_PLACES = ("First layer", "Middle layer", "Last layer")
_MOST_RANK_TICKS = 5
_SMALLEST_SHOWN = 1e-3
"""Share of the largest singular value down to which values are drawn; below, they do not count as rank."""


def singular_values(spectrum: UpdateSpectrum, *, modules: Sequence[str] | str | None = None) -> Drawing:
    """How fast the singular values of updates fall, each over its largest, on a logarithmic axis.

    Args:
        spectrum: the update of a trained adapter.
        modules: whose updates to show. By default, in one subplot per kind of matrix, those of the first, the middle
            and the last layer.

    Returns:
        The drawing.

    Raises:
        InputError: if this is no `UpdateSpectrum`, a module is not in it, or every update shown is zero.
    """
    check_kind(spectrum, UpdateSpectrum, "singular_values")
    values = spectrum.singular_values
    chosen = list(values) if modules is None else check_names(modules, "modules", next(iter(values)))
    unknown = [module for module in chosen if module not in values]
    if unknown:
        raise InputError(f"no update of {unknown[0]!r}; there are {', '.join(list(values)[:12])}")
    if all(values[module].max(initial=0.0) == 0 for module in chosen):
        raise InputError("every update is zero, so there are no singular values to draw; train the adapter first")
    kinds = kinds_of_matrices(chosen)
    columns = columns_for(len(kinds))
    drawn = {}
    for kind, members in kinds.items():
        few = modules is None and len(members) >= len(_PLACES)
        shown = spread(members, len(_PLACES)) if few else members
        labels, styles = (_PLACES, DEPTH_STYLES) if few else (shown, tuple(map(style_number, range(len(shown)))))
        drawn[kind] = tuple(
            _falling(values[module], module, label, style)
            for module, label, style in zip(shown, labels, styles, strict=True)
        )
    lowest = min(y for series in drawn.values() for each in series for y in each.y if math.isfinite(y))
    subplots = tuple(
        Subplot(
            title=kind,
            x_label="Singular value",
            y_label="Share of the largest" if place % columns == 0 else "",
            series=series,
            **_rank_ticks(max(len(each.x) for each in series)),
            y_range=(0.8 * lowest, 1.25),
            log_y=True,
        )
        for place, (kind, series) in enumerate(drawn.items())
    )
    return Drawing(
        "Singular values of the updates",
        subplots,
        f"Each over its largest, down to {_SMALLEST_SHOWN:g}, below which values do not count as rank.",
        columns=columns,
    )


def kinds_of_matrices(modules: Iterable[str]) -> dict[str, list[str]]:
    """The modules by kind, such as query or value, in the order of their layers.

    A kind is what is left of a module's path without its numbers; it is called by its last name, and by those before
    it that tell it apart from other kinds of that name.

    Example:
        >>> kinds_of_matrices(["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.1.attn.c_proj", "h.1.mlp.c_proj"])
        {'attn.c_proj': ['h.0.attn.c_proj', 'h.1.attn.c_proj'], 'mlp.c_proj': ['h.0.mlp.c_proj', 'h.1.mlp.c_proj']}
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for module in modules:
        found.setdefault(tuple(part for part in module.split(".") if not part.isdigit()), []).append(module)
    named: dict[str, list[str]] = {}
    for path, members in found.items():
        alike = [other for other in found if other[-1:] == path[-1:]]
        everywhere = set.intersection(*(set(other) for other in alike))
        telling = [part for part in path[:-1] if part not in everywhere]
        named.setdefault(".".join([*telling, *path[-1:]]), []).extend(members)
    return named


def columns_for(n_subplots: int) -> int:
    """Subplots per row: two where that leaves no gap in a small figure, else three."""
    return min(n_subplots, 2 if n_subplots in (2, 4) else 3)


def spread(members: Sequence[Any], at_most: int) -> list[Any]:
    """The first, the last, and evenly spaced ones between."""
    if len(members) <= at_most:
        return list(members)
    return [members[round(place * (len(members) - 1) / (at_most - 1))] for place in range(at_most)]


def _rank_ticks(n_values: int) -> dict[str, Any]:
    """Whole numbers, few enough to stay apart."""
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    step = next(step for step in steps if n_values / step <= _MOST_RANK_TICKS)
    ticks = range(step, n_values + 1, step)
    return {"x_ticks": tuple(map(float, ticks)), "x_tick_labels": tuple(map(str, ticks))}


def _falling(values: np.ndarray, module: str, label: str, style: Style) -> Series:
    """Singular values over the largest; what is too small to count is left out."""
    largest = values.max(initial=0.0)
    shares = [value / largest if largest > 0 else math.nan for value in floats(values)]
    return Series(
        kind="line",
        x=tuple(float(place) for place in range(1, len(shares) + 1)),
        y=tuple(share if share >= _SMALLEST_SHOWN else math.nan for share in shares),
        label=label,
        style=style,
        details=tuple(f"{module}, value {place} of {len(shares)}" for place in range(1, len(shares) + 1)),
    )
