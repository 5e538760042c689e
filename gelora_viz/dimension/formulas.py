"""The estimators: each turns a neighbour graph or a covariance spectrum into one number, in a few lines.

Values agree with scikit-dimension on the same neighbours (tests/dimension/test_estimators.py shows it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np
import pandas as pd

from gelora_viz.dimension.graph import NeighborGraph
from gelora_viz.errors import InputError

TWONN_DISCARDED = 0.1
"""Share of the largest ratios that the TwoNN fit leaves out, as in the paper and in scikit-dimension."""


@dataclass(frozen=True)
class Estimator:
    """One way to estimate an intrinsic dimension.

    Attributes:
        name: as it stands in frames.
        title: as it stands in pictures.
        kind: "neighbours" (works on the graph's distances) or "spectrum" (on the covariance's eigenvalues).
        needs_k: how many neighbours it reads: a number, or None for the k the caller chose; 0 for a spectrum.
        compute: from a NeighborGraph, or from eigenvalues in descending order, to the dimension.
        paper: where it comes from.
        smooth: whether a small change of the data changes the estimate a little. Where not (an argmax over gaps), an
            interval says whether the choice is stable and little more.
    """

    name: str
    title: str
    kind: Literal["neighbours", "spectrum"]
    needs_k: int | None
    compute: Callable[..., float]
    paper: str
    smooth: bool = True


def twonn(graph: NeighborGraph) -> float:
    """TwoNN by the linear fit: slope of -log(1 - F(mu)) on log(mu), mu = r2 / r1, the largest 10 % left out.

    Facco, d'Errico, Rodriguez & Laio 2017, doi:10.1038/s41598-017-11873-y, equation 5. The estimator that GeLoRA
    uses.
    """
    log_ratio = np.sort(_log_ratios(graph))
    n_kept = int(len(log_ratio) * (1 - TWONN_DISCARDED))
    log_ratio = log_ratio[:n_kept]
    tail = -np.log1p(-np.arange(1, n_kept + 1) / graph.n_points)
    return float(log_ratio @ tail / _positive(log_ratio @ log_ratio))


def twonn_ml(graph: NeighborGraph) -> float:
    """TwoNN by maximum likelihood: (n - 1) / sum log(mu), mu = r2 / r1.

    Uses every ratio; its standard error is about d / sqrt(n).

    Denti, Doimo, Laio & Mira 2022, doi:10.1038/s41598-022-20991-1, equation 3 (with the unbiased n - 1).
    """
    return float((graph.n_points - 1) / _positive(_log_ratios(graph).sum()))


def _log_ratios(graph: NeighborGraph) -> np.ndarray:
    """log(r2 / r1) of every point."""
    return np.log(graph.distances[:, 1] / graph.distances[:, 0])


def _positive(spread: float) -> float:
    """Refuse points whose neighbours are all equally far away: on a grid, ratios of distances say nothing."""
    if spread <= 0:
        raise InputError(
            "every point's neighbours are equally far away, as on a grid, so ratios of distances say nothing"
        )
    return spread


def mle(graph: NeighborGraph) -> float:
    """Levina-Bickel maximum likelihood over k neighbours, points combined by their harmonic mean.

    Levina & Bickel 2004 (NIPS 17), equation 8, with k - 1; MacKay & Ghahramani 2005 for averaging the inverses.
    """
    logs = np.log(graph.distances[:, -1:] / graph.distances[:, :-1])
    return float((graph.k - 1) * graph.n_points / _positive(logs.sum()))


def lpca_participation_ratio(eigenvalues: np.ndarray) -> float:
    """Participation ratio of the covariance, (sum l)^2 / sum l^2: how many directions share the variance.

    Global and linear: a curved sheet counts all the directions it bends through, so this is no manifold dimension.
    Gao et al. 2017, doi:10.1101/214262.
    """
    return float(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())


def lpca_maxgap(eigenvalues: np.ndarray) -> float:
    """Number of eigenvalues before the largest ratio of one to the next; where the rest are rounding, those above it.

    Bruske & Sommer 1998, doi:10.1109/34.682189. An argmax: it can jump from 1 to n_features between similar layers.
    """
    above = eigenvalues[eigenvalues > eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps]
    if len(above) < len(eigenvalues) or len(above) == 1:
        return float(len(above))  # an exactly flat cloud: the fall to rounding is the largest gap
    return float(np.argmax(above[:-1] / above[1:]) + 1)


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator("twonn", "TwoNN", "neighbours", 2, twonn, "Facco et al. 2017"),
        Estimator("twonn_ml", "TwoNN (likelihood)", "neighbours", 2, twonn_ml, "Denti et al. 2022"),
        Estimator("mle", "MLE", "neighbours", None, mle, "Levina & Bickel 2004; MacKay & Ghahramani 2005"),
        Estimator(
            "lpca_participation_ratio",
            "lPCA (participation ratio)",
            "spectrum",
            0,
            lpca_participation_ratio,
            "Gao et al. 2017",
        ),
        Estimator(
            "lpca_maxgap", "lPCA (largest gap)", "spectrum", 0, lpca_maxgap, "Bruske & Sommer 1998", smooth=False
        ),
    )
}


def estimators() -> pd.DataFrame:
    """The estimators by name: name, title, kind, needs (neighbours), paper."""
    return pd.DataFrame(
        {
            "name": each.name,
            "title": each.title,
            "kind": each.kind,
            "needs": "k neighbours"
            if each.needs_k is None
            else f"{each.needs_k} neighbours"
            if each.needs_k
            else "covariance",
            "paper": each.paper,
        }
        for each in ESTIMATORS.values()
    )


def choose_estimators(names: Sequence[str] | str | None) -> list[Estimator]:
    """The estimators of these names, all of them for None.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    wanted = list(ESTIMATORS) if names is None else [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in wanted:
        if name not in ESTIMATORS:
            near = get_close_matches(str(name), ESTIMATORS, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"unknown estimator {name!r}; {hint}names are {', '.join(ESTIMATORS)}")
    if not wanted:
        raise InputError(f"no estimators given; names are {', '.join(ESTIMATORS)}")
    return [ESTIMATORS[name] for name in wanted]
