"""A specification is a JSON file and back, and refuses what no run could do."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from peft import IA3Config, LoraConfig, VeraConfig

from gelora_viz import GenLoraConfig, RunSpec
from gelora_viz.errors import InputError, StudyError


def fields(spec):
    return {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec) if field.name != "adapter"}


def test_a_run_with_a_plan_survives_json(spec_of, tmp_path):
    spec = spec_of("gelora.v-2_0", seed=3, max_length=32, text_column="text", pooling="cls")
    loaded = RunSpec.load(spec.save(tmp_path / "spec.json"))
    assert fields(loaded) == fields(spec)
    columns = ["module", "layer", "depth", "in_features", "out_features", "rank", "n_parameters"]
    pd.testing.assert_frame_equal(loaded.adapter.frame[columns], spec.adapter.frame[columns])
    assert loaded.method == spec.method == "LoRA, uniform"


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=3, target_modules=["query", "value"], rank_pattern={"query": 5}, use_dora=True),
        VeraConfig(r=8, target_modules=["query"]),
        IA3Config(target_modules=["query"], feedforward_modules=[]),
        GenLoraConfig(r=6, num_groups=4, num_rbfs=3, target_modules=["query"], train_widths=False),
    ],
    ids=["lora", "vera", "ia3", "genlora"],
)
def test_a_run_with_a_peft_configuration_survives_json(spec_of, config, tmp_path):
    spec = spec_of(adapter=config)
    loaded = RunSpec.load(spec.save(tmp_path / "spec.json"))
    assert type(loaded.adapter) is type(config)
    assert loaded.adapter.to_dict() == config.to_dict()
    assert loaded.method == spec.method == config.peft_type.value


def test_a_frozen_probe_survives_json(spec_of, tmp_path):
    loaded = RunSpec.load(spec_of("frozen", adapter="frozen").save(tmp_path / "spec.json"))
    assert loaded.adapter == loaded.method == "frozen"


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "two words", "a" * 101, "<b>", "ä", "a\n"])
def test_a_name_that_could_not_be_a_folder_everywhere_is_refused(name):
    with pytest.raises(InputError, match=r"run name .* must be letters, digits"):
        RunSpec(name, adapter="frozen")


@pytest.mark.parametrize("adapter", ["lora", None, {"r": 4}, 4])
def test_an_adapter_of_another_kind_is_refused(adapter):
    with pytest.raises(InputError, match=r"adapter is .*; give a RankPlan, a PEFT configuration or"):
        RunSpec("run", adapter=adapter)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("evaluations", 0),
        ("learning_rate", 0.0),
        ("learning_rate", 1.0),
        ("learning_rate", float("nan")),
        ("head_learning_rate", -1e-3),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_name_and_value(option, value):
    with pytest.raises(InputError, match=f"{option} is {value}; it must"):
        RunSpec("run", adapter="frozen", **{option: value})


def test_the_head_cannot_read_a_point_per_token():
    with pytest.raises(InputError, match="unknown pooling 'tokens' for the head; choose mean, last or cls"):
        RunSpec("run", adapter="frozen", pooling="tokens")


def test_a_specification_cannot_be_changed_afterwards(spec_of):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec_of().steps = 3


def test_a_file_of_another_kind_is_refused(bert_plan, tmp_path):
    with pytest.raises(StudyError, match="holds 'rank plan', not a run specification"):
        RunSpec.load(bert_plan.save(tmp_path / "plan.json"))
