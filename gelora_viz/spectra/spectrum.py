"""Singular values of every update of a PEFT model, through its factors where it has them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from gelora_viz._results import frame_html, frame_to_records, read_json, records_to_frame, write_json
from gelora_viz.errors import InputError
from gelora_viz.spectra.measures import entropy_rank, numerical_rank, participation_ratio, stable_rank

_KIND = "update spectrum"
COLUMNS = [
    "module", "rank", "entropy_rank", "stable_rank", "participation_ratio", "numerical_rank", "utilisation", "norm",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class UpdateSpectrum:
    """The effective rank of every update dW of an adapter.

    Attributes:
        frame: one row per adapted module: module (its name in the base model), rank (assigned; NaN for methods
            without one), entropy_rank, stable_rank, participation_ratio, numerical_rank, utilisation (entropy rank /
            assigned rank), norm (Frobenius norm of the update).
        singular_values: module -> (rank,) in descending order.
        method: the PEFT method.
        settings: the adapter's name and the model it was made for.
    """

    frame: pd.DataFrame
    singular_values: Mapping[str, np.ndarray]
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        content = {"method": self.method, "settings": dict(self.settings), "updates": frame_to_records(self.frame)}
        return write_json(path, _KIND, {**content, "singular_values": dict(self.singular_values)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> UpdateSpectrum:
        """Read what `save` wrote; raises `StudyError` where it is missing or of another version."""
        document = read_json(path, _KIND)
        values = {module: np.asarray(each, dtype=np.float64) for module, each in document["singular_values"].items()}
        return cls(records_to_frame(document["updates"], COLUMNS), values, document["method"], document["settings"])

    def __repr__(self) -> str:
        mean = self.frame["entropy_rank"].mean()
        return f"UpdateSpectrum({self.method}: {len(self.frame)} updates, mean entropy rank {mean:.2f})"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))


def measure_spectra(peft_model: PeftModel, adapter_name: str = "default") -> UpdateSpectrum:
    """Singular values and effective ranks of every update of a PEFT adapter.

    An update that is stored as factors, dW = s B A, is decomposed without ever being formed: with B = Q_B R_B and
    A^T = Q_A R_A, the singular values of dW are those of the r x r matrix s R_B R_A^T. Other methods are asked for
    the whole dW through PEFT's `get_delta_weight`. All in float64 on the CPU.

    Args:
        peft_model: with an adapter, trained or not (a fresh LoRA's update is zero, and so are all its ranks).
        adapter_name: which adapter.

    Raises:
        InputError: if the model has no such adapter, or an update holds NaN or infinite values (with the module's
            name).
    """
    if not isinstance(peft_model, PeftModel):
        raise InputError(
            f"measure_spectra needs a PEFT model, not a {type(peft_model).__name__}; load it with PeftModel"
        )
    if adapter_name not in peft_model.peft_config:
        raise InputError(f"no adapter {adapter_name!r}; adapters are {', '.join(peft_model.peft_config)}")
    rows, singular_values = [], {}
    for module, layer in _adapted_layers(peft_model, adapter_name):
        values, rank = _singular_values(layer, adapter_name, module)
        singular_values[module] = values
        entropy = entropy_rank(values)
        rows.append(
            {
                "module": module,
                "rank": rank,
                "entropy_rank": entropy,
                "stable_rank": stable_rank(values),
                "participation_ratio": participation_ratio(values),
                "numerical_rank": numerical_rank(values),
                "utilisation": entropy / rank,
                "norm": float(np.linalg.norm(values)),
            }
        )
    method = str(peft_model.peft_config[adapter_name].peft_type).rpartition(".")[2]
    config = peft_model.peft_config[adapter_name]
    settings = {"adapter": adapter_name, "model": str(config.base_model_name_or_path)}
    return UpdateSpectrum(pd.DataFrame(rows, columns=COLUMNS), singular_values, method, settings)


def _adapted_layers(peft_model: PeftModel, adapter_name: str) -> Iterator[tuple[str, BaseTunerLayer]]:
    """Base-model names and layers that carry the adapter."""
    for name, module in peft_model.get_base_model().named_modules():
        if isinstance(module, BaseTunerLayer) and any(
            adapter_name in getattr(module, parameters, {}) for parameters in module.adapter_layer_names
        ):
            yield name, module


@torch.no_grad()
def _singular_values(layer: Any, adapter_name: str, module: str) -> tuple[np.ndarray, float]:  # noqa: ANN401 - PEFT's
    """Descending singular values of the update, and its assigned rank (NaN where the method has none)."""
    rank = (
        float(getattr(layer, "r", {}).get(adapter_name, np.nan))
        if isinstance(getattr(layer, "r", None), dict)
        else np.nan
    )
    if _is_plain_lora(layer, adapter_name):
        a, b = layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight
        small = layer.scaling[adapter_name] * _triangle(b) @ _triangle(a.T).T
    else:
        small = _merged_update(layer, adapter_name, module).flatten(1)
        rank = min(rank, *small.shape)  # VeRA's r exceeds what its matrix can hold
    if not torch.isfinite(small).all():
        raise InputError(
            f"the update of {module} holds NaN or infinite values; the training diverged: lower the learning rate"
        )
    return torch.linalg.svdvals(small).numpy(), rank


def _is_plain_lora(layer: Any, adapter_name: str) -> bool:  # noqa: ANN401 - PEFT's
    """LoRA on a linear layer, whose update is scaling * B A; DoRA and other variants rescale it and are not."""
    if type(layer).__module__.startswith("peft.tuners.lora.") and adapter_name in layer.lora_A:
        plain = adapter_name not in getattr(layer, "lora_variant", {})
        return plain and isinstance(layer.lora_A[adapter_name], torch.nn.Linear)
    return False


def _merged_update(layer: Any, adapter_name: str, module: str) -> torch.Tensor:  # noqa: ANN401 - PEFT's
    """Merged weight minus base weight, in float64 on a copy.

    Some methods multiply (OFT, HRA), rescale (DoRA) or gate (IA3) the weight, and their `get_delta_weight`, where
    there is one, is not what they add; what merging changes is.
    """
    copied = copy.deepcopy(layer).double().cpu()
    if copied.merged_adapters:
        copied.unmerge()
    weight = copied.get_base_layer().weight
    if weight.ndim < 2:
        raise InputError(f"the update of {module} is a vector and has no rank; measure adapters of weight matrices")
    before = weight.detach().clone()
    try:
        copied.merge(adapter_names=[adapter_name])
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise InputError(
            f"{type(layer).__name__} of {module} cannot be merged ({error}), so its update cannot be measured"
        ) from error
    return copied.get_base_layer().weight.detach() - before


def _triangle(factor: torch.Tensor) -> torch.Tensor:
    """R of the QR decomposition, (r, r), in float64 on the CPU."""
    return torch.linalg.qr(factor.detach().double().cpu(), mode="r").R
