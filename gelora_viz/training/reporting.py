"""What a training run reports: a line of metrics for every log, and how much memory it has used."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import Trainer, TrainerCallback

from gelora_viz.errors import RunError
from gelora_viz.runs import CLASSIFICATION, METRICS, RunFolder, RunSpec
from gelora_viz.training.processes import agree

_MB = 1e6


class CancelledError(Exception):
    """The run was asked to stop."""


class CountingTrainer(Trainer):
    """A Trainer that counts its training tokens, without waiting for the device, and times its evaluations.

    Attributes:
        n_tokens: trained on so far, padding left out.
        evaluating: seconds.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Trainer's
        super().__init__(**options)
        self.n_tokens: torch.Tensor | int = 0
        self.evaluating = 0.0

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        """Trainer's, counted."""
        self.n_tokens = self.n_tokens + inputs["attention_mask"].sum() * self.args.world_size
        return super().training_step(model, inputs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401
        """Trainer's, timed."""
        started = time.perf_counter()
        scores: dict[str, float] = super().evaluate(*args, **kwargs)
        self.evaluating += time.perf_counter() - started
        return scores

    def tokens_per_second(self, seconds: float) -> float:
        """Training tokens per second of training that has taken this long, evaluations included."""
        return round(int(self.n_tokens) / max(seconds - self.evaluating, 1e-9), 1)


class FolderCallback(TrainerCallback):
    """Writes metrics to the run's folder, looks for a cancel request, and stops on a loss that is not finite."""

    def __init__(self, folder: RunFolder, spec: RunSpec, trainer: CountingTrainer) -> None:
        self._folder = folder
        self._spec = spec
        self._trainer = trainer
        self._started = time.perf_counter()
        self._last = (0.0, 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: one line of metrics for every training log and every evaluation."""
        logs = dict(logs or {})
        self._check_finite(logs, state.global_step)
        if "train_runtime" in logs or not state.is_world_process_zero:
            return
        if "eval_perplexity" in logs:  # Trainer weighs batches by their texts, not by their tokens
            logs["eval_loss"] = math.log(logs["eval_perplexity"])
        seconds = time.perf_counter() - self._started
        row = {name: logs[name] for name in METRICS if name in logs}
        if "loss" in row:
            row |= self._speed(seconds, state) | memory()
        if row:
            self._folder.append_metrics({"step": state.global_step, "seconds": round(seconds, 3), **row})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: stop if the run was asked to."""
        if agree(self._folder.is_asked_to_stop, args.device):
            control.should_training_stop = True
        if self._folder.is_removed:  # and what comes next, such as the record of spectra, would make it anew
            raise CancelledError

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: stop during an evaluation too, which may be long."""
        if agree(self._folder.is_asked_to_stop, args.device):
            raise CancelledError

    def _check_finite(self, logs: dict[str, float], step: int) -> None:
        """Raise `RunError` on a loss or gradient that is not finite; float16 skips steps until its scale fits."""
        spec = self._spec
        for name, what in (("loss", "loss"), ("grad_norm", "gradient")):
            if name not in logs or math.isfinite(logs[name]) or (name, spec.precision) == ("grad_norm", "float16"):
                continue
            if step <= 1:  # no weight has changed yet, so no learning rate has done it
                raise RunError(
                    f"the {what} is {logs[name]} in step {step}, before anything has been trained; check the weights "
                    f"of {spec.model}, or train with precision float32"
                )
            head = f", head {spec.head_learning_rate:g}" if spec.task == CLASSIFICATION else ""
            raise RunError(
                f"the {what} became {logs[name]} by step {step} at learning rate "
                f"{logs['learning_rate']:.3g} (at most {spec.learning_rate:g}{head}); lower the learning rate"
            )

    def _speed(self, seconds: float, state: Any) -> dict[str, float]:  # noqa: ANN401 - transformers'
        """Training tokens per second since the last log, and the seconds left at the present speed."""
        trained, n_tokens = seconds - self._trainer.evaluating, int(self._trainer.n_tokens)
        elapsed, counted = trained - self._last[0], n_tokens - self._last[1]
        self._last = (trained, n_tokens)
        left = seconds / state.global_step * (state.max_steps - state.global_step)
        return {"tokens_per_second": round(counted / max(elapsed, 1e-9), 1), "eta_seconds": round(left, 1)}


def memory() -> dict[str, float]:
    """Memory in megabytes: the peak on the training device, and the present use of a GPU by all processes.

    memory_mb is the peak of this process's resident memory, or on a GPU the peak of its tensors there; gpu_memory_mb
    is the device's whole use, other processes' such as a notebook kernel's with it.
    """
    if not torch.cuda.is_available():
        return {"memory_mb": round(_peak_resident() / _MB, 1)}
    free, total = torch.cuda.mem_get_info()
    return {
        "memory_mb": round(torch.cuda.max_memory_allocated() / _MB, 1),
        "gpu_memory_mb": round((total - free) / _MB, 1),
    }


def _peak_resident() -> int:
    """Peak resident memory in bytes; the present one on systems that do not record the peak.

    Not ru_maxrss: on Linux a process inherits that from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))
