"""A survey says what a model did: the source of truth is how its family is built, and the model itself."""

import functools

import pytest
import tiny_families
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import HIDDEN_SIZE, N_BLOCKS
from torch import nn

from gelora_viz.activations import capture
from gelora_viz.errors import InputError, StudyError
from gelora_viz.surveys import ModelSurvey, find_reached, list_weights, survey

FAST = ("gemma3", "clip", "xlnet", "fnet", "mamba", "opt", "mixtral")
N_EXPERTS = 4


families = functools.partial(tiny_families.mark_slow, fast=FAST)


@pytest.mark.parametrize("name", families(*tiny_families.TOWERS))
def test_of_two_towers_the_one_that_reads_texts_is_reached(family, name):
    seen = survey(*family(name))
    stacks = seen.stacks.set_index("stack")
    assert stacks["reached"].to_dict() == {"language": True, "vision": False}
    assert stacks.loc["language", ["n_blocks", "width", "order", "batch_axis"]].tolist() == [
        N_BLOCKS,
        HIDDEN_SIZE,
        1,
        0,
    ]
    in_vision = seen.frame["matrix"].str.contains("vision|visual")
    assert not seen.frame.loc[in_vision, "reached"].any()
    in_language = seen.frame["block"].str.startswith(stacks.loc["language", "path"], na=False)
    assert seen.frame.loc[in_language, ["reached", "gradient"]].all(axis=None)
    assert any("and never" in note for note in seen.notes)


@pytest.mark.parametrize("name", families(*tiny_families.EXPERTS))
def test_experts_and_routers_are_kinds_of_their_own(family, name):
    model, tokenizer = family(name)
    seen = survey(model, tokenizer)
    experts = seen.frame[seen.frame["kind"] == "experts"]
    assert set(experts["n_matrices"]) == {N_EXPERTS}
    for row in experts.itertuples():
        assert model.get_parameter(row.matrix).numel() == row.n_weights
    n_routers = (seen.frame["kind"] == "router").sum()
    assert n_routers == len(experts) / 2  # two parameters for each router
    share = seen.blocks["share_without_adapter"].iloc[-1]
    last = model.get_submodule(seen.blocks["block"].iloc[-1])
    linear = sum(each.weight.numel() for each in last.modules() if isinstance(each, nn.Linear))
    assert share == pytest.approx(1 - linear / sum(each.numel() for each in last.parameters()))
    assert any(note.startswith("Experts hold") for note in seen.notes)


def test_the_weights_that_mamba_reads_past_the_module_are_not_reached(family):
    seen = survey(*family("mamba"))
    unreached = set(seen.frame["matrix"]) - seen.reached
    assert {name.rpartition(".")[2] for name in unreached} == {"dt_proj"}


def test_a_sequence_first_model_is_told(family):
    seen = survey(*family("xlnet"))
    assert seen.stacks["batch_axis"].tolist() == [1]
    assert "layer is sequence-first: its states are (tokens, texts, features)." in seen.notes


@pytest.mark.parametrize("name", families("fnet", "convbert"))
def test_how_much_a_text_depends_on_its_batch_is_told(family, name):
    seen = survey(*family(name))
    assert seen.stacks["batch_change"].item() > 0.05
    assert any("use batch_size=1" in note for note in seen.notes)


def test_a_narrower_last_state_is_told(family):
    seen = survey(*family("opt"))
    assert seen.stacks["width"].tolist() == [HIDDEN_SIZE]
    assert any("last hidden state has 16 features" in note for note in seen.notes)


@pytest.mark.parametrize("name", families("xlm", "albert", "flaubert"))
def test_a_model_without_a_module_for_each_block_is_refused(family, name):
    with pytest.raises(InputError, match=r"lists side by side|shared weights"):
        survey(*family(name))


@pytest.mark.parametrize(
    ("architecture", "norms"),
    [
        ("bert", [None]),
        ("gpt2", ["ln_f"]),
        ("llama", ["norm"]),
        ("t5", ["encoder.final_layer_norm", "decoder.final_layer_norm"]),
    ],
)
def test_final_norms_are_found_where_they_run(tiny, architecture, norms):
    assert survey(*tiny(architecture)).stacks["final_norm"].tolist() == norms


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_everything_is_reached_in_a_plain_transformer(tiny, architecture):
    seen = survey(*tiny(architecture))
    assert seen.frame[["reached", "gradient"]].all(axis=None)
    assert set(seen.frame["kind"]) == ({"conv1d"} if architecture == "gpt2" else {"linear"})
    assert seen.notes == ()


