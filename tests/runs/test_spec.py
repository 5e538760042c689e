"""A specification is a JSON file and back, and refuses what no run could do."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
from peft import AdaLoraConfig, EvaConfig, IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, VeraConfig

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
        AdaLoraConfig(init_r=6, target_r=2, tinit=1, total_step=10, target_modules=["query"]),
        LoraConfig(target_modules=["query"], init_lora_weights="eva", eva_config=EvaConfig(rho=1.5)),
    ],
    ids=["lora", "vera", "ia3", "genlora", "adalora", "eva"],
)
def test_a_run_with_a_peft_configuration_survives_json(spec_of, config, tmp_path):
    spec = spec_of(adapter=config)
    loaded = RunSpec.load(spec.save(tmp_path / "spec.json"))
    assert type(loaded.adapter) is type(config)
    assert loaded.adapter.to_dict() == config.to_dict()
    assert loaded.method == spec.method
    assert spec.method.startswith(config.peft_type.value)


@pytest.mark.parametrize("adapter", ["frozen", "full"])
def test_a_run_without_an_adapter_survives_json(spec_of, adapter, tmp_path):
    loaded = RunSpec.load(spec_of(adapter=adapter).save(tmp_path / "spec.json"))
    assert loaded.adapter == loaded.method == adapter


HOW_COMPUTED = {
    "task": "causal-lm", "schedule": "cosine", "warmup": 0.1, "precision": "bfloat16", "gradient_accumulation": 4,
    "gradient_checkpointing": True, "spectra_every": 5, "plus_ratio": 16,
}  # fmt: skip


def test_how_a_run_is_computed_survives_json(spec_of, tmp_path):
    spec = spec_of(**HOW_COMPUTED)
    loaded = RunSpec.load(spec.save(tmp_path / "spec.json"))
    assert {name: getattr(loaded, name) for name in HOW_COMPUTED} == HOW_COMPUTED
    assert spec.micro_batch_size == 4


def test_a_file_of_a_later_version_is_refused_with_what_is_new_in_it(spec_of, tmp_path):
    path = spec_of().save(tmp_path / "spec.json")
    content = {**json.loads(path.read_text()), "optimizer": "muon", "gelora_viz": "9.0"}
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=r"has optimizer, which this version does not know; .* wrote it \(9\.0\)"):
        RunSpec.load(path)


def test_a_learning_rate_fits_the_task_and_how_much_trains(bert_plan):
    rates = {
        (task, name): RunSpec("run", adapter, task=task).learning_rate
        for task in ("classification", "causal-lm")
        for name, adapter in (("plan", bert_plan), ("full", "full"))
    }
    assert rates["classification", "plan"] == 2e-3
    assert all(rates[task, "full"] < rates[task, "plan"] for task, _ in rates)
    assert RunSpec("run", "full", learning_rate=1e-3).learning_rate == 1e-3


@pytest.mark.parametrize(
    ("differing", "method"),
    [
        ({"plus_ratio": 16}, "LoRA+, uniform"),
        ({"adapter": LoraConfig(target_modules=["query"])}, "LORA"),
        ({"adapter": LoraConfig(target_modules=["query"]), "plus_ratio": 4}, "LORA+"),
        ({"adapter": LoraConfig(target_modules=["query"], use_dora=True)}, "LORA, DoRA"),
        ({"adapter": LoraConfig(target_modules=["query"], init_lora_weights="pissa")}, "LORA, PISSA"),
        ({"adapter": AdaLoraConfig(target_modules=["query"], total_step=10)}, "ADALORA"),
    ],
)
def test_a_method_s_name_tells_it_from_others(spec_of, differing, method):
    assert spec_of(**differing).method == method


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "two words", "a" * 101, "<b>", "ä", "a\n"])
def test_a_name_that_could_not_be_a_folder_everywhere_is_refused(name):
    with pytest.raises(InputError, match=r"run name .* must be letters, digits"):
        RunSpec(name, adapter="frozen")


@pytest.mark.parametrize("adapter", ["lora", None, {"r": 4}, 4])
def test_an_adapter_of_another_kind_is_refused(adapter):
    with pytest.raises(InputError, match=r"adapter is .*; give a RankPlan, a PEFT configuration, \"full\" or"):
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
        ("steps", 2.5),
        ("gradient_accumulation", 0),
        ("spectra_every", 0),
        ("warmup", 1.0),
        ("warmup", -0.1),
        ("learning_rate", "x"),
        ("head_learning_rate", None),
        ("warmup", None),
        ("warmup", True),
        ("steps", "10"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_name_and_value(option, value):
    with pytest.raises(InputError, match=f"{option} is {value!r}; give a (whole )?number"):
        RunSpec("run", adapter="frozen", **{option: value})


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("task", "translation", "choose classification or causal-lm"),
        ("schedule", "reduce_lr_on_plateau", "(did you mean|there is linear, cosine)"),
        ("precision", "float64", "choose float32, bfloat16 or float16"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(option, value, known):
    with pytest.raises(InputError, match=f"unknown {option} {value!r}; {known}"):
        RunSpec("run", adapter="frozen", **{option: value})


def adalora(**options):
    return AdaLoraConfig(**{"init_r": 6, "target_r": 2, "total_step": 10, "target_modules": ["query"], **options})


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"batch_size": 10, "gradient_accumulation": 4}, r"batch_size 10 cannot be split into 4 equal micro-batches"),
        ({"adapter": "full", "spectra_every": 5}, r"spectra_every is 5, but adapter 'full' has no updates"),
        ({"adapter": "frozen", "spectra_every": 5}, r"spectra_every is 5, but adapter 'frozen' has no updates"),
        ({"plus_ratio": 0.5}, r"plus_ratio is 0\.5; give a number of at least 1"),
        ({"plus_ratio": 16, "adapter": "full"}, r"plus_ratio is 16, but full has no factors A and B"),
        ({"plus_ratio": 16, "adapter": VeraConfig(target_modules=["query"])}, r"but VERA has no factors A and B"),
        ({"plus_ratio": 16, "adapter": adalora()}, r"but ADALORA has no factors A and B"),
        ({"adapter": LoraConfig(target_modules=["query"], task_type="SEQ_CLS")}, r"task_type 'SEQ_CLS', which wraps"),
        (
            {"adapter": LoraConfig(target_modules=["query"], task_type="FEATURE_EXTRACTION"), "task": "causal-lm"},
            r"another model than task 'causal-lm' trains; leave task_type out",
        ),
        (
            {"adapter": PromptTuningConfig(num_virtual_tokens=4)},
            r"PROMPT_TUNING learns a prompt and changes no",
        ),
        ({"adapter": PrefixTuningConfig(num_virtual_tokens=4)}, r"PREFIX_TUNING learns a prompt"),
        ({"adapter": adalora(total_step=20)}, r"total_step is 20, but the run has 10 steps.*; set total_step=10"),
        ({"adapter": adalora(target_r=6)}, r"init_r is 6 and its target_r 6; .* init_r must be larger"),
        ({"adapter": adalora(tinit=5, tfinal=4)}, r"total_step 10, tinit 5 and tfinal 4, which leaves no steps"),
    ],
)
def test_what_cannot_work_together_is_refused_before_anything_is_loaded(spec_of, options, refusal):
    with pytest.raises(InputError, match=refusal):
        spec_of(**options)


def test_the_head_cannot_read_a_point_per_token():
    with pytest.raises(InputError, match="unknown pooling 'tokens' for the head; choose mean, last or cls"):
        RunSpec("run", adapter="frozen", pooling="tokens")


def test_a_specification_cannot_be_changed_afterwards(spec_of):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec_of().steps = 3


def test_a_file_of_another_kind_is_refused(bert_plan, tmp_path):
    with pytest.raises(StudyError, match="holds 'rank plan', not a run specification"):
        RunSpec.load(bert_plan.save(tmp_path / "plan.json"))
