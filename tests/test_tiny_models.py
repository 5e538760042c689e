"""The tiny models that the other tests stand on are real: they forward, reload and tokenise as their families do."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import ARCHITECTURES, HIDDEN_SIZE, N_BLOCKS, build
from transformers import AutoModel, AutoTokenizer

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
without_padding_token = {"gpt2", "llama"}


def encode(tokenizer, texts):
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer(texts, padding=True, return_tensors="pt")


def hidden_states(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if model.config.is_encoder_decoder:
        model = model.encoder
    with torch.inference_mode():
        return model(**inputs, output_hidden_states=True).hidden_states


@each_architecture
def test_a_forward_pass_gives_finite_hidden_states_at_every_depth(tiny, architecture, texts):
    model, tokenizer = tiny(architecture)
    batch = encode(tokenizer, texts[:4])
    states = hidden_states(model, batch)
    assert not model.training
    assert len(states) == N_BLOCKS + 1
    for state in states:
        assert state.shape == (*batch["input_ids"].shape, HIDDEN_SIZE)
        assert state.isfinite().all()


@each_architecture
def test_every_block_changes_what_it_reads(tiny, architecture, texts):
    model, tokenizer = tiny(architecture)
    states = hidden_states(model, encode(tokenizer, texts[:4]))
    for before, after in itertools.pairwise(states):
        assert (after - before).norm() > 0.1 * before.norm()


def test_t5_decodes_from_its_padding_token(tiny, texts):
    model, tokenizer = tiny("t5")
    batch = encode(tokenizer, texts[:4])
    assert model.config.decoder_start_token_id == tokenizer.pad_token_id == 0
    start = torch.zeros(4, 1, dtype=torch.long)
    with torch.inference_mode():
        decoded = model(**batch, decoder_input_ids=start).last_hidden_state
    assert decoded.shape == (4, 1, HIDDEN_SIZE)
    assert decoded.isfinite().all()


@each_architecture
def test_a_model_and_tokenizer_reload_identically_from_their_folder(tiny, tiny_folder, architecture, texts):
    model, tokenizer = tiny(architecture)
    folder = tiny_folder(architecture)
    assert (folder / "model.safetensors").is_file()
    again = AutoModel.from_pretrained(folder)
    assert type(again) is type(model)
    saved, loaded = model.state_dict(), again.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    tokenizer_again = AutoTokenizer.from_pretrained(folder)
    assert tokenizer_again(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    for attribute in ("padding_side", "model_max_length", "pad_token_id", "bos_token_id", "eos_token_id"):
        assert getattr(tokenizer_again, attribute) == getattr(tokenizer, attribute)


@each_architecture
def test_attention_masks_mark_padding_and_nothing_else(tiny, architecture, texts):
    _, tokenizer = tiny(architecture)
    assert (tokenizer.pad_token is None) == (architecture in without_padding_token)
    alone = [tokenizer(text)["input_ids"] for text in texts[:100]]
    batch = encode(tokenizer, texts[:100])
    for ids, row, mask in zip(alone, batch["input_ids"], batch["attention_mask"], strict=True):
        assert row[mask.bool()].tolist() == ids
        assert (row[~mask.bool()] == tokenizer.pad_token_id).all()
    assert batch["attention_mask"].sum() < batch["attention_mask"].numel()
    padded_first = not batch["attention_mask"][:, 0].all()
    assert padded_first == (architecture == "llama")


@each_architecture
def test_padding_does_not_move_the_hidden_states_of_a_text(tiny, architecture, texts):
    model, tokenizer = tiny(architecture)
    short, long = min(texts, key=len), max(texts, key=len)
    alone = hidden_states(model, encode(tokenizer, [short]))[-1][0]
    batch = encode(tokenizer, [short, long])
    assert batch["input_ids"].shape[1] > len(alone)
    padded = hidden_states(model, batch)[-1][0][batch["attention_mask"][0].bool()]
    torch.testing.assert_close(padded, alone, atol=1e-4, rtol=1e-4)


@each_architecture
def test_the_texts_are_known_words_that_fit_the_models(tiny, architecture, texts):
    _, tokenizer = tiny(architecture)
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert max(lengths) <= tokenizer.model_max_length
    assert len(set(lengths)) > 10
    if tokenizer.unk_token not in (None, tokenizer.eos_token):
        assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(texts)["input_ids"])


def test_the_texts_are_distinct_and_their_classes_balanced(labelled_texts, texts):
    assert texts == labelled_texts[0]
    assert len(texts) == len(set(texts)) == len(labelled_texts[1]) == 480
    assert [labelled_texts[1].count(label) for label in range(3)] == [160, 160, 160]


def test_a_copy_may_be_changed_without_touching_the_next(tiny):
    first, tokenizer = tiny("gpt2")
    with torch.no_grad():
        first.wte.weight.zero_()
    tokenizer.pad_token = tokenizer.eos_token
    second, untouched = tiny("gpt2")
    assert second.wte.weight.any()
    assert untouched.pad_token is None


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, same, other = (build("bert", seed)[0].embeddings.word_embeddings.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_unknown_family_is_named_in_the_error():
    with pytest.raises(ValueError, match="mamba"):
        build("mamba")


@pytest.mark.slow
def test_another_process_trains_the_same_tokenizers_and_weights(tiny):
    program = (
        "import hashlib, tiny_models\n"
        "for name in ('bert', 'llama', 't5'):\n"
        "    model, tokenizer = tiny_models.build(name)\n"
        "    total = sum(float(p.double().abs().sum()) for p in model.parameters())\n"
        "    print(name, hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(), repr(total))\n"
    )
    folder = Path(__file__).parent
    seen = {
        subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(seen) == 1
