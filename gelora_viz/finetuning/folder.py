"""A run's folder: the whole protocol between a worker and whoever watches it, as files that survive either's death.

spec.json          what to do, written by `launch`
status.json        queued | running | finished | failed | cancelled, the worker's process, and the cause of a failure
metrics.jsonl      one line per logged step
cancel             its presence asks the worker to stop after the current step
adapter/           the adapter in PEFT's format, head.safetensors beside it; of a full fine-tuning, the whole model
predictions.json   label and prediction of every test text, or its tokens and how likely they were
spectrum.json      effective rank of every update
result.json        the final numbers; written last, so that its presence means everything else is there
log.txt            whatever the worker printed
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from gelora_viz._results import frame_html, read_json, write_json
from gelora_viz.finetuning.spec import RunSpec
from gelora_viz.spectra import UpdateSpectrum

_STATUS = "run status"
_RESULT = "run result"
_PREDICTIONS = "predictions"
METRICS = (
    "step", "loss", "learning_rate", "seconds", "eval_loss", "eval_accuracy", "eval_f1", "eval_perplexity",
    "tokens_per_second", "memory_mb", "gpu_memory_mb", "eta_seconds",
)  # fmt: skip
"""Columns of the metrics, NaN where a row has no such number."""
ENDED = ("finished", "failed", "cancelled")


@dataclass(frozen=True, eq=False)
class RunResult:
    """The numbers of a finished run.

    Attributes:
        spec: what was asked for.
        numbers: accuracy and macro_f1 on the test texts, or perplexity and n_test_tokens; n_train, n_test,
            n_parameters (trainable ones of the backbone), n_parameters_kept (fewer where a method gives some up),
            n_head_parameters, steps, learning_rate, seconds (of training), tokens_per_second, peak_memory_mb,
            micro_batch_size (texts at a time), precision, device, threads, versions.
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
        """Read a finished run's folder; raises `StudyError` where it is not finished or of another version."""
        folder = Path(path)
        document = read_json(folder / "result.json", _RESULT)
        predictions = read_json(folder / "predictions.json", _PREDICTIONS)
        spectrum = folder / "spectrum.json"
        return cls(
            RunSpec.load(folder / "spec.json"),
            document["numbers"],
            pd.DataFrame({name: values for name, values in predictions.items() if isinstance(values, list)}),
            UpdateSpectrum.load(spectrum) if spectrum.exists() else None,
            predictions["texts"],
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


class RunFolder:
    """Typed access to the files of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def write_status(self, status: str, message: str = "") -> None:
        """Record a status; while running, with the process that writes it."""
        process = psutil.Process()
        write_json(
            self.path / "status.json",
            _STATUS,
            {"status": status, "message": message, "pid": process.pid, "process_started": process.create_time()},
        )

    def read_status(self) -> tuple[str, str]:
        """(status, message). A worker that died without a word counts as failed."""
        if not (self.path / "status.json").exists():
            return "queued", ""
        document = read_json(self.path / "status.json", _STATUS)
        status, message = str(document["status"]), str(document["message"])
        if status == "running" and not _is_alive(document["pid"], document["process_started"]):
            # It may have ended between the two looks.
            document = read_json(self.path / "status.json", _STATUS)
            status, message = str(document["status"]), str(document["message"])
            if status == "running":
                return (
                    "failed",
                    f"the worker died without a word (killed, or out of memory?); see {self.path / 'log.txt'}",
                )
        return status, message

    @property
    def worker_pid(self) -> int | None:
        """Process number of a living worker that has not ended its run yet."""
        if not (self.path / "status.json").exists():
            return None
        document = read_json(self.path / "status.json", _STATUS)
        if document["status"] in ENDED:
            return None
        return int(document["pid"]) if _is_alive(document["pid"], document["process_started"]) else None

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Add one line to metrics.jsonl; a number that is not finite becomes null."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
            stream.write(json.dumps(finite) + "\n")

    def read_metrics(self) -> pd.DataFrame:
        """All complete lines of metrics.jsonl, with the columns `METRICS`."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return pd.DataFrame(columns=METRICS)
        text = file.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return pd.DataFrame(rows, columns=METRICS)

    def write_predictions(
        self, texts: list[str], label: list[str], predicted: list[str], group: list[str | None]
    ) -> None:
        """Keep label and prediction of every test text, and a fingerprint of the texts."""
        self._write_predictions(texts, {"label": label, "predicted": predicted, "group": group})

    def write_likelihoods(
        self, texts: list[str], n_tokens: list[int], nll: list[float], group: list[str | None]
    ) -> None:
        """Keep of every test text the number of predicted tokens and their summed negative log-likelihood."""
        self._write_predictions(texts, {"n_tokens": n_tokens, "nll": nll, "group": group})

    def _write_predictions(self, texts: list[str], columns: Mapping[str, Any]) -> None:
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
        write_json(self.path / "predictions.json", _PREDICTIONS, {"texts": digest, **columns})

    def write_result(self, numbers: Mapping[str, Any]) -> None:
        """Write the final numbers; call it last."""
        write_json(self.path / "result.json", _RESULT, {"numbers": dict(numbers)})


def _is_alive(pid: int, started: float) -> bool:
    """Whether that very process still runs; a later process may have got its number."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
