"""An adapter goes onto the model it was made for, trains alone, and changes nothing before it is trained."""

from __future__ import annotations

import pytest
import torch
from peft import IA3Config, LoKrConfig, LoraConfig, PeftModel, VeraConfig
from tiny_models import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from gelora_viz import RankPlan, add_adapter, allocate_ranks, uniform_budget
from gelora_viz.activations import collate, tokenize
from gelora_viz.adapters import config_from_dict
from gelora_viz.errors import InputError

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)

OTHER_METHODS = {
    "LORA": LoraConfig(target_modules=["query"], r=3),
    "VERA": VeraConfig(target_modules=["query", "value"], r=4),
    "LOKR": LoKrConfig(target_modules=["query"], r=2),
    "IA3": IA3Config(target_modules=["query"], feedforward_modules=[]),
}


def uniform_plan(model, rank=2):
    return allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, rank))


def trainable(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def read(model, tokenizer, texts):
    batch = collate(tokenize(tokenizer, texts, model=model), tokenizer=tokenizer, model=model)
    with torch.inference_mode():
        return model(**batch).last_hidden_state


@each_architecture
def test_only_the_adapter_s_parameters_train_and_they_are_as_many_as_planned(tiny, architecture):
    model, _ = tiny(architecture)
    plan = uniform_plan(model)
    adapted = add_adapter(model, plan)
    assert isinstance(adapted, PeftModel)
    assert all("lora_" in name for name in trainable(adapted))
    assert sum(parameter.numel() for parameter in trainable(adapted).values()) == plan.n_parameters


@each_architecture
def test_a_fresh_adapter_changes_no_hidden_state(tiny, architecture, texts):
    model, tokenizer = tiny(architecture)
    before = read(model, tokenizer, texts[:4])
    adapted = add_adapter(model, uniform_plan(model)).eval()
    torch.testing.assert_close(read(adapted, tokenizer, texts[:4]), before)


def test_equal_seeds_give_equal_adapters_and_unequal_seeds_do_not(tiny):
    first, again, other = (
        trainable(add_adapter(model, uniform_plan(model), seed=seed))
        for seed, model in ((1, tiny("bert")[0]), (1, tiny("bert")[0]), (2, tiny("bert")[0]))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_a_peft_configuration_of_any_method_is_handed_on_as_it_is(tiny, method):
    config = OTHER_METHODS[method]
    adapted = add_adapter(tiny("bert")[0], config)
    assert adapted.peft_config["default"] is config
    assert str(config.peft_type).endswith(method)
    names = trainable(adapted)
    assert names
    assert all("query" in name or "value" in name or "vera" in name for name in names)


def test_a_plan_for_an_architecture_of_other_names_is_refused_with_the_names(tiny):
    plan = uniform_plan(tiny("gpt2")[0])
    with pytest.raises(InputError, match=r"another model: h\.0\.attn\.c_attn \(missing, planned 32 x 96\)"):
        add_adapter(tiny("bert")[0], plan)


def test_a_plan_for_matrices_of_another_shape_is_refused_with_both_shapes(tiny):
    model, _ = tiny("bert")
    frame = uniform_plan(model).frame.assign(in_features=64)
    with pytest.raises(InputError, match=r"query \(32 x 32, planned 64 x 32\).* and 3 more; allocate ranks"):
        add_adapter(model, RankPlan(frame, "by hand"))


def test_a_plan_for_the_plain_model_is_put_where_that_is_inside_a_head(tiny, tiny_folder):
    headed = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=2)
    plan = uniform_plan(tiny("bert")[0])
    adapted = add_adapter(headed, plan)
    names = {name for name, module in adapted.get_base_model().named_modules() if hasattr(module, "lora_A")}
    assert names == {f"bert.{module}" for module in plan.ranks}
    assert sum(parameter.numel() for parameter in trainable(adapted).values()) == plan.n_parameters


def test_a_plan_that_peft_reads_otherwise_is_refused_and_leaves_no_adapter(tiny, monkeypatch):
    model, _ = tiny("bert")
    plan = uniform_plan(model)
    further = plan.to_peft_config()
    further.target_modules = {*further.target_modules, "key"}
    monkeypatch.setattr(RankPlan, "to_peft_config", lambda *_: further)
    with pytest.raises(InputError, match=r"adapted 3 modules that the plan does not name, such as .*self\.key"):
        add_adapter(model, plan)
    assert not [name for name, _ in model.named_modules() if "lora" in name]


def test_a_refused_plan_leaves_the_model_as_it_was(tiny):
    model, _ = tiny("bert")
    before = list(trainable(model))
    with pytest.raises(InputError):
        add_adapter(model, uniform_plan(tiny("t5")[0]))
    assert list(trainable(model)) == before


@pytest.mark.parametrize("method", [LoraConfig, LoKrConfig])
@pytest.mark.parametrize("targets", [["qery"], ["qery", "value"]], ids=["alone", "beside one that matches"])
def test_a_target_module_that_matches_nothing_is_refused_with_the_nearest_names(tiny, method, targets):
    model, _ = tiny("bert")
    before = list(trainable(model))
    with pytest.raises(
        InputError, match=r"target_modules has 'qery', which no module .*did you mean query"
    ) as caught:
        add_adapter(model, method(target_modules=targets))
    assert "\n" not in str(caught.value)
    assert list(trainable(model)) == before


def test_a_pattern_of_target_modules_that_matches_nothing_is_refused_in_one_line(tiny):
    with pytest.raises(InputError, match=r"PEFT refuses the adapter \(.*nowhere.*check its target_modules") as caught:
        add_adapter(tiny("bert")[0], LoraConfig(target_modules=r"nowhere\..*"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("attribute", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_matches_nothing_is_refused_although_peft_would_pass_over_it(tiny, attribute):
    config = LoraConfig(target_modules=["query"], **{attribute: {"encoder.layer.7.attention.self.query": 2}})
    with pytest.raises(InputError, match=f"{attribute} has 'encoder.layer.7.*did you mean encoder.layer.2"):
        add_adapter(tiny("bert")[0], config)


def test_a_lora_rank_above_the_matrix_s_own_is_refused_with_both_numbers(tiny):
    with pytest.raises(InputError, match=r"r = 33 exceeds min\(in, out\) = 32 of encoder.layer.0.*query, a 32 x 32"):
        add_adapter(tiny("bert")[0], LoraConfig(target_modules=["query"], r=33))
    key = r"encoder\.layer\.1\.attention\.self\.query"
    with pytest.raises(InputError, match=r"r = 40 exceeds .* of encoder.layer.1"):
        add_adapter(tiny("bert")[0], LoraConfig(target_modules=["query"], r=4, rank_pattern={key: 40}))


def test_a_configuration_of_a_method_that_peft_does_not_know_is_refused():
    with pytest.raises(InputError, match="PEFT knows no method 'FUTURELORA'"):
        config_from_dict({"peft_type": "FUTURELORA", "r": 4})
