"""A plan and PEFT agree: on parameters, on every matrix's rank and scale, and still do after saving and loading."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from tiny_models import ARCHITECTURES
from transformers import BertConfig, BertModel

from gelora_viz import RankPlan, allocate_ranks, uniform_budget
from gelora_viz.errors import InputError, StudyError

RISING = [float(2**depth) for depth in range(4)]


def deep_bert():
    """Twelve blocks, so that layer.1 is a beginning of layer.10 and layer.11."""
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=12, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        )
    )  # fmt: skip


@pytest.fixture
def deep_plan(profile_of):
    """Ranks 2 to 13, a different one in each block."""
    dimensions = [0.0]
    for rise in range(1, 13):
        dimensions.append(dimensions[-1] + rise)
    return allocate_ranks(profile_of(deep_bert(), dimensions), deep_bert())


@pytest.fixture
def plan(tiny, profile_of):
    model, _ = tiny("bert")
    return allocate_ranks(profile_of(model, RISING), model, budget=uniform_budget(model, 4))


def adapted(peft_model):
    """Module -> (rank from the factor's shape, scale) of every LoRA layer."""
    return {
        name: (module.lora_A["default"].weight.shape[0], module.scaling["default"])
        for name, module in peft_model.base_model.model.named_modules()
        if isinstance(module, LoraLayer)
    }


def n_trainable(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_plan_counts_exactly_the_parameters_that_peft_trains(tiny, profile_of, architecture, targets):
    model, _ = tiny(architecture)
    stacks = [RISING, RISING[::-1]] if architecture == "t5" else [RISING]
    plan = allocate_ranks(profile_of(model, *stacks), model, target_modules=targets)
    adapted_model = get_peft_model(model, plan.to_peft_config())
    assert {name: rank for name, (rank, _) in adapted(adapted_model).items()} == plan.ranks
    assert n_trainable(adapted_model) == plan.n_parameters


def test_every_matrix_has_its_own_rank_and_the_same_scale_also_where_names_overlap(deep_plan):
    assert deep_plan.by_layer()["rank"].tolist() == list(range(2, 14))
    found = adapted(get_peft_model(deep_bert(), deep_plan.to_peft_config()))
    assert {name: rank for name, (rank, _) in found.items()} == deep_plan.ranks
    assert {scale for _, scale in found.values()} == {2.0}


@pytest.mark.parametrize("reordered", [False, True])
def test_ranks_scales_and_weights_survive_saving_and_loading_in_peft(deep_plan, tmp_path, reordered):
    model = get_peft_model(deep_bert(), deep_plan.to_peft_config())
    for module in model.modules():
        if isinstance(module, LoraLayer):
            torch.nn.init.normal_(module.lora_B["default"].weight)
    model.eval().save_pretrained(tmp_path)
    if reordered:  # PEFT promises no order of the patterns' keys
        file = tmp_path / "adapter_config.json"
        config = json.loads(file.read_text())
        for name in ("rank_pattern", "alpha_pattern"):
            config[name] = dict(reversed(config[name].items()))
        file.write_text(json.dumps(config))
    loaded = PeftModel.from_pretrained(deep_bert(), tmp_path).eval()
    assert adapted(loaded) == adapted(model)
    tokens = torch.arange(10)[None]
    torch.testing.assert_close(loaded(tokens).last_hidden_state, model(tokens).last_hidden_state)


def test_matrices_of_unequal_ranks_and_overlapping_names_are_the_same_after_loading_and_rank_0_has_no_adapter(
    tmp_path,
):
    model = deep_bert()
    uniform = allocate_ranks(
        None, model, strategy="uniform", target_modules="all-linear", budget=uniform_budget(model, 3, "all-linear")
    )
    # Every matrix unlike its neighbors in block and depth; output.dense beside attention.output.dense.
    plan = uniform.with_rank({module: number % 7 for number, module in enumerate(uniform.ranks)})
    assert {plan.ranks[f"encoder.layer.{block}.output.dense"] for block in (1, 10, 11)} == {4, 2, 1}
    get_peft_model(model, plan.to_peft_config()).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(deep_bert(), tmp_path)
    assert adapted(loaded) == {module: (rank, 2.0) for module, rank in plan.ranks.items() if rank > 0}
    shapes = {name: tuple(value.shape) for name, value in loaded.named_parameters() if "lora_" in name}
    assert len(shapes) == 2 * sum(rank > 0 for rank in plan.ranks.values())
    for row in plan.frame[plan.frame["rank"] > 0].itertuples():
        layer = f"base_model.model.{row.module}"
        assert shapes[f"{layer}.lora_A.default.weight"] == (row.rank, row.in_features)
        assert shapes[f"{layer}.lora_B.default.weight"] == (row.out_features, row.rank)


def test_alpha_over_rank_can_be_chosen_and_stays_the_same_for_every_matrix(tiny, plan):
    found = adapted(get_peft_model(tiny("bert")[0], plan.to_peft_config(alpha_over_rank=0.5)))
    assert len({rank for rank, _ in found.values()}) > 1
    assert {scale for _, scale in found.values()} == {0.5}


def test_other_settings_of_lora_can_be_given(plan):
    config = plan.to_peft_config(lora_dropout=0.1, use_dora=True, bias="lora_only")
    assert (config.lora_dropout, config.use_dora, config.bias) == (0.1, True, "lora_only")


@pytest.mark.parametrize("name", ["r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern"])
def test_what_decides_the_ranks_cannot_be_overridden(plan, name):
    with pytest.raises(InputError, match=f"{name} cannot be overridden"):
        plan.to_peft_config(**{name: 8})


def test_the_conv1d_of_gpt2_is_declared_to_peft(tiny, profile_of):
    model, _ = tiny("gpt2")
    config = allocate_ranks(profile_of(model, RISING), model).to_peft_config()
    assert isinstance(config, LoraConfig)
    assert config.fan_in_fan_out


def test_a_plan_of_ranks_zero_adapts_nothing_and_says_so(plan):
    nothing = RankPlan(plan.frame.assign(rank=0, n_parameters=0), "by hand")
    with pytest.raises(InputError, match="nothing to adapt"):
        nothing.to_peft_config()


def test_a_plan_read_back_is_the_plan_that_was_saved(plan, tmp_path):
    loaded = RankPlan.load(plan.save(tmp_path / "plans" / "gelora.json"))
    pd.testing.assert_frame_equal(loaded.frame, plan.frame)
    assert (loaded.strategy, loaded.budget, dict(loaded.settings)) == (
        plan.strategy,
        plan.budget,
        dict(plan.settings),
    )
    assert loaded.to_peft_config().to_dict() == plan.to_peft_config().to_dict()


def test_a_plan_without_dimensions_can_be_saved_too(tiny, tmp_path):
    model, _ = tiny("bert")
    plan = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 2))
    loaded = RankPlan.load(plan.save(tmp_path / "uniform.json"))
    assert loaded.ranks == plan.ranks
    assert loaded.frame["lower_bound"].isna().all()
    assert loaded.by_layer()["rank"].tolist() == [2.0, 2.0, 2.0]


