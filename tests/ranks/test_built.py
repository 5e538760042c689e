"""What PEFT builds is what the plan says: every module, rank, scale and parameter, in the whole model, too."""

import copy
import functools
import json

import pytest
import tiny_families
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import N_BLOCKS

from gelora_viz import add_adapter, allocate_ranks, survey, uniform_budget
from gelora_viz.errors import InputError

FAST = ("gemma3", "clip", "qwen3_moe")
TARGETS = ["q_proj", "v_proj"]


families = functools.partial(tiny_families.mark_slow, fast=FAST)


def plan_of(model, rank=2, targets=TARGETS):
    budget = uniform_budget(model, rank, targets)
    return allocate_ranks(None, model, strategy="uniform", budget=budget, target_modules=targets)


def adapted_modules(peft_model):
    return [name for name, module in peft_model.get_base_model().named_modules() if hasattr(module, "lora_A")]


def n_trainable(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", families(*tiny_families.TOWERS, *tiny_families.EXPERTS))
def test_a_plan_of_a_whole_model_adapts_just_the_planned_matrices(family, name):
    model, _ = family(name)
    targets = "all-linear" if name == "qwen3_moe" else ["o_proj"] if name == "deepseek_v3" else TARGETS
    plan = plan_of(model, targets=targets)
    adapted = add_adapter(model, plan)
    assert sorted(adapted_modules(adapted)) == sorted(plan.ranks)
    assert n_trainable(adapted) == plan.n_parameters


@pytest.mark.parametrize("name", families(*tiny_families.TOWERS))
def test_a_plan_of_the_language_model_adapts_just_that_in_the_whole_model(family, name):
    model, tokenizer = family(name)
    path = survey(model, tokenizer).reached_stacks[0]
    part = path.removesuffix(".layers").removesuffix(".encoder")
    plan = plan_of(model.get_submodule(part))
    assert len(plan.ranks) == 2 * N_BLOCKS
    adapted = get_peft_model(model, plan.to_peft_config(model))
    plan.check(adapted)
    assert sorted(adapted_modules(adapted)) == sorted(f"{part}.{module}" for module in plan.ranks)
    assert n_trainable(adapted) == plan.n_parameters


def test_without_the_model_its_other_tower_is_adapted_too_and_the_check_says_so(family):
    model, _ = family("gemma3")
    plan = plan_of(model.model.language_model)
    adapted = get_peft_model(model, plan.to_peft_config())
    with pytest.raises(InputError, match=r"adapted 6 modules .*such as model.vision_tower.*to_peft_config\(model\)"):
        plan.check(adapted)


def test_a_plan_that_fits_two_towers_is_refused_where_it_does_not_say_for_which_it_was_made(family):
    model, _ = family("clip")
    plan = plan_of(model.text_model)
    unknown = type(plan)(plan.frame, plan.strategy, plan.budget, {})
    with pytest.raises(InputError, match=r"fits several parts of CLIPModel \(text_model, vision_model\)"):
        unknown.to_peft_config(model)


def test_full_names_that_end_other_names_become_an_expression(tiny, tmp_path):
    model, _ = tiny("bert")
    plan = plan_of(model, targets=["query"])
    model.twin = copy.deepcopy(model)  # twin.encoder.layer.0... ends in the planned names
    config = plan.to_peft_config(model)
    assert isinstance(config.target_modules, str)
    adapted = get_peft_model(copy.deepcopy(model), config)
    plan.check(adapted)
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(model, tmp_path, is_trainable=True)
    plan.check(loaded)
    assert not any(name.startswith("twin") for name in adapted_modules(loaded))


def test_r_is_the_largest_rank_for_servers_that_know_no_patterns(tiny, tmp_path):
    model, _ = tiny("bert")
    plan = plan_of(model, targets=["query"]).with_rank({"encoder.layer.0": 1, "encoder.layer.2": 7})
    add_adapter(model, plan).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"]) == (7, 14)


def test_unequal_scales_are_refused(tiny):
    plan = plan_of(tiny("bert")[0], targets=["query"])
    with pytest.raises(InputError, match=r"use_rslora=True scales by alpha / sqrt\(r\).*alpha_over_rank"):
        plan.to_peft_config(use_rslora=True)
    assert not plan.to_peft_config(use_rslora=False).use_rslora


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank_pattern": {}}, r"rank 3, and the plan rank 2"),
        ({"lora_alpha": 5, "alpha_pattern": {}}, r"PEFT scales .* by 2\.5, and the plan by 2"),
        ({"exclude_modules": ["layer.1.attention.self.query"]}, r"did not adapt 1 of 3 .* leave out exclude_modules"),
        ({"target_modules": {"query", "key"}}, r"adapted 3 modules that the plan does not name, such as .*key"),
    ],
    ids=["ranks", "scales", "fewer modules", "more modules"],
)
def test_whatever_peft_builds_otherwise_is_found(tiny, changed, message):
    model, _ = tiny("bert")
    plan = plan_of(model, targets=["query"])
    config = plan.to_peft_config()
    config.r = 3 if "rank_pattern" in changed else config.r
    for name, value in changed.items():
        setattr(config, name, value)
    with pytest.raises(InputError, match=message):
        plan.check(get_peft_model(model, config))


def test_another_scale_is_checked_when_it_is_given(tiny):
    model, _ = tiny("bert")
    plan = plan_of(model, targets=["query"])
    adapted = get_peft_model(model, plan.to_peft_config(model, alpha_over_rank=0.5))
    plan.check(adapted, alpha_over_rank=0.5)
    with pytest.raises(InputError, match=r"by 0\.5, and the plan by 2"):
        plan.check(adapted)


def test_only_an_adapted_model_is_checked(tiny):
    model, _ = tiny("bert")
    with pytest.raises(InputError, match=r"peft_model is a BertModel; give what peft\.get_peft_model returns"):
        plan_of(model, targets=["query"]).check(model)


def test_task_heads_and_dropout_are_no_matter_of_the_plan(tiny):
    model, _ = tiny("bert")
    plan = plan_of(model, targets=["query"])
    config = plan.to_peft_config(model, lora_dropout=0.1, use_dora=True, modules_to_save=["pooler"])
    assert isinstance(config, LoraConfig)
    plan.check(get_peft_model(model, config))
