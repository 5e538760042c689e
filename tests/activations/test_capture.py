"""Captured points are the model's own hidden states, whatever the batch, and the model is left as it was.

The source of truth is the model itself: every text alone, without padding, with `output_hidden_states=True`.
"""

import functools
import logging

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_models import ARCHITECTURES, FURTHER_ARCHITECTURES, N_BLOCKS
from torch import nn
from transformers import AutoModelForSequenceClassification, GPT2LMHeadModel

from gelora_viz.activations import capture, find_blocks
from gelora_viz.errors import InputError

FINAL_NORMS = {
    "gpt2": {"": "ln_f"},
    "llama": {"": "norm"},
    "t5": {"encoder": "encoder.final_layer_norm", "decoder": "decoder.final_layer_norm"},
    "gpt-neox": {"": "final_layer_norm"},
    "qwen2": {"": "norm"},
    "qwen3": {"": "norm"},
    "mistral": {"": "norm"},
    "gemma": {"": "norm"},
    "phi": {"": "final_layernorm"},
}
each_architecture = pytest.mark.parametrize("architecture", [*ARCHITECTURES, *FURTHER_ARCHITECTURES])
each_kind = pytest.mark.parametrize("architecture", ARCHITECTURES)
LOOK = (1, 1, 2)
"""Sizes of the batches by which a model is looked at first."""
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def states_of(model, tokenizer, text):
    """Stack -> hidden states (n_tokens, n_features) by depth, of one text alone."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "output_hidden_states": True}
    with torch.no_grad():
        if not model.config.is_encoder_decoder:
            return {"": [state[0] for state in model(**inputs).hidden_states]}
        start = torch.tensor([[model.config.decoder_start_token_id]])
        output = model(**inputs, decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1))
    return {
        "encoder": [state[0] for state in output.encoder_hidden_states],
        "decoder": [state[0] for state in output.decoder_hidden_states],
    }


def hooks_of(model):
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


def assert_equal_points(one, other, **tolerance):
    assert one.layers == other.layers
    for layer in one:
        torch.testing.assert_close(one[layer], other[layer], **(tolerance or CLOSE))


def norm_after(model, architecture, stack):
    """The final norm that `hidden_states[-1]` has been through and a block's output has not; else the identity."""
    name = FINAL_NORMS.get(architecture, {}).get(stack)
    return model.get_submodule(name) if name else nn.Identity()


