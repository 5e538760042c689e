"""Updates read through factors or as a whole, in batches, on any layer, and against the weight they are added to."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from adapted_models import trained, updates
from peft import (
    AdaLoraConfig,
    C3AConfig,
    DeloraConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PeftModel,
    PromptTuningConfig,
    RoadConfig,
    VeraConfig,
    get_peft_model,
)
from peft.tuners.lora.intruders import reduce_intruder_dimension
from torch import nn

from gelora_viz import UpdateSpectrum, measure_spectra
from gelora_viz.adapters import GenLoraConfig
from gelora_viz.errors import InputError
from gelora_viz.spectra.decomposition import decompose, decompose_values, in_batches, norm_of_product
from gelora_viz.spectra.updates import Update, find_adapted, read_update, read_weight
from gelora_viz.spectra.weights import compare_with_weight

BOTH = ["query", "value"]
UNEQUAL = {r"encoder\.layer\.0\.attention\.self\.query": 2, r"encoder\.layer\.2\.attention\.self\.value": 7}
QUERY = "encoder.layer.1.attention.self.query"


def check_against_the_whole_updates(adapted, base):
    """Every singular value within 1e-6 of the largest, and none left out that is not zero."""
    truth = updates(adapted, base)
    spectrum = measure_spectra(adapted)
    assert set(truth) <= set(spectrum.singular_values)
    for module, values in spectrum.singular_values.items():
        if module not in truth:
            assert (values == 0).all()
            continue
        expected = torch.linalg.svdvals(truth[module]).numpy()
        padded = np.pad(values, (0, len(expected) - len(values)))
        np.testing.assert_allclose(padded, expected, atol=1e-6 * expected[0])
    return spectrum


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules=BOTH),
        LoraConfig(r=4, lora_alpha=3, target_modules=BOTH, use_rslora=True),
        LoraConfig(r=4, target_modules=BOTH, rank_pattern=UNEQUAL),
        LoraConfig(r=40, target_modules=BOTH),
        LoraConfig(r=4, target_modules=["query", "word_embeddings"]),
        LoraConfig(r=4, target_modules=BOTH, use_dora=True),
        AdaLoraConfig(target_modules=BOTH, total_step=10),
        VeraConfig(r=6, target_modules=BOTH),
        LoKrConfig(r=3, target_modules=BOTH),
        LoHaConfig(r=3, target_modules=BOTH),
        FourierFTConfig(n_frequency=30, target_modules=BOTH),
        OFTConfig(target_modules=BOTH, oft_block_size=8, r=0),
        HRAConfig(target_modules=BOTH),
        IA3Config(target_modules=BOTH, feedforward_modules=[]),
        C3AConfig(block_size=8, target_modules=BOTH),
        GenLoraConfig(r=6, num_groups=4, target_modules=BOTH),
        GenLoraConfig(r=6, num_groups=4, train_centers=False, train_widths=False, target_modules=BOTH),
        MissConfig(r=4, target_modules=BOTH),
        DeloraConfig(r=4, target_modules=BOTH),
        RoadConfig(target_modules=BOTH, group_size=8),
    ],
    ids=lambda config: f"{config.peft_type.value}-{getattr(config, 'r', '')}",
)
def test_singular_values_are_those_of_the_merged_minus_the_base_weight(tiny, config):
    base, _ = tiny("bert")
    check_against_the_whole_updates(trained(copy.deepcopy(base), config), base)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=3, target_modules=["c_attn"], fan_in_fan_out=True),
        GenLoraConfig(r=6, num_groups=4, target_modules=["c_attn"]),
        VeraConfig(r=6, target_modules=["c_attn"]),
        LoraConfig(r=3, target_modules=["c_attn"], use_dora=True, fan_in_fan_out=True),
    ],
    ids=lambda config: f"{config.peft_type.value}",
)
def test_the_transposed_weights_of_gpt2_have_updates_of_outputs_by_inputs(tiny, config):
    base, _ = tiny("gpt2")
    adapted = trained(copy.deepcopy(base), config)
    check_against_the_whole_updates(adapted, base)
    truth = updates(adapted, base)
    for each in find_adapted(adapted, "default", asked_by="the test"):
        assert read_update(each, "default").whole.shape == (96, 32)
        torch.testing.assert_close(read_update(each, "default").whole, truth[each.module], atol=1e-6, rtol=0)


def allocated_adalora(model):
    """AdaLoRA with 12 ranks in every matrix, of which its allocator has left 24 in all."""
    config = AdaLoraConfig(target_modules=BOTH, init_r=12, target_r=4, total_step=10, tinit=1, tfinal=2, deltaT=1)
    adapted = trained(model, config)
    ids = torch.arange(20).reshape(2, 10)
    for step in range(10):
        adapted(input_ids=ids).last_hidden_state.square().sum().backward()
        adapted.base_model.update_and_allocate(step)
        adapted.zero_grad()
    return adapted


def test_an_adalora_has_the_ranks_that_its_allocator_left(tiny, tmp_path):
    base, _ = tiny("bert")
    adapted = allocated_adalora(copy.deepcopy(base))
    spectrum = check_against_the_whole_updates(adapted, base)
    assert spectrum.frame["rank"].sum() == 24
    assert spectrum.frame["rank"].nunique() > 1
    assert (spectrum.frame["numerical_rank"] == spectrum.frame["rank"]).all()
    adapted.save_pretrained(tmp_path)
    loaded = measure_spectra(PeftModel.from_pretrained(base, tmp_path))
    np.testing.assert_allclose(loaded.frame["rank"], spectrum.frame["rank"])
    np.testing.assert_allclose(loaded.frame["entropy_rank"], spectrum.frame["entropy_rank"], rtol=1e-6)


def test_a_matrix_from_which_every_rank_was_taken_has_none_and_no_utilisation(tiny):
    adapted = allocated_adalora(tiny("bert")[0])
    config = adapted.peft_config["default"]
    layer = adapted.get_base_model().get_submodule(QUERY)
    config.rank_pattern[f"{QUERY}.lora_E.default"] = [False] * 12
    with torch.no_grad():
        layer.lora_E["default"].zero_()
    row = measure_spectra(adapted).frame.set_index("module").loc[QUERY]
    assert (row[["rank", "entropy_rank", "numerical_rank", "norm"]] == 0).all()
    assert np.isnan(row["utilisation"])


@pytest.mark.parametrize("config", [LoraConfig(r=4, target_modules=BOTH), VeraConfig(r=6, target_modules=BOTH)])
def test_a_merged_adapter_has_the_spectrum_that_it_had_before(tiny, config):
    adapted = trained(tiny("bert")[0], config)
    before = measure_spectra(adapted, against_weights=True).frame
    adapted.merge_adapter()
    after = measure_spectra(adapted, against_weights=True).frame
    np.testing.assert_allclose(after.drop(columns="module"), before.drop(columns="module"), rtol=1e-3, atol=1e-6)


def test_an_untrained_dora_has_moved_in_no_direction(tiny):
    adapted = get_peft_model(tiny("bert")[0], LoraConfig(r=4, target_modules=BOTH, use_dora=True))
    assert (measure_spectra(adapted).frame[["entropy_rank", "norm", "energy_share"]] == 0).all(axis=None)


def test_the_blocks_of_oft_are_not_taken_for_ranks(tiny):
    adapted = trained(tiny("bert")[0], OFTConfig(target_modules=["query"], oft_block_size=8, r=0))
    assert measure_spectra(adapted).frame[["rank", "utilisation"]].isna().all(axis=None)


@pytest.mark.parametrize("method", ["LORA", "VERA", "OFT"])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_weight_is_measured_as_what_it_stands_for(bits, method):
    bnb = pytest.importorskip("bitsandbytes")
    config = {
        "LORA": LoraConfig(r=4, target_modules=["0"]),
        "VERA": VeraConfig(r=4, target_modules=["0"]),
        "OFT": OFTConfig(target_modules=["0"], oft_block_size=8, r=0),
    }[method]
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(64, 64))
    packed = bnb.nn.Linear4bit(64, 64) if bits == 4 else bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    packed.load_state_dict(plain[0].state_dict())
    packed = nn.Sequential(packed).to("cpu")
    adapted = trained(packed, config)
    (each,) = find_adapted(adapted, "default", asked_by="the test")
    weight = read_weight(each)
    assert 0 < (weight - plain[0].weight).norm() < 0.15 * weight.norm()
    with torch.no_grad():
        plain[0].weight.copy_(weight)
    twin = get_peft_model(copy.deepcopy(plain), config)
    twin.load_state_dict({k: v for k, v in adapted.state_dict().items() if "base_layer" not in k}, strict=False)
    torch.testing.assert_close(read_update(each, "default").whole, updates(twin, plain)["0"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("storage", [torch.uint8, torch.bfloat16])
def test_a_dora_on_a_quantized_weight_is_refused_whatever_type_it_is_stored_in(storage):
    bnb = pytest.importorskip("bitsandbytes")
    packed = nn.Sequential(bnb.nn.Linear4bit(64, 64, quant_storage=storage)).to("cpu")
    adapted = trained(packed, LoraConfig(r=4, target_modules=["0"], use_dora=True))
    with pytest.raises(InputError, match=r"of 0 cannot be merged \(its weight is quantized; load the base model unq"):
        measure_spectra(adapted)


# In batches


def test_every_update_is_in_one_batch_with_others_of_its_shape(tiny):
    model, _ = tiny("llama")
    adapted = trained(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    found = [read_update(each, "default") for each in find_adapted(adapted, "default", asked_by="the test")]
    for limit in (1, 3 * found[0].n_bytes, 2**28):
        batches = list(in_batches(found, limit))
        assert sorted(each.module for batch in batches for each in batch) == sorted(each.module for each in found)
        assert all(len({each.shapes for each in batch}) == 1 for batch in batches)
        for batch in batches:
            for each, values in zip(batch, decompose_values(batch), strict=True):
                truth = torch.linalg.svdvals(each.whole)[:4]
                torch.testing.assert_close(values, truth, atol=1e-6, rtol=0)
    assert len(list(in_batches(found, 1))) == len(found)
    assert len(list(in_batches(found))) == 3


@pytest.mark.parametrize("config", [LoraConfig(r=4, target_modules=BOTH), LoKrConfig(r=3, target_modules=BOTH)])
def test_a_decomposition_gives_the_update_back(tiny, config):
    adapted = trained(tiny("bert")[0], config)
    for each in find_adapted(adapted, "default", asked_by="the test"):
        update = read_update(each, "default")
        left, values, right = decompose(update)
        torch.testing.assert_close(left @ torch.diag(values) @ right, update.whole)
        torch.testing.assert_close(left.T @ left, torch.eye(len(values), dtype=torch.float64))
        torch.testing.assert_close(right @ right.T, torch.eye(len(values), dtype=torch.float64))


def test_the_norm_of_a_product_is_found_without_the_product():
    left, right = torch.randn(40, 7, dtype=torch.float64), torch.randn(7, 30, dtype=torch.float64)
    assert norm_of_product(left, right) == pytest.approx(float((left @ right).norm()))
    wide = torch.randn(3, 7, dtype=torch.float64)
    assert norm_of_product(wide, right) == pytest.approx(float((wide @ right).norm()))


# Shares of the energy


def test_shares_of_the_energy_are_squared_norms_over_their_sum(tiny):
    frame = measure_spectra(trained(tiny("bert")[0], LoraConfig(r=4, target_modules=BOTH))).frame
    np.testing.assert_allclose(frame["energy_share"], frame["norm"] ** 2 / (frame["norm"] ** 2).sum())


# Against the weight


def test_what_is_read_against_weights_is_saved_and_only_there_when_asked_for(tiny, tmp_path):
    adapted = trained(tiny("bert")[0], LoraConfig(r=4, target_modules=BOTH))
    further = ["overlap", "overlap_by_chance", "n_intruders"]
    assert not set(further) & set(measure_spectra(adapted).frame)
    spectrum = measure_spectra(adapted, against_weights=True)
    assert list(spectrum.frame)[-3:] == further
    loaded = UpdateSpectrum.load(spectrum.save(tmp_path / "spectrum.json"))
    np.testing.assert_array_equal(loaded.frame[further], spectrum.frame[further])


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_an_update_along_the_weight_s_main_directions_overlaps_and_one_beside_them_intrudes(tiny, architecture):
    model, _ = tiny(architecture)
    name = "query" if architecture == "bert" else "c_attn"
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules=[name]))
    along, beside, untouched = find_adapted(adapted, "default", asked_by="the test")
    for each, places in ((along, [0, 1]), (beside, [20, 21])):
        u, s, vh = torch.linalg.svd(read_weight(each), full_matrices=False)
        half = torch.full((32,), 0.5**0.5, dtype=torch.float64)
        mixed = torch.stack([u[:, :16] @ half[:16], u[:, 16:] @ half[16:]], dim=1)  # no direction of the weight's own
        with torch.no_grad():
            each.layer.lora_A["default"].weight.copy_(vh[places])
            each.layer.lora_B["default"].weight.copy_(5 * s[0] * (u[:, places] if each is along else mixed))
    rows = measure_spectra(adapted, against_weights=True).frame.set_index("module")
    assert rows.loc[along.module, "overlap"] == pytest.approx(1, abs=1e-6)
    assert rows.loc[along.module, "n_intruders"] == 0
    assert rows.loc[beside.module, "overlap"] == pytest.approx(0, abs=1e-6)
    assert rows.loc[beside.module, "n_intruders"] == 2
    assert np.isnan(rows.loc[untouched.module, "overlap"])
    assert rows.loc[untouched.module, "n_intruders"] == 0


def test_an_update_in_random_directions_overlaps_by_chance():
    torch.manual_seed(0)
    weight = torch.randn(24, 32, dtype=torch.float64)
    found = []
    for _ in range(300):
        left, right = torch.randn(24, 4, dtype=torch.float64), torch.randn(4, 32, dtype=torch.float64)
        found.append(compare_with_weight(Update("random", 4.0, (left, right)), weight, rank=4))
    assert found[0]["overlap_by_chance"] == 16 / (24 * 32)
    assert np.mean([each["overlap"] for each in found]) == pytest.approx(16 / (24 * 32), rel=0.1)


def test_intruders_are_those_that_peft_counts(tiny):
    adapted = trained(tiny("bert")[0], LoraConfig(r=4, lora_alpha=60, target_modules=BOTH))
    ours = measure_spectra(adapted, against_weights=True).frame.set_index("module")["n_intruders"]
    lines = []
    reduce_intruder_dimension(copy.deepcopy(adapted), logging_sink=lines.append)
    theirs = {
        line.split(": ")[0].removeprefix("base_model.model."): int(line.split(": ")[-1])
        for line in lines
        if "Intruders" in line
    }
    assert theirs
    assert {module: number for module, number in ours.items() if number} == theirs


# What cannot be measured


@pytest.mark.parametrize(
    "config", [LoraConfig(r=2, target_modules=["query"], use_dora=True), VeraConfig(r=4, target_modules=["query"])]
)
def test_a_weight_that_is_not_finite_is_found_before_anything_is_decomposed(tiny, config, monkeypatch):
    adapted = trained(tiny("bert")[0], config)
    last = "encoder.layer.2.attention.self.query"
    own = next(p for n, p in adapted.get_base_model().get_submodule(last).named_parameters() if "default" in n)
    with torch.no_grad():
        own.view(-1)[0] = float("nan")
    monkeypatch.setattr(torch.linalg, "svdvals", lambda _: pytest.fail("decomposed"))
    with pytest.raises(InputError, match=f"update of {last} holds NaN or infinite values"):
        measure_spectra(adapted)


def test_virtual_tokens_change_no_matrix(tiny):
    adapted = get_peft_model(
        tiny("gpt2")[0], PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    )
    with pytest.raises(InputError, match=r"adapter 'default' \(PROMPT_TUNING\) changes no weight matrix"):
        measure_spectra(adapted)


def test_a_vector_has_no_rank(tiny):
    adapted = get_peft_model(tiny("bert")[0], LNTuningConfig(target_modules=["LayerNorm"]))
    with pytest.raises(InputError, match=r"update of embeddings\.LayerNorm is a vector and has no rank"):
        measure_spectra(adapted)


def test_experts_in_one_tensor_are_refused_with_their_module():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(4, 8, 8))

        def forward(self, x):
            return x @ self.up[0]

    adapted = get_peft_model(nn.Sequential(Experts()), LoraConfig(r=2, target_modules=[], target_parameters=["0.up"]))
    with pytest.raises(InputError, match="ParamWrapper of 0 adapts something other than one weight matrix"):
        measure_spectra(adapted)


def test_weights_that_are_not_in_memory_are_refused(tiny):
    adapted = get_peft_model(tiny("bert")[0], VeraConfig(r=4, target_modules=["query"]))
    adapted.get_base_model().get_submodule(QUERY).base_layer.to("meta")
    with pytest.raises(InputError, match=f"the weights of {QUERY} are offloaded"):
        measure_spectra(adapted)


def test_a_method_that_cannot_be_merged_is_refused_with_its_layer(tiny, monkeypatch):
    adapted = trained(tiny("bert")[0], IA3Config(target_modules=["query"], feedforward_modules=[]))
    layer = type(adapted.get_base_model().get_submodule(QUERY))

    def refuse(*_, **__):
        raise NotImplementedError("no merging")

    monkeypatch.setattr(layer, "merge", refuse)
    with pytest.raises(InputError, match=r"of encoder.layer.0.attention.self.query cannot be merged \(no merging\)"):
        measure_spectra(adapted)


def test_a_device_that_is_not_here_is_refused(tiny):
    adapted = get_peft_model(tiny("bert")[0], LoraConfig(target_modules=["query"]))
    with pytest.raises(InputError, match="device is 'warp:9'; give a name such as"):
        measure_spectra(adapted, device="warp:9")
    assert len(measure_spectra(adapted, device="cpu").frame) == 3
