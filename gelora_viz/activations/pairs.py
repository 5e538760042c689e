"""Two inputs of unequal length, alone and side by side: what a model is looked at with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gelora_viz.activations.corpus import Corpus, TextCorpus
from gelora_viz.activations.images import ImageCorpus, is_image_processor

_Tensors = dict[str, torch.Tensor]


def load_pair(corpus: Corpus, order: np.ndarray) -> tuple[_Tensors, _Tensors]:
    """What a model reads of a short input alone, and of it and a longer one.

    Args:
        corpus: texts or images.
        order: those to choose from, the longest first.
    """
    short = int(order[-1])
    lengths = corpus.lengths[order]
    longer = np.flatnonzero(lengths >= 1.5 * lengths[-1])
    other = int(order[longer[-1] if len(longer) else 0])  # no longer than need be
    return corpus.load(np.array([short])).tensors, corpus.load(np.array([short, other])).tensors


def load_first_pair(processor: Any, data: Sequence[Any], transformer: nn.Module) -> tuple[_Tensors, _Tensors]:  # noqa: ANN401
    """`load_pair` of a few texts or images, with the model's tokenizer or image processor."""
    corpus: Corpus
    if is_image_processor(processor):
        corpus = ImageCorpus(processor, data, transformer, "mean")
    else:
        corpus = TextCorpus(processor, data, transformer, None, keep=True)
    return load_pair(corpus, np.argsort(-corpus.lengths, kind="stable"))
