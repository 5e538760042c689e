"""PEFT models before, during and after training: the base model's layers under the base model's names."""

import pytest
import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from gelora_viz.activations import capture
from gelora_viz.errors import InputError

TARGETS = {"bert": ["query", "value"], "gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "t5": ["q", "v"]}
each_architecture = pytest.mark.parametrize("architecture", TARGETS)
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def points(model, tokenizer, texts, **options):
    return capture(model, tokenizer, texts[:6], progress=False, **options)


def classifier(backbone):
    backbone.config.num_labels = 3
    backbone.config.pad_token_id = backbone.config.pad_token_id or 0
    return AutoModelForSequenceClassification.from_config(backbone.config)


def train_one_step(model, tokenizer, texts):
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    batch = tokenizer(texts[:6], padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=1.0)
    for _ in range(2):  # LoRA's first step moves B only, which is what the points see
        model(**inputs, labels=torch.arange(6) % 3).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@each_architecture
def test_a_fresh_adapter_changes_neither_points_nor_names(tiny, texts, architecture):
    base, tokenizer = tiny(architecture)
    before = points(base, tokenizer, texts)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=TARGETS[architecture]))
    after = points(model, tokenizer, texts)
    assert after.layers == before.layers
    assert after.layer_frame.equals(before.layer_frame)
    for layer in before:
        torch.testing.assert_close(after[layer], before[layer], **CLOSE)


@each_architecture
def test_hidden_states_end_behind_the_final_norm_of_the_base_model_too(tiny, texts, architecture):
    base, tokenizer = tiny(architecture)
    before = points(base, tokenizer, texts, layers="hidden_states")
    config = LoraConfig(r=2, target_modules=TARGETS[architecture], task_type=TaskType.FEATURE_EXTRACTION)
    after = points(get_peft_model(base, config), tokenizer, texts, layers="hidden_states")
    assert after.layers == before.layers
    for layer in before:
        torch.testing.assert_close(after[layer], before[layer], **CLOSE)


@each_architecture
def test_between_training_steps_points_move_and_training_goes_on(tiny, texts, architecture):
    backbone, tokenizer = tiny(architecture)
    config = LoraConfig(r=2, target_modules=TARGETS[architecture], task_type=TaskType.SEQ_CLS, lora_dropout=0.5)
    model = get_peft_model(classifier(backbone), config).train()
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    fresh = points(model, tokenizer, texts)
    last = fresh.layers[-1]
    assert torch.equal(points(model, tokenizer, texts)[last], fresh[last])  # dropout is off
    train_one_step(model, tokenizer, texts)
    trained = points(model, tokenizer, texts)
    assert not torch.allclose(trained[last], fresh[last], **CLOSE)
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable
    train_one_step(model, tokenizer, texts)
    merged = model.merge_and_unload()
    again = points(merged, tokenizer, texts)
    assert again.layers == fresh.layers
    assert not torch.allclose(again[last], trained[last], **CLOSE)


def test_merging_moves_no_point(tiny, texts):
    base, tokenizer = tiny("bert")
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    adapted = points(model, tokenizer, texts)
    model.merge_adapter()
    merged = points(model, tokenizer, texts)
    unloaded = points(model.merge_and_unload(), tokenizer, texts)
    for layer in adapted:
        torch.testing.assert_close(merged[layer], adapted[layer], **CLOSE)
        torch.testing.assert_close(unloaded[layer], adapted[layer], **CLOSE)


def test_a_trainer_can_capture_after_every_step(tiny, texts, tmp_path):
    backbone, tokenizer = tiny("bert")
    config = LoraConfig(r=2, target_modules=["query", "value"], task_type=TaskType.SEQ_CLS)
    model = get_peft_model(classifier(backbone), config)
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, _args, _state, _control, **rest):
            seen.append(points(rest["model"], tokenizer, texts))
            assert rest["model"].training

    rows = [{**tokenizer(text), "labels": number % 3} for number, text in enumerate(texts[:12])]
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, num_train_epochs=1, learning_rate=0.1, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[Watch()]).train()
    assert len(seen) == 3
    assert seen[0].layers[1] == "bert.encoder.layer.0"
    assert not torch.equal(seen[0][seen[0].layers[-1]], seen[2][seen[2].layers[-1]])


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=["query", "output.dense"], feedforward_modules=["output.dense"]),
        AdaLoraConfig(target_modules=["query"], total_step=10),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_other_methods_that_change_weights_are_captured_too(tiny, texts, config):
    base, tokenizer = tiny("bert")
    before = points(base, tokenizer, texts)
    model = get_peft_model(base, config)
    assert points(model, tokenizer, texts).layers == before.layers


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_virtual_tokens_are_refused_in_words(tiny, texts, kind):
    base, tokenizer = tiny("bert")
    model = get_peft_model(base, kind(task_type=TaskType.FEATURE_EXTRACTION, num_virtual_tokens=3))
    with pytest.raises(InputError, match=r"adapter 'default' \(P.*\) learns virtual tokens .*get_base_model"):
        points(model, tokenizer, texts)
    assert points(model.get_base_model(), tokenizer, texts).n_points == 6
