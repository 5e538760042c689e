"""What results of this room have in common: a tidy frame, with the layer and the estimator of every row."""

from __future__ import annotations

import pandas as pd


class TidyEstimates:
    """A base of results; the frame is a field of theirs."""

    frame: pd.DataFrame

    @property
    def estimators(self) -> list[str]:
        """Names of the estimators, in the order in which they were asked for."""
        return list(dict.fromkeys(self.frame["estimator"]))

    @property
    def layers(self) -> list[str]:
        """Names of the layers, embeddings first."""
        return list(dict.fromkeys(self.frame["layer"]))