def test_a_missing_plan_and_a_file_of_another_kind_are_refused(plan, tmp_path):
    with pytest.raises(StudyError, match=r"no rank plan at .*missing\.json"):
        RankPlan.load(tmp_path / "missing.json")
    plan.save(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text((tmp_path / "plan.json").read_text().replace('"rank plan"', '"recipe"'))
    with pytest.raises(StudyError, match="holds 'recipe', not a rank plan"):
        RankPlan.load(tmp_path / "plan.json")


def test_a_plan_shows_its_size_and_one_row_per_matrix(plan):
    assert f"{len(plan.frame)} matrices" in repr(plan)
    assert f"{plan.n_parameters:,} of {plan.budget:,}" in repr(plan)
    page = plan._repr_html_()
    assert page.count("<tr>") == len(plan.frame) + 1
    assert "encoder.layer.2.attention.self.value" in page


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_text_of_a_configuration_makes_the_same_configuration(tiny, architecture):
    model, _ = tiny(architecture)
    plan = allocate_ranks(None, model, strategy="uniform", budget=uniform_budget(model, 3))
    first = plan.frame["layer"].iloc[0]
    made = {}
    exec(plan.with_rank(first, 0).to_peft_code(alpha_over_rank=1.5), made)  # noqa: S102 - our own text
    expected = plan.with_rank(first, 0).to_peft_config(alpha_over_rank=1.5)
    assert made["config"].to_dict() == expected.to_dict()
    with pytest.raises(InputError, match="nothing to adapt"):
        plan.with_rank(dict.fromkeys(plan.ranks, 0)).to_peft_code()
