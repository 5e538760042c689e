"""Which points are kept: chosen before the first forward pass, the same ones in every layer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gelora_viz.activations.corpus import Batch, Corpus
from gelora_viz.errors import InputError


class Sample:
    """A uniform choice of points over the whole corpus.

    How many tokens each text has is known before the first forward pass, so a choice without replacement needs no
    reservoir, and it holds a few numbers for each chosen point only. What the tokens are is filled in as their texts
    are read.

    Args:
        corpus: texts or images.
        tokens: whether points are tokens, or whole texts.
        limit: largest number of points; None keeps all.
        seed: seed of the choice.

    Attributes:
        text: (n_points,) the text of each point, ascending.
        position: (n_points,) the token's position in its text; -1 for a whole text.

    Raises:
        InputError: if tokens are wanted and there are only special ones.
    """

    def __init__(self, corpus: Corpus, *, tokens: bool, limit: int | None, seed: int) -> None:
        counts = corpus.n_usable.astype(np.int64) if tokens else np.ones(len(corpus.lengths), dtype=np.int64)
        ends = np.cumsum(counts)
        total = int(ends[-1])
        if total == 0:
            raise InputError("the texts have no tokens besides special ones; give other texts or another pooling")
        if limit is None or total <= limit:
            chosen = np.arange(total)
        else:
            chosen = np.sort(np.random.default_rng(seed).choice(total, size=limit, replace=False))
        self.text = np.searchsorted(ends, chosen, side="right")
        self._ordinal = chosen - (ends - counts)[self.text]  # its place among the usable tokens of its text
        self._tokens = tokens
        self.position = np.full(len(chosen), -1, dtype=np.int64)
        self._id = np.full(len(chosen), -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.text)

    def order(self, corpus: Corpus) -> np.ndarray:
        """Texts that have points, the longest first: batches are of one length, and memory runs out early."""
        texts = np.unique(self.text)
        return texts[np.argsort(-corpus.lengths[texts], kind="stable")]

    def rows(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the points of some texts, and for each the text's place among `members`."""
        starts = np.searchsorted(self.text, members, side="left")
        counts = np.searchsorted(self.text, members, side="right") - starts
        places = np.repeat(np.arange(len(members)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(starts, counts) + within, places

    def fill_in(self, members: np.ndarray, batch: Batch) -> None:
        """Note position and token of every point of these texts."""
        if not self._tokens:
            return
        rows, places = self.rows(members)
        for row, place in zip(rows, places, strict=True):
            at = batch.positions[place][self._ordinal[row]]
            self.position[row] = at
            if batch.ids is not None:
                self._id[row] = batch.ids[place][at]

    def provenance(self, tokenizer: object) -> pd.DataFrame:
        """One row per point: text, token (its string; None for whole texts and for images) and position."""
        named = self._tokens and (self._id >= 0).all()
        tokens = np.full(len(self), None, dtype=object)
        if named:
            tokens[:] = tokenizer.convert_ids_to_tokens(self._id.tolist())  # type: ignore[attr-defined]
        return pd.DataFrame({"text": self.text, "token": pd.Series(tokens, dtype=object), "position": self.position})
