"""The second capture of the same model, data and options is read from the cache; any other is not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from gelora_viz.activations import capture, identity
from gelora_viz.activations.identity import describe_capture
from gelora_viz.errors import InputError


@pytest.fixture
def bert(tiny):
    return tiny("bert")


def n_captures(folder):
    return len([each for each in folder.iterdir() if (each / "activations.json").exists()])


def fails(*_):
    raise AssertionError("the model ran")


def test_the_second_call_does_not_run_the_model(bert, texts, tmp_path, monkeypatch):
    model, tokenizer = bert
    first = capture(model, tokenizer, texts[:30], pooling="tokens", cache=tmp_path, progress=False)
    monkeypatch.setattr(type(model), "forward", fails)
    second = capture(model, tokenizer, texts[:30], pooling="tokens", cache=tmp_path, batch_size=3, progress=False)
    assert second.provenance.equals(first.provenance)
    assert all(torch.equal(second[layer], first[layer]) for layer in first)


@pytest.mark.parametrize(
    "name",
    [
        "texts", "order", "a weight", "a buffer", "config", "an epsilon", "vocabulary", "truncation side", "limit",
        "sample", "autocast", "type of autocast",
    ],
)  # fmt: skip
def test_whatever_changes_the_points_makes_a_capture_of_its_own(bert, texts, tmp_path, name, monkeypatch):
    model, tokenizer = bert
    chosen = texts[:10]
    options = {"cache": tmp_path, "progress": False, "pooling": "tokens", "max_length": 6}
    autocast = [torch.autocast("cpu", torch.bfloat16, enabled=name == "type of autocast")] * 2
    with autocast[0]:
        capture(model, tokenizer, chosen, **options)
    match name:
        case "texts":
            chosen = [*texts[:9], texts[11]]
        case "order":
            chosen = chosen[::-1]
        case "a weight":
            model.encoder.layer[2].output.dense.bias.data[0] += 1e-4
        case "a buffer":
            model.embeddings.token_type_ids[0, 0] = 1
        case "config":
            model.config.hidden_act = "relu"
        case "an epsilon":
            model.encoder.layer[1].output.LayerNorm.eps = 0.1
        case "truncation side":
            tokenizer.truncation_side = "left"
        case "autocast":
            autocast[1] = torch.autocast("cpu", torch.bfloat16)
        case "type of autocast":
            autocast[1] = torch.autocast("cpu", torch.float16)
        case "vocabulary":
            tokenizer.add_tokens(["rain"])
        case "limit":
            monkeypatch.setattr("gelora_viz.activations.passes._MAX_TOKEN_POINTS", 20)
        case "sample":
            options["seed"] = 3
    with autocast[1]:
        capture(model, tokenizer, chosen, **options)
    assert n_captures(tmp_path) == 2


def test_a_tokenizer_in_python_is_known_by_the_settings_it_was_made_with(bert, texts, tmp_path):
    from transformers import CanineTokenizer

    first, same, other = (
        describe_capture(bert[0], bert[0], CanineTokenizer(**made_with), texts[:2], [], {})["tokenizer"]
        for made_with in ({}, {"padding_side": "left", "vocab_file": "moved"}, {"add_prefix_space": True})
    )
    assert first == same
    assert first != other


def test_what_does_not_change_the_points_changes_no_key(bert, texts, tmp_path):
    model, tokenizer = bert
    for batch_size in (4, "auto"):
        model.train(batch_size == 4)
        tokenizer.padding_side = "left" if batch_size == 4 else "right"
        model.config._name_or_path = f"moved/{batch_size}"
        capture(model, tokenizer, texts[:10], batch_size=batch_size, cache=tmp_path, progress=False)
        tokenizer(["a long text " * 90], truncation=True, max_length=5, padding=True)
    assert n_captures(tmp_path) == 1


def test_weights_of_an_adapter_and_which_is_active_are_part_of_the_key(bert, texts, tmp_path):
    base, tokenizer = bert
    config = LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    model = get_peft_model(base, config)
    model.add_adapter("other", config)
    options = {"cache": tmp_path, "progress": False}
    first = capture(model, tokenizer, texts[:10], **options)
    model.set_adapter("other")
    other = capture(model, tokenizer, texts[:10], **options)
    with model.disable_adapter():
        plain = capture(model, tokenizer, texts[:10], **options)
    assert n_captures(tmp_path) == 3
    last = first.layers[-1]
    assert not torch.equal(first[last], other[last])
    assert not torch.equal(first[last], plain[last])
    model.set_adapter("default")
    assert torch.equal(capture(model, tokenizer, texts[:10], **options)[last], first[last])
    model.base_model.model.encoder.layer[0].attention.self.query.lora_A["default"].weight.data += 0.1
    capture(model, tokenizer, texts[:10], **options)
    assert n_captures(tmp_path) == 4


@pytest.mark.parametrize("variable", ["GELORA_VIZ_CACHE", "XDG_CACHE_HOME"])
def test_true_means_the_users_own_cache(bert, texts, tmp_path, monkeypatch, variable):
    monkeypatch.delenv("GELORA_VIZ_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    capture(*bert, texts[:5], cache=True, progress=False)
    inside = "activations" if variable == "GELORA_VIZ_CACHE" else "gelora_viz/activations"
    assert n_captures(tmp_path / inside) == 1


def test_a_damaged_capture_in_the_cache_is_made_anew(bert, texts, tmp_path):
    first = capture(*bert, texts[:5], cache=tmp_path, progress=False)
    expected = {layer: first[layer].clone() for layer in first}
    (folder,) = tmp_path.iterdir()
    (folder / "001-encoder.layer.0.safetensors").write_bytes(b"damaged")
    again = capture(*bert, texts[:5], cache=tmp_path, progress=False)
    assert all(torch.equal(again[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("content", ["damaged", '{"kind": "unfinished capture", "schema_version": 1}'])
def test_a_damaged_unfinished_capture_in_the_cache_is_made_anew(bert, texts, tmp_path, content):
    first = capture(*bert, texts[:5], cache=tmp_path, progress=False)
    expected = {layer: first[layer].clone() for layer in first}
    (folder,) = tmp_path.iterdir()
    (folder / "activations.json").unlink()
    (folder / "capture.json").write_text(content)
    again = capture(*bert, texts[:5], cache=tmp_path, progress=False)
    assert all(torch.equal(again[layer], expected[layer]) for layer in expected)
    assert n_captures(tmp_path) == 1


def test_a_store_and_a_cache_are_refused_together(bert, texts, tmp_path):
    with pytest.raises(InputError, match="both name a place"):
        capture(*bert, texts[:5], cache=True, store=tmp_path, progress=False)


def test_a_function_cannot_be_a_key(bert, texts, tmp_path):
    with pytest.raises(InputError, match=r"a cache cannot tell whether it has changed; use store="):
        capture(*bert, texts[:5], pooling=lambda hidden, _: hidden[:, 0], cache=tmp_path, progress=False)


def test_a_model_with_hooks_of_its_user_is_not_cached(bert, texts, tmp_path):
    """A steering hook changes hidden states and no weight."""
    model, tokenizer = bert
    model(**tokenizer("rain", return_tensors="pt"), output_hidden_states=True)  # installs hooks of transformers' own
    capture(model, tokenizer, texts[:5], cache=tmp_path, progress=False)
    model.encoder.layer[1].register_forward_hook(lambda _module, _args, output: output + 1)
    with pytest.raises(InputError, match=r"module 'encoder\.layer\.1' has a forward hook of yours"):
        capture(model, tokenizer, texts[:5], cache=tmp_path, progress=False)


def test_every_weight_is_digested_once_where_it_lies_in_memory(monkeypatch):
    model, pieces = torch.nn.Linear(50, 20), []

    class RecordingDigest:
        def update(self, piece):
            if isinstance(piece, memoryview):
                pieces.append((np.frombuffer(piece, np.uint8).ctypes.data, piece.nbytes))

        def hexdigest(self):
            return ""

    monkeypatch.setattr(identity, "hashlib", SimpleNamespace(blake2b=lambda **_: RecordingDigest()))
    identity._digest_weights(model)
    assert pieces == [(weight.data_ptr(), weight.nbytes) for weight in (model.weight, model.bias)]
