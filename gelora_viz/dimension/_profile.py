"""The result: the intrinsic dimension of every layer, and paired intervals for differences between layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gelora_viz._reading import Fields
from gelora_viz._results import frame_to_records, read_result, records_to_frame, write_json
from gelora_viz.dimension._intervals import interval, split_half_error
from gelora_viz.dimension._tidy import TidyEstimates
from gelora_viz.errors import InputError

_KIND = "dimension profile"
PROFILE_COLUMNS = [
    "layer", "stack", "depth", "estimator", "dimension", "std_error", "ci_low", "ci_high", "n_points", "n_dropped",
]  # fmt: skip
CORRECTED_COLUMNS = ["corrected", "corrected_low", "corrected_high"]
"""Further columns of a profile with correct=True."""


@dataclass(frozen=True, eq=False, repr=False)
class DimensionProfile(TidyEstimates):
    """The intrinsic dimension of each layer by each estimator.

    Attributes:
        frame: one row per layer and estimator: layer, stack ("" or "encoder" / "decoder"), depth (0 = embeddings),
            estimator, dimension, std_error, ci_low, ci_high, n_points (after dropping), n_dropped (near-duplicates
            left out); with correct=True also corrected, corrected_low and corrected_high.
        half_gaps: (layer, estimator) -> (n_splits,) estimates from one half of the texts minus those from the other
            half, the same random halves in every layer; standard errors, also of differences between layers, come
            from them.
        pooling: pooling of the captured hidden states, such as "mean"; "given" for points from elsewhere.
        confidence: level of the intervals, between 0 and 1.
        settings: k, seed, number of splits, and the settings of the capture.
    """

    frame: pd.DataFrame
    half_gaps: Mapping[tuple[str, str], np.ndarray]
    pooling: str = "given"
    confidence: float = 0.95
    settings: Mapping[str, Any] = field(default_factory=dict)

    def of(self, estimator: str) -> pd.DataFrame:
        """Select the rows of one estimator; raises `InputError` if the profile does not have it."""
        if estimator not in self.estimators:
            raise InputError(f"the profile has no estimates of {estimator!r}; it has {', '.join(self.estimators)}")
        return self.frame[self.frame["estimator"] == estimator].reset_index(drop=True)

    def differences(self, estimator: str = "twonn") -> pd.DataFrame:
        """Compute how the dimension changes from each layer to the next, which GeLoRA's rule reads.

        The same texts stand behind both layers, so their errors are correlated; the interval comes from the paired
        halves of the texts, not from adding two variances.

        Returns:
            One row per block: layer (the block), stack, depth (1 = first block), dimension_in, dimension_out,
            difference (out - in), std_error, ci_low, ci_high, within_noise (whether the interval holds 0, or is
            unknown).
        """
        rows = []
        for _, stack in self.of(estimator).groupby("stack", sort=False):
            ordered = stack.sort_values("depth")
            for before, after in zip(
                ordered.iloc[:-1].itertuples(index=False), ordered.iloc[1:].itertuples(index=False), strict=True
            ):
                difference = float(after.dimension - before.dimension)
                gaps_before, gaps_after = (self.half_gaps[str(each.layer), estimator] for each in (before, after))
                rows.append(
                    {
                        "layer": after.layer,
                        "stack": after.stack,
                        "depth": after.depth,
                        "dimension_in": before.dimension,
                        "dimension_out": after.dimension,
                        "difference": difference,
                        **_paired_interval(difference, gaps_before, gaps_after, self.confidence),
                    }
                )
        return pd.DataFrame(rows)

    def changes_since(self, earlier: DimensionProfile, estimator: str = "twonn") -> pd.DataFrame:
        """Compute how far the dimension of each layer has moved since an earlier profile of the same texts.

        The interval of a change comes from the paired halves, as that of a difference between layers does.

        Args:
            earlier: profile of the same texts earlier in training, made with the same options.
            estimator: name of an estimator that both profiles have.

        Returns:
            One row per layer: layer, stack, depth, dimension_before, dimension, change (dimension -
            dimension_before), std_error, ci_low, ci_high, within_noise (whether the interval holds 0, or is unknown).
        """
        before = earlier.of(estimator).set_index("layer")["dimension"]
        rows = []
        for row in self.of(estimator).itertuples(index=False):
            change = float(row.dimension - before[row.layer])
            gaps_before, gaps_after = (each.half_gaps[str(row.layer), estimator] for each in (earlier, self))
            rows.append(
                {
                    "layer": row.layer,
                    "stack": row.stack,
                    "depth": row.depth,
                    "dimension_before": float(before[row.layer]),
                    "dimension": float(row.dimension),
                    "change": change,
                    **_paired_interval(change, gaps_before, gaps_after, self.confidence),
                }
            )
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Convert to values that JSON can hold, for `save` and for histories."""
        half_gaps = [
            {"layer": layer, "estimator": estimator, "gaps": gaps}
            for (layer, estimator), gaps in self.half_gaps.items()
        ]
        return {
            "pooling": self.pooling,
            "confidence": self.confidence,
            "settings": dict(self.settings),
            "estimates": frame_to_records(self.frame),
            "half_gaps": half_gaps,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DimensionProfile:
        """Rebuild a profile from what `to_dict` returned; raises `StudyError` for anything else."""
        fields = Fields(content, _KIND)
        records = fields.rows("estimates")
        gaps = [Fields(each, "gaps between halves") for each in fields.rows("half_gaps")]
        return cls(
            frame=records_to_frame(records, _columns_of(records), texts=("layer", "stack", "estimator")),
            half_gaps={
                (each.text("layer"), each.text("estimator")): np.asarray(each.numbers("gaps"), dtype=np.float64)
                for each in gaps
            },
            pooling=fields.text("pooling"),
            confidence=fields.number("confidence"),
            settings=fields.mapping("settings"),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _KIND, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DimensionProfile:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return read_result(path, _KIND, cls.from_dict)


def _columns_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return [*PROFILE_COLUMNS, *(name for name in CORRECTED_COLUMNS if records and name in records[0])]


def _paired_interval(
    change: float, gaps_before: np.ndarray, gaps_after: np.ndarray, confidence: float
) -> dict[str, float | bool]:
    """Compute the standard error and interval of a change, from the gaps between the same halves before and after."""
    n_splits = min(len(gaps_before), len(gaps_after))  # wide layers have fewer splits, the first of the same ones
    std_error = split_half_error(gaps_after[:n_splits] - gaps_before[:n_splits])
    low, high = interval(change, std_error, n_splits, confidence)
    within_noise = not (low > 0 or high < 0)  # also where the interval is unknown
    return {"std_error": std_error, "ci_low": low, "ci_high": high, "within_noise": within_noise}
