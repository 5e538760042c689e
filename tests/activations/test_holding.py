"""Threads that run one model wait for each other, whatever they wrap it in; none reads another's hidden states."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertForSequenceClassification

from gelora_viz.activations import capture, evaluating, hold
from gelora_viz.errors import InputError
from gelora_viz.ranks import find_matrices
from gelora_viz.ranks.sensitivity import gradient_sensitivity

N_THREADS = 6


@pytest.fixture(autouse=True)
def hurried_threads():
    """Threads take turns a thousand times as often as usual, so that what can go wrong does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def all_points(model, tokenizer, texts, **options):
    activations = capture(model, tokenizer, texts, batch_size=8, progress=False, **options)
    return {layer: activations[layer] for layer in activations}


def test_threads_that_capture_with_one_model_get_the_points_of_each_alone(tiny, texts):
    model, tokenizer = tiny("bert")
    pieces = [texts[start : start + 24] for start in range(0, 24 * N_THREADS, 24)]
    alone = [all_points(model, tokenizer, piece) for piece in pieces]
    model.train()
    with ThreadPoolExecutor(N_THREADS) as pool:
        together = list(pool.map(lambda piece: all_points(model, tokenizer, piece), pieces))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[layer], other[layer]) for layer in one)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_capture_waits_for_gradients_taken_with_the_same_model(tiny, texts):
    model, tokenizer = tiny("gpt2")
    modules = [matrix.module for matrix in find_matrices(model)]
    batches = [dict(tokenizer(text, return_tensors="pt")) for text in texts[:12]]

    def loss(model, batch):
        return model(**batch).last_hidden_state.square().mean()

    def measure(_number):
        return gradient_sensitivity(model, modules, batches, loss, progress=False)

    points, sensitivity = all_points(model, tokenizer, texts[:24]), measure(0)
    with ThreadPoolExecutor(4) as pool:
        measured = pool.map(measure, range(2))
        captured = pool.map(lambda _: all_points(model, tokenizer, texts[:24]), range(2))
        assert all(each == sensitivity for each in measured)
        assert all(torch.equal(each[layer], points[layer]) for each in captured for layer in points)
    assert all(parameter.requires_grad for parameter in model.parameters())


def with_head(model):
    classifier = BertForSequenceClassification(model.config)
    classifier.bert = model
    return classifier


@pytest.mark.parametrize(
    "wrap",
    [
        with_head,
        lambda model: get_peft_model(model, LoraConfig(target_modules=["query", "word_embeddings"])),
        nn.DataParallel,
    ],
    ids=["task head", "adapters", "data parallelism"],
)
def test_a_model_is_held_with_what_is_wrapped_around_it(tiny, wrap):
    model, _ = tiny("bert")
    wrapped = wrap(model)
    entered = threading.Event()

    def enter():
        with evaluating(wrapped):
            entered.set()

    with hold(model):
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.wait(0.05)
    other.join(5)
    assert entered.is_set()


def test_models_of_their_own_do_not_wait_for_each_other(tiny):
    model, _ = tiny("bert")
    another, _ = tiny("bert")

    def enter():
        with evaluating(another):
            pass

    with hold(model):
        other = threading.Thread(target=enter)
        other.start()
        other.join(5)
        assert not other.is_alive()


def test_a_thread_may_hold_what_it_holds(tiny):
    model, _ = tiny("bert")
    with evaluating(model), evaluating(model):
        assert not model.training


def test_a_capture_within_a_capture_of_the_same_model_is_refused_and_not_waited_for(tiny, texts):
    model, tokenizer = tiny("bert")

    def pooling(hidden, mask):
        all_points(model, tokenizer, texts[:2])
        return hidden[:, 0]

    with pytest.raises(InputError, match="captures with the BertModel already"):
        all_points(model, tokenizer, texts[:2], pooling=pooling)
    assert all_points(model, tokenizer, texts[:2])  # nothing is held any more
