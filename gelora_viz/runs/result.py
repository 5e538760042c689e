"""The outcome of a finished run: its numbers, its predictions, and the effective rank of its updates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gelora_viz._checks import check_path
from gelora_viz._reading import Fields, is_number, naming_file
from gelora_viz._results import frame_html, read_json
from gelora_viz.errors import StudyError
from gelora_viz.runs.folder import PREDICTIONS, RESULT
from gelora_viz.runs.spec import RunSpec
from gelora_viz.spectra import UpdateSpectrum


@dataclass(frozen=True, eq=False)
class RunResult:
    """The numbers of a finished run.

    Attributes:
        spec: what was asked for.
        numbers: accuracy and macro_f1 on the test texts, or perplexity and n_test_tokens; validation_loss and
            validation_accuracy, validation_f1 or validation_perplexity of the trained model; n_train, n_test,
            n_parameters (trainable ones of the backbone), n_parameters_kept (fewer where a method gives some up),
            n_head_parameters, steps, learning_rate, seconds (of training), tokens_per_second, peak_memory_mb,
            micro_batch_size (texts at a time), precision, device, threads (of each process), processes, versions.
        predictions: one row per test text: label, predicted, group; of a causal language model n_tokens, nll
            (summed over them), group.
        spectrum: effective ranks of the updates; None for a frozen probe.
        test_texts: fingerprint of the test texts; runs on other texts are not compared.
    """

    spec: RunSpec
    numbers: Mapping[str, Any]
    predictions: pd.DataFrame
    spectrum: UpdateSpectrum | None
    test_texts: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """One row: the run's name, method, seed and numbers."""
        return pd.DataFrame(
            [{"run": self.spec.name, "method": self.spec.method, "seed": self.spec.seed, **self.numbers}]
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunResult:
        """Read a finished run's folder; raises `StudyError` if it is not finished or from another version."""
        folder = check_path(path, "path")
        document = read_json(folder / "result.json", RESULT)
        predictions = read_json(folder / "predictions.json", PREDICTIONS)
        spectrum = folder / "spectrum.json"
        with naming_file(folder / "result.json", RESULT):
            numbers = Fields(document, RESULT).mapping("numbers")
            _check_numbers(numbers)
        with naming_file(folder / "predictions.json", PREDICTIONS):
            columns = {name: values for name, values in predictions.items() if isinstance(values, list)}
            frame, digest = pd.DataFrame(columns), Fields(predictions, PREDICTIONS).text("texts")
        return cls(
            RunSpec.load(folder / "spec.json"),
            numbers,
            frame,
            UpdateSpectrum.load(spectrum) if spectrum.exists() else None,
            digest,
        )

    def __repr__(self) -> str:
        score = (
            f"accuracy {self.numbers['accuracy']:.3f}"
            if "accuracy" in self.numbers
            else f"perplexity {self.numbers['perplexity']:.4g}"
        )
        return f"RunResult({self.spec.name!r}: {score} on {self.numbers['n_test']} texts)"

    def _repr_html_(self) -> str:
        return frame_html(self.frame.drop(columns=["versions"], errors="ignore"), caption=repr(self))


def _check_numbers(numbers: Mapping[str, Any]) -> None:
    """Raise `StudyError` unless a run was scored, and everything but the names of things is a number."""
    Fields(numbers, "run result").whole("n_test")
    Fields(numbers, "run result").number("accuracy" if "accuracy" in numbers else "perplexity")
    for name, value in numbers.items():
        kind = dict if name == "versions" else str if name in ("device", "precision") else None
        if value is not None and not (is_number(value) if kind is None else isinstance(value, kind)):
            raise StudyError(f"{name} is {str(value)[:60]!r}, not a number, a name or versions; train the run again")
