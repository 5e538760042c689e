"""The blocks of a transformer are found by its structure, in the order in which they run."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import ARCHITECTURES, FURTHER_ARCHITECTURES, N_BLOCKS
from torch import nn
from transformers import AutoModelForSequenceClassification, GPT2LMHeadModel, T5ForConditionalGeneration

from gelora_viz.activations import Block, find_blocks
from gelora_viz.errors import InputError

STACKS = {
    "bert": [("encoder.layer", "")],
    "roberta": [("encoder.layer", "")],
    "deberta-v2": [("encoder.layer", "")],
    "gpt2": [("h", "")],
    "llama": [("layers", "")],
    "t5": [("encoder.block", "encoder"), ("decoder.block", "decoder")],
    "distilbert": [("transformer.layer", "")],
    "electra": [("encoder.layer", "")],
    "gpt-neox": [("layers", "")],
    "qwen2": [("layers", "")],
    "qwen3": [("layers", "")],
    "mistral": [("layers", "")],
    "gemma": [("layers", "")],
    "phi": [("layers", "")],
    "bart": [("encoder.layers", "encoder"), ("decoder.layers", "decoder")],
}


def expected(architecture, prefix=""):
    return [
        Block(f"{prefix}{name}.{number}", stack, number + 1)
        for name, stack in STACKS[architecture]
        for number in range(N_BLOCKS)
    ]


def block():
    return nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *FURTHER_ARCHITECTURES])
def test_every_family_has_its_blocks_with_stack_and_depth(tiny, architecture):
    assert find_blocks(tiny(architecture)[0]) == expected(architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_task_head_changes_only_the_names(tiny, architecture):
    backbone, _ = tiny(architecture)
    model = AutoModelForSequenceClassification.from_config(backbone.config)
    assert find_blocks(model) == expected(architecture, prefix=f"{model.base_model_prefix}.")


def test_language_models_have_the_blocks_of_their_backbones(tiny):
    assert find_blocks(GPT2LMHeadModel(tiny("gpt2")[0].config)) == expected("gpt2", prefix="transformer.")
    assert find_blocks(T5ForConditionalGeneration(tiny("t5")[0].config)) == expected("t5")


def test_an_adapter_changes_only_the_names(tiny):
    model = get_peft_model(tiny("bert")[0], LoraConfig(r=2, target_modules=["query", "value"]))
    assert find_blocks(model) == expected("bert", prefix="base_model.model.")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_names_lead_to_modules_that_run_in_that_order(tiny, architecture):
    model, tokenizer = tiny(architecture)
    ran = []
    for found in find_blocks(model):
        model.get_submodule(found.name).register_forward_hook(lambda *_, name=found.name: ran.append(name))
    batch = tokenizer(["The rain fell."], return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = batch["input_ids"]
    with torch.no_grad():
        model(**inputs)
    assert ran == [found.name for found in find_blocks(model)]


def test_an_encoder_comes_first_even_where_the_module_lists_it_last():
    model = nn.Module()
    model.decoder = nn.ModuleList([block(), block()])
    model.encoder = nn.ModuleList([block(), block()])
    assert [(found.stack, found.depth) for found in find_blocks(model)] == [
        ("encoder", 1), ("encoder", 2), ("decoder", 1), ("decoder", 2),
    ]  # fmt: skip


def test_a_small_list_beside_the_blocks_is_no_stack():
    model = nn.Module()
    model.blocks = nn.ModuleList(block() for _ in range(8))
    model.heads = nn.ModuleList([block()])
    assert [found.name for found in find_blocks(model)] == [f"blocks.{number}" for number in range(8)]


def test_lists_inside_blocks_are_no_stacks_of_their_own():
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.ModuleDict({"experts": nn.ModuleList([block(), block()])}) for _ in range(3))
    assert [found.name for found in find_blocks(model)] == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)),
        nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]),
        nn.Linear(2, 2),
    ],
    ids=["sequential", "list of single matrices", "one matrix"],
)
def test_a_model_without_blocks_is_told_to_name_its_layers(model):
    with pytest.raises(InputError, match=r"no recognizable blocks.*name its layers by module patterns"):
        find_blocks(model)
