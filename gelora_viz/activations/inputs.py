"""From texts to the tensors a transformer reads: tokens, padding on the right, and a decoder's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from gelora_viz._checks import check_whole
from gelora_viz.activations.holding import hold
from gelora_viz.errors import InputError

_NO_LIMIT = 10**6
"""transformers writes "no limit" as a very large number."""
_LONGEST_DEFAULT = 512
"""Tokens kept of a text where neither the caller nor the model sets a limit."""
_PROMPTED = ("paligemma",)
"""Model types that read padding, unless they are told that all tokens are of the prompt."""


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """One text as a transformer reads it: token `ids`, and `special`, true for [CLS], <|im_start|> and such."""

    ids: list[int]
    special: np.ndarray


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    model: nn.Module,
    max_length: int | None = None,
    first: int = 0,
) -> list[TokenizedText]:
    """Tokenize without padding, truncated to `max_length` tokens.

    Args:
        tokenizer: the model's own.
        texts: strings, checked before.
        model: the transformer, whose longest input, at most 512, is taken where `max_length` is None.
        max_length: tokens kept of each text.
        first: number of the first text, for messages, where `texts` is a piece of a longer list.

    Raises:
        InputError: if `max_length` is below 2 or beyond the model's positions, or a text has no tokens at all.
    """
    if max_length is not None:
        check_whole(max_length, "max_length", at_least=2)
    longest = _longest_input(tokenizer, model)
    if max_length is not None and longest is not None and max_length > longest:
        raise InputError(
            f"max_length is {max_length}, more than the model's longest input of {longest} tokens; lower it"
        )
    length = max_length or min(longest or _LONGEST_DEFAULT, _LONGEST_DEFAULT)
    with hold(tokenizer):
        encoded = tokenizer(
            list(texts), truncation=True, max_length=length, padding=False, return_special_tokens_mask=True,
            return_attention_mask=False, return_token_type_ids=False,
        )  # fmt: skip
    control = _control_tokens(tokenizer)
    rows = []
    for position, (ids, mask) in enumerate(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)):
        if not ids:
            raise InputError(
                f"text {first + position} ({texts[position][:40]!r}) has no tokens under this tokenizer; drop it"
            )
        # A text may spell out "[SEP]", which the tokenizer reads as one but does not count as added.
        special = np.asarray(mask, dtype=bool) | np.array([token in control for token in ids])
        rows.append(TokenizedText(list(ids), special))
    return rows


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that say where a text or a turn of a chat begins or ends; the one for unknown words is none of them."""
    added = {
        token for token, content in tokenizer.added_tokens_decoder.items() if content.special or _is_marker(content)
    }
    named = [getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos", "pad")]
    unknown = getattr(tokenizer, "unk_token_id", None)
    special = added | set(tokenizer.all_special_ids)
    return {token for token in (*special, *named) if token is not None and (token != unknown or token in named)}


def _is_marker(token: object) -> bool:
    """Whether an added token is a marker such as <|im_start|> or <tool_call>, and no word of a field."""
    text = str(token).strip()
    return len(text) > 2 and text[0] == "<" and text[-1] == ">"


def _longest_input(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> int | None:
    """Tokens that the model has positions for; None where it has no such limit."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < _NO_LIMIT else []
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config  # beside one for images
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa-like models start counting positions after the padding index.
        offset = (getattr(model.config, "pad_token_id", None) or 0) + 1 if "roberta" in _model_type(model) else 0
        limits.append(positions - offset)
    return min(limits, default=None)


def _model_type(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def collate(
    rows: Sequence[TokenizedText], *, tokenizer: PreTrainedTokenizerBase, model: nn.Module
) -> dict[str, torch.Tensor]:
    """Pad rows on the right and add what an encoder-decoder's decoder reads.

    Right padding with an attention mask gives every text the same positions whatever it is batched with, in encoders
    and decoders alike; the tokenizer's own padding side and a missing padding token do not matter.

    Returns:
        input_ids and attention_mask, each (n_texts, n_tokens); for an encoder-decoder also decoder_input_ids (the
        text shifted right by the start token, as its classifiers read it) and decoder_attention_mask.
    """
    width = max(len(row.ids) for row in rows)
    pad = next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for position, row in enumerate(rows):
        ids[position, : len(row.ids)] = torch.tensor(row.ids)
        mask[position, : len(row.ids)] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if _model_type(model) in _PROMPTED:
        batch["token_type_ids"] = torch.zeros_like(ids)
    if is_encoder_decoder(model):
        batch["decoder_input_ids"] = torch.cat([torch.full((len(rows), 1), _start_token(model)), ids[:, :-1]], dim=1)
        batch["decoder_attention_mask"] = mask
    return batch


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether the model reads its text twice, through an encoder and a decoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def _start_token(model: nn.Module) -> int:
    config: Any = model.config
    start = getattr(config, "decoder_start_token_id", None)
    start = start if start is not None else getattr(config, "pad_token_id", None)
    if start is None:
        raise InputError(
            "the encoder-decoder's config names no decoder_start_token_id; set model.config.decoder_start_token_id"
        )
    return int(start)
