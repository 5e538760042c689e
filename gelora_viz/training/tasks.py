"""What every task shares: a model with its adapter, its texts in batches, a loss, scores and a test."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, set_seed

from gelora_viz._results import write_remedy
from gelora_viz.activations import TokenizedText, collate, tokenize
from gelora_viz.errors import StudyError, first_line
from gelora_viz.ranks import ModelInputs
from gelora_viz.runs import FULL, RunFolder, RunSpec
from gelora_viz.sources import HUB_IDS, SPLITS, TextData, load_model
from gelora_viz.training.adalora import is_adalora, orthogonality
from gelora_viz.training.adapting import adapt, name_base_model

IGNORED = -100
"""The label of a token that does not count, as in torch's cross-entropy."""
_EVA_BATCHES = 256
"""Batches that EVA may read: thousands of texts, where it needs hundreds."""
Example = tuple[TokenizedText, int]


@contextmanager
def _naming_folder(folder: Path) -> Iterator[None]:
    """Raise `StudyError`, which says why weights could not be written there, for safetensors' error."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = re.search(r"os error (\d+)", str(error))  # safetensors gives the system's error as text alone
        reason = OSError(int(number[1]), os.strerror(int(number[1]))) if number else error
        remedy = write_remedy(reason) if isinstance(reason, OSError) else "choose a folder you can write to"
        said = getattr(reason, "strerror", None) or first_line(reason)
        raise StudyError(f"cannot write weights to {folder}: {said}; {remedy}") from error


class Texts(Dataset[Example]):
    """Tokenized texts and their class numbers (n_texts,)."""

    def __init__(self, rows: Sequence[TokenizedText], labels: np.ndarray) -> None:
        self.rows = rows
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Example:
        return self.rows[position], int(self.labels[position])

    def by_length(self) -> tuple[np.ndarray, Texts]:
        """The texts sorted from the longest, so that batches need little padding, and their order."""
        order = np.argsort([-len(row.ids) for row in self.rows], kind="stable")
        return order, Texts([self.rows[position] for position in order], self.labels[order])


class Task(ABC):
    """A model with its adapter, its texts, and what training and testing them means.

    Attributes:
        spec: what was asked for.
        data: the texts.
        parts: split -> the texts as tokens.
        backbone: the transformer, with its adapter if it has one.
        module: what is trained: the backbone and what is around it.
    """

    model_head: str | None
    """What `load_model` is asked for."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.data = self.load_data()
        loaded = load_model(
            spec.model, dtype="float32", trust_remote_code=spec.trust_remote_code, head=self.model_head
        )
        self._tokenizer, self._plain = loaded.tokenizer, loaded.model
        self.parts = {split: self._tokenize(split) for split in SPLITS}
        self.backbone = adapt(spec, loaded.model, self._batches)
        set_seed(spec.seed)  # so that a head starts from the same weights whatever the adapter
        self.module = self.build_module()

    @property
    @abstractmethod
    def evaluation_batch(self) -> int:
        """Texts scored at a time."""

    @property
    def head(self) -> list[nn.Parameter]:
        """Trainable parameters besides the backbone's."""
        return []

    @property
    def trains(self) -> bool:
        """Whether any parameter is trained."""
        return any(parameter.requires_grad for parameter in self.module.parameters())

    @abstractmethod
    def load_data(self) -> TextData:
        """The texts; raises `InputError` where they are not enough for this task."""

    @abstractmethod
    def build_module(self) -> nn.Module:
        """What is trained, around the backbone."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """A batch as the module reads it, with labels."""

    @abstractmethod
    def mean_loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a transformer's output
        """The mean loss over the labels of a batch."""

    @abstractmethod
    def reduce(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What is kept from a batch's scores, (n_texts, n_numbers)."""

    @abstractmethod
    def scores(self, scored: EvalPrediction) -> dict[str, float]:
        """What an evaluation reports besides the loss."""

    @abstractmethod
    def keep_predictions(self, reduced: np.ndarray, folder: RunFolder) -> dict[str, Any]:
        """Write the predictions for the test texts, (n_texts, n_numbers) in their order; returns final numbers."""

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        """Trainer's compute_loss_func: a micro-batch's share of the mean over all labels of an optimizer step.

        AdaLoRA's penalty is there for its gradient alone, so that the losses of methods can be compared.
        """
        loss = self.mean_loss(outputs, labels)
        if torch.is_grad_enabled() and is_adalora(self.backbone):
            penalty = orthogonality(self.backbone)
            loss = loss + (penalty - penalty.detach())
        return loss * (labels.ne(IGNORED).sum() / num_items_in_batch.clamp(min=1))

    def save_weights(self, target: Path) -> None:
        """Write what was trained: the adapter in PEFT's format, or all weights in transformers'."""
        if isinstance(self.backbone, PeftModel) or self.spec.adapter == FULL:
            trained: Any = self.backbone
            with _naming_folder(target):
                trained.save_pretrained(str(target), safe_serialization=True)
        if isinstance(self.backbone, PeftModel) and self.spec.model in HUB_IDS:
            name_base_model(target, HUB_IDS[self.spec.model])

    def _tokenize(self, split: str) -> Texts:
        texts, limit = self.data.texts(split), self.spec.max_length
        return Texts(tokenize(self._tokenizer, texts, model=self._plain, max_length=limit), self._labels(split))

    def _labels(self, split: str) -> np.ndarray:
        return self.data.labels(split)

    def _inputs(self, rows: Sequence[TokenizedText]) -> dict[str, torch.Tensor]:
        return collate(rows, tokenizer=self._tokenizer, model=self._plain)

    def _batches(self) -> list[ModelInputs]:
        """Training texts in random order, as EVA reads them."""
        rows, size = self.parts["train"].rows, self.spec.micro_batch_size
        order = np.random.default_rng(self.spec.seed).permutation(len(rows))[: _EVA_BATCHES * size]
        return [
            self._inputs([rows[position] for position in order[start : start + size]])
            for start in range(0, len(order), size)
        ]