@each_architecture
def test_layers_are_the_embeddings_and_every_block_of_each_stack(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    activations = capture(model, tokenizer, texts[:3], progress=False)
    stacks = ["encoder", "decoder"] if model.config.is_encoder_decoder else [""]
    frame = activations.frame
    assert frame["stack"].tolist() == [stack for stack in stacks for _ in range(N_BLOCKS + 1)]
    assert frame["depth"].tolist() == list(range(N_BLOCKS + 1)) * len(stacks)
    blocks = [name for name in activations.layers if not name.endswith("embeddings")]
    assert blocks == [block.name for block in find_blocks(model)]
    assert all(activations[layer].dtype == torch.float32 for layer in activations)


@each_architecture
def test_token_points_are_the_models_hidden_states(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    activations = capture(model, tokenizer, texts[:12], pooling="tokens", progress=False)
    states = [states_of(model, tokenizer, text) for text in texts[:12]]
    for row in activations.layer_frame.itertuples():
        shift = row.stack == "decoder"  # its token t stands at position t + 1, behind the start token
        at = zip(activations.provenance["text"], activations.provenance["position"], strict=True)
        expected = torch.stack([states[text][row.stack][row.depth][position + shift] for text, position in at])
        points = activations[row.layer]
        if row.depth == N_BLOCKS:
            with torch.no_grad():
                points = norm_after(model, architecture, row.stack)(points)
        torch.testing.assert_close(points, expected, **CLOSE)


@each_architecture
@pytest.mark.parametrize("pooling", ["tokens", "mean"])
def test_hidden_states_are_the_models_own_entry_by_entry(tiny, texts, architecture, pooling):
    """No final norm is applied here: the last entry is to be behind it already."""
    model, tokenizer = tiny(architecture)
    activations = capture(model, tokenizer, texts[:8], layers="hidden_states", pooling=pooling, progress=False)
    states = [states_of(model, tokenizer, text) for text in texts[:8]]
    assert activations.layers == capture(model, tokenizer, texts[:1], progress=False).layers
    assert activations.settings["layers"] == "hidden_states"
    for row in activations.layer_frame.itertuples():
        shift = row.stack == "decoder"
        own = [state[row.stack][row.depth] for state in states]
        if pooling == "mean":
            expected = torch.stack([state.mean(dim=0) for state in own])
        else:
            at = zip(activations.provenance["text"], activations.provenance["position"], strict=True)
            expected = torch.stack([own[text][position + shift] for text, position in at])
        torch.testing.assert_close(activations[row.layer], expected, **CLOSE)


@each_architecture
def test_blocks_and_hidden_states_differ_where_a_final_norm_follows_and_nowhere_else(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    blocks, states = (
        capture(model, tokenizer, texts[:3], layers=layers, progress=False) for layers in ("blocks", "hidden_states")
    )
    differing = [
        row.layer for row in blocks.layer_frame.itertuples() if not torch.equal(blocks[row.layer], states[row.layer])
    ]
    lasts = blocks.layer_frame[blocks.layer_frame["depth"] == N_BLOCKS]
    assert differing == [row.layer for row in lasts.itertuples() if row.stack in FINAL_NORMS.get(architecture, {})]


@each_kind
@pytest.mark.parametrize(
    ("pooling", "pool"),
    [("mean", lambda state: state.mean(dim=0)), ("last", lambda state: state[-1]), ("cls", lambda state: state[0])],
)
def test_text_points_are_pooled_hidden_states(tiny, texts, architecture, pooling, pool):
    model, tokenizer = tiny(architecture)
    activations = capture(model, tokenizer, texts[:12], pooling=pooling, progress=False)
    states = [states_of(model, tokenizer, text) for text in texts[:12]]
    for row in activations.layer_frame.itertuples():
        if row.depth == N_BLOCKS and architecture in FINAL_NORMS and pooling == "mean":
            continue  # a mean of normed states is no norm of the mean; the token points show this layer
        points = activations[row.layer]
        if row.depth == N_BLOCKS:
            with torch.no_grad():
                points = norm_after(model, architecture, row.stack)(points)
        expected = torch.stack([pool(state[row.stack][row.depth]) for state in states])
        torch.testing.assert_close(points, expected, **CLOSE)


@each_architecture
@pytest.mark.parametrize("pooling", ["mean", "last", "tokens"])
def test_a_point_does_not_depend_on_the_batch_it_travelled_in(tiny, texts, architecture, pooling):
    model, tokenizer = tiny(architecture)
    alone, seven, auto = (
        capture(model, tokenizer, texts[:30], pooling=pooling, batch_size=size, progress=False)
        for size in (1, 7, "auto")
    )
    assert_equal_points(alone, seven)
    assert_equal_points(alone, auto)
    assert alone.provenance.equals(seven.provenance)


@each_kind
@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "tokens"])
def test_the_tokenizers_padding_side_changes_nothing(tiny, texts, architecture, pooling):
    model, tokenizer = tiny(architecture)
    seen = []
    for side in ("left", "right"):
        tokenizer.padding_side = side
        seen.append(capture(model, tokenizer, texts[:10], pooling=pooling, progress=False))
    assert_equal_points(*seen, atol=0, rtol=0)


@each_architecture
def test_a_task_head_does_not_change_the_points(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    headed = AutoModelForSequenceClassification.from_config(model.config)
    headed.base_model.load_state_dict(model.state_dict(), strict=False)
    plain, other = (capture(each, tokenizer, texts[:5], progress=False) for each in (model, headed))
    for one, two in zip(plain, other, strict=True):
        torch.testing.assert_close(plain[one], other[two], **CLOSE)


def test_a_model_in_half_precision_gives_single_precision_points(tiny, texts):
    model, tokenizer = tiny("llama")
    single = capture(model, tokenizer, texts[:5], progress=False)
    half = capture(model.to(torch.bfloat16), tokenizer, texts[:5], progress=False)
    for layer in half:
        assert half[layer].dtype == torch.float32
        assert (half[layer] - single[layer]).norm() < 0.05 * single[layer].norm()


# What each point is


@each_kind
def test_a_token_cloud_has_every_token_but_the_special_ones_under_its_name(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    provenance = capture(model, tokenizer, texts[:8], pooling="tokens", progress=False).provenance
    expected = [
        (number, token, position)
        for number, text in enumerate(texts[:8])
        for position, (id_, token) in enumerate(
            (id_, tokenizer.convert_ids_to_tokens(id_)) for id_ in tokenizer(text)["input_ids"]
        )
        if id_ not in tokenizer.all_special_ids
    ]
    assert list(provenance.itertuples(index=False, name=None)) == expected


def test_a_text_point_names_its_text_and_no_token(tiny, texts):
    model, tokenizer = tiny("bert")
    provenance = capture(model, tokenizer, texts[:4], progress=False).provenance
    assert provenance["text"].tolist() == [0, 1, 2, 3]
    assert provenance["token"].tolist() == [None] * 4
    assert provenance["position"].tolist() == [-1] * 4


def test_texts_without_tokens_but_special_ones_have_no_token_cloud(tiny):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match="no tokens besides special ones"):
        capture(model, tokenizer, ["\u200b"], pooling="tokens", progress=False)


def test_settings_say_how_to_repeat_the_capture(tiny, texts):
    model, tokenizer = tiny("bert")
    activations = capture(model, tokenizer, texts[:9], max_points=5, max_length=12, seed=4, progress=False)
    wanted = {"n_texts": 9, "max_points": 5, "max_length": 12, "seed": 4}
    assert wanted.items() <= dict(activations.settings).items()
    assert activations.pooling == "mean"


def test_max_length_cuts_the_texts(tiny, texts):
    model, tokenizer = tiny("bert")
    provenance = capture(model, tokenizer, texts[:5], pooling="tokens", max_length=6, progress=False).provenance
    assert provenance["position"].max() == 4  # [CLS], four tokens, [SEP]


# A choice of points


@pytest.mark.parametrize("pooling", ["mean", "tokens"])
def test_chosen_points_are_the_points_of_a_full_capture(tiny, texts, pooling):
    model, tokenizer = tiny("t5")
    full, some = (
        capture(model, tokenizer, texts[:20], pooling=pooling, max_points=limit, progress=False)
        for limit in (None, 9)
    )
    rows = {key: row for row, key in enumerate(full.provenance.itertuples(index=False, name=None))}
    where = [rows[key] for key in some.provenance.itertuples(index=False, name=None)]
    assert len(where) == some.n_points == 9
    assert where == sorted(where)
    for layer in full:
        torch.testing.assert_close(some[layer], full[layer][where], **CLOSE)


def test_a_seed_decides_the_points(tiny, texts):
    model, tokenizer = tiny("bert")
    first, same, other = (
        capture(model, tokenizer, texts[:20], max_points=8, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    assert first.provenance.equals(same.provenance)
    assert not first.provenance.equals(other.provenance)


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_a_seeds_choice_is_numpys_over_all_tokens_in_order(tiny, texts, architecture):
    """Pinned: figures in the documentation rest on it."""
    model, tokenizer = tiny(architecture)
    every = capture(model, tokenizer, texts[:20], pooling="tokens", progress=False).provenance
    some = capture(model, tokenizer, texts[:20], pooling="tokens", max_points=30, seed=7, progress=False).provenance
    rows = np.sort(np.random.default_rng(7).choice(len(every), size=30, replace=False))
    assert some.equals(every.iloc[rows].reset_index(drop=True))


def test_every_point_is_chosen_as_often_as_every_other(tiny, texts):
    """Chi-square test of 80 choices of 3 texts out of 10."""
    model, tokenizer = tiny("bert")
    counts = np.zeros(10)
    for seed in range(80):
        chosen = capture(model, tokenizer, texts[:10], max_points=3, seed=seed, progress=False).provenance["text"]
        assert chosen.is_unique
        counts[chosen] += 1
    assert stats.chisquare(counts).pvalue > 0.01


def test_more_points_than_there_are_is_no_error(tiny, texts):
    model, tokenizer = tiny("bert")
    assert capture(model, tokenizer, texts[:4], max_points=100, progress=False).n_points == 4


def test_a_token_cloud_is_limited_without_being_asked(tiny, texts, monkeypatch):
    monkeypatch.setattr("gelora_viz.activations.passes._MAX_TOKEN_POINTS", 50)
    model, tokenizer = tiny("bert")
    assert capture(model, tokenizer, texts[:20], pooling="tokens", progress=False).n_points == 50
    assert capture(model, tokenizer, texts[:20], pooling="mean", progress=False).n_points == 20


# Pooling and layers of one's own


def test_a_function_may_pool(tiny, texts):
    def first_three(hidden, _mask):
        return hidden[:, 0, :3]

    model, tokenizer = tiny("bert")
    own = capture(model, tokenizer, texts[:7], pooling=first_three, batch_size=2, progress=False)
    cls = capture(model, tokenizer, texts[:7], pooling="cls", progress=False)
    assert own.pooling == "first_three"
    for layer in own:
        torch.testing.assert_close(own[layer], cls[layer][:, :3], **CLOSE)


def test_patterns_choose_modules_by_name(tiny, texts):
    model, tokenizer = tiny("bert")
    own = capture(
        model, tokenizer, texts[:5], layers=["encoder.layer.[01].attention.output", "embeddings"], progress=False
    )
    assert own.layers == ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.1.attention.output"]
    blocks = capture(model, tokenizer, texts[:5], progress=False)
    torch.testing.assert_close(own["embeddings"], blocks["embeddings"], **CLOSE)


def test_a_pattern_that_names_a_block_gives_the_blocks_output(tiny, texts):
    model, tokenizer = tiny("gpt2")
    own = capture(model, tokenizer, texts[:5], layers="h.1", pooling="tokens", progress=False)
    blocks = capture(model, tokenizer, texts[:5], pooling="tokens", progress=False)
    torch.testing.assert_close(own["h.1"], blocks["h.1"], **CLOSE)


@pytest.mark.parametrize("layers", ["decoder.*", ["encoder.layer.0", "encoder.layers.*"]])
def test_a_pattern_that_matches_nothing_is_refused_with_names_there_are(tiny, texts, layers):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=r"no module matches .*module names look like embeddings"):
        capture(model, tokenizer, texts[:2], layers=layers, progress=False)


@pytest.mark.parametrize("layers", ["pooler.dense", "embeddings.position_embeddings"])
def test_a_module_that_gives_no_hidden_states_is_named_with_its_shape(tiny, texts, layers):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=rf"module '{layers}' gives \(\d+, .*not hidden states"):
        capture(model, tokenizer, texts[:3], layers=layers, progress=False)


def test_a_module_that_never_runs_is_named(tiny, texts):
    model, tokenizer = tiny("bert")
    model.spare = nn.Linear(2, 2)
    with pytest.raises(InputError, match="never reached spare"):
        capture(model, tokenizer, texts[:2], layers="spare", progress=False)


def test_a_model_without_blocks_is_refused(tiny, texts):
    _, tokenizer = tiny("bert")
    with pytest.raises(InputError, match="Sequential has no recognizable blocks"):
        capture(nn.Sequential(nn.Linear(2, 2)), tokenizer, texts[:2], progress=False)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts is empty"),
        (["fine", ""], "text 1 of texts is empty"),
        (["fine", " \n"], "text 1 of texts is empty"),
        (["fine", None], "text 1 of texts is None"),
        (["fine", 3.5], "text 1 of texts is 3.5"),
        ("one string", "single string"),
    ],
)
def test_unusable_texts_are_refused_with_their_position(tiny, texts, message):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=message):
        capture(model, tokenizer, texts, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"max_points": 0}, "max_points is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": "large"}, "batch_size is 'large'"),
        ({"max_length": 1}, "max_length is 1"),
    ],
)
def test_unusable_arguments_are_refused_with_their_value(tiny, texts, options, message):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=message):
        capture(model, tokenizer, texts[:2], progress=False, **options)


