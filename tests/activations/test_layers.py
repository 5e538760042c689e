"""Layers chosen by pattern: what any submodule reads or gives."""

import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from gelora_viz.activations import capture
from gelora_viz.errors import InputError


def seen_by_hooks(model, tokenizer, text, name):
    """(input, output) of a module for one text alone."""
    seen = {}

    def hook(_module, args, kwargs, output):
        seen.setdefault("input", args[0] if args else kwargs.get("hidden_states"))
        seen.setdefault("output", output[0] if isinstance(output, tuple) else output)

    handle = model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    handle.remove()
    return seen["input"][0], seen["output"][0]


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("bert", "encoder.layer.1.attention"),
        ("bert", "encoder.layer.0.intermediate"),
        ("gpt2", "h.2.mlp"),
        ("llama", "layers.1.self_attn"),  # reads keyword hidden_states
        ("llama", "layers.2"),
        ("deberta-v2", "encoder.layer.0.attention.self.query_proj"),  # runs again for relative positions
    ],
)
def test_a_module_is_captured_as_it_reads_and_gives(tiny, texts, architecture, name):
    model, tokenizer = tiny(architecture)
    activations = capture(
        model, tokenizer, texts[:4], layers=[f"{name}:output", f"{name}:input"], pooling="last", progress=False
    )
    assert activations.layers == [f"{name}:input", name]
    for row, text in enumerate(texts[:4]):
        read, given = seen_by_hooks(model, tokenizer, text, name)
        torch.testing.assert_close(activations[f"{name}:input"][row], read[-1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(activations[name][row], given[-1], atol=1e-5, rtol=1e-4)


def test_a_block_reads_what_the_block_before_it_gives(tiny, texts):
    model, tokenizer = tiny("llama")
    activations = capture(model, tokenizer, texts[:4], layers=["layers.[12]:input", "layers.?"], progress=False)
    assert activations.layers == ["layers.0", "layers.1:input", "layers.1", "layers.2:input", "layers.2"]
    assert activations.layer_frame["depth"].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(activations["layers.1:input"], activations["layers.0"])


def test_a_side_that_is_none_is_refused(tiny, texts):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=r"ends in ':inputs'; end it in ':input' or ':output'"):
        capture(model, tokenizer, texts[:2], layers="encoder.layer.*:inputs", progress=False)


def test_what_is_read_and_is_no_hidden_state_is_named(tiny, texts):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=r"module 'embeddings\.word_embeddings' reads \(2, \d+\), not hidden states"):
        capture(model, tokenizer, texts[:2], layers="embeddings.word_embeddings:input", progress=False)


def test_settings_say_which_layers_were_asked_for(tiny, texts):
    model, tokenizer = tiny("bert")
    for layers in ("blocks", "hidden_states", ["encoder.layer.0:input"]):
        assert capture(model, tokenizer, texts[:2], layers=layers, progress=False).settings["layers"] == layers


def test_the_final_norm_is_reached_without_the_head_of_a_language_model(tiny, texts):
    backbone, tokenizer = tiny("gpt2")
    model = GPT2LMHeadModel(backbone.config)
    calls = []
    model.lm_head.register_forward_hook(lambda *_: calls.append("head"))
    model.transformer.ln_f.register_forward_hook(lambda *_: calls.append("final norm"))
    capture(model, tokenizer, texts[:3], layers="hidden_states", progress=False)
    assert set(calls) == {"final norm"}


def test_points_are_taken_before_a_later_module_writes_over_the_states(tiny, texts):
    model, tokenizer = tiny("bert")
    expected = capture(model, tokenizer, texts[:4], layers="encoder.layer.0", progress=False)
    model.encoder.layer[1].register_forward_pre_hook(lambda _module, args: args[0].zero_())
    found = capture(model, tokenizer, texts[:4], progress=False)
    assert torch.equal(found["encoder.layer.0"], expected["encoder.layer.0"])


def test_a_pooling_function_may_give_a_view_that_a_later_module_writes_over(tiny, texts):
    model, tokenizer = tiny("bert")
    options = {"pooling": lambda hidden, _: hidden[:, 0], "progress": False}
    expected = capture(model, tokenizer, texts[:4], layers="encoder.layer.0", pooling="cls", progress=False)
    model.encoder.layer[1].register_forward_pre_hook(lambda _module, args: args[0].zero_())
    found = capture(model, tokenizer, texts[:4], **options)
    assert torch.equal(found["encoder.layer.0"], expected["encoder.layer.0"])


def test_an_owner_of_blocks_that_gives_no_hidden_states_is_refused(tiny, texts):
    """A model that holds its blocks itself and gives scores for every word of the vocabulary."""

    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(500, 8)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(2))
            self.head = nn.Linear(8, 500)

        def forward(self, input_ids, **_):
            states = self.embedding(input_ids)
            for block in self.blocks:
                states = block(states)
            return self.head(states)

    _, tokenizer = tiny("bert")
    assert capture(Language(), tokenizer, texts[:3], progress=False)["blocks.1"].shape == (3, 8)
    with pytest.raises(InputError, match=r"gives 500 features and they 8, .*choose layers=\"blocks\""):
        capture(Language(), tokenizer, texts[:3], layers="hidden_states", progress=False)


def test_a_compiled_model_is_captured_as_the_model_it_was(tiny, texts):
    model, tokenizer = tiny("bert")
    plain = capture(model, tokenizer, texts[:3], progress=False)
    compiled = capture(torch.compile(model), tokenizer, texts[:3], progress=False)
    assert compiled.layers == plain.layers
    assert all(torch.equal(compiled[layer], plain[layer]) for layer in plain)
