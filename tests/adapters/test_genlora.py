"""GenLoRA behaves as PEFT's own methods do; the list of behaviors is that of PEFT's tests for custom models."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, convert_to_lora, get_peft_model
from peft.utils import PeftType
from tiny_models import ARCHITECTURES, HIDDEN_SIZE, N_BLOCKS
from torch import nn
from transformers import AutoModelForSequenceClassification, set_seed
from transformers.pytorch_utils import Conv1D

from gelora_viz import GenLoraConfig, add_adapter, find_matrices
from gelora_viz.activations import collate, tokenize
from gelora_viz.adapters.genlora import GenLoraLayer, GenLoraModel, register
from gelora_viz.errors import InputError

FULL = {"r": 6, "num_groups": 4, "num_rbfs": 3}
GRID = {**FULL, "train_centers": False, "train_widths": False}
VARIANTS = {
    "full": FULL,
    "grid": GRID,
    "frozen latent": {**GRID, "train_latent": False},
    "centers": {**FULL, "train_widths": False},
    "widths": {**FULL, "train_centers": False},
    "latent only": {**GRID, "train_weights": False, "init_weights": False},
}
each_variant = pytest.mark.parametrize("parts", VARIANTS.values(), ids=VARIANTS)


class Perceptron(nn.Module):
    """Layers of unequal shape, whose sizes no number of groups divides."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(10, 21)
        self.middle = Conv1D(13, 21)  # (inputs, outputs) the other way round
        self.last = nn.Linear(13, 3)

    def forward(self, x):
        return self.last(self.middle(self.first(x).relu()).relu())


@pytest.fixture
def perceptron():
    set_seed(0)
    return Perceptron().eval()


@pytest.fixture
def x():
    return torch.randn(7, 10, generator=torch.Generator().manual_seed(0))


def adapted(model, *, targets=("first", "middle"), moved=True, **options):
    """`model` with GenLoRA whose update, if `moved`, is not zero; in evaluation mode."""
    set_seed(1)
    config = GenLoraConfig(target_modules=list(targets), **{**FULL, "init_weights": not moved, **options})
    return get_peft_model(model, config).eval()


def trainable(model):
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def train(model, x, n_steps=3, rate=0.01):
    optimizer = torch.optim.Adam(trainable(model).values(), lr=rate)
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_fresh_adapter_changes_no_hidden_state_of_any_family_and_trains_as_many_as_the_formula_says(
    tiny, texts, architecture
):
    model, tokenizer = tiny(architecture)
    batch = collate(tokenize(tokenizer, texts[:4], model=model), tokenizer=tokenizer, model=model)
    matrices = find_matrices(model)
    with torch.inference_mode():
        before = model(**batch).last_hidden_state
        config = GenLoraConfig(**FULL)
        wrapped = add_adapter(model, config).eval()
        torch.testing.assert_close(wrapped(**batch).last_hidden_state, before)
    expected = sum(config.n_parameters(matrix.in_features, matrix.out_features) for matrix in matrices)
    assert sum(each.numel() for each in trainable(wrapped).values()) == expected
    assert all("genlora_" in name for name in trainable(wrapped))


@each_variant
def test_the_count_of_trained_parameters_is_the_formula_s(perceptron, parts):
    config = GenLoraConfig(target_modules=["first", "middle"], **parts)
    wrapped = get_peft_model(perceptron, config)
    assert sum(each.numel() for each in trainable(wrapped).values()) == sum(
        config.n_parameters(*shape) for shape in ((10, 21), (21, 13))
    )


@each_variant
def test_training_moves_what_is_to_train_and_nothing_else(perceptron, x, parts):
    wrapped = adapted(perceptron, **parts, moved=not parts.get("train_weights", True))
    before = {name: each.detach().clone() for name, each in wrapped.named_parameters()}
    train(wrapped, x)
    moved = {name for name, each in wrapped.named_parameters() if not torch.equal(each, before[name])}
    assert moved == set(trainable(wrapped))
    for kind in ("latent", "weights", "centers", "widths"):
        assert any(f"genlora_{kind}_" in name for name in moved) == parts.get(f"train_{kind}", True)


