"""What a model does with two texts decides what is captured: which tower, which axis, and whose states they are.

The source of truth is the model itself, reading each text alone.
"""

import functools

import pytest
import tiny_families
import torch
from tiny_models import N_BLOCKS
from torch import nn
from transformers import BertConfig, BertModel, ViTMAEConfig, ViTMAEModel

from gelora_viz.activations import capture, find_blocks
from gelora_viz.errors import InputError

LANGUAGE = {
    "gemma3": "model.language_model.layers",
    "llava": "model.language_model.layers",
    "qwen2_5_vl": "model.language_model.layers",
    "smolvlm": "model.text_model.layers",
    "paligemma": "model.language_model.layers",
    "clip": "text_model.encoder.layers",
}
FAST = ("gemma3", "clip", "xlnet", "fnet", "mamba", "opt", "mixtral")
SENTENCES = [
    "The kettle whistled.",
    "The old tram climbed slowly towards the castle, and nobody minded the rain.",
    "It snowed all night!",
    "A splash of vinegar wakes up a dull sauce.",
]
CLOSE = {"atol": 1e-4, "rtol": 1e-3}


families = functools.partial(tiny_families.mark_slow, fast=FAST)


@pytest.mark.parametrize("name", families(*LANGUAGE))
def test_texts_are_captured_where_they_are_read_under_the_names_of_the_whole_model(family, name):
    model, tokenizer = family(name)
    activations = capture(model, tokenizer, SENTENCES, progress=False)
    expected = [f"{LANGUAGE[name]}.{number}" for number in range(N_BLOCKS)]
    assert activations.layers == ("embeddings", *expected) or list(activations.layers) == ["embeddings", *expected]
    assert set(activations.frame["stack"]) == {""}


@pytest.mark.parametrize("name", families(*LANGUAGE))
def test_the_stacks_of_a_model_with_towers_are_called_by_what_they_read(family, name):
    blocks = find_blocks(family(name)[0])
    assert {block.stack for block in blocks} == {"language", "vision"}
    language = [block.name for block in find_blocks(family(name)[0], "language")]
    assert language == [f"{LANGUAGE[name]}.{number}" for number in range(N_BLOCKS)]


@pytest.mark.parametrize(
    "name",
    families("xlnet", "mamba", "opt", "luke", *tiny_families.EXPERTS, *(each for each in LANGUAGE if each != "clip")),
)
def test_a_text_has_the_points_that_it_has_alone(family, name):
    model, tokenizer = family(name)
    together = capture(model, tokenizer, SENTENCES, pooling="mean", progress=False)
    for number, sentence in enumerate(SENTENCES):
        alone = capture(model, tokenizer, [sentence], pooling="mean", progress=False)
        for layer in together.layers:
            torch.testing.assert_close(together[layer][number], alone[layer][0], **CLOSE)


def test_a_sequence_first_model_gives_each_token_its_own_state(family):
    model, tokenizer = family("xlnet")
    with torch.no_grad():
        ids = torch.tensor([tokenizer(SENTENCES[0])["input_ids"]])
        states = model(ids, output_hidden_states=True).hidden_states  # (tokens, texts, features) within, not here
    # As many texts as tokens: nothing but a look at the model tells which axis is which.
    texts = [SENTENCES[0]] * ids.shape[1]
    points = capture(model, tokenizer, texts, pooling="tokens", progress=False)
    first = points.provenance["text"] == 0
    at = points.provenance["position"][first].to_numpy()
    layer = points.layers[1]
    torch.testing.assert_close(points[layer][first.to_numpy()], states[1][0, at], **CLOSE)


@pytest.mark.parametrize("name", families("fnet", "convbert"))
def test_a_model_that_reads_padding_is_refused_but_for_texts_one_by_one(family, name):
    model, tokenizer = family(name)
    with pytest.raises(
        InputError, match=r"depend on the texts beside it \(layer .* changes by .*%\); give batch_size=1"
    ):
        capture(model, tokenizer, SENTENCES, progress=False)
    points = capture(model, tokenizer, SENTENCES, batch_size=1, progress=False)
    with torch.no_grad():
        ids = torch.tensor([tokenizer(SENTENCES[1])["input_ids"]])
        states = model(ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(points[points.layers[-1]][1], states[0].mean(dim=0), **CLOSE)


def test_random_states_are_refused():
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTMAEModel(ViTMAEConfig(**sizes, image_size=32, patch_size=8)).eval()
    images = torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8).numpy()
    with pytest.raises(InputError, match=r"ViTMAEModel gives other hidden states each time .* mask_ratio"):
        capture(model, ViTImageProcessorPil(size={"height": 32, "width": 32}), images, progress=False)


