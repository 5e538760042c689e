"""A decoder with its language-model head, and what has none refused in words."""

from __future__ import annotations

import pytest
import torch
from tiny_models import ARCHITECTURES, FURTHER_ARCHITECTURES
from transformers import AutoModelForCausalLM

from gelora_viz import load_model
from gelora_viz.errors import InputError

DECODERS = ("gpt2", "llama", "gpt-neox", "qwen2", "qwen3", "mistral", "gemma", "phi")
OTHERS = tuple(family for family in (*ARCHITECTURES, *FURTHER_ARCHITECTURES) if family not in DECODERS)


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_loads_with_its_head(tiny, tmp_path, family):
    model, tokenizer = tiny(family)
    whole = AutoModelForCausalLM.from_config(model.config)
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, head="causal-lm").model
    assert not loaded.training
    assert type(loaded) is type(whole)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight)


@pytest.mark.parametrize("family", OTHERS)
def test_an_encoder_has_no_such_head(tiny_folder, family):
    refusal = (
        r"is not a causal language model; name a decoder|reads the tokens after the one it scores.*; name a decoder"
    )
    with pytest.raises(InputError, match=refusal):
        load_model(tiny_folder(family), head="causal-lm")


def test_a_decoder_saved_without_its_head_is_not_given_a_random_one(tiny_folder):
    with pytest.raises(
        InputError, match=r"has no weights for lm_head\.weight: it was saved without its language-model"
    ):
        load_model(tiny_folder("llama"), head="causal-lm")


def test_an_unknown_head_is_refused(tiny_folder):
    with pytest.raises(InputError, match="unknown head 'classifier'; choose None or"):
        load_model(tiny_folder("bert"), head="classifier")
