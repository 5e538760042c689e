"""Checks of points and arguments, made before any neighbor is searched."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gelora_viz._checks import check_flag, check_whole
from gelora_viz._lazy import FunctionsOf
from gelora_viz.dimension._estimator import Estimator, most_neighbors
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    from gelora_viz.activations import Activations

_graph = FunctionsOf("gelora_viz.dimension._graph")
"""Loads numpy and torch."""

DEFAULT_K = 20
"""Neighbors of MLE, as in scikit-dimension."""
_FEWEST_TEXTS = 10
"""With fewer texts, splits into halves repeat each other and show nothing."""
_FEW_TEXTS = 50


@contextmanager
def naming_layer(layer: str) -> Iterator[None]:
    """Name the layer in errors about its points."""
    try:
        yield
    except InputError as error:
        raise InputError(f"layer {layer!r}: {error}") from error


def check_k(k: object) -> int:
    """The number of neighbors; raises `InputError` below 3, which are too few for MLE and the like."""
    return check_whole(k, "k", at_least=3)


def check_one_rule(*, correct: object, plateau: object) -> None:
    """Raise `InputError` unless these are flags, at most one of which is set."""
    if check_flag(correct, "correct") & check_flag(plateau, "plateau"):
        raise InputError("a plateau mixes numbers of points, and a correction is for one; choose correct or plateau")


def check_enough_points(n_points: int, n_texts: int, chosen: Sequence[Estimator], k: int) -> None:
    """Raise `InputError` where there are too few points or texts, or k is not a whole number of at least 3."""
    check_k(k)
    needed = most_neighbors(chosen, k)
    enough = 2 * needed + 3  # each half needs more points than neighbors
    if n_points < enough:
        raise InputError(
            f"{n_points} points are too few for {needed} neighbors with an interval; give at least {enough} texts, "
            "or a smaller k"
        )
    if n_texts < _FEWEST_TEXTS:
        raise InputError(f"{n_texts} texts are too few for an interval; give at least {_FEWEST_TEXTS}")


def check_points(activations: Activations, chosen: Sequence[Estimator], k: int) -> None:
    """Refuse what can be refused before the first graph is built; warn where there are few texts."""
    n_points, n_texts = activations.n_points, activations.provenance["text"].nunique()
    check_enough_points(n_points, n_texts, chosen, k)
    for layer in activations:
        points = _graph.as_array(activations[layer])
        _graph.check_finite(points, name=f"the points of layer {layer!r}")
        if (points == points[0]).all():
            raise InputError(
                f"all {n_points} points of layer {layer!r} are equal, so they have no dimension; check the texts"
            )
    if n_texts < _FEW_TEXTS:
        warnings.warn(
            f"only {n_texts} texts: intervals are wide and only roughly right; give a few hundred texts",
            stacklevel=3,
        )