def test_rounding_is_no_dependence_on_the_batch(tiny, texts):
    model, tokenizer = tiny("bert")
    assert len(capture(model.bfloat16(), tokenizer, texts[:5], progress=False)["embeddings"]) == 5


@pytest.mark.parametrize("name", families("xlm", "flaubert", "albert"))
def test_a_model_without_a_module_for_each_block_is_refused_in_one_line(family, name):
    model, tokenizer = family(name)
    with pytest.raises(InputError, match=r"lists side by side|shared weights") as error:
        capture(model, tokenizer, SENTENCES, progress=False)
    assert "\n" not in str(error.value)


def test_a_tower_that_texts_do_not_reach_is_refused_with_what_it_wanted(family):
    model, tokenizer = family("gemma3")
    with pytest.raises(InputError, match=r"never reach model.vision_tower.encoder.layers"):
        capture(model, tokenizer, SENTENCES, stack="vision", progress=False)
    with pytest.raises(InputError, match=r"stack is 'audio'.*there is vision, language"):
        capture(model, tokenizer, SENTENCES, stack="audio", progress=False)


@pytest.mark.parametrize("name", families("gemma3", "clip"))
def test_images_reach_the_vision_tower_of_a_whole_model(family, name):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    model, _ = family(name)
    images = torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8).numpy()
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    points = capture(model, processor, images, stack="vision", progress=False)
    assert list(points.layers) == ["embeddings", *(block.name for block in find_blocks(model, "vision"))]
    assert len(points["embeddings"]) == 3


class Failing(BertModel):
    def forward(self, input_ids=None, attention_mask=None, pixel_values=None, **_):
        return super().forward(input_ids, attention_mask) if pixel_values is not None else pixel_values.shape


def test_an_error_of_the_model_is_one_line_with_its_class_and_what_it_wants(tiny):
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    model, (_, tokenizer) = Failing(config).eval(), tiny("bert")
    with pytest.raises(
        InputError, match=r"Failing does not run on input_ids, attention_mask alone \(Attr.*also takes pixel_values\)"
    ):
        capture(model, tokenizer, SENTENCES, progress=False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_markers_of_a_chat_are_no_points_of_a_token_cloud(tiny):
    model, tokenizer = tiny("llama")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens(["<tool_call>", "meringue-oven"])  # the last one is a word
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    text = "<|im_start|>user The kettle <tool_call> whistled at the meringue-oven."
    tokens = set(capture(model, tokenizer, [text], pooling="tokens", progress=False).provenance["token"])
    assert "meringue-oven" in tokens
    assert not tokens & {"<|im_start|>", "<tool_call>", tokenizer.bos_token}


def test_a_list_of_blocks_without_a_model_around_it_needs_no_look():
    stack = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(2))
    model = nn.Module()
    model.layers = stack
    assert [block.stack for block in find_blocks(model)] == ["", ""]


def test_hidden_states_end_behind_a_norm_outside_of_the_blocks_owner(family):
    model, tokenizer = family("clip")
    points = capture(model.text_model, tokenizer, SENTENCES[:1], layers="hidden_states", progress=False)
    ids = torch.tensor([tokenizer(SENTENCES[0])["input_ids"]])
    with torch.no_grad():
        output = model.text_model(ids, output_hidden_states=True)
    torch.testing.assert_close(points[points.layers[-1]][0], output.last_hidden_state[0].mean(dim=0), **CLOSE)
    before = capture(model.text_model, tokenizer, SENTENCES[:1], progress=False)
    torch.testing.assert_close(before[before.layers[-1]][0], output.hidden_states[-1][0].mean(dim=0), **CLOSE)