@each_variant
def test_merged_unmerged_safely_merged_and_unloaded_outputs_are_those_of_the_adapter(perceptron, x, parts):
    before = perceptron(x)
    wrapped = adapted(perceptron, **{**parts, "init_weights": False})
    with_adapter = wrapped(x)
    assert not torch.allclose(with_adapter, before, atol=1e-3)
    for safe in (False, True):
        wrapped.merge_adapter(safe_merge=safe)
        torch.testing.assert_close(wrapped(x), with_adapter, rtol=1e-4, atol=1e-5)
        wrapped.unmerge_adapter()
        torch.testing.assert_close(wrapped(x), with_adapter, rtol=1e-4, atol=1e-5)
    with wrapped.disable_adapter():
        torch.testing.assert_close(wrapped(x), before)
    unloaded = copy.deepcopy(wrapped).merge_and_unload()
    assert not any(isinstance(module, GenLoraLayer) for module in unloaded.modules())
    torch.testing.assert_close(unloaded(x), with_adapter, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wrapped.unload()(x), before)


def test_disabling_a_merged_adapter_restores_the_base(perceptron, x):
    before = perceptron(x)
    wrapped = adapted(perceptron)
    wrapped.merge_adapter()
    with wrapped.disable_adapter():
        torch.testing.assert_close(wrapped(x), before, rtol=1e-4, atol=1e-5)


def test_a_broken_adapter_is_not_merged_safely_and_the_base_stays_whole(perceptron):
    wrapped = adapted(perceptron)
    layer = wrapped.base_model.model.first
    weight = layer.get_base_layer().weight.clone()
    with torch.no_grad():
        layer.genlora_weights_A["default"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="adapter 'default' gives NaN"):
        wrapped.merge_adapter(safe_merge=True)
    assert torch.equal(layer.get_base_layer().weight, weight)


@each_variant
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_saved_adapter_loads_to_the_same_outputs_and_numbers(perceptron, x, tmp_path, parts, low_cpu_mem_usage):
    base = copy.deepcopy(perceptron)
    wrapped = train(adapted(perceptron, **parts), x)
    wrapped.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    loaded = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()
    assert torch.equal(loaded(x), wrapped(x))
    kept = {field.name for field in dataclasses.fields(GenLoraConfig)} - {"inference_mode", "auto_mapping"}
    config, ours = (model.peft_config["default"].to_dict() for model in (loaded, wrapped))
    assert {name: config[name] for name in kept} == {name: ours[name] for name in kept}
    assert not trainable(loaded)


def test_loaded_to_train_on_the_same_parameters_train(perceptron, x, tmp_path):
    base = copy.deepcopy(perceptron)
    wrapped = adapted(perceptron, train_latent=False)
    wrapped.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    assert trainable(again).keys() == trainable(wrapped).keys()


def test_several_adapters_live_on_one_model_and_are_chosen_added_up_and_deleted(perceptron, x):
    wrapped = adapted(perceptron)
    first = wrapped(x)
    set_seed(2)
    wrapped.add_adapter("second", GenLoraConfig(target_modules=["first"], **GRID, init_weights=False))
    torch.testing.assert_close(wrapped(x), first)  # not active yet
    assert not any(".second" in name for name in trainable(wrapped))
    wrapped.set_adapter("second")
    second = wrapped(x)
    assert not torch.allclose(second, first, atol=1e-4)
    assert all(".second" in name for name in trainable(wrapped))
    wrapped.base_model.set_adapter(["default", "second"])
    both = wrapped(x)
    wrapped.merge_adapter()
    torch.testing.assert_close(wrapped(x), both, rtol=1e-4, atol=1e-5)
    wrapped.unmerge_adapter()
    wrapped.set_adapter("second")
    wrapped.delete_adapter("default")
    torch.testing.assert_close(wrapped(x), second)
    assert not any(".default" in name for name in wrapped.state_dict())
    layer = wrapped.base_model.model.first
    assert set(layer.r) == set(layer.scaling) == set(layer.genlora_weights_A) == {"second"}
    assert "default" not in layer.frozen_peft_weight_names


def test_rank_and_alpha_patterns_decide_by_module_and_scales_follow(perceptron):
    wrapped = adapted(perceptron, rank_pattern={"middle": 3}, alpha_pattern={"first": 18})
    layers = wrapped.base_model.model
    assert (layers.first.r["default"], layers.first.scaling["default"]) == (6, 3.0)
    assert (layers.middle.r["default"], layers.middle.scaling["default"]) == (3, 2.0)
    assert layers.middle.genlora_weights_A["default"].shape == (3, 4, 3)


