"""Callbacks for the Hugging Face Trainer that record an adapter's spectrum, or dimensions, at regular steps."""

from __future__ import annotations

import logging
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from gelora_viz._checks import (
    check_confidence,
    check_names,
    check_path,
    check_seed,
    check_text,
    check_whole,
    describe,
    resolve_device,
)
from gelora_viz.activations import Pooling, PoolingFunction, capture, check_pooling
from gelora_viz.dimension import DEFAULT_K, DimensionProfile, check_k, choose_estimators, estimate_dimension
from gelora_viz.errors import GeloraVizError, InputError
from gelora_viz.sources import check_texts
from gelora_viz.spectra.histories import DimensionHistory, SpectrumHistory
from gelora_viz.spectra.spectrum import UpdateSpectrum, measure_spectra

logger = logging.getLogger("gelora_viz")

DEFAULT_EVERY = 50
"""Steps between records: often enough for a picture, rarely enough to cost little compared with training."""

_History = TypeVar("_History", SpectrumHistory, DimensionHistory)
_Result = TypeVar("_Result", UpdateSpectrum, DimensionProfile)


class _Recorder(TrainerCallback, ABC, Generic[_History, _Result]):
    """Records before the first step, every `every` steps, and after the last; training is not affected.

    A failed measurement is an error before training. Later it is a warning and the record is left out, since an
    observer must not end the training.
    """

    def __init__(self, every: int, path: str | os.PathLike[str] | None) -> None:
        self._every = check_whole(every, "every")
        self._path = None if path is None else check_path(path, "path")
        self._records: dict[int, _Result] = {}

    @property
    @abstractmethod
    def history(self) -> _History:
        """Everything recorded so far."""

    @abstractmethod
    def _measure(self, model: nn.Module) -> _Result:
        """The result at this moment."""

    @abstractmethod
    def _read(self, path: Path) -> dict[int, _Result]:
        """The records of an interrupted training."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: record before training, or continue the record of a resumed one."""
        step = int(state.global_step)
        resumed = step > 0 and self._path is not None and self._path.exists()
        earlier = self._read(self._path) if resumed and self._path is not None else {}
        self._records = {each: record for each, record in earlier.items() if each < step}
        if state.is_world_process_zero:
            _check_not_in_parts(kwargs["model"])
            self._record(step, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: record at regular steps and after the last, before the best weights are loaded."""
        step = int(state.global_step)
        if step % self._every == 0 or step >= state.max_steps:
            self._try_to_record(step, state, kwargs["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: the last record of training that stopped early."""
        step = int(state.global_step)
        if step not in self._records and not args.load_best_model_at_end:
            self._try_to_record(step, state, kwargs["model"])

    def _try_to_record(self, step: int, state: Any, model: nn.Module) -> None:  # noqa: ANN401 - transformers'
        if not state.is_world_process_zero:
            return
        try:
            self._record(step, model)
        except GeloraVizError as error:
            logger.warning("nothing recorded at step %d: %s", step, error)

    def _record(self, step: int, model: nn.Module) -> None:
        with _undisturbed():
            self._records[step] = self._measure(model)
        if self._path is not None:
            self.history.save(self._path)


class SpectrumRecorder(_Recorder[SpectrumHistory, UpdateSpectrum]):
    """A callback for the Hugging Face Trainer that records the spectrum of an adapter's updates during training.

    It finds the PEFT model inside whatever the Trainer trains, measures it at step 0, every `every` steps and at the
    end, and changes nothing: neither weights, nor gradients, modes or random states. A record of LoRA, AdaLoRA or
    GenLoRA takes milliseconds per matrix; other methods need a full decomposition of every matrix.

    Args:
        every: steps between records.
        adapter_name: which adapter.
        device: where to measure; by default where each layer is.
        path: a JSON file for the history, written at every record, so that a crash loses nothing. Training that
            resumes from a checkpoint keeps the file's records up to there.

    Raises:
        InputError: if `every` is below 1; at the start of training, if there is no PEFT model, or its adapter cannot
            be measured. Later that is a warning.

    Example:
        >>> recorder = SpectrumRecorder(every=20)  # Trainer(..., callbacks=[recorder]).train()
        >>> recorder.history
        SpectrumHistory(nothing recorded)
    """

    def __init__(
        self,
        every: int = DEFAULT_EVERY,
        *,
        adapter_name: str = "default",
        device: str | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(every, path)
        self._adapter_name = check_text(adapter_name, "adapter_name", "default")
        if device is not None:
            resolve_device(device)
        self._device = device

    @property
    def history(self) -> SpectrumHistory:
        """Everything recorded so far."""
        return SpectrumHistory(dict(self._records))

    def _measure(self, model: nn.Module) -> UpdateSpectrum:
        found = next((module for module in model.modules() if isinstance(module, PeftModel)), None)
        if found is None:
            raise InputError(
                f"the {type(model).__name__} being trained holds no PEFT model, so it has no updates to record; "
                "wrap its transformer with add_adapter"
            )
        return measure_spectra(found, self._adapter_name, device=self._device)

    def _read(self, path: Path) -> dict[int, UpdateSpectrum]:
        return dict(SpectrumHistory.load(path).spectra)


class DimensionRecorder(_Recorder[DimensionHistory, DimensionProfile]):
    """A callback for the Trainer that records the intrinsic dimension of the hidden states during training.

    The same texts are captured at step 0, every `every` steps and at the end, from the PEFT model or the plain
    transformer inside whatever the Trainer trains, in evaluation mode, and estimated as `estimate_dimension` does.
    Training is not changed: neither weights, nor gradients, modes or random states.

    Args:
        tokenizer: the model's own.
        texts: a few hundred that the model does not train on; each record reads them all once.
        every: steps between records.
        layers: which layers to capture (see `capture`).
        pooling: how a text's hidden states become points (see `capture`).
        max_points: points per layer at most (see `capture`).
        max_length: tokens kept of each text (see `capture`).
        estimators: names of the estimators (see `estimate_dimension`).
        k: number of neighbors (see `estimate_dimension`).
        confidence: level of the intervals, between 0 and 1 (see `estimate_dimension`).
        seed: seed of the choice of points and of the halves behind the intervals, the same at every step.
        device: where to search neighbors: None for the CPU.
        path: file that the record is written to after each step (see `SpectrumRecorder`).

    Raises:
        InputError: if `every` is below 1 or the seed unusable; at the start of training, if there is no transformer,
            or the texts cannot be captured or estimated. Later that is a warning.

    Example:
        >>> from gelora_viz.sources import load_model
        >>> recorder = DimensionRecorder(load_model("minilm").tokenizer, ["a cat", "a dog"], every=20)
        >>> recorder.history
        DimensionHistory(nothing recorded)
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        every: int = DEFAULT_EVERY,
        *,
        layers: str | Sequence[str] = "blocks",
        pooling: Pooling | PoolingFunction | str = "mean",
        max_points: int | None = None,
        max_length: int | None = None,
        estimators: Sequence[str] | str | None = None,
        k: int = DEFAULT_K,
        confidence: float = 0.95,
        seed: int = 0,
        device: str | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(every, path)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise InputError(f"tokenizer is {describe(tokenizer)}; give the model's own")
        check_pooling(pooling)
        check_names(layers, "layers", "encoder.layer.*")
        for length, name, fewest in ((max_points, "max_points", 1), (max_length, "max_length", 2)):
            if length is not None:
                check_whole(length, name, at_least=fewest)
        choose_estimators(estimators)
        check_k(k)
        check_confidence(confidence)
        resolve_device(device)
        self._tokenizer = tokenizer
        self._texts = check_texts(texts)
        self._capturing: dict[str, Any] = {
            "layers": layers, "pooling": pooling, "max_points": max_points, "max_length": max_length,
            "seed": check_seed(seed), "progress": False,
        }  # fmt: skip
        self._estimating: dict[str, Any] = {
            "estimators": estimators, "k": k, "confidence": confidence, "seed": seed, "device": device,
            "progress": False,
        }  # fmt: skip

    @property
    def history(self) -> DimensionHistory:
        """Everything recorded so far."""
        return DimensionHistory(dict(self._records))

    def _measure(self, model: nn.Module) -> DimensionProfile:
        found = next((module for module in model.modules() if isinstance(module, PeftModel | PreTrainedModel)), None)
        if found is None:
            raise InputError(f"the {type(model).__name__} being trained holds no transformer to capture")
        return estimate_dimension(capture(found, self._tokenizer, self._texts, **self._capturing), **self._estimating)

    def _read(self, path: Path) -> dict[int, DimensionProfile]:
        return dict(DimensionHistory.load(path).profiles)


def _check_not_in_parts(model: nn.Module) -> None:
    """Raise `InputError` if each process holds only a part of the weights, as with FSDP and ZeRO-3."""
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id") or type(parameter).__name__ in ("DTensor", "FlatParameter"):
            raise InputError(
                f"{name} is sharded over processes, so its spectrum and hidden states cannot be recorded here; train "
                "without FSDP and ZeRO-3, or measure what was saved"
            )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore the random states of Python, numpy and torch, on every device, afterwards."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - what training may draw from
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002