def test_matrices_of_an_adapter_that_is_there_are_told_from_those_it_adapts(tiny):
    model, tokenizer = tiny("bert")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))
    frame = survey(adapted, tokenizer).frame
    inside = frame[frame["kind"] == "adapter"]["matrix"]
    assert sorted({name.split(".")[-2] for name in inside}) == ["lora_A", "lora_B"]
    assert len(inside) == 2 * N_BLOCKS


def snapshot(model):
    return (
        {name: weight.clone() for name, weight in model.state_dict().items()},
        [(weight.requires_grad, weight.grad is None) for weight in model.parameters()],
        [module.training for module in model.modules()],
        [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
    )


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(tiny, fails):
    model, tokenizer = tiny("bert")
    model.train()
    model.encoder.layer[0].eval()
    model.embeddings.requires_grad_(False)
    if fails:
        calls = []

        def fail(*_):
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("no luck")

        model.encoder.layer[2].register_forward_hook(fail)
    weights, *rest = snapshot(model)
    if fails:
        with pytest.raises(InputError, match=r"BertModel does not run on input_ids.*RuntimeError: no luck"):
            survey(model, tokenizer)
    else:
        survey(model, tokenizer)
    after, *others = snapshot(model)
    assert others == rest
    assert all(torch.equal(weights[name], after[name]) for name in weights)


def test_gradients_are_seen_where_all_weights_are_frozen(tiny):
    model, tokenizer = tiny("bert")
    model.requires_grad_(False)
    assert survey(model, tokenizer).frame["gradient"].all()


def test_a_matrix_whose_output_is_thrown_away_has_no_gradient(tiny):
    model, tokenizer = tiny("bert")
    model.encoder.layer[1].output.register_forward_pre_hook(lambda _module, args: (args[0] * 0, args[1]))
    frame = survey(model, tokenizer).frame.set_index("matrix")
    assert frame.loc["encoder.layer.1.intermediate.dense", ["reached", "gradient"]].tolist() == [True, False]


def test_a_survey_is_kept_as_json(family, tmp_path):
    seen = survey(*family("gemma3"))
    back = ModelSurvey.load(seen.save(tmp_path / "survey.json"))
    assert (back.notes, back.reached, back.reached_stacks) == (seen.notes, seen.reached, seen.reached_stacks)
    assert repr(back) == repr(seen)
    with pytest.raises(StudyError, match="no model survey"):
        ModelSurvey.load(tmp_path / "other.json")


def test_a_survey_shows_its_tables_and_notes(family):
    page = survey(*family("clip"))._repr_html_()
    assert page.count("<table") == 4
    assert "text_model was called by itself" in page


@pytest.mark.parametrize("name", families("mamba", "luke", "clip", "gemma3"))
def test_a_pass_on_a_few_tokens_reaches_what_a_text_does(family, name):
    model, tokenizer = family(name)
    frame = survey(model, tokenizer).frame
    assert find_reached(model) == set(frame.loc[frame["reached"], "matrix"])


def test_a_model_that_reads_no_tokens_says_nothing_of_what_is_reached():
    assert find_reached(nn.Sequential(nn.Linear(2, 2))) is None


def test_a_capture_reads_the_stack_that_the_survey_says(family):
    model, tokenizer = family("clip")
    points = capture(model, tokenizer, ["It snowed all night!", "The kettle whistled."], progress=False)
    [path] = survey(model, tokenizer).reached_stacks
    assert points.layers[1] == f"{path}.0"


def test_quantized_matrices_are_a_kind_of_their_own(tiny):
    model, _ = tiny("bert")
    query = model.encoder.layer[0].attention.self.query
    query.weight = nn.Parameter(query.weight.to(torch.int8), requires_grad=False)
    kinds = {weight.name: weight.kind for weight in list_weights(model)}
    assert kinds["encoder.layer.0.attention.self.query"] == "quantized"