def test_excluded_modules_stay_as_they_are_and_modules_to_save_train_and_are_saved(perceptron, x, tmp_path):
    base = copy.deepcopy(perceptron)
    wrapped = adapted(
        perceptron, targets=["first", "middle"], exclude_modules=["middle"], modules_to_save=["last"], moved=False
    )
    assert isinstance(wrapped.base_model.model.middle, Conv1D)
    assert {name for name in trainable(wrapped) if "genlora" not in name} == {
        "base_model.model.last.modules_to_save.default.weight",
        "base_model.model.last.modules_to_save.default.bias",
    }
    train(wrapped, x)
    wrapped.save_pretrained(tmp_path)
    torch.testing.assert_close(PeftModel.from_pretrained(base, tmp_path)(x), wrapped(x))


def test_biases_train_where_asked(perceptron):
    assert not any("bias" in name for name in trainable(adapted(copy.deepcopy(perceptron))))
    only = trainable(adapted(copy.deepcopy(perceptron), bias="genlora_only"))
    assert {name.split(".")[2] for name in only if "bias" in name} == {"first", "middle"}
    every = trainable(adapted(perceptron, bias="all"))
    assert {name.split(".")[2] for name in every if "bias" in name} == {"first", "middle", "last"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_half_precision_weights_the_adapter_trains_in_float32_and_merges(perceptron, x, dtype):
    wrapped = adapted(perceptron.to(dtype), targets=["first", "last"], r=2, num_groups=2, num_rbfs=2)
    assert {each.dtype for each in trainable(wrapped).values()} == {torch.float32}
    x = x.to(dtype)
    layer = wrapped.base_model.model.first
    output = layer(x)
    assert output.dtype == dtype
    output.float().square().mean().backward()
    assert layer.genlora_latent_A["default"].grad.abs().sum() > 0
    layer.merge()
    torch.testing.assert_close(layer(x).float(), output.float(), rtol=0.05, atol=0.05)


def test_under_autocast_the_update_is_computed_in_half_precision_and_gradients_reach_every_part(perceptron, x):
    wrapped = adapted(perceptron).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = wrapped(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), wrapped(x), rtol=0.05, atol=0.05)
    output.float().square().mean().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in trainable(wrapped).values())


def test_dropout_acts_in_training_only(perceptron, x):
    wrapped = adapted(perceptron, dropout=0.5)
    torch.testing.assert_close(wrapped(x), wrapped(x))
    wrapped.train()
    assert not torch.equal(wrapped(x), wrapped(x))


def test_peft_converts_it_to_a_lora_with_the_same_outputs(perceptron, x):
    base = copy.deepcopy(perceptron)
    wrapped = adapted(perceptron, targets=["first"])
    config, weights = convert_to_lora(wrapped, rank=FULL["r"])
    lora = get_peft_model(base, config).eval()
    missing = lora.load_state_dict(
        {name.replace(".weight", ".default.weight"): each for name, each in weights.items()}, strict=False
    )
    assert not missing.unexpected_keys
    torch.testing.assert_close(lora(x), wrapped(x), rtol=1e-3, atol=1e-4)


def test_gradient_checkpointing_and_training_a_task_head_go_together(tiny_folder):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=3)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    wrapped = get_peft_model(model, GenLoraConfig(task_type=TaskType.SEQ_CLS, **FULL))
    ids = torch.arange(5, 17).view(2, 6)
    wrapped.train()
    wrapped(input_ids=ids, labels=torch.tensor([0, 2])).loss.backward()
    assert any("classifier" in name for name in trainable(wrapped))
    reached = {name for name, each in trainable(wrapped).items() if each.grad is not None}
    assert reached == set(trainable(wrapped))