# What is left behind, and what never runs


def state_of(model):
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        hooks_of(model),
    )


def in_mixed_modes(model):
    """In training, but for one block; half the weights frozen, one hook of the user's own."""
    model.train()
    model.encoder.layer[1].eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad = number % 2 == 0
    model.pooler.register_forward_hook(lambda *_: None)
    return model


def test_the_model_is_left_as_it_was(tiny, texts):
    model, tokenizer = tiny("bert")
    before = state_of(in_mixed_modes(model))
    capture(model, tokenizer, texts[:3], progress=False)
    assert state_of(model) == before


@each_kind
@pytest.mark.parametrize("setting", ["output_hidden_states", "output_attentions"])
def test_a_config_that_asks_for_all_states_makes_the_model_collect_none(tiny, texts, architecture, setting):
    model, tokenizer = tiny(architecture)
    expected = capture(model, tokenizer, texts[:3], layers="hidden_states", progress=False)
    model.set_attn_implementation("eager")
    setattr(model.config, setting, True)
    asked, before = [], hooks_of(model)
    forward = model.forward
    model.forward = functools.wraps(forward)(lambda **inputs: asked.append(inputs.get(setting)) or forward(**inputs))
    found = capture(model, tokenizer, texts[:3], layers="hidden_states", progress=False)
    assert hooks_of(model) == before
    assert set(asked) == {False}
    assert_equal_points(found, expected)


