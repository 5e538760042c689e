"""The catalog of estimators: what each is called, reads and costs, and where it comes from.

The formulas are in `_ratios` (distances of the graph), `_neighborhoods` (the shape of neighborhoods), `_covariance`
(lPCA), `_pairs` (all pairs of points) and `_external` (scikit-dimension's). Values agree with scikit-dimension on the
same neighbors; tests/dimension/test_estimators.py shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gelora_viz._lazy import FunctionsOf
from gelora_viz._names import did_you_mean
from gelora_viz.dimension._estimator import (
    COVARIANCE,
    DISTANCES,
    EXTERNAL,
    LINKS,
    NEIGHBORHOODS,
    PAIRS,
    PAIRS_WITHIN,
    SCALE_NEIGHBORS,
    Estimator,
)
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

covariance, external, neighborhoods, pairs, ratios, scales = (
    FunctionsOf(f"gelora_viz.dimension.{module}")
    for module in ("_covariance", "_external", "_neighborhoods", "_pairs", "_ratios", "_scales")
)

ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator("twonn", "TwoNN", DISTANCES, 2, ratios.twonn, "n log n", "Facco et al. 2017"),
        Estimator("twonn_ml", "TwoNN (likelihood)", DISTANCES, 2, ratios.twonn_ml, "n", "Denti et al. 2022"),
        Estimator("gride", "Gride", DISTANCES, None, ratios.gride, "n", "Denti et al. 2022", fewest=2),
        Estimator(
            "mle", "MLE", DISTANCES, None, ratios.mle, "n k", "Levina & Bickel 2004; MacKay & Ghahramani 2005",
            local=ratios.local_mle,
        ),
        Estimator(
            "mle_levina_bickel", "MLE (plain mean)", DISTANCES, None, ratios.mle_levina_bickel, "n k",
            "Levina & Bickel 2004", local=ratios.local_mle,
        ),
        Estimator("mom", "MOM", DISTANCES, None, ratios.mom, "n k", "Amsaleg et al. 2018", local=ratios.local_mom),
        Estimator("mind_ml", "MiND (likelihood)", DISTANCES, None, ratios.mind_ml, "n", "Rozza et al. 2012"),
        Estimator(
            "mada", "MADA", DISTANCES, None, ratios.mada, "n", "Farahmand et al. 2007", local=ratios.local_mada
        ),
        Estimator(
            "calibrated", "All scales, calibrated", DISTANCES, SCALE_NEIGHBORS, scales.calibrated_dimension, "n k",
            "ours, after GeoMLE (Gomtsyan et al. 2019)", own_interval=scales.interval_of_fit,
        ),
        Estimator("knn", "kNN graph length", LINKS, 20, ratios.knn, "n k", "Costa & Hero 2004"),
        Estimator(
            "tle", "TLE", NEIGHBORHOODS, None, neighborhoods.tle, "n k^2 D", "Amsaleg et al. 2019",
            local=neighborhoods.local_tle,
        ),
        Estimator(
            "ess", "ESS", NEIGHBORHOODS, None, neighborhoods.ess, "n k^2 D", "Johnsson et al. 2015",
            local=neighborhoods.local_ess,
        ),
        Estimator(
            "lpca_participation_ratio", "lPCA (participation ratio)", COVARIANCE, 0,
            covariance.lpca_participation_ratio, "n D^2 + D^3", "Gao et al. 2017",
        ),
        Estimator(
            "lpca_maxgap", "lPCA (largest gap)", COVARIANCE, 0, covariance.lpca_maxgap, "n D^2 + D^3",
            "Bruske & Sommer 1998", smooth=False,
        ),
        Estimator(
            "lpca_ratio", "lPCA (95 % of variance)", COVARIANCE, 0, covariance.lpca_ratio, "n D^2 + D^3",
            "Jolliffe 2002", smooth=False,
        ),
        Estimator(
            "lpca_fan", "lPCA (Fan)", COVARIANCE, 0, covariance.lpca_fan, "n D^2 + D^3", "Fan et al. 2010",
            smooth=False,
        ),
        Estimator(
            "lpca_kaiser", "lPCA (Kaiser)", COVARIANCE, 0, covariance.lpca_kaiser, "n D^2 + D^3", "Kaiser 1960",
            smooth=False,
        ),
        Estimator(
            "corrint", "Correlation dimension", PAIRS_WITHIN, None, pairs.corrint, "n^2 D / 2",
            "Grassberger & Procaccia 1983",
        ),
        Estimator(
            "fishers", "FisherS", PAIRS, 0, pairs.fishers, "n^2 D + D^3",
            "Albergante et al. 2019",
        ),
        Estimator("danco", "DANCo", EXTERNAL, 0, external.danco, "minutes from n = 2,000", "Ceruti et al. 2014"),
        Estimator(
            "ph", "PH", EXTERNAL, 0, external.ph, "minutes from n = 2,000",
            "Schweinhart 2020",
        ),
    )
}  # fmt: skip

DEFAULT_ESTIMATORS = ("twonn", "twonn_ml", "mle", "lpca_participation_ratio", "lpca_maxgap")
"""What is estimated by default: GeLoRA's own, its likelihood form, one larger scale, and two linear ones."""


def list_estimators() -> pd.DataFrame:
    """List the estimators of intrinsic dimension: what each is called, reads and costs, and where it comes from.

    Returns:
        One row per estimator: name, title, kind (what it reads), cost (operations for n points of D features, besides
        the n^2 D of the neighbor graph), needs (which neighbors it reads), paper, default (whether it is used where
        no names are given). The name "all" stands for all but the kind "external".
    """
    import pandas as pd  # here, since it takes half a second

    return pd.DataFrame(describe_estimators())


def describe_estimators() -> list[dict[str, str | bool]]:
    """The rows of `list_estimators`."""
    columns = ("name", "title", "kind", "cost", "needs", "paper")
    return [
        {column: getattr(each, column) for column in columns} | {"default": each.name in DEFAULT_ESTIMATORS}
        for each in ESTIMATORS.values()
    ]


def choose_estimators(names: Sequence[str] | str | None) -> list[Estimator]:
    """Find estimators by name: the default ones for None, all that are not external for "all".

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    if names is None:
        wanted = list(DEFAULT_ESTIMATORS)
    else:
        every = [each.name for each in ESTIMATORS.values() if not each.reads.is_external]
        given = [names] if isinstance(names, str) else list(names)
        wanted = list(dict.fromkeys(one for name in given for one in (every if name == "all" else [name])))
    for name in wanted:
        if name not in ESTIMATORS:
            raise InputError(f"unknown estimator {name!r}; {did_you_mean(str(name), ESTIMATORS)}")
    if not wanted:
        raise InputError(f"no estimators given; names are {', '.join(ESTIMATORS)}")
    return [ESTIMATORS[name] for name in wanted]
