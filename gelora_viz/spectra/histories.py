"""What a recorder recorded: the spectrum of an adapter, or the dimension of hidden states, during training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from gelora_viz._reading import Fields
from gelora_viz._results import frame_html, read_result, write_json
from gelora_viz.dimension import PROFILE_COLUMNS, DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.spectra.spectrum import SPECTRUM_COLUMNS, UpdateSpectrum

_SPECTRA = "spectrum history"
_PROFILES = "dimension history"
_CHANGE_COLUMNS = [
    "step", "layer", "stack", "depth", "dimension_before", "dimension", "change", "std_error", "ci_low", "ci_high",
    "within_noise",
]  # fmt: skip

_Result = TypeVar("_Result", UpdateSpectrum, DimensionProfile)


@dataclass(frozen=True, eq=False)
class SpectrumHistory:
    """The spectrum of an adapter's updates over the steps of its training.

    Attributes:
        spectra: step -> spectrum, ascending; step 0 is before the first update.

    Example:
        >>> SpectrumHistory({}).steps
        []
    """

    spectra: Mapping[int, UpdateSpectrum]

    @property
    def steps(self) -> list[int]:
        """The recorded steps."""
        return list(self.spectra)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per step and adapted module: step, and the columns of `UpdateSpectrum.frame`."""
        return _joined({step: each.frame for step, each in self.spectra.items()}, SPECTRUM_COLUMNS)

    def at(self, step: int) -> UpdateSpectrum:
        """The spectrum at a step; raises `InputError` if that step was not recorded."""
        return _at(self.spectra, step)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _SPECTRA, {"records": _records(self.spectra)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SpectrumHistory:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return cls(
            read_result(path, _SPECTRA, lambda content: _steps_of(content, _SPECTRA, UpdateSpectrum.from_dict))
        )

    def __repr__(self) -> str:
        return f"SpectrumHistory({_describe(self.steps)})"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))


@dataclass(frozen=True, eq=False)
class DimensionHistory:
    """The intrinsic dimension of the same texts' hidden states over the steps of training.

    Attributes:
        profiles: step -> profile, ascending; step 0 is before the first update.

    Example:
        >>> DimensionHistory({}).steps
        []
    """

    profiles: Mapping[int, DimensionProfile]

    @property
    def steps(self) -> list[int]:
        """The recorded steps."""
        return list(self.profiles)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per step, layer and estimator: step, and the columns of `DimensionProfile.frame`."""
        return _joined({step: each.frame for step, each in self.profiles.items()}, PROFILE_COLUMNS)

    @property
    def confidence(self) -> float:
        """The level of the intervals; 0.95 if nothing was recorded."""
        return next((profile.confidence for profile in self.profiles.values()), 0.95)

    @property
    def pooling(self) -> str:
        """How texts became points; empty if nothing was recorded."""
        return next((profile.pooling for profile in self.profiles.values()), "")

    def at(self, step: int) -> DimensionProfile:
        """The profile at a step; raises `InputError` if that step was not recorded."""
        return _at(self.profiles, step)

    def changes(self, estimator: str = "twonn", *, since: int | None = None) -> pd.DataFrame:
        """How much the dimension of each layer has changed since a step.

        The same texts, split into the same halves, stand behind all steps, so the errors of two steps are correlated;
        the interval of a change comes from the paired halves, as that of a difference between layers does.

        Args:
            estimator: one of those recorded.
            since: the step to compare with; the first one by default.

        Returns:
            One row per later step and layer: step, layer, stack, depth, dimension_before (at `since`), dimension,
            change (dimension - dimension_before), std_error, ci_low, ci_high, within_noise (whether the interval
            holds 0, or is unknown).

        Raises:
            InputError: if the step or the estimator was not recorded, or the steps were not estimated from the same
                points with the same options.
        """
        if not self.profiles:
            raise InputError("nothing was recorded; train with the recorder among the Trainer's callbacks first")
        first = self.steps[0] if since is None else since
        start = self.at(first)
        rows: list[dict[str, Any]] = []
        for step, profile in self.profiles.items():
            if step > first:
                _check_paired(start, profile, first, step)
                changes = profile.changes_since(start, estimator).to_dict("records")
                rows += ({"step": step, **row} for row in changes)
        return pd.DataFrame(rows, columns=_CHANGE_COLUMNS)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _PROFILES, {"records": _records(self.profiles)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DimensionHistory:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return cls(
            read_result(path, _PROFILES, lambda content: _steps_of(content, _PROFILES, DimensionProfile.from_dict))
        )

    def __repr__(self) -> str:
        return f"DimensionHistory({_describe(self.steps)})"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))


def _joined(frames: Mapping[int, pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The frames stacked, with a leading column step."""
    if not frames:
        return pd.DataFrame(columns=["step", *columns])
    return pd.concat(
        [frame.assign(step=step)[["step", *frame.columns]] for step, frame in frames.items()], ignore_index=True
    )


def _at(results: Mapping[int, _Result], step: int) -> _Result:
    if step not in results:
        raise InputError(f"step {step} was not recorded; choose among {', '.join(map(str, results)) or 'none'}")
    return results[step]


def _records(results: Mapping[int, _Result]) -> list[dict[str, Any]]:
    return [{"step": step, **result.to_dict()} for step, result in results.items()]


def _steps_of(
    content: Mapping[str, Any], kind: str, build: Callable[[Mapping[str, Any]], _Result]
) -> dict[int, _Result]:
    """The inverse of `_records`."""
    return {Fields(each, "record").whole("step"): build(each) for each in Fields(content, kind).rows("records")}


def _describe(steps: list[int]) -> str:
    return f"{len(steps)} steps, {steps[0]} to {steps[-1]}" if steps else "nothing recorded"


def _check_paired(before: DimensionProfile, after: DimensionProfile, first: int, step: int) -> None:
    """Raise `InputError` unless both profiles read the same points in the same way."""
    if (before.pooling, dict(before.settings)) != (after.pooling, dict(after.settings)):
        raise InputError(
            f"steps {first} and {step} were estimated from other points or with other options, so their halves are "
            "not paired; record both with one DimensionRecorder"
        )
