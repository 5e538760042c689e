"""Training on a GPU: bfloat16 unless told otherwise, memory reported, and too little of it survived."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig
from transformers import AutoModelForCausalLM

from gelora_viz import RunResult, RunSpec
from gelora_viz.runs import RunFolder
from gelora_viz.training import trainer

pytestmark = pytest.mark.gpu
LORA = LoraConfig(r=2, target_modules="all-linear")


@pytest.fixture
def train(tiny, texts, tmp_path):
    """`train("name", batch_size=8)`: a tiny Llama on long texts; its result and its metrics."""
    backbone, tokenizer = tiny("llama")
    AutoModelForCausalLM.from_config(backbone.config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    joined = [" ".join(texts[start : start + 8]) for start in range(len(texts) - 8)]
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in joined))

    def run(name, adapter=LORA, **differing):
        options = {"task": "causal-lm", "model": str(tmp_path / "model"), "data": str(data), "steps": 4}
        spec = RunSpec(name, adapter, evaluations=1, **options, **differing)
        folder = RunFolder(tmp_path / name)
        spec.save(folder.path / "spec.json")
        assert trainer.train(spec, folder)
        return RunResult.load(folder.path), folder.read_metrics()

    return run


def test_bfloat16_is_the_default_where_supported_and_close_to_float32(train):
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("no bfloat16 on this GPU")
    result, metrics = train("default")
    assert result.numbers["precision"] == "bfloat16"
    assert result.numbers["device"] == torch.cuda.get_device_name()
    _, exact = train("exact", precision="float32")
    np.testing.assert_allclose(metrics["loss"].dropna(), exact["loss"].dropna(), rtol=2e-2)


def test_float16_trains_though_its_first_scales_overflow(train):
    result, metrics = train("half", precision="float16")
    assert result.numbers["precision"] == "float16"
    assert np.isfinite(metrics["loss"].dropna()).all()


def test_memory_is_that_of_the_run_and_of_all_that_the_device_holds(train):
    occupied = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda")  # as a notebook's kernel may
    result, metrics = train("run")
    logged = metrics.dropna(subset="loss")
    assert (logged["gpu_memory_mb"] >= logged["memory_mb"] - 1).all()
    assert result.numbers["peak_memory_mb"] > occupied.numel() / 1e6


@pytest.mark.parametrize(
    "adapter",
    [
        AdaLoraConfig(init_r=4, target_r=2, total_step=4, target_modules=["q_proj"]),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="eva"),
        "full",
    ],
    ids=["adalora", "eva", "full"],
)
def test_what_needs_more_than_a_training_loop_trains_too(train, adapter):
    result, metrics = train("run", adapter=adapter)
    assert np.isfinite(metrics["loss"].dropna()).all()
    assert result.numbers["perplexity"] > 1


def test_the_same_specification_gives_the_same_numbers(train):
    first, second = train("first")[0], train("second")[0]
    np.testing.assert_allclose(first.predictions["nll"], second.predictions["nll"], rtol=1e-3)


def test_too_little_memory_is_survived_with_fewer_texts_at_a_time(train):
    peaks = {}
    for size in (256, 4):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train(f"of-{size}", batch_size=size)
        peaks[size] = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((peaks[256] + peaks[4]) / 2 / total)
    try:
        result, metrics = train("squeezed", batch_size=256)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.numbers["micro_batch_size"] < 256
    assert metrics.dropna(subset="loss")["step"].tolist() == [1, 2, 3, 4]
