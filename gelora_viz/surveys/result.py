"""The result of a survey: tables of stacks, blocks and matrices, and what a reader must know in sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gelora_viz._reading import Fields
from gelora_viz._results import frame_html, frame_to_records, read_result, records_to_frame, write_json

_KIND = "model survey"
STACK_COLUMNS = [
    "stack", "path", "order", "reached", "n_blocks", "width", "batch_axis", "batch_change", "pass_change",
    "final_norm",
]  # fmt: skip
BLOCK_COLUMNS = ["block", "stack", "depth", "reached", "n_weights", "n_adaptable", "share_without_adapter"]
MATRIX_COLUMNS = [
    "matrix", "block", "kind", "in_features", "out_features", "n_matrices", "n_weights", "reached", "gradient",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class ModelSurvey:
    """What a model did with two short inputs. Names are those of the model that was given.

    Attributes:
        model: the model's class.
        frame: one row per matrix: matrix (its module, or for experts the parameter), block (the one it lies in; None
            outside of blocks), kind ("linear", "conv1d", "quantized", "experts", "router", "adapter": inside another
            adapter), in_features, out_features, n_matrices (experts; 1 otherwise), n_weights, reached (called by this
            input), gradient (the output depends on it; None where that could not be seen).
        stacks: one row per stack: stack (its label), path, order (in which it ran, from 1; NaN if it did not),
            reached, n_blocks, width (features of its states), batch_axis (0, or 1 in sequence-first models),
            batch_change (how much a text's states change beside a longer one, relatively), pass_change (from pass to
            pass), final_norm (the norm that reads the last block's output; None where there is none).
        blocks: one row per block: block, stack, depth, reached, n_weights, n_adaptable (weights in matrices that are
            reached and that an adapter on modules can serve), share_without_adapter (of its weights).
        reader: the part of the model that was called, "" for the model itself.
        notes: what a reader must know, a sentence each.
        settings: n_tokens of the two inputs, and largest_change, the relative change that rounding explains.
    """

    model: str
    frame: pd.DataFrame
    stacks: pd.DataFrame
    blocks: pd.DataFrame
    reader: str = ""
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reached_stacks(self) -> list[str]:
        """Paths of the stacks that ran, in their order."""
        ran = self.stacks[self.stacks["reached"].astype(bool)].sort_values("order")
        return [str(path) for path in ran["path"]]

    @property
    def reached(self) -> set[str]:
        """The matrices that this input reaches."""
        return {str(name) for name in self.frame.loc[self.frame["reached"].astype(bool), "matrix"]}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(
            path,
            _KIND,
            {
                "model": self.model,
                "matrices": frame_to_records(self.frame),
                "stacks": frame_to_records(self.stacks),
                "blocks": frame_to_records(self.blocks),
                "reader": self.reader,
                "notes": list(self.notes),
                "settings": dict(self.settings),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ModelSurvey:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return read_result(path, _KIND, cls._from_dict)

    @classmethod
    def _from_dict(cls, content: Mapping[str, Any]) -> ModelSurvey:
        fields = Fields(content, _KIND)
        return cls(
            fields.text("model"),
            records_to_frame(fields.rows("matrices"), MATRIX_COLUMNS),
            records_to_frame(fields.rows("stacks"), STACK_COLUMNS),
            records_to_frame(fields.rows("blocks"), BLOCK_COLUMNS),
            str(content.get("reader", "")),
            tuple(map(str, content.get("notes", ()))),
            fields.mapping("settings"),
        )

    def __repr__(self) -> str:
        n_reached = int(self.frame["reached"].sum())
        return (
            f"ModelSurvey({self.model}: {len(self.reached_stacks)} of {len(self.stacks)} stacks and {n_reached} of "
            f"{len(self.frame)} matrices reached, {len(self.notes)} notes)"
        )

    def _repr_html_(self) -> str:
        kinds = self.frame.groupby(["kind", "reached"], sort=False).agg(
            matrices=("n_matrices", "sum"), weights=("n_weights", "sum")
        )
        notes = pd.DataFrame({"note": list(self.notes)})
        return "".join(
            (
                frame_html(self.stacks, caption=repr(self)),
                frame_html(kinds.reset_index(), caption="matrices by kind"),
                frame_html(self.blocks, caption="blocks"),
                frame_html(notes, caption="notes") if len(notes) else "",
            )
        )
