"""What results of this room have in common: a tidy frame, with the layer and the estimator of every row."""

from __future__ import annotations

import pandas as pd

from gelora_viz._results import frame_html


class TidyEstimates:
    """A base of results, whose fields these are."""

    frame: pd.DataFrame
    pooling: str

    @property
    def estimators(self) -> list[str]:
        """Names of the estimators, in the order in which they were asked for."""
        return list(dict.fromkeys(self.frame["estimator"]))

    @property
    def layers(self) -> list[str]:
        """Names of the layers, embeddings first."""
        return list(dict.fromkeys(self.frame["layer"]))

    def __repr__(self) -> str:
        estimators = ", ".join(self.estimators)
        return f"{type(self).__name__}({len(self.layers)} layers, pooling {self.pooling!r}, {estimators})"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))
