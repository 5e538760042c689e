"""Spectra and compressions on a real CUDA device: those of the processor, to float64's rounding."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, VeraConfig, get_peft_model
from torch import nn

from gelora_viz import compress, measure_spectra

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

CONFIGS = {
    "factors": LoraConfig(r=8, target_modules=["0", "1"], init_lora_weights=False),
    "whole updates": LoraConfig(r=8, target_modules=["0", "1"], use_dora=True, init_lora_weights=False),
    "shared projections": VeraConfig(r=64, target_modules=["0", "1"], init_weights=False),
}


def adapted(config):
    torch.manual_seed(0)
    return get_peft_model(nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)), config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_spectrum_is_the_processor_s_wherever_the_model_is(name):
    model = adapted(CONFIGS[name])
    expected = measure_spectra(model, against_weights=True)
    there = copy.deepcopy(model).cuda()
    for spectrum in (
        measure_spectra(model, device="cuda", against_weights=True),
        measure_spectra(there, against_weights=True),
        measure_spectra(there, device="cpu", against_weights=True),
    ):
        for module, values in expected.singular_values.items():
            np.testing.assert_allclose(spectrum.singular_values[module], values, atol=1e-6 * values[0])
        np.testing.assert_allclose(spectrum.frame["overlap"], expected.frame["overlap"], atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_compression_is_the_processor_s(name):
    model = adapted(CONFIGS[name])
    batches = [{"input": torch.randn(16, 256)}]
    expected = compress(model, rank=4, batches=batches)
    there = copy.deepcopy(model).cuda()
    for compression in (
        compress(there, rank=4, batches=batches),
        compress(there, rank=4, batches=batches, device="cpu"),
    ):
        np.testing.assert_allclose(compression.frame["relative_error"], expected.frame["relative_error"], rtol=1e-4)
        assert compression.output_change == pytest.approx(expected.output_change, rel=1e-3)
        assert all(tensor.device.type == "cpu" for tensor in compression.weights.values())