@pytest.mark.parametrize("where", ["in the pooling", "in a block", "in the embeddings", "out of memory"])
def test_the_model_is_left_as_it_was_after_an_error_too(tiny, texts, where):
    def fail(*_):
        raise ZeroDivisionError

    def run_out(*_):
        raise torch.OutOfMemoryError

    model, tokenizer = tiny("bert")
    if where == "in a block":
        model.encoder.layer[1].register_forward_hook(fail)
    if where == "in the embeddings":
        model.embeddings.register_forward_pre_hook(fail)
    if where == "out of memory":
        model.encoder.layer[1].register_forward_hook(run_out)
    before = state_of(in_mixed_modes(model))
    with pytest.raises((ZeroDivisionError, InputError)):
        capture(model, tokenizer, texts[:3], pooling=fail if where == "in the pooling" else "mean", progress=False)
    assert state_of(model) == before
    assert torch.is_grad_enabled()


def test_dropout_is_off_although_the_model_was_training(tiny, texts):
    model, tokenizer = tiny("bert")
    assert model.config.hidden_dropout_prob > 0
    evaluated = capture(model, tokenizer, texts[:3], progress=False)
    assert_equal_points(capture(model.train(), tokenizer, texts[:3], progress=False), evaluated)


def test_the_head_of_a_language_model_is_never_called(tiny, texts):
    backbone, tokenizer = tiny("gpt2")
    model = GPT2LMHeadModel(backbone.config)
    calls = []
    model.lm_head.register_forward_hook(lambda *_: calls.append("head"))
    model.transformer.ln_f.register_forward_hook(lambda *_: calls.append("final norm"))
    capture(model, tokenizer, texts[:3], progress=False)
    assert calls == []