def test_without_target_modules_it_takes_those_of_lora(tiny):
    ours = get_peft_model(tiny("bert")[0], GenLoraConfig(**FULL))
    theirs = get_peft_model(tiny("bert")[0], LoraConfig())
    names = [
        {name for name, each in model.base_model.model.named_modules() if hasattr(each, "base_layer")}
        for model in (ours, theirs)
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 2 * N_BLOCKS


def test_equal_seeds_give_equal_adapters(tiny):
    first, again, other = (
        add_adapter(tiny("bert")[0], GenLoraConfig(**FULL), seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_registering_again_as_after_a_reload_changes_nothing():
    register(GenLoraConfig, GenLoraModel)
    assert PeftType("GENLORA") is PeftType.GENLORA
    assert PeftType.GENLORA in list(PeftType)
    assert PeftType.GENLORA == "GENLORA"


def test_a_process_that_has_not_imported_the_method_is_told_by_peft_and_one_import_mends_it(
    tiny, tiny_folder, tmp_path
):
    add_adapter(tiny("bert")[0], GenLoraConfig(**FULL)).save_pretrained(tmp_path)
    program = (
        "import sys\nfrom transformers import AutoModel\nfrom peft import PeftModel\n{}\n"
        f"model = AutoModel.from_pretrained({str(tiny_folder('bert'))!r})\n"
        f"print(type(PeftModel.from_pretrained(model, {str(tmp_path)!r}).base_model).__name__)"
    )
    without, with_import = (
        subprocess.run([sys.executable, "-c", program.format(line)], capture_output=True, text=True, check=False)
        for line in ("", "import gelora_viz.adapters")
    )
    assert "KeyError: 'GENLORA'" in without.stderr
    assert with_import.stdout.strip() == "GenLoraModel", with_import.stderr


def test_the_saved_configuration_is_plain_json(perceptron, tmp_path):
    adapted(perceptron, rank_pattern={"middle": 3}).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["peft_type"] == "GENLORA"
    assert saved["num_groups"] == 4
    assert saved["rank_pattern"] == {"middle": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r is 0; give a whole number of at least 1"),
        ({"r": 2.5}, "r is 2.5;"),
        ({"num_groups": True}, "num_groups is True;"),
        ({"num_rbfs": -1}, "num_rbfs is -1;"),
        ({"r": 13}, r"num_groups x num_rbfs = 4 x 3 = 12 is below r = 13, .* lower r to 12"),
        ({"rank_pattern": {"first": 20}}, "= 12 is below r = 20"),
        ({"rank_pattern": {"first": 0}}, r"rank_pattern\['first'\] is 0;"),
        ({"alpha": 0}, "alpha is 0; give a number above 0"),
        ({"dropout": 1.0}, "dropout is 1.0; give a number of at least 0 and below 1"),
        ({"dropout": "0.1"}, "dropout is '0.1'; give a number"),
        ({"bias": "some"}, "unknown bias 'some'; choose none, all or genlora_only"),
        ({"train_weights": False}, "train_weights=False keeps B's weights at zero"),
        (
            {"init_weights": False} | {f"train_{part}": False for part in ("latent", "weights", "centers", "widths")},
            "neither latents, weights, centers nor widths train",
        ),
        ({"target_modules": "first", "layers_to_transform": [0]}, "needs a list of target_modules"),
        ({"layers_pattern": "h"}, "layers_pattern says where"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_when_it_is_made(options, message):
    with pytest.raises(InputError, match=message):
        GenLoraConfig(**{**FULL, **options})


def test_ranks_and_groups_beyond_a_matrix_are_refused_with_both_numbers(perceptron):
    with pytest.raises(InputError, match=r"r = 6 exceeds min\(in, out\) = 3 of a 13 x 3 matrix; .* rank_pattern"):
        adapted(copy.deepcopy(perceptron), targets=["last"])
    with pytest.raises(InputError, match=r"num_groups = 4 exceeds min\(in, out\) = 3"):
        adapted(perceptron, targets=["last"], r=2)


def test_a_layer_of_another_type_is_refused_by_name(tiny):
    with pytest.raises(InputError, match=r"cannot adapt embeddings.word_embeddings, a Embedding; it takes nn.Linear"):
        add_adapter(tiny("bert")[0], GenLoraConfig(target_modules=["word_embeddings"], **FULL))


def test_target_modules_that_match_nothing_are_refused_with_the_nearest_names(tiny):
    with pytest.raises(InputError, match=r"target_modules has 'qery', .*did you mean query"):
        add_adapter(tiny("bert")[0], GenLoraConfig(target_modules=["qery", "value"], **FULL))


def test_the_width_of_the_hidden_states_bounds_the_default_rank(tiny):
    wrapped = add_adapter(tiny("bert")[0], GenLoraConfig())
    assert next(iter(wrapped.base_model.model.encoder.layer)).attention.self.query.r == {"default": HIDDEN_SIZE}
