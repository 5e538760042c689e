"""The sensitivity of a loss to a matrix: a closed form, plain backpropagation, and a model left as it was."""

from __future__ import annotations

import pytest
import torch
from tiny_models import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from gelora_viz import allocate_ranks, find_matrices, uniform_budget
from gelora_viz.errors import InputError
from gelora_viz.ranks.sensitivity import gradient_sensitivity

QUIET = {"progress": False}


def mean_square(model, batch):
    """Of the last hidden states: a loss that every model has."""
    return model(**batch).last_hidden_state.square().mean()


def names_of(model, targets=None):
    return [matrix.module for matrix in find_matrices(model, targets)]


@pytest.fixture
def classifier(tiny_folder, tiny, batches_of):
    """A model with its own loss, and labelled batches for it."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=3)
    batches = batches_of(model, tiny("bert")[1])
    labelled = [{**batch, "labels": torch.arange(len(batch["input_ids"])) % 3} for batch in batches]
    return model, labelled


def test_of_a_loss_that_is_linear_in_a_matrix_it_is_the_mean_size_of_weight_times_coefficient(tiny):
    model, _ = tiny("bert")
    first, second = names_of(model)[:2]
    coefficients = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))

    def loss(model, batch):
        return (model.get_submodule(first).weight * coefficients).sum() * batch["scale"]

    batches = [{"scale": torch.tensor(scale)} for scale in (1.0, -3.0)]
    found = gradient_sensitivity(model, [first, second], batches, loss, **QUIET)
    product = (model.get_submodule(first).weight.detach() * coefficients).abs().mean()
    assert found[first] == pytest.approx(2 * float(product), rel=1e-5)  # the mean of 1 and 3
    assert found[second] == 0.0


def test_it_is_what_backpropagation_leaves_in_each_batch_without_dropout(classifier):
    model, batches = classifier
    names = names_of(model, "all-linear")
    found = gradient_sensitivity(model.train(), names, batches, **QUIET)
    model.eval()
    sums = dict.fromkeys(names, 0.0)
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        for name in names:
            weight = model.get_submodule(name).weight
            sums[name] += float((weight.detach() * weight.grad).abs().mean())
    assert found == pytest.approx({name: total / len(batches) for name, total in sums.items()}, rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_matrix_of_every_architecture_has_one(tiny, batches_of, architecture):
    model, tokenizer = tiny(architecture)
    found = gradient_sensitivity(model, names_of(model), batches_of(model, tokenizer), mean_square, **QUIET)
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_whatever_happens(classifier, fails):
    model, batches = classifier
    model.train()
    model.bert.encoder.layer[1].eval()
    model.bert.embeddings.requires_grad_(False)
    model(**batches[0]).loss.backward()
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()

    def loss(model, batch):
        torch.rand(3)
        if fails:
            raise KeyboardInterrupt
        return model(**batch).loss

    if fails:
        with pytest.raises(KeyboardInterrupt):
            gradient_sensitivity(model, names_of(model), batches, loss, **QUIET)
    else:
        gradient_sensitivity(model, names_of(model), batches, loss, **QUIET)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_matrices_need_gradients_meanwhile_also_of_a_frozen_model_under_no_grad(classifier):
    model, batches = classifier
    model.requires_grad_(False)
    names = names_of(model)

    def loss(model, batch):
        assert {name for name, each in model.named_parameters() if each.requires_grad} == {
            f"{n}.weight" for n in names
        }
        return model(**batch).loss

    with torch.no_grad():
        assert min(gradient_sensitivity(model, names, batches, loss, **QUIET).values()) > 0


def test_the_plan_spends_the_budget_matrix_by_matrix(classifier):
    model, batches = classifier
    budget = uniform_budget(model, 4)
    plan = allocate_ranks(None, model, strategy="gradient", budget=budget, batches=iter(batches), **QUIET)
    found = gradient_sensitivity(model, names_of(model), batches, **QUIET)
    assert dict(zip(plan.frame["module"], plan.frame["weight"], strict=True)) == pytest.approx(found)
    ordered = plan.frame.sort_values("weight")["rank"].tolist()
    assert ordered == sorted(ordered)
    assert plan.frame.groupby("layer")["rank"].nunique().min() > 1
    assert budget - 64 < plan.n_parameters <= budget


def test_a_model_without_a_loss_is_told_to_be_given_one(tiny, batches_of):
    model, tokenizer = tiny("bert")
    with pytest.raises(
        InputError, match=r"BertModel computes no loss .*; give loss=\.\.\., a function of \(model, b"
    ):
        gradient_sensitivity(model, names_of(model), batches_of(model, tokenizer), **QUIET)


def test_batches_without_labels_are_told_to_get_some(classifier):
    model, batches = classifier
    bare = [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in batches]
    with pytest.raises(InputError, match="gives no loss for a batch of input_ids, attention_mask; add labels"):
        gradient_sensitivity(model, names_of(model), bare, **QUIET)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, batch: model(**batch).logits, r"the loss is \(16, 3\), not a scalar"),
        (lambda _model, _batch: 0.5, "the loss is float, not a scalar"),
        (lambda model, batch: model(**batch).loss.detach(), "the loss has no gradient; do not detach it"),
        (lambda model, _batch: model.bert.encoder.layer[0].attention.self.query.weight.sum() * 0, "depends on none"),
    ],
)
def test_what_is_no_loss_is_refused(classifier, loss, message):
    model, batches = classifier
    with pytest.raises(InputError, match=message):
        gradient_sensitivity(model, names_of(model), batches, loss, **QUIET)


def test_a_sensitivity_that_is_not_finite_is_refused_with_the_module(classifier):
    model, batches = classifier
    broken = names_of(model)[-1]
    with torch.no_grad():
        model.get_submodule(broken).weight[0, 0] = float("inf")
    with pytest.raises(InputError, match=f"the sensitivity of .*{broken} is not finite"):
        gradient_sensitivity(
            model, names_of(model), batches, lambda model, _: model.get_submodule(broken).weight.sum()
        )


@pytest.mark.parametrize(
    ("change", "kind"), [("meta", "kept elsewhere by accelerate"), ("int8", "quantized"), ("packed", "quantized")]
)
def test_weights_without_gradients_are_refused_before_the_model_runs(classifier, change, kind):
    model, batches = classifier
    module = model.get_submodule(names_of(model)[0])
    weight = module.weight.detach()
    other = {"meta": weight.to("meta"), "int8": weight.to(torch.int8), "packed": weight.reshape(-1, 1)[:512]}[change]
    module.weight = torch.nn.Parameter(other, requires_grad=False)
    with pytest.raises(InputError, match=f"the weights of .*query are {kind}"):
        gradient_sensitivity(model, names_of(model), batches, **QUIET)
