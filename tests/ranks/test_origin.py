"""A profile knows the model it was made with, and serves no other one by mistake."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertForSequenceClassification

from gelora_viz.activations import Activations, capture, describe_origin
from gelora_viz.dimension import DimensionProfile, estimate_dimension
from gelora_viz.errors import InputError
from gelora_viz.ranks import allocate_ranks, find_matrices


def make_profile(model, tokenizer, texts):
    activations = capture(model, tokenizer, texts[:60], progress=False)
    return estimate_dimension(activations, "twonn", progress=False)


@pytest.fixture(scope="module")
def of_bert(tiny, texts, tmp_path_factory):
    """A profile of BERT, as it comes back from disk."""
    path = make_profile(*tiny("bert"), texts).save(tmp_path_factory.mktemp("profile") / "profile.json")
    return DimensionProfile.load(path)


def trained(model):
    with torch.no_grad():
        model.encoder.layer[1].output.dense.weight.add_(0.1)
    return model


def with_head(model):
    classifier = BertForSequenceClassification(copy.deepcopy(model.config))
    classifier.bert.load_state_dict(model.state_dict(), strict=False)
    return classifier


def test_a_profile_of_bert_does_not_serve_a_roberta_of_the_same_shapes(tiny, of_bert):
    roberta, _ = tiny("roberta")
    with pytest.raises(InputError, match=r"BertModel.*model_type bert, not roberta.*accept_other_model=True"):
        allocate_ranks(of_bert, roberta)
    assert allocate_ranks(of_bert, roberta, accept_other_model=True).n_parameters > 0


@pytest.mark.parametrize(
    "change",
    [
        with_head,
        lambda model: model.to(torch.bfloat16),
        lambda model: get_peft_model(model, LoraConfig(target_modules=["key"])).get_base_model(),
        copy.deepcopy,
    ],
    ids=["with a task head", "in bfloat16", "with an adapter", "a copy"],
)
def test_the_same_model_is_known_again(tiny, of_bert, change):
    model = change(tiny("bert")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        allocate_ranks(of_bert, model, target_modules=["value"])


def test_other_weights_of_the_same_architecture_are_a_warning(tiny, of_bert):
    with pytest.warns(UserWarning, match="other weights of this architecture"):
        allocate_ranks(of_bert, trained(tiny("bert")[0]))


def test_another_number_of_heads_is_another_model(tiny, of_bert):
    model, _ = tiny("bert")
    model.config.num_attention_heads = 2
    with pytest.raises(InputError, match="num_attention_heads 4, not 2"):
        allocate_ranks(of_bert, model)


def test_a_profile_of_points_from_elsewhere_has_no_origin_and_serves_any_model(tiny, texts):
    model, tokenizer = tiny("bert")
    captured = capture(model, tokenizer, texts[:60], progress=False)
    given = Activations.from_arrays({layer: captured[layer] for layer in captured})
    profile = estimate_dimension(given, "twonn", progress=False)
    assert profile.origin == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        allocate_ranks(profile, tiny("roberta")[0])


def test_matrices_have_no_weights_to_compare(tiny, of_bert):
    assert allocate_ranks(of_bert, find_matrices(tiny("roberta")[0])).n_parameters > 0


def test_a_model_without_blocks_has_no_origin():
    assert describe_origin(torch.nn.Linear(2, 2)) == {}


def test_quantized_weights_are_not_known(tiny):
    model, _ = tiny("bert")
    model.encoder.layer[0].output.dense.weight.requires_grad_(requires_grad=False)
    model.encoder.layer[0].output.dense.weight.data = torch.zeros(4, dtype=torch.uint8)
    assert describe_origin(model)["weights"] is None
