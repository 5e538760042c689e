"""What pictures read of results: their frames, and little else. Anything that has these can be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Tabled(Protocol):
    """A rank plan, an update spectrum or a spectrum history: its frame, whose column module names the matrix."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row per adapted matrix (and step)."""


class Profile(Protocol):
    """A dimension profile: one row per layer and estimator, and what the intervals mean."""

    @property
    def frame(self) -> pd.DataFrame:
        """Columns layer, stack, depth, estimator, dimension, ci_low, ci_high, n_points."""

    @property
    def confidence(self) -> float:
        """The level of the intervals, such as 0.95."""

    @property
    def pooling(self) -> str:
        """How texts became points, such as "mean"."""


class DepthHistory(Profile, Protocol):
    """A dimension history: the same for each recorded step, named in a column step."""

    def changes(self, estimator: str) -> pd.DataFrame:
        """Columns step, layer, stack, depth, change, ci_low, ci_high."""


class Mapped(Protocol):
    """A projection."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row per point: point, x, y, perhaps z, text, token."""

    @property
    def layer(self) -> str:
        """Whose points these are."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """At least n_neighbors and min_dist, where they are known."""


class Spectrum(Protocol):
    """An update spectrum."""

    @property
    def singular_values(self) -> Mapping[str, np.ndarray]:
        """Module -> (rank,) in descending order."""
