"""A plan holds what an adapter can serve: matrices that inputs reach, in the tower that reads them; no routers."""

import functools

import pytest
import tiny_families
from peft import LoraConfig, get_peft_model
from tiny_models import N_BLOCKS
from torch import nn

from gelora_viz import add_adapter, allocate_ranks, capture, estimate_dimension, find_matrices, survey, uniform_budget
from gelora_viz.errors import GeloraVizWarning, InputError

FAST = ("gemma3", "clip", "mamba", "qwen3_moe", "deepseek_v3", "luke")


families = functools.partial(tiny_families.mark_slow, fast=FAST)


def modules_of(matrices):
    return [matrix.module for matrix in matrices]


@pytest.mark.parametrize("name", families(*tiny_families.TOWERS))
def test_the_matrices_of_a_model_with_towers_are_those_of_the_language_stack(family, name):
    model, tokenizer = family(name)
    [path] = survey(model, tokenizer).reached_stacks
    found = find_matrices(model, ["q_proj", "v_proj"])
    assert len(found) == 2 * N_BLOCKS
    assert all(module.startswith(f"{path}.") for module in modules_of(found))
    assert {matrix.block.stack for matrix in found} == {""}


def test_the_matrices_of_another_tower_can_be_asked_for(family):
    model, _ = family("gemma3")
    found = modules_of(find_matrices(model, ["q_proj"], stack="vision"))
    assert found == [f"model.vision_tower.encoder.layers.{i}.self_attn.q_proj" for i in range(N_BLOCKS)]
    assert uniform_budget(model, 2, ["q_proj"], stack="vision") == 2 * N_BLOCKS * (32 + 32)
    with pytest.raises(InputError, match="stack is 'audio'"):
        find_matrices(model, stack="audio")


@pytest.mark.filterwarnings("ignore:.*few points")
def test_a_profile_of_a_whole_model_makes_a_plan_of_its_language_stack(family, texts):
    model, tokenizer = family("gemma3")
    profile = estimate_dimension(capture(model, tokenizer, texts[:60], progress=False), "twonn", progress=False)
    plan = allocate_ranks(profile, model)
    assert set(plan.frame["layer"]) == {f"model.language_model.layers.{number}" for number in range(N_BLOCKS)}


def test_matrices_that_no_input_reaches_are_left_out_and_said(family):
    model, tokenizer = family("mamba")
    with pytest.warns(GeloraVizWarning, match=r"3 never called, .*such as layers.2.mixer.dt_proj") as warned:
        found = modules_of(find_matrices(model, "all-linear"))
    assert len(warned) == 1
    assert not any("dt_proj" in module for module in found)
    with pytest.warns(GeloraVizWarning, match="never called"):
        assert modules_of(find_matrices(model, "all-linear", survey=survey(model, tokenizer))) == found
    with pytest.raises(InputError, match=r"\['dt_proj'\] match only matrices that are never called"):
        find_matrices(model, ["dt_proj"])


def test_the_plan_lists_what_was_left_out_of_it(family):
    model, _ = family("luke")
    budget = 20_000
    with pytest.warns(GeloraVizWarning, match="9 never called"):
        plan = allocate_ranks(None, model, strategy="uniform", budget=budget, target_modules="all-linear")
    assert len(plan.settings["left_out"]) == 9
    assert not set(plan.settings["left_out"]) & set(plan.ranks)


def test_routers_are_left_out(family):
    model, _ = family("deepseek_v3")
    found = modules_of(find_matrices(model, ["q_a_proj", "o_proj"]))
    assert not any(module.endswith("gate") for module in found)


def test_dense_layers_that_peft_takes_for_experts_are_left_out(family):
    model, _ = family("deepseek_v3")
    with pytest.warns(GeloraVizWarning, match="not adapted by PEFT under such a name"):
        found = modules_of(find_matrices(model, "all-linear"))
    adapted = get_peft_model(model, LoraConfig(target_modules=found, r=2))
    wrapped = [name for name, module in adapted.base_model.model.named_modules() if hasattr(module, "base_layer")]
    assert wrapped == sorted(found, key=wrapped.index)
    assert len(wrapped) == len(found)


def test_matrices_inside_an_adapter_are_left_out(tiny):
    adapted = get_peft_model(tiny("bert")[0], LoraConfig(r=2, target_modules=["query"]))
    with pytest.warns(GeloraVizWarning, match="6 inside another adapter"):
        found = modules_of(find_matrices(adapted, "all-linear"))
    assert not any("lora_" in module for module in found)


def test_nothing_is_said_of_a_plain_transformer(tiny, recwarn):
    find_matrices(tiny("bert")[0], "all-linear")
    assert not [each for each in recwarn if issubclass(each.category, GeloraVizWarning)]


def test_what_peft_refuses_is_left_out_and_the_rest_adapted(family):
    model, _ = family("mamba")
    with pytest.warns(GeloraVizWarning, match=r"3 not adapted by PEFT .*such as layers.2.mixer.out_proj"):
        plan = allocate_ranks(None, model, strategy="uniform", budget=9_000, target_modules="all-linear")
    assert {module.rpartition(".")[2] for module in plan.ranks} == {"in_proj", "x_proj"}
    add_adapter(model, plan)


class Routed(nn.Module):
    """Experts in a list, of which each input runs one."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(4, 4)}) for _ in range(2))

    def forward(self, states):
        return states + self.experts[0]["up"](states) * self.gate(states).mean()


class OfLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.layers = nn.ModuleList(Routed() for _ in range(2))

    def forward(self, input_ids):
        states = self.embed(input_ids)
        for layer in self.layers:
            states = layer(states)
        return states


def test_experts_in_a_list_are_adapted_whichever_of_them_runs():
    with pytest.warns(GeloraVizWarning, match="2 routers"):
        found = modules_of(find_matrices(OfLists(), "all-linear"))
    assert found == [f"layers.{layer}.experts.{expert}.up" for layer in range(2) for expert in range(2)]
