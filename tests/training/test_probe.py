"""Batches and the probe: scikit-learn's own predictions through the classifier that runs train."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny_models import ARCHITECTURES

from gelora_viz import fit_probe, load_texts, sample_batches
from gelora_viz.errors import InputError
from gelora_viz.ranks.sensitivity import gradient_sensitivity


@pytest.fixture(scope="module")
def data(data_file):
    return load_texts(str(data_file))


def labels_of(batches):
    return torch.cat([batch["labels"] for batch in batches])


def test_batches_hold_training_texts_with_their_own_labels_each_once(tiny, data):
    model, tokenizer = tiny("bert")
    batches = sample_batches(data, model, tokenizer, n_texts=10_000, batch_size=50)
    n_texts = len(data.texts("train"))
    assert [len(batch["labels"]) for batch in batches] == [50] * (n_texts // 50) + [n_texts % 50] * bool(n_texts % 50)
    label_of = {
        tuple(tokenizer(text)["input_ids"]): label
        for text, label in zip(data.texts("train"), data.labels("train"), strict=True)
    }
    read = [
        (tuple(ids[mask.bool()].tolist()), int(label))
        for batch in batches
        for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    ]
    assert len({ids for ids, _ in read}) == len(read) == n_texts
    assert all(label_of[ids] == label for ids, label in read)


def test_the_seed_decides_which_texts_and_texts_without_labels_give_batches_without(tiny, data, texts):
    model, tokenizer = tiny("bert")
    first, same, other = (sample_batches(data, model, tokenizer, n_texts=20, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[0][name], same[0][name]) for name in first[0])
    assert first[0]["input_ids"].shape != other[0]["input_ids"].shape or not torch.equal(
        first[0]["input_ids"], other[0]["input_ids"]
    )
    unlabelled = sample_batches(load_texts(texts[:30]), model, tokenizer, batch_size=8)
    assert all("labels" not in batch for batch in unlabelled)


@pytest.mark.parametrize("option", [{"n_texts": 0}, {"batch_size": 0}, {"n_texts": 2.5}, {"seed": -1}])
def test_unusable_numbers_are_refused_by_name(tiny, data, option):
    with pytest.raises(InputError, match=f"{next(iter(option))} is"):
        sample_batches(data, *tiny("bert"), **option)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_s_probabilities_are_those_of_logistic_regression_on_the_pooled_states(tiny, data, architecture):
    model, tokenizer = tiny(architecture)
    batches = sample_batches(data, model, tokenizer, n_texts=96)
    probe = fit_probe(model, batches)
    inputs = [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in batches]
    with torch.no_grad():
        features = torch.cat([probe.features(**each) for each in inputs]).numpy()
        scores = torch.cat([probe(**each).logits for each in inputs])
    labels = labels_of(batches).numpy()
    expected = LogisticRegression(max_iter=1000).fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(scores.softmax(dim=1).numpy(), expected, atol=1e-4)


def test_of_two_classes_and_of_classes_that_the_sample_lacks_probabilities_are_right_too(tiny, data):
    model, tokenizer = tiny("bert")
    batches = [{**batch, "labels": 1 + 2 * (batch["labels"] > 0)} for batch in sample_batches(data, model, tokenizer)]
    probe = fit_probe(model, batches)
    with torch.no_grad():
        inputs = {name: tensor for name, tensor in batches[0].items() if name != "labels"}
        probabilities = probe(**inputs).logits.softmax(dim=1)
        features = torch.cat(
            [probe.features(batch["input_ids"], batch["attention_mask"]) for batch in batches]
        ).numpy()
    expected = LogisticRegression(max_iter=1000).fit(features, labels_of(batches).numpy())
    assert probe.head.out_features == 4
    assert probabilities[:, [0, 2]].max() == 0
    np.testing.assert_allclose(
        probabilities[:, [1, 3]].numpy(), expected.predict_proba(features[: len(probabilities)]), atol=1e-4
    )


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_its_loss_reaches_the_model_s_weights_even_where_they_are_frozen(tiny, data, architecture):
    model, tokenizer = tiny(architecture)
    model.train().requires_grad_(False)
    batches = sample_batches(data, model, tokenizer, n_texts=64)
    probe = fit_probe(model, batches)
    assert probe.backbone is model
    assert all(module.training for module in model.modules())
    names = [name for name, module in model.named_modules() if name.endswith(("query", ".q"))]
    found = gradient_sensitivity(model, names, batches, lambda _, batch: probe(**batch).loss, progress=False)
    assert min(found.values()) > 0
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_without_labels_or_with_a_single_class_there_is_no_probe(tiny, data):
    model, tokenizer = tiny("bert")
    batches = sample_batches(data, model, tokenizer, n_texts=8)
    with pytest.raises(InputError, match="all 8 texts are of class 2; a probe needs two"):
        fit_probe(model, [{**batch, "labels": torch.full((8,), 2)} for batch in batches])
    with pytest.raises(InputError, match="have no labels to fit a probe to"):
        fit_probe(model, [{"input_ids": batches[0]["input_ids"]}])
    with pytest.raises(InputError, match="have no labels"):
        fit_probe(model, [])
