"""The catalogue of estimators: what each is called, reads and costs, and where it comes from.

The formulas stand in `ratios` (distances of the graph), `neighborhoods` (the shape of neighbourhoods), `covariance`
(lPCA), `pairs` (all pairs of points) and `external` (scikit-dimension's). Values agree with scikit-dimension on the
same neighbours; tests/dimension/test_estimators.py shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np
import pandas as pd

from gelora_viz.dimension import _covariance as covariance
from gelora_viz.dimension import _external as external
from gelora_viz.dimension import _neighborhoods as neighborhoods
from gelora_viz.dimension import _pairs as pairs
from gelora_viz.dimension import _ratios as ratios
from gelora_viz.dimension._graph import NeighborGraph
from gelora_viz.dimension._scales import SCALE_NEIGHBORS, calibrated_dimension, interval_of_fit
from gelora_viz.errors import InputError

Kind = Literal["distances", "neighbourhoods", "covariance", "pairs", "external"]


@dataclass(frozen=True)
class Estimator:
    """One way to estimate an intrinsic dimension.

    Attributes:
        name: as it stands in frames.
        title: as it stands in pictures.
        kind: what it reads. "distances": those of the neighbour graph; "neighbourhoods": the neighbours' coordinates
            as well; "covariance": its eigenvalues in descending order; "pairs": all pairs of points; "external":
            scikit-dimension, which searches its own neighbours.
        needs_k: how many neighbours it reads: a number, or None for the k the caller chose; 0 for none.
        compute: to the dimension, from a `NeighborGraph` (kind "distances"), from eigenvalues ("covariance"), or from
            a graph and its points (n_points, n_features) (the others).
        cost: operations for n points of D features and k neighbours, beside the graph's own n^2 D.
        paper: where it comes from.
        smooth: whether a small change of the data changes the estimate a little. Where not (an argmax, a count), an
            interval says whether the choice is stable and little more.
        local: from what `compute` reads to (n_points,) estimates around each point, where there are such.
        own_interval: from a graph, the number of features and a confidence to the estimate, its standard error and
            its interval, where halves of the texts do not show all of the error.
    """

    name: str
    title: str
    kind: Kind
    needs_k: int | None
    compute: Callable[..., float]
    cost: str
    paper: str
    smooth: bool = True
    local: Callable[..., np.ndarray] | None = None
    own_interval: Callable[[NeighborGraph, int, float], tuple[float, float, float, float]] | None = None

    def neighbors(self, k: int) -> int:
        """How many neighbours it reads where the caller chose k."""
        return k if self.needs_k is None else self.needs_k

    @property
    def can_be_corrected(self) -> bool:
        """Whether `correct` knows its finite-sample bias: it reads distances alone, and is not corrected already."""
        return self.kind == "distances" and self.name not in ("knn", "calibrated")

    def apply(self, graph: NeighborGraph, k: int, points: np.ndarray | None = None) -> float:
        """The estimate from a graph with k neighbours or more and, where coordinates are read, the graph's points.

        Raises:
            InputError: where the points have no such estimate, with the estimator's name.
        """
        n_read = self.neighbors(k)
        nearest = graph.nearest(n_read) if n_read else graph
        try:
            return self.compute(nearest) if self.kind == "distances" else self.compute(nearest, points)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator("twonn", "TwoNN", "distances", 2, ratios.twonn, "n log n", "Facco et al. 2017"),
        Estimator("twonn_ml", "TwoNN (likelihood)", "distances", 2, ratios.twonn_ml, "n", "Denti et al. 2022"),
        Estimator("gride", "Gride", "distances", None, ratios.gride, "n", "Denti et al. 2022"),
        Estimator(
            "mle", "MLE", "distances", None, ratios.mle, "n k", "Levina & Bickel 2004; MacKay & Ghahramani 2005",
            local=ratios.local_mle,
        ),
        Estimator(
            "mle_levina_bickel", "MLE (plain mean)", "distances", None, ratios.mle_levina_bickel, "n k",
            "Levina & Bickel 2004", local=ratios.local_mle,
        ),
        Estimator("mom", "MOM", "distances", None, ratios.mom, "n k", "Amsaleg et al. 2018", local=ratios.local_mom),
        Estimator("mind_ml", "MiND (likelihood)", "distances", None, ratios.mind_ml, "n", "Rozza et al. 2012"),
        Estimator(
            "mada", "MADA", "distances", None, ratios.mada, "n", "Farahmand et al. 2007", local=ratios.local_mada
        ),
        Estimator(
            "calibrated", "All scales, calibrated", "distances", SCALE_NEIGHBORS, calibrated_dimension, "n k",
            "ours, after GeoMLE (Gomtsyan et al. 2019)", own_interval=interval_of_fit,
        ),
        Estimator("knn", "kNN graph length", "distances", 20, ratios.knn, "n k", "Costa & Hero 2004"),
        Estimator(
            "tle", "TLE", "neighbourhoods", None, neighborhoods.tle, "n k^2 D", "Amsaleg et al. 2019",
            local=neighborhoods.local_tle,
        ),
        Estimator(
            "ess", "ESS", "neighbourhoods", None, neighborhoods.ess, "n k^2 D", "Johnsson et al. 2015",
            local=neighborhoods.local_ess,
        ),
        Estimator(
            "lpca_participation_ratio", "lPCA (participation ratio)", "covariance", 0,
            covariance.lpca_participation_ratio, "n D^2 + D^3", "Gao et al. 2017",
        ),
        Estimator(
            "lpca_maxgap", "lPCA (largest gap)", "covariance", 0, covariance.lpca_maxgap, "n D^2 + D^3",
            "Bruske & Sommer 1998", smooth=False,
        ),
        Estimator(
            "lpca_ratio", "lPCA (95 % of variance)", "covariance", 0, covariance.lpca_ratio, "n D^2 + D^3",
            "Jolliffe 2002", smooth=False,
        ),
        Estimator(
            "lpca_fan", "lPCA (Fan)", "covariance", 0, covariance.lpca_fan, "n D^2 + D^3", "Fan et al. 2010",
            smooth=False,
        ),
        Estimator(
            "lpca_kaiser", "lPCA (Kaiser)", "covariance", 0, covariance.lpca_kaiser, "n D^2 + D^3", "Kaiser 1960",
            smooth=False,
        ),
        Estimator(
            "corrint", "Correlation dimension", "pairs", None, pairs.corrint, "n^2 D / 2",
            "Grassberger & Procaccia 1983",
        ),
        Estimator(
            "fishers", "FisherS", "pairs", 0, pairs.fishers, "n^2 D + D^3",
            "Albergante et al. 2019",
        ),
        Estimator("danco", "DANCo", "external", 0, external.danco, "minutes from n = 2,000", "Ceruti et al. 2014"),
        Estimator(
            "ph", "PH", "external", 0, external.ph, "minutes from n = 2,000",
            "Schweinhart 2020",
        ),
    )
}  # fmt: skip

DEFAULT_ESTIMATORS = ("twonn", "twonn_ml", "mle", "lpca_participation_ratio", "lpca_maxgap")
"""What is estimated by default: GeLoRA's own, its likelihood form, one larger scale, and two linear ones."""


