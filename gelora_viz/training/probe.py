"""A linear probe on frozen features: batches of labeled texts, and the head that logistic regression fits on them.

It gives a model without task head the loss that its plan's fine-tuning will have, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gelora_viz._checks import check_choice, check_model, check_result, check_seed, check_whole, describe
from gelora_viz.activations import collate, evaluating, input_device, tokenize
from gelora_viz.errors import InputError
from gelora_viz.sources import TextData
from gelora_viz.training.classifier import TextClassifier

_NEVER = -1e4
"""The score of a class that no text in the batches has: its probability is exactly 0."""
_MOST_ITERATIONS = 1000


def sample_batches(
    data: TextData,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_texts: int = 512,
    batch_size: int = 32,
    max_length: int | None = None,
    seed: int = 0,
) -> list[dict[str, torch.Tensor]]:
    """Random batches of training texts, as the model reads them: the input of "eva" and "gradient".

    Args:
        data: the texts; where they have labels, so have the batches.
        model: asked for its longest input, and for what its decoder reads.
        tokenizer: the model's own.
        n_texts: how many texts; all of them where there are fewer.
        batch_size: texts a batch, at most.
        max_length: tokens kept of each text; by default the model's longest input, 512 at most.
        seed: seed of the choice.

    Returns:
        Dicts of input_ids and attention_mask (n_texts, n_tokens), for an encoder-decoder also its decoder's, and
        labels (n_texts,) where there are any: class numbers, as in `TextData.labels`.

    Raises:
        InputError: if there are no training texts, or a number is below 1.

    Example:
        >>> from gelora_viz.sources import load_model, load_texts
        >>> model, tokenizer, _ = load_model("minilm")
        >>> batches = sample_batches(load_texts("icd10cm"), model, tokenizer, n_texts=40)
        >>> [len(batch["labels"]) for batch in batches]
        [32, 8]
    """
    check_result(data, TextData, "data")
    if not callable(tokenizer):
        raise InputError(f"tokenizer is {describe(tokenizer)}; give the model's own")
    check_model(model)
    n_texts, batch_size = check_whole(n_texts, "n_texts"), check_whole(batch_size, "batch_size")
    texts = data.texts("train")
    if not texts:
        raise InputError(f"{data.name} has no training texts; give texts to train on")
    generator = np.random.default_rng(check_seed(seed))
    chosen = generator.permutation(len(texts))[:n_texts]
    rows = tokenize(tokenizer, [texts[place] for place in chosen], model=model, max_length=max_length)
    labels = torch.as_tensor(data.labels("train")[chosen]) if data.label_names else None
    batches = []
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size], tokenizer=tokenizer, model=model)
        batches.append(batch if labels is None else {**batch, "labels": labels[start : start + batch_size]})
    return batches


def fit_probe(
    model: PreTrainedModel, batches: Sequence[Mapping[str, torch.Tensor]], *, pooling: str = "mean"
) -> TextClassifier:
    """A classifier whose head is fitted to the model's own features, and whose loss reaches the model's weights.

    The head is scikit-learn's LogisticRegression with its default penalty, on the pooled last hidden states of the
    batches. The model itself is not trained, and left as it was.

    Args:
        model: a transformer without task head.
        batches: model inputs with labels (n_texts,), class numbers from 0, such as from `sample_batches`.
        pooling: how the last hidden state is pooled under the head, "mean", "last" or "cls".

    Returns:
        The classifier around this very model; `classifier(**batch).loss` is the cross-entropy. A class that no text
        of the batches has is never predicted.

    Raises:
        InputError: if the batches have no labels, or all labels are the same.

    Example:
        >>> from gelora_viz.sources import load_model, load_texts
        >>> model, tokenizer, _ = load_model("minilm")
        >>> batches = sample_batches(load_texts("icd10cm"), model, tokenizer)
        >>> fit_probe(model, batches).head
        Linear(in_features=384, out_features=21, bias=True)
    """
    check_model(model)
    check_choice(pooling, "pooling", ("mean", "last", "cls"))
    batches = _check_batches(batches)
    if not batches or any("labels" not in batch for batch in batches):
        raise InputError("the batches have no labels to fit a probe to; give labeled texts")
    labels = torch.cat([batch["labels"] for batch in batches]).cpu().numpy()
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(f"all {len(labels)} texts are of class {classes[0]}; a probe needs two, so sample more")
    classifier = TextClassifier(model, int(classes[-1]) + 1, pooling)
    classifier.is_frozen = False  # its loss is there for gradients by the model's weights, whatever their flags
    with evaluating(model):
        features = torch.cat([classifier.features(**_inputs(model, batch)).float().cpu() for batch in batches])
    regression = LogisticRegression(max_iter=_MOST_ITERATIONS).fit(features.numpy(), labels)
    _set_head(classifier.head.to(input_device(model)), regression)
    return classifier


def _check_batches(batches: object) -> list[Mapping[str, torch.Tensor]]:
    """The batches as a list; raises `InputError` unless each maps names to tensors."""
    is_list = isinstance(batches, Iterable) and not isinstance(batches, Mapping | str)
    listed: list[Any] = list(batches) if is_list else [batches]  # type: ignore[call-overload]
    wrong = [
        batch
        for batch in listed
        if not isinstance(batch, Mapping) or not all(isinstance(each, torch.Tensor) for each in batch.values())
    ]
    if wrong or not is_list:
        said = f"has {describe(wrong[0])}" if is_list else f"is {describe(batches)}"
        raise InputError(f"batches {said}; give a list of mappings of names to tensors, as sample_batches gives")
    return listed


def _inputs(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The part of a batch that the model reads, on the model's device."""
    device = input_device(model)
    return {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}


@torch.no_grad()
def _set_head(head: nn.Linear, regression: LogisticRegression) -> None:
    """Make the head give the regression's scores; for two classes, scikit-learn keeps only their difference."""
    weight, bias = torch.as_tensor(regression.coef_), torch.as_tensor(regression.intercept_)
    if len(regression.classes_) == 2:
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    rows = torch.as_tensor(regression.classes_)
    head.weight.zero_()
    head.bias.fill_(_NEVER)
    head.weight[rows] = weight.to(head.weight)
    head.bias[rows] = bias.to(head.bias)
