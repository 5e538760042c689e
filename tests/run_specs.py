"""Labeled texts as a file, plans for the tiny BERT, and specifications of runs that take a second or two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from gelora_viz import RankPlan, RunSpec, allocate_ranks, uniform_budget

CLASSES = ("weather", "kitchen", "journey")


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data_file(labelled_texts, tmp_path_factory) -> Path:
    """180 texts of three classes, 36 of them to test on."""
    rows = [{"text": text, "label": CLASSES[label]} for text, label in zip(*labelled_texts, strict=True)][:180]
    return write_jsonl(tmp_path_factory.mktemp("data") / "texts.jsonl", rows)


@pytest.fixture(scope="session")
def bert_plan(tiny) -> RankPlan:
    """Rank 2 for query and value of every block of the tiny BERT."""
    model, _ = tiny("bert")
    return allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))


@pytest.fixture(scope="session")
def spec_of(tiny_folder, data_file, bert_plan) -> Callable[..., RunSpec]:
    """`spec_of(steps=4)`: a run of the tiny BERT on `data_file`, with whatever differs."""

    def make(name: str = "run", **differing: object) -> RunSpec:
        usual = {
            "adapter": bert_plan, "model": str(tiny_folder("bert")), "data": str(data_file), "steps": 10,
            "batch_size": 16, "learning_rate": 5e-3, "head_learning_rate": 1e-2, "evaluations": 2, "threads": 1,
        }  # fmt: skip
        return RunSpec(name, **usual | differing)

    return make


@pytest.fixture(scope="session")
def language_model(tiny, tmp_path_factory) -> Path:
    """A checkpoint of a tiny Llama with its language-model head; without dropout, as such models are."""
    backbone, tokenizer = tiny("llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(backbone.config)
    folder = tmp_path_factory.mktemp("language") / "llama"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def language_spec_of(language_model, data_file) -> Callable[..., RunSpec]:
    """`language_spec_of(steps=4)`: a run of the tiny language model on `data_file`, with whatever differs."""

    def make(name: str = "run", **differing: object) -> RunSpec:
        usual = {
            "adapter": LoraConfig(r=2, target_modules=["q_proj", "v_proj"]), "task": "causal-lm",
            "model": str(language_model), "data": str(data_file), "steps": 4, "batch_size": 8, "evaluations": 1,
            "threads": 1,
        }  # fmt: skip
        return RunSpec(name, **usual | differing)

    return make
