"""Causal language modeling: each token of a text is predicted from those before it, and scored by perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction

from gelora_viz.errors import InputError
from gelora_viz.runs import CAUSAL_LM, RunFolder
from gelora_viz.sources import SPLITS, TextData, load_texts
from gelora_viz.training.tasks import IGNORED, Example, Task


class LanguageModeling(Task):
    """Every token after a text's first is predicted."""

    model_head = CAUSAL_LM

    @property
    def evaluation_batch(self) -> int:
        """As many as in a training batch: scores for the whole vocabulary take most of the memory."""
        return self.spec.micro_batch_size

    def load_data(self) -> TextData:
        """The texts, labeled or not; if none are held out, 10 % become validation and 20 % test texts."""
        spec = self.spec
        data = load_texts(
            spec.data, text_column=spec.text_column, label_column=spec.label_column, seed=spec.data_seed
        )
        frame = data.frame if data.label_names else data.frame.assign(label="text")
        chosen = load_texts(frame, label_column="label", max_texts=spec.max_texts, seed=spec.data_seed)
        empty = [split for split in SPLITS if not chosen.texts(split)]
        if empty:
            raise InputError(f"{data.name} has no {' and no '.join(empty)} texts; give more, or a column split")
        return TextData(chosen.frame, data.name)

    def build_module(self) -> nn.Module:
        """The language model itself."""
        return self.backbone

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Model inputs, and labels (n_texts, n_tokens): the tokens, without padding and the first of each text."""
        inputs = self._inputs([row for row, _ in examples])
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
        labels[:, 0] = IGNORED  # nothing comes before it
        return {**inputs, "labels": labels}

    def mean_loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a transformer's output
        """Cross-entropy over the predicted tokens."""
        return _token_losses(outputs.logits, labels).sum() / labels.ne(IGNORED).sum().clamp(min=1)

    def reduce(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The number of predicted tokens of every text, and their summed negative log-likelihood."""
        return torch.stack([labels.ne(IGNORED).sum(dim=1), _token_losses(logits, labels).sum(dim=1)], dim=1)

    def scores(self, scored: EvalPrediction) -> dict[str, float]:
        """Perplexity."""
        return {"perplexity": _perplexity(np.asarray(scored.predictions))}

    def keep_predictions(self, reduced: np.ndarray, folder: RunFolder) -> dict[str, Any]:
        """Save the tokens and likelihood of every test text, so that runs can be compared text by text."""
        n_tokens, nll = reduced[:, 0].astype(int), reduced[:, 1].astype(float)
        folder.write_likelihoods(self.data.texts("test"), n_tokens.tolist(), nll.tolist(), self.data.groups("test"))
        return {"perplexity": _perplexity(reduced), "n_test_tokens": int(n_tokens.sum())}

    def _labels(self, split: str) -> np.ndarray:
        return np.zeros(len(self.data.texts(split)), dtype=np.int64)


def _token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood (n_texts, n_tokens - 1) of every token after the first; 0 where nothing counts."""
    scores, targets = logits[:, :-1].float(), labels[:, 1:]
    losses = nn.functional.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(targets)


def _perplexity(reduced: np.ndarray) -> float:
    """Perplexity per token, from (n_texts, 2): the number of tokens and their summed negative log-likelihood."""
    n_tokens, nll = reduced.astype(np.float64).sum(axis=0)
    if n_tokens == 0:
        raise InputError("all texts to be scored are single tokens, so there is nothing to predict; give longer ones")
    return float(np.exp(min(nll / n_tokens, 700.0)))  # beyond it, infinite
