"""Estimators that read the graph's distances alone: ratios of the distances to a point's nearest neighbors.

Each takes a `NeighborGraph` with exactly the neighbors it reads and gives a number. Those that average over points
also have a function `local_...`, (n_points,) estimates around each point.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from gelora_viz.dimension._graph import NeighborGraph
from gelora_viz.dimension._kernels import thinned_over_whole
from gelora_viz.errors import InputError

TWONN_DISCARDED = 0.1
"""Share of the largest ratios that the TwoNN fit leaves out, as in the paper and in scikit-dimension."""

_LENGTH_NEIGHBORS = 2
_N_THINNINGS = 8


def twonn(graph: NeighborGraph) -> float:
    """TwoNN by the linear fit: slope of -log(1 - F(mu)) on log(mu), mu = r2 / r1, the largest 10 % left out.

    Facco, d'Errico, Rodriguez & Laio 2017, doi:10.1038/s41598-017-11873-y, equation 5. The estimator that GeLoRA
    uses.
    """
    log_ratio = np.sort(_log_ratios(graph, 1, 2))
    n_kept = int(len(log_ratio) * (1 - TWONN_DISCARDED))
    log_ratio = log_ratio[:n_kept]
    tail = -np.log1p(-np.arange(1, n_kept + 1) / graph.n_points)
    return float(log_ratio @ tail / _positive(log_ratio @ log_ratio))


def twonn_ml(graph: NeighborGraph) -> float:
    """TwoNN by maximum likelihood: (n - 1) / sum log(mu), mu = r2 / r1.

    Uses every ratio; its standard error is about d / sqrt(n).

    Denti, Doimo, Laio & Mira 2022, doi:10.1038/s41598-022-20991-1, equation 3 (with the unbiased n - 1).
    """
    return float((graph.n_points - 1) / _positive(_log_ratios(graph, 1, 2).sum()))


def gride(graph: NeighborGraph) -> float:
    """Gride: maximum likelihood from the ratio of the k-th to the (k/2)-th neighbor's distance.

    With k = 2 it is TwoNN; every doubling of k doubles the scale, so Gride over k = 2, 4, 8, ... shows how the
    dimension changes with scale. Denti, Doimo, Laio & Mira 2022, doi:10.1038/s41598-022-20991-1.
    """
    n1 = graph.k // 2
    return _order_ratio_likelihood(_log_ratios(graph, n1, 2 * n1), n1, 2 * n1, graph.n_points - 1)


def mind_ml(graph: NeighborGraph) -> float:
    """MiND_MLk: maximum likelihood from the ratio of the nearest to the k-th neighbor's distance, over real d.

    Rozza, Lombardi, Ceruti, Casiraghi & Campadelli 2012, doi:10.1007/s10994-012-5294-7, whose k
    is one less. Has no upper limit on d (scikit-dimension stops at 10 unless told).
    """
    return _order_ratio_likelihood(_log_ratios(graph, 1, graph.k), 1, graph.k, graph.n_points)


def _order_ratio_likelihood(log_ratios: np.ndarray, n1: int, n2: int, n_free: int) -> float:
    """The d that makes these log(r_n2 / r_n1) most likely: the one root of the score.

    1 / mu^d is Beta(n1, n2 - n1) distributed where points are uniform around each point.
    """
    _positive(log_ratios.min(initial=0.0) if (log_ratios <= 0).all() else log_ratios.sum())
    moving = log_ratios[log_ratios > 0]
    n_tied = len(log_ratios) - len(moving)

    def score(d: float) -> float:
        spread = np.sum(moving / -np.expm1(-d * moving)) + n_tied / d  # the limit where both are equally far
        return float(n_free / d + (n2 - n1 - 1) * spread - (n2 - 1) * moving.sum())

    low, high = 1e-6, 2.0
    while score(high) > 0:
        high *= 2
    return float(brentq(score, low, high, xtol=1e-12, rtol=1e-12))


def _log_ratios(graph: NeighborGraph, n1: int, n2: int) -> np.ndarray:
    """log(r_n2 / r_n1) of every point."""
    return np.log(graph.distances[:, n2 - 1] / graph.distances[:, n1 - 1])


def _positive(spread: float) -> float:
    """Refuse points whose neighbors are all equally far away: on a grid, ratios of distances say nothing."""
    if spread <= 0:
        raise InputError(
            "every point's neighbors are equally far away, as on a grid, so ratios of distances say nothing"
        )
    return spread


# Averages over points


def mle(graph: NeighborGraph) -> float:
    """Levina-Bickel maximum likelihood over k neighbors, points combined by their harmonic mean.

    Levina & Bickel 2004 (NIPS 17), equation 8, with k - 1; MacKay & Ghahramani 2005 for averaging the inverses.
    """
    logs = np.log(graph.distances[:, -1:] / graph.distances[:, :-1])
    return float((graph.k - 1) * graph.n_points / _positive(logs.sum()))


def mle_levina_bickel(graph: NeighborGraph) -> float:
    """Levina-Bickel maximum likelihood over k neighbors, the plain mean over points as first published.

    Reads higher than `mle` by a factor of about (k - 1) / (k - 2). Levina & Bickel 2004 (NIPS 17), equations 8 and 9.
    """
    return float(local_mle(graph).mean())


def local_mle(graph: NeighborGraph) -> np.ndarray:
    """Maximum likelihood around each point: (k - 1) / sum_j log(r_k / r_j)."""
    return (graph.k - 1) / _each_positive(np.log(graph.distances[:, -1:] / graph.distances[:, :-1]).sum(axis=1))


def mom(graph: NeighborGraph) -> float:
    """Method of moments: m / (r_k - m) around each point, m the mean distance to k neighbors; mean over points.

    Amsaleg et al. 2018, doi:10.1007/s10618-018-0578-6, with the first moment.
    """
    return float(local_mom(graph).mean())


def local_mom(graph: NeighborGraph) -> np.ndarray:
    """Method of moments around each point: m / (r_k - m)."""
    mean = graph.distances.mean(axis=1)
    return mean / _each_positive(graph.distances[:, -1] - mean)


def mada(graph: NeighborGraph) -> float:
    """Manifold-adaptive dimension: log 2 / log(r_k / r_(k/2)) around each point; mean over points.

    Farahmand, Szepesvari & Audibert 2007, doi:10.1145/1273496.1273530.
    """
    return float(local_mada(graph).mean())


def local_mada(graph: NeighborGraph) -> np.ndarray:
    """Manifold-adaptive dimension around each point: log 2 / log(r_k / r_(k/2))."""
    return np.log(2) / _each_positive(_log_ratios(graph, graph.k // 2, graph.k))


def _each_positive(spreads: np.ndarray) -> np.ndarray:
    """Refuse points whose neighbors are all equally far away: their estimates would be infinite."""
    n_tied = int((spreads <= 0).sum())
    if n_tied:
        raise InputError(
            f"{n_tied} of {len(spreads)} points have neighbors that are all equally far away, as on a grid, so "
            "their estimate is infinite; choose twonn_ml or mle, which average the inverses"
        )
    return spreads


def knn(graph: NeighborGraph) -> float:
    """kNN: growth of the distances to near neighbors as points are left out, log 2 / log(mean at n / 2 over at n).

    The length of the k-nearest-neighbor graph grows like n^(1 - 1/d). The graph is thinned by half eight times, with
    a fixed seed, and read at two neighbors; needs about ten times as many. Costa & Hero 2004,
    doi:10.1109/TSP.2004.831130, with two sizes; scikit-dimension's KNN fits samples of three to
    six points by default and is not comparable.
    """
    generator = np.random.default_rng(0)
    growth = [
        thinned_over_whole(
            graph.distances, graph.indices, generator.permutation(graph.n_points) % 2 == 0, _LENGTH_NEIGHBORS
        )
        for _ in range(_N_THINNINGS)
    ]
    return float(np.log(2) / _positive(np.log(np.mean(growth))))
