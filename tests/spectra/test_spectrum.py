"""Singular values of a PEFT model's updates are those of the updates: merged weights minus base weights, full SVD."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from peft import (
    AdaLoraConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    VeraConfig,
    get_peft_model,
)
from tiny_models import ARCHITECTURES

from gelora_viz import UpdateSpectrum, add_adapter, allocate_ranks, measure_spectra, uniform_budget
from gelora_viz.errors import InputError, StudyError

UNEQUAL = {r"encoder\.layer\.0\.attention\.self\.query": 2, r"encoder\.layer\.2\.attention\.self\.value": 7}


def trained(model, config, seed=0):
    """`model` with an adapter whose every trainable weight has moved at random."""
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapted


def singular_values_of_the_updates(peft_model, base):
    """Module -> singular values, by merging the adapter and subtracting the base weights."""
    merged = copy.deepcopy(peft_model).double().merge_and_unload()
    return {
        name: torch.linalg.svdvals(
            merged.get_submodule(name).weight.detach() - module.weight.detach().double()
        ).numpy()
        for name, module in base.named_modules()
        if name.endswith(("query", "value", "c_attn"))
    }


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules=["query", "value"]),
        LoraConfig(r=4, lora_alpha=3, target_modules=["query", "value"], use_rslora=True),
        LoraConfig(r=4, target_modules=["query", "value"], rank_pattern=UNEQUAL),
        LoraConfig(r=40, target_modules=["query", "value"]),
        VeraConfig(r=6, target_modules=["query", "value"]),
        LoKrConfig(r=3, target_modules=["query", "value"]),
        LoHaConfig(r=3, target_modules=["query", "value"]),
        FourierFTConfig(n_frequency=30, target_modules=["query", "value"]),
        LoraConfig(r=4, target_modules=["query", "value"], use_dora=True),
        OFTConfig(target_modules=["query", "value"], oft_block_size=8, r=0),
        HRAConfig(target_modules=["query", "value"]),
        IA3Config(target_modules=["query", "value"], feedforward_modules=[]),
        AdaLoraConfig(target_modules=["query", "value"], total_step=10),
    ],
    ids=lambda config: f"{config.peft_type.value}-{getattr(config, 'r', '')}",
)
def test_singular_values_are_those_of_the_whole_update(tiny, config):
    base, _ = tiny("bert")
    adapted = trained(copy.deepcopy(base), config)
    truth = singular_values_of_the_updates(adapted, base)
    spectrum = measure_spectra(adapted)
    assert set(spectrum.singular_values) == set(truth)
    for module, values in spectrum.singular_values.items():
        n_common = min(len(values), len(truth[module]))
        assert (np.diff(values) <= 1e-12).all()
        np.testing.assert_allclose(values[:n_common], truth[module][:n_common], atol=1e-6)
        np.testing.assert_allclose([*values[n_common:], *truth[module][n_common:]], 0, atol=1e-6)


def test_the_conv1d_of_gpt2_is_measured_as_any_matrix(tiny):
    base, _ = tiny("gpt2")
    adapted = trained(copy.deepcopy(base), LoraConfig(r=3, target_modules=["c_attn"], fan_in_fan_out=True))
    truth = singular_values_of_the_updates(adapted, base)
    for module, values in measure_spectra(adapted).singular_values.items():
        np.testing.assert_allclose(values, truth[module][:3], atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_rows_are_the_plan_s_matrices_under_the_plan_s_names(tiny, architecture):
    model, _ = tiny(architecture)
    plan = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))
    spectrum = measure_spectra(add_adapter(model, plan))
    assert dict(zip(spectrum.frame["module"], spectrum.frame["rank"], strict=True)) == plan.ranks


def test_a_fresh_lora_has_moved_in_no_direction(tiny):
    spectrum = measure_spectra(get_peft_model(tiny("bert")[0], LoraConfig(target_modules=["query"])))
    zeros = ["entropy_rank", "stable_rank", "participation_ratio", "numerical_rank", "utilisation", "norm"]
    assert (spectrum.frame[zeros] == 0).all(axis=None)
    assert (spectrum.frame["rank"] == 8).all()


def test_utilisation_is_the_share_of_the_assigned_rank_that_is_used(tiny):
    adapted = get_peft_model(tiny("bert")[0], LoraConfig(r=4, lora_alpha=4, target_modules=["query"]))
    with torch.no_grad():
        for name, factor in adapted.named_parameters():
            if "lora_" in name:
                factor.zero_()
                factor[:2, :2] = torch.eye(2)
    spectrum = measure_spectra(adapted)
    assert spectrum.frame["entropy_rank"].tolist() == pytest.approx([2.0] * 3)
    assert spectrum.frame["utilisation"].tolist() == pytest.approx([0.5] * 3)
    assert spectrum.frame["norm"].tolist() == pytest.approx([2**0.5] * 3)


def test_a_method_without_ranks_has_effective_ranks_but_no_utilisation(tiny):
    spectrum = measure_spectra(trained(tiny("bert")[0], FourierFTConfig(n_frequency=30, target_modules=["query"])))
    assert spectrum.method == "FOURIERFT"
    assert spectrum.frame[["rank", "utilisation"]].isna().all(axis=None)
    assert (spectrum.frame["entropy_rank"] > 1).all()


def test_one_of_several_adapters_can_be_chosen_and_only_its_modules_are_measured(tiny):
    adapted = trained(tiny("bert")[0], LoraConfig(r=2, target_modules=["query"]))
    adapted.add_adapter("second", LoraConfig(r=5, target_modules=["value"]))
    assert set(measure_spectra(adapted).frame["rank"]) == {2}
    second = measure_spectra(adapted, "second").frame
    assert set(second["rank"]) == {5}
    assert second["module"].str.endswith("value").all()
    with pytest.raises(InputError, match="no adapter 'third'; adapters are default, second"):
        measure_spectra(adapted, "third")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_refused_with_its_module(tiny, value):
    adapted = trained(tiny("bert")[0], LoraConfig(r=2, target_modules=["query"]))
    module = "encoder.layer.1.attention.self.query"
    with torch.no_grad():
        adapted.base_model.model.get_submodule(module).lora_B["default"].weight[0, 0] = value
    with pytest.raises(InputError, match=f"update of {module} holds NaN or infinite values"):
        measure_spectra(adapted)


def test_measuring_changes_nothing_in_the_model(tiny):
    adapted = trained(tiny("bert")[0], LoraConfig(r=2, target_modules=["query"]))
    before = {name: parameter.clone() for name, parameter in adapted.named_parameters()}
    measure_spectra(adapted)
    assert all(torch.equal(before[name], parameter) for name, parameter in adapted.named_parameters())
    assert any(parameter.requires_grad for parameter in adapted.parameters())


def test_a_model_without_an_adapter_is_refused(tiny):
    with pytest.raises(InputError, match="needs a PEFT model, not a BertModel"):
        measure_spectra(tiny("bert")[0])


def test_a_spectrum_read_back_is_the_one_that_was_saved(tiny, tmp_path):
    spectrum = measure_spectra(trained(tiny("bert")[0], LoraConfig(r=3, target_modules=["query"])))
    loaded = UpdateSpectrum.load(spectrum.save(tmp_path / "spectrum.json"))
    pd.testing.assert_frame_equal(loaded.frame, spectrum.frame)
    assert loaded.method == spectrum.method == "LORA"
    for module, values in spectrum.singular_values.items():
        np.testing.assert_array_equal(loaded.singular_values[module], values)
    assert "3 updates" in repr(loaded)
    assert loaded._repr_html_().count("<tr>") == 4
    with pytest.raises(StudyError, match="no update spectrum"):
        UpdateSpectrum.load(tmp_path / "other.json")
