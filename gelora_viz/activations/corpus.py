"""The texts of a capture: measured once in pieces, read batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from gelora_viz.activations.inputs import TokenizedText, collate, is_encoder_decoder, tokenize

_PIECE = 512
"""Texts tokenized at a time: enough for the tokenizer's threads, little enough to forget."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some texts or images as a model reads them.

    Attributes:
        tensors: what the model's forward pass takes; empty where only positions were asked for.
        mask: (n_items, n_tokens), 1 where a token is attended; None where all are.
        positions: for each item the positions of the tokens that may become points.
        ids: for each item its token ids; None for images.
        n_patches: tokens of an image that are not special; None for texts.
    """

    tensors: dict[str, torch.Tensor]
    mask: torch.Tensor | None
    positions: list[np.ndarray]
    ids: list[list[int]] | None = None
    n_patches: int | None = None


class Corpus(Protocol):
    """What is captured: texts or images.

    Attributes:
        lengths: (n_items,) tokens of each item, by which they are grouped.
        n_usable: (n_items,) tokens of each item that may become points of a token cloud.
    """

    lengths: np.ndarray
    n_usable: np.ndarray

    def load(self, members: np.ndarray, *, tensors: bool = True) -> Batch:
        """The items at these positions."""


@dataclass(eq=False)
class TextCorpus:
    """Texts, tokenized once if they are kept, and again for each batch if not.

    Args:
        tokenizer: the model's own.
        texts: strings, checked before.
        model: the transformer.
        max_length: tokens kept of each text.
        keep: hold all token ids in memory. Without it only two numbers per text are held, for a corpus of any size.
    """

    tokenizer: PreTrainedTokenizerBase
    texts: Sequence[str]
    model: nn.Module
    max_length: int | None
    keep: bool
    lengths: np.ndarray = field(init=False)
    n_usable: np.ndarray = field(init=False)
    _rows: list[TokenizedText] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._shifted = is_encoder_decoder(self.model)
        self.lengths = np.empty(len(self.texts), dtype=np.int32)
        self.n_usable = np.empty(len(self.texts), dtype=np.int32)
        for start in range(0, len(self.texts), _PIECE):
            rows = self._tokenize(range(start, min(start + _PIECE, len(self.texts))))
            self.lengths[start : start + _PIECE] = [len(row.ids) for row in rows]
            self.n_usable[start : start + _PIECE] = [len(self._usable(row)) for row in rows]
            if self.keep:
                self._rows.extend(rows)

    def load(self, members: np.ndarray, *, tensors: bool = True) -> Batch:
        """The texts at these positions, padded on the right."""
        rows = [self._rows[text] for text in members] if self.keep else self._tokenize(members)
        batch = collate(rows, tokenizer=self.tokenizer, model=self.model) if tensors else {}
        return Batch(
            batch, batch.get("attention_mask"), [self._usable(row) for row in rows], [row.ids for row in rows]
        )

    def _tokenize(self, members: Sequence[int] | np.ndarray | range) -> list[TokenizedText]:
        return tokenize(
            self.tokenizer,
            [self.texts[int(text)] for text in members],
            model=self.model,
            max_length=self.max_length,
            first=int(members[0]),
        )

    def _usable(self, row: TokenizedText) -> np.ndarray:
        """Positions of all tokens but special ones.

        A decoder whose inputs are shifted right reads token t at position t + 1: tokens without one are left out.
        """
        at = np.flatnonzero(~row.special)
        return at[at + 1 < len(row.ids)] if self._shifted else at
