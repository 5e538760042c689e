"""Compressed adapters do what the original did, up to the loss that they report, and load as PEFT's own."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from adapted_models import change_of_output, output_of, trained, updates
from peft import (
    AdaLoraConfig,
    C3AConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PromptTuningConfig,
    TaskType,
    VeraConfig,
    get_peft_model,
)
from peft.tuners.lora.conversion import convert_to_lora
from torch import nn
from transformers import AutoModelForSequenceClassification, ViTConfig, ViTModel

from gelora_viz import Compression, compress, measure_spectra
from gelora_viz.activations import collate, tokenize
from gelora_viz.adapters import GenLoraConfig
from gelora_viz.errors import InputError, StudyError

BOTH = ["query", "value"]
METHODS = {
    "LORA": LoraConfig(r=4, target_modules=BOTH),
    "rsLoRA": LoraConfig(r=4, lora_alpha=3, target_modules=BOTH, use_rslora=True),
    "DoRA": LoraConfig(r=4, target_modules=BOTH, use_dora=True),
    "embeddings": LoraConfig(r=4, target_modules=["query", "word_embeddings"]),
    "ADALORA": AdaLoraConfig(target_modules=BOTH, total_step=10),
    "GENLORA": GenLoraConfig(r=6, num_groups=4, target_modules=BOTH),
    "VERA": VeraConfig(r=6, target_modules=BOTH),
    "OFT": OFTConfig(target_modules=BOTH, oft_block_size=8, r=0),
    "HRA": HRAConfig(target_modules=BOTH),
    "LOKR": LoKrConfig(r=3, target_modules=BOTH),
    "LOHA": LoHaConfig(r=3, target_modules=BOTH),
    "C3A": C3AConfig(block_size=8, target_modules=BOTH),
    "FOURIERFT": FourierFTConfig(n_frequency=30, target_modules=BOTH),
}


def batch_of(model, tokenizer, texts):
    return collate(tokenize(tokenizer, texts, model=model), tokenizer=tokenizer, model=model)


@pytest.fixture(scope="module")
def lora(tiny):
    """A BERT and the same with a LoRA of rank 4 that has moved; neither is changed by a compression."""
    base, _ = tiny("bert")
    return base, trained(copy.deepcopy(base), METHODS["LORA"])


# What the compressed adapter is


@pytest.mark.parametrize("method", METHODS)
def test_with_all_its_energy_a_saved_and_loaded_adapter_does_what_the_original_did(tiny, texts, tmp_path, method):
    base, tokenizer = tiny("bert")
    adapted = trained(copy.deepcopy(base), METHODS[method])
    batch = batch_of(base, tokenizer, texts[:8])
    compression = compress(adapted, energy=1.0, batches=[batch])
    assert (compression.frame["relative_error"] < 1e-6).all()
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), compression.save(tmp_path / "adapter"))
    assert change_of_output(adapted, loaded, batch) < 2e-6
    assert change_of_output(base, adapted, batch) > 1e-3
    truth = updates(adapted, base)
    for module, update in updates(loaded, base).items():
        torch.testing.assert_close(update, truth.pop(module), rtol=0, atol=1e-6)
    assert not truth


@pytest.mark.parametrize("method", ["LORA", "DoRA", "VERA", "OFT", "LOKR"])
def test_the_output_of_what_is_loaded_differs_by_what_was_reported(tiny, texts, tmp_path, method):
    base, tokenizer = tiny("bert")
    adapted = trained(copy.deepcopy(base), METHODS[method])
    batch = batch_of(base, tokenizer, texts[:8])
    compression = compress(adapted, rank=2, batches=[batch])
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), compression.save(tmp_path / "adapter"))
    change, effect = change_of_output(adapted, loaded, batch), change_of_output(base, adapted, batch)
    assert compression.output_change == pytest.approx(change, rel=1e-4)
    assert compression.adapter_effect == pytest.approx(effect, rel=1e-4)
    assert change > 1e-3
    truth, approximate = updates(adapted, base), updates(loaded, base)
    for row in compression.frame.itertuples():
        error = (approximate[row.module] - truth[row.module]).norm() / truth[row.module].norm()
        assert row.relative_error == pytest.approx(float(error), rel=1e-4)
        assert row.relative_error**2 + row.energy_kept == pytest.approx(1, abs=1e-6)


def test_several_batches_count_as_one_and_padding_does_not(lora, tiny, texts):
    base, adapted = lora
    _, tokenizer = tiny("bert")
    short, long = texts[:1], [" ".join(texts[1:4])]
    one_by_one = compress(adapted, rank=1, batches=[batch_of(base, tokenizer, each) for each in (short, long)])
    together = compress(adapted, rank=1, batches=[batch_of(base, tokenizer, short + long)])
    assert one_by_one.output_change == pytest.approx(together.output_change, rel=1e-4)
    assert one_by_one.adapter_effect == pytest.approx(together.adapter_effect, rel=1e-4)
    assert one_by_one.settings["n_batches"] == 2


@pytest.mark.parametrize("architecture", ["gpt2", "t5", "llama", "deberta-v2"])
def test_any_architecture_is_compressed_and_measured_on_the_inputs_that_it_brings(tiny, tmp_path, architecture):
    base, _ = tiny(architecture)
    targets = {"gpt2": ["c_attn", "c_proj"], "t5": ["q", "wo"], "llama": ["q_proj", "v_proj"]}
    config = LoraConfig(r=4, target_modules=targets.get(architecture, ["query_proj"]))
    adapted = trained(copy.deepcopy(base), config)
    compression = compress(adapted, rank=2)
    assert compression.settings["outputs_on"] == "dummy_inputs"
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), compression.save(tmp_path / "adapter"))
    change = change_of_output(adapted, loaded, base.dummy_inputs)
    assert compression.output_change == pytest.approx(change, rel=1e-4)
    assert change > 1e-3


@pytest.mark.parametrize("method", ["LOKR", "LOHA", "VERA"])
def test_ranks_and_products_are_those_of_peft_s_conversion_where_it_has_one(tiny, method):
    adapted = trained(tiny("bert")[0], METHODS[method])
    config, state = convert_to_lora(copy.deepcopy(adapted), rank=0.9)
    compression = compress(adapted, energy=0.9)
    for row in compression.frame.itertuples():
        assert config.rank_pattern.get(row.module, config.r) == row.compressed_rank
        prefix = f"base_model.model.{row.module}"
        ours = compression.weights[f"{prefix}.lora_B.weight"] @ compression.weights[f"{prefix}.lora_A.weight"]
        theirs = state[f"{prefix}.lora_B.weight"] @ state[f"{prefix}.lora_A.weight"]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


# Which ranks it has


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_ranks_are_the_smallest_that_hold_the_energy(lora, energy):
    _, adapted = lora
    spectrum = measure_spectra(adapted)
    compression = compress(adapted, energy=energy)
    for row in compression.frame.itertuples():
        shares = (
            np.cumsum(spectrum.singular_values[row.module] ** 2)
            / spectrum.frame.set_index("module").loc[row.module, "norm"] ** 2
        )
        assert shares[row.compressed_rank - 1] >= energy - 1e-12
        assert row.compressed_rank == 1 or shares[row.compressed_rank - 2] < energy
        assert row.energy_kept == pytest.approx(shares[row.compressed_rank - 1])


def test_the_effective_rank_is_the_entropy_rank_rounded_up(lora):
    _, adapted = lora
    compression = compress(adapted, rank="effective")
    entropy = measure_spectra(adapted).frame["entropy_rank"]
    assert compression.frame["compressed_rank"].tolist() == np.ceil(entropy).astype(int).tolist()


def test_two_equal_directions_are_two_whatever_rounding_says(tiny):
    adapted = get_peft_model(tiny("bert")[0], LoraConfig(r=4, lora_alpha=4, target_modules=["query"]))
    with torch.no_grad():
        for name, factor in adapted.named_parameters():
            if "lora_" in name:
                factor.zero_()
                factor[:2, :2] = torch.eye(2)
    for arguments in ({"rank": "effective"}, {"energy": 1.0}, {}):
        assert set(compress(adapted, **arguments).frame["compressed_rank"]) == {2}


def test_one_rank_for_all_is_kept_to_where_updates_have_as_many(lora):
    _, adapted = lora
    assert set(compress(adapted, rank=3).frame["compressed_rank"]) == {3}
    assert set(compress(adapted, rank=20).frame["compressed_rank"]) == {4}


def test_without_a_target_ninety_nine_percent_of_the_energy_are_kept(lora):
    _, adapted = lora
    pd.testing.assert_frame_equal(compress(adapted).frame, compress(adapted, energy=0.99).frame)
    assert (compress(adapted).frame["energy_kept"] >= 0.99).all()


def test_a_matrix_that_did_not_move_is_not_adapted(tiny, tmp_path):
    base, _ = tiny("bert")
    adapted = trained(copy.deepcopy(base), METHODS["LORA"])
    still = "encoder.layer.1.attention.self.query"
    with torch.no_grad():
        adapted.get_base_model().get_submodule(still).lora_B["default"].weight.zero_()
    compression = compress(adapted, energy=1.0)
    row = compression.frame.set_index("module").loc[still]
    assert (row[["compressed_rank", "n_parameters"]] == 0).all()
    assert row[["energy_kept", "relative_error"]].isna().all()
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), compression.save(tmp_path / "adapter"))
    assert still not in updates(loaded, base)
    assert change_of_output(adapted, loaded, base.dummy_inputs) < 2e-6


def test_parameters_are_counted_before_and_after(lora, tiny):
    _, adapted = lora
    compression = compress(adapted, rank=2)
    assert compression.n_parameters_before == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert compression.n_parameters_after == sum(tensor.numel() for tensor in compression.weights.values())
    assert compression.n_parameters_after == compression.n_parameters_before / 2
    shared = trained(tiny("bert")[0], METHODS["VERA"])
    assert compress(shared).n_parameters_before == 6 * (6 + 32)


def test_factors_are_kept_in_the_adapter_s_own_type_and_its_rounding_is_reported(tiny, tmp_path):
    base, _ = tiny("bert")
    adapted = trained(copy.deepcopy(base), METHODS["LORA"])
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.bfloat16()
    compression = compress(adapted, energy=1.0)
    assert {tensor.dtype for tensor in compression.weights.values()} == {torch.bfloat16}
    np.testing.assert_allclose(compression.frame["energy_kept"], 1)
    assert compression.frame["relative_error"].between(1e-4, 1e-2).all()


# What goes with it, and what stays


@pytest.fixture(scope="module")
def headed(tiny_folder):
    """A classifier and the same with a LoRA and a head that have moved."""
    base = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=3)
    config = LoraConfig(r=4, target_modules=BOTH, task_type=TaskType.SEQ_CLS)
    return base, trained(copy.deepcopy(base), config)


def test_modules_that_are_saved_whole_go_with_it(headed, tmp_path):
    base, adapted = headed
    compression = compress(adapted, energy=1.0)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), compression.save(tmp_path / "adapter"))
    assert change_of_output(adapted, loaded, base.dummy_inputs) < 2e-6
    assert not torch.equal(loaded.get_base_model().classifier.weight, base.classifier.weight)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    original = adapted.peft_config["default"]
    assert config["task_type"] == "SEQ_CLS"
    assert config["modules_to_save"] == list(original.modules_to_save)
    assert config["base_model_name_or_path"] == original.base_model_name_or_path
    assert compression.n_parameters_after == compression.frame["n_parameters"].sum()


def test_the_effect_of_an_adapter_includes_its_head_and_the_loss_does_not(headed):
    base, adapted = headed
    compression = compress(adapted, energy=1.0)
    assert compression.output_change < 2e-6
    effect = change_of_output(base, adapted, base.dummy_inputs)
    assert compression.adapter_effect == pytest.approx(effect, rel=1e-4)


@pytest.mark.parametrize("method", ["LORA", "DoRA", "OFT", "VERA"])
def test_the_model_is_left_exactly_as_it_was(tiny, method):
    adapted = trained(tiny("bert")[0], METHODS[method]).train()
    adapted.get_base_model().pooler.eval()
    before = copy.deepcopy(adapted)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    compress(adapted, rank=1)
    assert torch.equal(torch.rand(1), expected)
    weights = before.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in adapted.state_dict().items())
    for (_, one), (_, other) in zip(before.named_parameters(), adapted.named_parameters(), strict=True):
        assert one.requires_grad == other.requires_grad
        assert other.grad is None
    for one, other in zip(before.modules(), adapted.modules(), strict=True):
        assert one.training == other.training
        assert len(other._forward_hooks) == len(one._forward_hooks)
        assert getattr(one, "_disable_adapters", None) == getattr(other, "_disable_adapters", None)
    torch.testing.assert_close(output_of(adapted, adapted.dummy_inputs), output_of(before, before.dummy_inputs))


def test_one_of_several_adapters_is_compressed_once_it_is_the_active_one(tiny):
    base, _ = tiny("bert")
    adapted = trained(copy.deepcopy(base), METHODS["LORA"])
    adapted.add_adapter("second", LoraConfig(r=5, target_modules=["key"], init_lora_weights=False))
    with pytest.raises(
        InputError, match=r"active is default, not 'second' alone.*call set_adapter\('second'\) first"
    ):
        compress(adapted, adapter_name="second")
    adapted.set_adapter("second")
    compression = compress(adapted, adapter_name="second", energy=1.0)
    assert compression.frame["module"].str.endswith("key").all()
    assert change_of_output(adapted, compression.add_to(copy.deepcopy(base)), base.dummy_inputs) < 2e-6


# Results


def test_a_compression_goes_onto_a_base_model_directly(lora, texts):
    base, adapted = lora
    compression = compress(adapted, energy=1.0)
    twin = compression.add_to(copy.deepcopy(base), adapter_name="small")
    assert twin.active_adapters == ["small"]
    assert change_of_output(adapted, twin, base.dummy_inputs) < 2e-6
    assert compression.add_to(copy.deepcopy(base)).active_adapters == ["default"]


def test_a_compression_goes_onto_no_other_model(lora, tiny):
    _, adapted = lora
    compression = compress(adapted)
    with pytest.raises(InputError, match="already has an adapter"):
        compression.add_to(adapted)
    with pytest.raises(InputError, match="made for another model"):
        compression.add_to(tiny("gpt2")[0])


def test_a_compression_read_back_is_the_one_that_was_saved(lora, tmp_path):
    base, adapted = lora
    compression = compress(adapted, rank="effective")
    loaded = Compression.load(compression.save(tmp_path / "adapter"))
    pd.testing.assert_frame_equal(loaded.frame, compression.frame)
    assert repr(loaded) == repr(compression)
    assert repr(loaded).startswith("Compression(LORA: 6 matrices, ranks ")
    assert loaded.settings == compression.settings
    assert loaded._repr_html_().count("<tr>") == 7
    assert (
        change_of_output(
            compression.add_to(copy.deepcopy(base)), loaded.add_to(copy.deepcopy(base)), base.dummy_inputs
        )
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "compression.json",
    ]  # fmt: skip
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(StudyError, match="compress again"):
        Compression.load(tmp_path / "adapter")


def test_a_folder_that_cannot_be_written_is_named(lora, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot write .*file"):
        compress(lora[1]).save(tmp_path / "file")


def test_names_are_escaped_so_that_no_layer_is_taken_for_another(lora):
    compression = compress(lora[1])
    assert r"encoder\.layer\.0\.attention\.self\.query" in compression.config.rank_pattern
    assert compression.config.rank_pattern == compression.config.alpha_pattern


# What is refused, before anything is decomposed


@pytest.fixture
def untouched(monkeypatch):
    """Fails where anything is decomposed."""
    for name in ("svd", "svdvals", "qr"):
        monkeypatch.setattr(torch.linalg, name, lambda *_, **__: pytest.fail("decomposed"))


@pytest.mark.parametrize("energy", [0, -0.1, 1.01, float("nan"), True, "0.9"])
def test_an_energy_outside_its_range_is_refused(lora, untouched, energy):
    with pytest.raises(InputError, match=r"energy is .*; give a number above 0 and at most 1"):
        compress(lora[1], energy=energy)


@pytest.mark.parametrize("rank", [0, -1, 2.5, True, "entropy"])
def test_a_rank_that_is_none_is_refused(lora, untouched, rank):
    with pytest.raises(InputError, match='give a whole number of at least 1, or "effective"'):
        compress(lora[1], rank=rank)


def test_energy_and_rank_together_are_refused(lora, untouched):
    with pytest.raises(InputError, match=r"energy 0\.9 and rank 2 both decide the ranks; give one of them"):
        compress(lora[1], energy=0.9, rank=2)


def test_a_model_without_that_adapter_is_refused(lora, tiny, untouched):
    with pytest.raises(InputError, match="compress needs a PEFT model, not a BertModel"):
        compress(tiny("bert")[0])
    with pytest.raises(InputError, match="no adapter 'other'; the model has default"):
        compress(lora[1], adapter_name="other")
    tokens = get_peft_model(tiny("gpt2")[0], PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION"))
    with pytest.raises(InputError, match=r"\(PROMPT_TUNING\) changes no weight matrix"):
        compress(tokens)


def test_weights_that_are_not_finite_are_refused_with_their_module(tiny, untouched):
    adapted = trained(tiny("bert")[0], METHODS["VERA"])
    module = "encoder.layer.2.attention.self.value"
    with torch.no_grad():
        adapted.get_base_model().get_submodule(module).vera_lambda_b["default"][0] = float("inf")
    with pytest.raises(InputError, match=f"update of {module} holds NaN or infinite values"):
        compress(adapted)


def test_an_adapter_that_was_not_trained_has_nothing_to_keep(tiny):
    for method in ("LORA", "DoRA", "VERA"):
        with pytest.raises(InputError, match="every update of the adapter is zero, so every rank would be 0"):
            compress(get_peft_model(tiny("bert")[0], METHODS[method]))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (LoraConfig(r=2, target_modules=BOTH, bias="all"), "bias='all'"),
        (LoraConfig(r=2, target_modules=BOTH, bias="lora_only"), "bias='lora_only'"),
        (LoraConfig(r=2, target_modules=BOTH, lora_bias=True), "lora_bias=True"),
        (GenLoraConfig(r=2, num_groups=2, target_modules=BOTH, bias="genlora_only"), "bias='genlora_only'"),
        (LoraConfig(r=2, target_modules=BOTH, trainable_token_indices=[1]), r"trainable_token_indices=\[1\]"),
        (
            LoraConfig(r=2, target_modules=BOTH, init_lora_weights="pissa"),
            "init_lora_weights='pissa' changed the base",
        ),
        (
            LoraConfig(r=2, target_modules=BOTH, init_lora_weights="olora"),
            "init_lora_weights='olora' changed the base",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_adapter_that_changes_more_than_its_matrices_is_refused(tiny, config, named):
    adapted = trained(tiny("bert")[0], config)
    with pytest.raises(InputError, match=named):
        compress(adapted)


def test_a_method_that_changes_the_bias_with_the_weight_is_refused(tiny):
    model, _ = tiny("bert")
    nn.init.ones_(model.encoder.layer[0].attention.self.query.bias)  # a fresh model's are zero, and stay so
    adapted = trained(model, IA3Config(target_modules=["query"], feedforward_modules=[]))
    with pytest.raises(
        InputError, match=r"IA3 changes the bias of encoder\.layer\.0\.attention\.self\.query as well"
    ):
        compress(adapted)


def test_a_convolution_is_refused(untouched):
    vit = ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64))
    adapted = trained(vit, LoraConfig(r=2, target_modules=["projection"]))
    with pytest.raises(InputError, match="projection is a Conv2d; only linear layers and embeddings are compressed"):
        compress(adapted)


def test_a_merged_adapter_is_refused(tiny, untouched):
    adapted = trained(tiny("bert")[0], METHODS["LORA"])
    adapted.merge_adapter()
    with pytest.raises(InputError, match=r"merged into the model's weights; call unmerge_adapter\(\) first"):
        compress(adapted)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "at least one"),
        ([torch.ones(2, 3)], "dictionaries of tensors"),
        ([{"pixel_values": torch.ones(2, 3)}], "the model cannot read the batch"),
        ([{"input_ids": torch.full((1, 3), 10**6)}], "the model cannot read the batch"),
    ],
)
def test_batches_that_the_model_cannot_read_are_refused(lora, untouched, batches, message):
    with pytest.raises(InputError, match=message):
        compress(lora[1], batches=batches)


def test_a_model_that_brings_no_inputs_needs_batches(untouched):
    adapted = trained(nn.Sequential(nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(InputError, match="no dummy_inputs to compare outputs on; give batches"):
        compress(adapted)


def test_a_plain_module_is_compressed_on_batches_of_its_own_inputs():
    base = nn.Sequential(nn.Linear(8, 8))
    adapted = trained(copy.deepcopy(base), LoraConfig(r=4, target_modules=["0"]))
    batch = {"input": torch.randn(5, 8)}
    compression = compress(adapted, rank=2, batches=[batch])
    twin = compression.add_to(copy.deepcopy(base))
    with torch.no_grad():
        change = (twin(**batch) - adapted(**batch)).norm() / adapted(**batch).norm()
    assert compression.output_change == pytest.approx(float(change), rel=1e-4)
