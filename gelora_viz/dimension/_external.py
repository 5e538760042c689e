"""scikit-dimension's slow estimators, which search neighbors of their own."""

from __future__ import annotations

import numpy as np


def danco(points: np.ndarray) -> float:
    """DANCo: distances and angles against simulated spheres of every dimension; scikit-dimension's, k = 10.

    Ceruti et al. 2014, doi:10.1016/j.patcog.2014.02.013.
    """
    from skdim.id import DANCo  # loads half a second of libraries

    return float(DANCo(random_state=0).fit(points.astype(np.float64)).dimension_)


def ph(points: np.ndarray) -> float:
    """PH: how the length of the minimum spanning tree grows with the number of points; scikit-dimension's.

    Schweinhart 2020, doi:10.1016/j.aim.2020.107291, with alpha = 1.
    """
    from skdim.id import PH

    return float(PH(random_state=0, nsteps=10).fit(points.astype(np.float64)).dimension_)
