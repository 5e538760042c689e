"""Every method of a comparison trains: AdaLoRA, EVA, LoRA+, DoRA, VeRA and others by PEFT, and all weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, EvaConfig, LoHaConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from small_runs import losses_of, train_here
from transformers import AutoModel, AutoModelForCausalLM

from gelora_viz import GenLoraConfig, RankPlan, add_adapter, measure_spectra
from gelora_viz.activations import collate, tokenize
from gelora_viz.errors import InputError
from gelora_viz.training.adalora import orthogonality
from gelora_viz.training.adapting import adapt, start_from_eva
from gelora_viz.training.classification import Classification
from gelora_viz.training.optimizers import build_optimizer

QUERY_VALUE = ["query", "value"]


def batches_of(model, tokenizer, texts, size=32):
    rows = tokenize(tokenizer, texts, model=model)
    return [
        collate(rows[start : start + size], tokenizer=tokenizer, model=model) for start in range(0, len(rows), size)
    ]


@torch.inference_mode()
def states_of(model):
    """The last hidden states of some tokens."""
    return model.eval()(torch.arange(5, 25)[None]).last_hidden_state


def check_saved_is_trained(result, path, folder):
    """The adapter of that run, loaded on the plain model, has the updates that the run ended with."""
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), path / "adapter")
    trained = result.spectrum.singular_values
    found = measure_spectra(loaded).singular_values
    assert found.keys() == trained.keys()
    for module, values in found.items():
        longest = max(len(values), len(trained[module]))
        ours, theirs = (np.pad(each, (0, longest - len(each))) for each in (values, trained[module]))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (LoraConfig(r=2, target_modules=QUERY_VALUE, use_dora=True), "LORA, DoRA"),
        (LoraConfig(r=2, target_modules=QUERY_VALUE, use_rslora=True), "LORA, rsLoRA"),
        (VeraConfig(r=4, target_modules=["query"]), "VERA"),
        (LoHaConfig(r=2, target_modules=QUERY_VALUE), "LOHA"),
        (GenLoraConfig(r=4, num_groups=2, num_rbfs=2, target_modules=QUERY_VALUE), "GENLORA"),
    ],
    ids=["dora", "rslora", "vera", "loha", "genlora"],
)
def test_a_method_of_peft_trains_is_measured_and_loads_on_the_plain_model(
    spec_of, tiny_folder, tmp_path, config, method
):
    result = train_here(spec_of(adapter=config, steps=3), tmp_path / "run")
    assert result.spec.method == method
    assert result.numbers["n_parameters"] > 0
    assert (result.spectrum.frame["norm"] > 0).all()
    check_saved_is_trained(result, tmp_path / "run", tiny_folder("bert"))


# All weights


def test_full_fine_tuning_trains_all_weights_and_saves_a_whole_model(spec_of, tiny_folder, tmp_path):
    result = train_here(spec_of(adapter="full", learning_rate=1e-3, steps=3), tmp_path / "run")
    base = AutoModel.from_pretrained(tiny_folder("bert"))
    assert result.numbers["n_parameters"] == sum(parameter.numel() for parameter in base.parameters())
    assert result.spectrum is None
    trained = AutoModel.from_pretrained(tmp_path / "run" / "adapter")
    assert not torch.allclose(states_of(trained), states_of(base))
    assert (tmp_path / "run" / "adapter" / "head.safetensors").exists()


# LoRA+


def test_lora_plus_gives_b_its_own_learning_rate_and_the_head_its_own(spec_of, bert_plan):
    spec = spec_of(adapter=bert_plan, plus_ratio=16)
    task = Classification(spec)
    optimizer = build_optimizer(spec, task.backbone, task.head)
    rate_of = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    rates = {"lora_A": set(), "lora_B": set(), "head": set()}
    for name, parameter in task.module.named_parameters():
        if parameter.requires_grad:
            rates[next(kind for kind in rates if kind in name)].add(rate_of[id(parameter)])
    assert rates == {"lora_A": {5e-3}, "lora_B": {8e-2}, "head": {1e-2}}
    assert optimizer.param_groups[0]["lr"] == 5e-3, "the one that is logged"
    assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)


def test_lora_plus_trains_otherwise_than_lora(spec_of, tmp_path):
    for name, ratio in (("lora", None), ("plus", 16)):
        train_here(spec_of(name, steps=4, plus_ratio=ratio), tmp_path / name)
    lora, plus = losses_of(tmp_path / "lora"), losses_of(tmp_path / "plus")
    assert plus[0] == lora[0]
    assert plus[-1] != lora[-1]


# AdaLoRA

ADALORA = {"init_r": 4, "target_r": 2, "target_modules": QUERY_VALUE}


@pytest.fixture(scope="module")
def adalora(spec_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adalora") / "run"
    config = AdaLoraConfig(**ADALORA, total_step=6, tinit=1)
    return train_here(spec_of(adapter=config, steps=6), folder), folder


def test_adalora_begins_with_its_first_ranks_and_ends_within_its_target(adalora):
    result, _ = adalora
    cost, n_matrices = 32 + 32 + 1, 6
    assert result.numbers["n_parameters"] == n_matrices * 4 * cost
    assert result.numbers["n_parameters_kept"] == n_matrices * 2 * cost
    assert result.spectrum.frame["numerical_rank"].sum() == n_matrices * 2


def test_adalora_s_adapter_loads_on_the_plain_model_with_the_ranks_it_kept(adalora, tiny_folder):
    result, folder = adalora
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert sum(len(value) for name, value in weights.items() if "lora_E" in name) == 12
    check_saved_is_trained(result, folder, tiny_folder("bert"))


def test_adalora_with_its_last_steps_after_the_target_keeps_the_mask(spec_of, tmp_path):
    config = AdaLoraConfig(**ADALORA, total_step=5, tfinal=2)
    result = train_here(spec_of(adapter=config, steps=6), tmp_path / "run")
    assert result.numbers["n_parameters_kept"] == 12 * 65


def test_adalora_s_penalty_is_peft_s(language_model):
    plain = AutoModelForCausalLM.from_pretrained(language_model)
    ids = torch.arange(5, 25)[None]
    loss = plain(ids, labels=ids).loss
    config = AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(plain, config)  # its update starts at zero, so what is added is the penalty
    torch.testing.assert_close(adapted(input_ids=ids, labels=ids).loss - loss, orthogonality(adapted))


def test_adalora_s_penalty_pulls_at_the_factors_and_does_not_count_as_loss(spec_of):
    task = Classification(spec_of(adapter=AdaLoraConfig(**ADALORA, total_step=10)))
    batch = task.collate([task.parts["train"][position] for position in range(8)])
    labels = batch.pop("labels")
    outputs = task.module.eval()(**batch)
    loss = task.loss(outputs, labels, torch.tensor(8))
    torch.testing.assert_close(loss, task.mean_loss(outputs, labels))
    loss.backward()
    factors = [parameter for name, parameter in task.backbone.named_parameters() if "lora_A" in name]
    assert all(factor.grad.norm() > 0 for factor in factors), "with E = 0, the loss alone gives A no gradient"


def test_adalora_on_a_matrix_that_the_output_does_not_depend_on_is_refused(spec_of, tmp_path):
    config = AdaLoraConfig(init_r=4, target_r=2, total_step=6, target_modules=["query", "pooler.dense"])
    with pytest.raises(InputError, match=r"none reached pooler\.dense.*; leave it out of target_modules"):
        train_here(spec_of(adapter=config, steps=6), tmp_path / "run")


# EVA


def eva(r=2, rho=1.0, **options):
    return LoraConfig(r=r, init_lora_weights="eva", eva_config=EvaConfig(rho=rho), **options)


def test_eva_starts_from_the_directions_of_most_variance_in_what_a_matrix_reads(tiny, texts):
    model, tokenizer = tiny("bert")
    batches = batches_of(model, tokenizer, texts, size=len(texts))
    with torch.inference_mode():
        read = model.embeddings(batches[0]["input_ids"])[batches[0]["attention_mask"].bool()]
    directions = PCA(16).fit(read.numpy()).components_
    adapted = add_adapter(model, eva(r=16, target_modules=["query"]))
    start_from_eva(adapted, batches)
    a = adapted.base_model.model.encoder.layer[0].attention.self.query.lora_A["default"].weight
    np.testing.assert_allclose(np.abs((directions * a.detach().numpy()).sum(axis=1))[:8], 1, atol=0.01)


def test_with_rho_1_a_plan_s_ranks_stay_though_matrices_read_the_same(spec_of, bert_plan, tmp_path, tiny_folder):
    frame = bert_plan.frame.assign(rank=[1, 3] * 3)
    plan = RankPlan(frame.assign(n_parameters=frame["rank"] * 64), "by hand")
    config = plan.to_peft_config(init_lora_weights="eva", eva_config=EvaConfig(rho=1))
    result = train_here(spec_of(adapter=config, steps=3, batch_size=32), tmp_path / "run")
    assert result.spec.method == "LORA, EVA"
    assert result.numbers["n_parameters"] == plan.n_parameters
    assert dict(zip(result.spectrum.frame["module"], result.spectrum.frame["rank"], strict=True)) == plan.ranks
    check_saved_is_trained(result, tmp_path / "run", tiny_folder("bert"))


def test_with_rho_2_ranks_move_and_parameters_are_counted_as_they_end_up(spec_of, tmp_path, tiny_folder):
    config = eva(rho=2.0, target_modules=["query", "intermediate.dense", "layer.0.output.dense"])
    result = train_here(spec_of(adapter=config, steps=2, batch_size=32), tmp_path / "run")
    ranks = result.spectrum.frame.set_index("module")["rank"]
    assert ranks.sum() == 2 * 7, "EVA's budget is the sum of ranks"
    assert ranks.nunique() > 1
    weights = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert result.numbers["n_parameters"] == sum(value.numel() for value in weights.values())
    check_saved_is_trained(result, tmp_path / "run", tiny_folder("bert"))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "deberta-v2", "t5"])
def test_eva_reads_any_family(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    adapted = add_adapter(model, eva(target_modules="all-linear"))
    before = {name: value.clone() for name, value in adapted.state_dict().items() if "lora_A" in name}
    start_from_eva(adapted, batches_of(model, tokenizer, texts[:128]))
    after = adapted.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())


def test_eva_starts_from_the_same_directions_every_time(spec_of, tiny):
    spec = spec_of(adapter=eva(target_modules=["query"]), batch_size=32)
    first, second = (Classification(spec).backbone.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_eva_with_too_few_tokens_a_batch_says_so(tiny, texts):
    model, tokenizer = tiny("bert")
    adapted = add_adapter(model, eva(r=32, target_modules=["query"]))
    with pytest.raises(InputError, match=r"batch has [0-9]+ tokens, and EVA needs 32, one for each"):
        start_from_eva(adapted, batches_of(model, tokenizer, texts[:4], size=1))


def test_the_specification_s_own_configuration_stays_as_it_was(spec_of, tiny, texts):
    model, tokenizer = tiny("bert")
    config = eva(rho=2.0, target_modules=QUERY_VALUE)
    spec = spec_of(adapter=config)
    before = spec.to_dict()
    adapt(spec, model, lambda: batches_of(model, tokenizer, texts[:64]))
    assert spec.to_dict() == before
