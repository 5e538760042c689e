"""Text classification: a linear head on pooled hidden states, scored by accuracy and macro F1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from sklearn.metrics import f1_score
from torch import nn
from transformers import EvalPrediction

from gelora_viz._results import write_bytes
from gelora_viz.errors import InputError
from gelora_viz.runs import RunFolder
from gelora_viz.sources import TextData, load_texts
from gelora_viz.training.classifier import TextClassifier
from gelora_viz.training.tasks import Example, Task


class Classification(Task):
    """Each text belongs to one of several classes."""

    model_head = None

    @property
    def evaluation_batch(self) -> int:
        """64: without gradients, this many short texts need little memory."""
        return 64

    @property
    def head(self) -> list[nn.Parameter]:
        """The parameters of the linear head."""
        return list(self.module.get_submodule("head").parameters())

    def load_data(self) -> TextData:
        """The texts with their classes."""
        spec = self.spec
        data = load_texts(
            spec.data,
            text_column=spec.text_column,
            label_column=spec.label_column,
            max_texts=spec.max_texts,
            seed=spec.data_seed,
        )
        _check_classes(data)
        return data

    def build_module(self) -> nn.Module:
        """The classifier around the backbone."""
        return TextClassifier(self.backbone, len(self.data.label_names), self.spec.pooling)

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Model inputs, and labels (n_texts,)."""
        labels = torch.tensor([label for _, label in examples])
        return {**self._inputs([row for row, _ in examples]), "labels": labels}

    def mean_loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a transformer's output
        """Cross-entropy over the texts."""
        return nn.functional.cross_entropy(outputs.logits, labels)

    def reduce(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Every class's score."""
        return logits

    def scores(self, scored: EvalPrediction) -> dict[str, float]:
        """Accuracy and macro F1."""
        return _scores(scored.label_ids, np.asarray(scored.predictions).argmax(axis=1))

    def keep_predictions(self, reduced: np.ndarray, folder: RunFolder) -> dict[str, Any]:
        """Save the label and predicted class of every test text."""
        labels, predicted, names = self.parts["test"].labels, reduced.argmax(axis=1), self.data.label_names
        folder.write_predictions(
            self.data.texts("test"),
            [names[number] for number in labels],
            [names[number] for number in predicted],
            self.data.groups("test"),
        )
        scores = _scores(labels, predicted)
        return {"accuracy": scores["accuracy"], "macro_f1": scores["f1"]}

    def save_weights(self, target: Path) -> None:
        """Write the backbone's weights, and the head's to head.safetensors next to them."""
        super().save_weights(target)
        head = self.module.get_submodule("head").state_dict()
        content = save({name: value.detach().cpu().contiguous() for name, value in head.items()})
        write_bytes(target / "head.safetensors", content)  # whose errors say which file, and what to do


def _scores(labels: Any, predicted: np.ndarray) -> dict[str, float]:  # noqa: ANN401 - an array
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1": float(f1_score(labels, predicted, average="macro")),
    }


def _check_classes(data: TextData) -> None:
    counts = {split: len(data.labels(split)) for split in ("train", "validation", "test")}
    if len(data.label_names) > sum(counts.values()) / 2:
        raise InputError(
            f"{data.name} has {len(data.label_names)} classes for {sum(counts.values())} texts; are its labels "
            "numbers to be predicted? Give classes"
        )
    if len(data.label_names) < 2:
        raise InputError(f"{data.name} has the single class {data.label_names}; a classifier needs at least two")
    empty = [split for split, count in counts.items() if count == 0]
    if empty:
        raise InputError(
            f"{data.name} has no {' and no '.join(empty)} texts; give more labeled texts, or a column split"
        )