def test_blocks_behind_the_last_wanted_layer_never_run(tiny, texts):
    model, tokenizer = tiny("bert")
    ran = []
    for number, block in enumerate(model.encoder.layer):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    capture(model, tokenizer, texts[:3], layers="encoder.layer.1", progress=False)
    assert set(ran) == {0, 1}


def fails_above(model, n_texts):
    """The sizes of the batches that the model sees from here on; larger ones than `n_texts` run out of memory."""
    sizes = []

    def check(_module, _args, kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > n_texts:
            raise torch.OutOfMemoryError

    model.register_forward_pre_hook(check, with_kwargs=True)
    return sizes


def test_batches_are_halved_when_memory_runs_out(tiny, texts, caplog):
    model, tokenizer = tiny("bert")
    expected = capture(model, tokenizer, texts[:40], progress=False)
    sizes = fails_above(model, n_texts=16)
    with caplog.at_level(logging.WARNING, logger="gelora_viz"):
        assert_equal_points(capture(model, tokenizer, texts[:40], progress=False), expected)
    assert sizes == [*LOOK, 40, 32, 16, 16, 8]
    assert "out of memory: batches of 16 texts" in caplog.text


def test_batches_are_halved_on_the_cpu_too(tiny, texts):
    """torch's CPU allocator raises a plain RuntimeError."""
    model, tokenizer = tiny("bert")
    expected = capture(model, tokenizer, texts[:10], progress=False)
    refused = []

    def check(_module, _args, kwargs):
        if len(kwargs["input_ids"]) > 5:
            refused.append(len(kwargs["input_ids"]))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    model.register_forward_pre_hook(check, with_kwargs=True)
    assert_equal_points(capture(model, tokenizer, texts[:10], progress=False), expected)
    assert refused == [10, 10, 10, 8]


@pytest.mark.parametrize(("batch_size", "fitting"), [(8, 4), ("auto", 0)])
def test_memory_that_does_not_suffice_is_an_error_that_says_what_to_lower(tiny, texts, batch_size, fitting):
    model, tokenizer = tiny("bert")
    fails_above(model, n_texts=fitting)
    with pytest.raises(InputError, match=r"out of memory with batches of .* lower batch_size or max_length"):
        capture(model, tokenizer, texts[:20], batch_size=batch_size, progress=False)
