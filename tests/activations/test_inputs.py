"""Texts become tensors in one way for every tokenizer: padded on the right, truncated to what the model can read."""

import pytest
import torch
from tiny_models import ARCHITECTURES, MAX_TOKENS

from gelora_viz.activations import collate, tokenize
from gelora_viz.errors import InputError

LONG = "The rain fell softly on the old tin roof. " * 100


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_are_the_tokenizers_own(tiny, texts, architecture):
    model, tokenizer = tiny(architecture)
    rows = tokenize(tokenizer, texts[:20], model=model)
    assert [row.ids for row in rows] == tokenizer(texts[:20])["input_ids"]
    for row, text in zip(rows, texts, strict=False):
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [token for token, special in zip(row.ids, row.special, strict=True) if not special] == plain


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_is_on_the_right_whatever_the_tokenizer_says(tiny, architecture, side):
    model, tokenizer = tiny(architecture)
    tokenizer.padding_side = side
    rows = tokenize(tokenizer, ["Rain.", "The rain fell softly on the old tin roof."], model=model)
    batch = collate(rows, tokenizer=tokenizer, model=model)
    short, long = (len(row.ids) for row in rows)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, long)
    assert batch["input_ids"][0, :short].tolist() == rows[0].ids
    assert batch["attention_mask"].tolist() == [[1] * short + [0] * (long - short), [1] * long]


def test_a_decoder_reads_the_text_shifted_right_behind_its_start_token(tiny):
    model, tokenizer = tiny("t5")
    model.config.decoder_start_token_id = 5
    rows = tokenize(tokenizer, ["Rain.", "The rain fell softly."], model=model)
    batch = collate(rows, tokenizer=tokenizer, model=model)
    assert batch["decoder_input_ids"][1].tolist() == [5, *rows[1].ids[:-1]]
    assert batch["decoder_input_ids"][0, : len(rows[0].ids)].tolist() == [5, *rows[0].ids[:-1]]
    assert torch.equal(batch["decoder_attention_mask"], batch["attention_mask"])


def test_a_model_with_one_stack_gets_no_decoder_inputs(tiny):
    model, tokenizer = tiny("bert")
    batch = collate(tokenize(tokenizer, ["Rain."], model=model), tokenizer=tokenizer, model=model)
    assert set(batch) == {"input_ids", "attention_mask"}


def test_a_decoder_without_start_token_is_told_where_to_set_one(tiny):
    model, tokenizer = tiny("t5")
    model.config.decoder_start_token_id = model.config.pad_token_id = None
    rows = tokenize(tokenizer, ["Rain."], model=model)
    with pytest.raises(InputError, match=r"model\.config\.decoder_start_token_id"):
        collate(rows, tokenizer=tokenizer, model=model)


def test_max_length_counts_the_special_tokens(tiny):
    model, tokenizer = tiny("bert")
    (row,) = tokenize(tokenizer, [LONG], model=model, max_length=10)
    assert len(row.ids) == 10
    assert (row.ids[0], row.ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert row.special.tolist() == [True] + [False] * 8 + [True]


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"t5"}))
def test_a_text_is_cut_to_what_the_model_has_positions_for(tiny, architecture):
    model, tokenizer = tiny(architecture)
    tokenizer.model_max_length = 10**30
    rows = tokenize(tokenizer, [LONG], model=model)
    assert len(rows[0].ids) == MAX_TOKENS
    with torch.no_grad():
        model(**collate(rows, tokenizer=tokenizer, model=model))


def test_a_model_without_a_limit_reads_512_tokens(tiny):
    model, tokenizer = tiny("t5")
    tokenizer.model_max_length = 10**30
    assert len(tokenize(tokenizer, [LONG], model=model)[0].ids) == 512


def test_the_tokenizers_own_limit_counts_too(tiny):
    model, tokenizer = tiny("t5")
    assert len(tokenize(tokenizer, [LONG], model=model)[0].ids) == MAX_TOKENS


@pytest.mark.parametrize("max_length", [1, 0, -3])
def test_max_length_below_two_is_refused(tiny, max_length):
    model, tokenizer = tiny("bert")
    with pytest.raises(InputError, match=f"max_length is {max_length}"):
        tokenize(tokenizer, ["Rain."], model=model, max_length=max_length)


def test_a_text_without_any_token_is_named(tiny):
    model, tokenizer = tiny("gpt2")
    with pytest.raises(InputError, match=r"text 1 .* has no tokens"):
        tokenize(tokenizer, ["Rain.", ""], model=model)
