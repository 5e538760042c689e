"""What `compress` returns: a LoRA adapter, how well it keeps the original, saving it, and adding it to a model."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from gelora_viz._reading import Fields, naming_file
from gelora_viz._results import (
    frame_html,
    frame_to_records,
    read_result,
    records_to_frame,
    write_bytes,
    write_json,
)
from gelora_viz.errors import InputError, StudyError, first_line

_KIND = "compression"
_DOCUMENT = "compression.json"
COMPRESSION_COLUMNS = ["module", "rank", "compressed_rank", "n_parameters", "energy_kept", "relative_error"]


@dataclass(frozen=True, eq=False)
class Compression:
    """An adapter of any method as a LoRA adapter, and what that cost.

    Attributes:
        frame: one row per adapted module: module (its name in the base model), rank (assigned; NaN for methods
            without one), compressed_rank (0: the update was zero, and the matrix is not adapted), n_parameters (of
            the LoRA factors), energy_kept (share of the sum of squared singular values), relative_error
            (||dW - dW'|| / ||dW||, Frobenius, rounding to the stored type included); the last two are NaN for a zero
            update.
        config: configuration of the LoRA adapter, each matrix under its own escaped name, alpha / r = 1.
        weights: its tensors, under the names that PEFT gives them in files.
        n_parameters_before: parameters of the original adapter, without modules that it saves whole.
        output_change: relative Frobenius change of the model's output (logits or hidden states, not of padding) from
            the original adapter to this one.
        adapter_effect: relative change of the output that the original adapter had made; what `output_change` is to
            be judged by.
        settings: method and name of the original adapter; energy and rank as asked for; outputs_on ("given" batches
            or the model's "dummy_inputs") and n_batches.
    """

    frame: pd.DataFrame
    config: LoraConfig
    weights: Mapping[str, torch.Tensor]
    n_parameters_before: int
    output_change: float
    adapter_effect: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_parameters_after(self) -> int:
        """Parameters of the LoRA adapter, without modules that are saved whole."""
        return int(self.frame["n_parameters"].sum())

    def add_to(self, model: nn.Module, adapter_name: str = "default") -> PeftModel:
        """Put the adapter on a base model, which is changed in place, as PEFT does.

        Args:
            model: as the one that the original adapter was on, without an adapter.
            adapter_name: its name there.

        Raises:
            InputError: if the model has an adapter, or other modules or shapes.
        """
        if isinstance(model, PeftModel):
            raise InputError("the model already has an adapter; give the base model")
        try:
            adapted = get_peft_model(model, copy.deepcopy(self.config), adapter_name=adapter_name)
            loaded: Any = set_peft_model_state_dict(adapted, dict(self.weights), adapter_name=adapter_name)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the adapter was made for another model ({first_line(error)}); give its base model"
            ) from error
        if loaded.unexpected_keys:
            raise InputError(f"the model has no place for {loaded.unexpected_keys[0]}; give the adapter's base model")
        return adapted.eval()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a folder that `PeftModel.from_pretrained(base_model, path)` loads, measurements included.

        Raises:
            StudyError: if the folder cannot be written.
        """
        folder = Path(path)
        try:
            write_bytes(folder / SAFETENSORS_WEIGHTS_NAME, save(dict(self.weights), metadata={"format": "pt"}))
            self.config.save_pretrained(str(folder))
        except OSError as error:
            raise StudyError(f"cannot write {folder}: {error}; choose a folder you can write to") from error
        content = {
            "updates": frame_to_records(self.frame),
            "n_parameters_before": self.n_parameters_before,
            "output_change": self.output_change,
            "adapter_effect": self.adapter_effect,
            "settings": dict(self.settings),
        }
        write_json(folder / _DOCUMENT, _KIND, content)
        return folder

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Compression:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        folder = Path(path)
        frame, figures = read_result(folder / _DOCUMENT, _KIND, _read_document)
        try:
            weights = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
            with naming_file(folder / CONFIG_NAME, "PEFT configuration"):
                config = LoraConfig.from_pretrained(str(folder))
        except (OSError, SafetensorError) as error:
            missing = f"{SAFETENSORS_WEIGHTS_NAME} and {CONFIG_NAME}"
            raise StudyError(f"cannot read {missing} in {folder}: {error}; compress again") from error
        return cls(frame, config, weights, **figures)

    def __repr__(self) -> str:
        ranks = self.frame.loc[self.frame["compressed_rank"] > 0, "compressed_rank"]
        return (
            f"Compression({self.settings.get('method', '?')}: {len(ranks)} matrices, ranks {ranks.min()} to "
            f"{ranks.max()}, {self.n_parameters_before:,} -> {self.n_parameters_after:,} parameters, output changed "
            f"by {self.output_change:.2%}, adapter's effect {self.adapter_effect:.2%})"
        )

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))


def _read_document(content: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of a compression, and its other fields."""
    fields = Fields(content, _KIND)
    frame = records_to_frame(fields.rows("updates"), COMPRESSION_COLUMNS, texts=("module",))
    floats = ["rank", "energy_kept", "relative_error"]
    frame[floats] = frame[floats].astype(float)
    return frame, {
        "n_parameters_before": fields.whole("n_parameters_before"),
        "output_change": fields.number("output_change"),
        "adapter_effect": fields.number("adapter_effect"),
        "settings": fields.mapping("settings"),
    }
