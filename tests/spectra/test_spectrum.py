"""The table of a spectrum: its rows and columns, what it refuses, and what is saved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from adapted_models import trained
from peft import FourierFTConfig, LoraConfig, get_peft_model
from tiny_models import ARCHITECTURES

from gelora_viz import UpdateSpectrum, add_adapter, allocate_ranks, measure_spectra, uniform_budget
from gelora_viz.errors import InputError, StudyError


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
    with pytest.raises(InputError, match="no adapter 'third'; the model has default, second"):
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