def list_estimators() -> pd.DataFrame:
    """The estimators by name: name, title, kind, cost, needs, paper, default.

    `needs` says which neighbours an estimator reads; `cost` counts operations for n points of D features beside the
    neighbour graph's own n^2 D; `default` says whether it is used where no names are given. "all" as a name takes all
    but the kind "external".
    """
    return pd.DataFrame(
        {
            "name": each.name,
            "title": each.title,
            "kind": each.kind,
            "cost": each.cost,
            "needs": _needs(each),
            "paper": each.paper,
            "default": each.name in DEFAULT_ESTIMATORS,
        }
        for each in ESTIMATORS.values()
    )


def _needs(estimator: Estimator) -> str:
    if estimator.kind == "covariance":
        return "covariance"
    if estimator.needs_k is None:
        return "k neighbours"
    return f"{estimator.needs_k} neighbours" if estimator.needs_k else "all points"


def choose_estimators(names: Sequence[str] | str | None) -> list[Estimator]:
    """The estimators of these names: the default ones for None, all that are not external for "all".

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    if names is None:
        wanted = list(DEFAULT_ESTIMATORS)
    else:
        every = [each.name for each in ESTIMATORS.values() if each.kind != "external"]
        given = [names] if isinstance(names, str) else list(names)
        wanted = list(dict.fromkeys(one for name in given for one in (every if name == "all" else [name])))
    for name in wanted:
        if name not in ESTIMATORS:
            near = get_close_matches(str(name), ESTIMATORS, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"unknown estimator {name!r}; {hint}names are {', '.join(ESTIMATORS)}")
    if not wanted:
        raise InputError(f"no estimators given; names are {', '.join(ESTIMATORS)}")
    return [ESTIMATORS[name] for name in wanted]
