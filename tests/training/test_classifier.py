"""The classifier that every run trains: any backbone, pooled, under one linear head."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from tiny_models import ARCHITECTURES, HIDDEN_SIZE
from torch import nn

from gelora_viz import add_adapter, allocate_ranks, uniform_budget
from gelora_viz.activations import collate, tokenize
from gelora_viz.errors import StudyError
from gelora_viz.training import TextClassifier
from gelora_viz.training.classification import Classification

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def batch_of(model, tokenizer, texts):
    return collate(tokenize(tokenizer, texts, model=model), tokenizer=tokenizer, model=model)


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@each_architecture
def test_texts_of_any_length_become_one_score_per_class(tiny, texts, architecture, pooling):
    model, tokenizer = tiny(architecture)
    classifier = TextClassifier(model, 3, pooling).eval()
    batch = batch_of(model, tokenizer, texts[:5])
    output = classifier(**batch)
    assert output.logits.shape == (5, 3)
    assert output.loss is None
    labels = torch.tensor([0, 1, 2, 0, 1])
    expected = nn.functional.cross_entropy(output.logits, labels)
    torch.testing.assert_close(classifier(**batch, labels=labels).loss, expected)


@each_architecture
def test_the_score_of_a_text_does_not_depend_on_the_padding_beside_it(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    classifier = TextClassifier(model, 3).eval()
    short, long = sorted((texts[0], " ".join(texts[1:4])), key=len)
    alone = classifier(**batch_of(model, tokenizer, [short])).logits
    together = classifier(**batch_of(model, tokenizer, [short, long])).logits
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


@each_architecture
def test_a_frozen_backbone_stays_in_evaluation_mode_and_gets_no_gradient(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    classifier = TextClassifier(model.requires_grad_(False), 3).train()
    assert classifier.is_frozen
    assert not any(module.training for module in classifier.backbone.modules())
    assert classifier.head.training
    classifier(**batch_of(model, tokenizer, texts[:3]), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert classifier.head.weight.grad.norm() > 0
    assert all(parameter.grad is None for parameter in classifier.backbone.parameters())


@each_architecture
def test_with_an_adapter_the_gradient_reaches_every_adapted_matrix_and_nothing_else(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    plan = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))
    classifier = TextClassifier(add_adapter(model, plan), 3, "last").train()
    assert not classifier.is_frozen
    assert classifier.backbone.training
    classifier(**batch_of(model, tokenizer, texts[:3]), labels=torch.tensor([0, 1, 2])).loss.backward()
    moved = {name for name, p in classifier.backbone.named_parameters() if p.grad is not None and p.grad.norm() > 0}
    assert len(moved) == len(plan.frame)  # A's gradient is zero as long as B is
    assert all("lora_B" in name for name in moved)


def test_the_head_reads_the_width_of_the_backbone(tiny):
    model, _ = tiny("t5")
    assert tuple(TextClassifier(model, 7).head.weight.shape) == (7, HIDDEN_SIZE)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
@pytest.mark.parametrize(("limit", "named"), [(100, "head.safetensors"), (2_000, "weights to")])
def test_weights_that_cannot_be_written_are_a_study_error_with_the_place(tiny, tmp_path, limit, named):
    import resource

    backbone = tiny("bert")[0]
    if named == "weights to":
        backbone = add_adapter(backbone, allocate_ranks(None, backbone, strategy="uniform", budget=10_000))
    task = Classification.__new__(Classification)  # without the texts, of which nothing is written
    task.backbone, task.module, task.spec = (
        backbone,
        TextClassifier(backbone, 3),
        SimpleNamespace(adapter="frozen", model="x"),
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StudyError, match=rf"cannot write .*{named}.*: File too large; .*ulimit -f"):
            task.save_weights(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
