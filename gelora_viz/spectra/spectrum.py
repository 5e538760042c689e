"""Singular values and effective ranks of every update of a PEFT model, through its factors where it has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peft import PeftModel
from tqdm.auto import tqdm

from gelora_viz._checks import resolve_device
from gelora_viz._reading import Fields
from gelora_viz._results import frame_html, frame_to_records, read_result, records_to_frame, write_json
from gelora_viz.errors import InputError
from gelora_viz.spectra.decomposition import decompose_values, in_batches
from gelora_viz.spectra.measures import entropy_rank, numerical_rank, participation_ratio, stable_rank
from gelora_viz.spectra.updates import find_adapted, method_name, read_update, read_weight
from gelora_viz.spectra.weights import WEIGHT_COLUMNS, compare_with_weight

_KIND = "update spectrum"
SPECTRUM_COLUMNS = [
    "module", "rank", "entropy_rank", "stable_rank", "participation_ratio", "numerical_rank", "utilisation", "norm",
    "energy_share",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class UpdateSpectrum:
    """The effective rank of every update dW of an adapter.

    Attributes:
        frame: one row per adapted module: module (its name in the base model), rank (assigned; NaN for methods
            without one), entropy_rank, stable_rank, participation_ratio, numerical_rank, utilisation (entropy rank /
            assigned rank), norm (Frobenius norm of the update), energy_share (norm^2 over the sum of norm^2 of all
            updates). If requested, also overlap, overlap_by_chance and n_intruders, as
            `compare_with_weight` defines them.
        singular_values: module -> (rank,) in descending order.
        method: the PEFT method.
        settings: the adapter's name and the model it was made for.
    """

    frame: pd.DataFrame
    singular_values: Mapping[str, np.ndarray]
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON-able values, for this file and for histories."""
        return {
            "method": self.method,
            "settings": dict(self.settings),
            "updates": frame_to_records(self.frame),
            "singular_values": dict(self.singular_values),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> UpdateSpectrum:
        """The inverse of `to_dict`; raises `StudyError` for anything else."""
        fields, values = Fields(content, _KIND), Fields(content.get("singular_values"), "singular values")
        records = fields.rows("updates")
        further = [name for name in WEIGHT_COLUMNS if records and name in records[0]]
        frame = records_to_frame(records, [*SPECTRUM_COLUMNS, *further], texts=("module",))
        floats = [name for name in frame if name not in ("module", "numerical_rank", "n_intruders")]
        frame[floats] = frame[floats].astype(float)  # a column of nulls alone would be one of objects
        singular_values = {
            module: np.asarray(values.numbers(module), dtype=np.float64) for module in content["singular_values"]
        }
        return cls(frame, singular_values, fields.text("method"), fields.mapping("settings"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _KIND, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> UpdateSpectrum:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return read_result(path, _KIND, cls.from_dict)

    def __repr__(self) -> str:
        mean = self.frame["entropy_rank"].mean()
        return f"UpdateSpectrum({self.method}: {len(self.frame)} updates, mean entropy rank {mean:.2f})"

    def _repr_html_(self) -> str:
        return frame_html(self.frame, caption=repr(self))


def measure_spectra(
    peft_model: PeftModel,
    adapter_name: str = "default",
    *,
    against_weights: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> UpdateSpectrum:
    """Singular values and effective ranks of every update of a PEFT adapter.

    An update that is stored as factors (LoRA, AdaLoRA, GenLoRA) is decomposed without ever being formed: with
    dW = B A, B = Q_B R_B and A^T = Q_A R_A, the singular values of dW are those of the r x r matrix R_B R_A^T. For
    every other method (DoRA, VeRA, LoKr, FourierFT, C3A, OFT ...) the whole dW is measured: the merged weight minus
    the weight without the adapter, on a copy. All is in float64; updates of equal shape are decomposed together.

    Where r is the rank of factors that the method then combines with the weight or with each other (DoRA, LoHa, LoKr,
    HiRA), the update may have a higher rank and its utilisation exceed 1. With PiSSA, OLoRA and the like, the update
    is what PEFT adds to the weight that they changed at the start. A trained bias has no rank and is not in the
    spectrum.

    Args:
        peft_model: with an adapter, trained or not (a fresh LoRA's update is zero, and so are all its ranks); it is
            left as it is.
        adapter_name: which adapter.
        against_weights: also compare each update with its weight (columns overlap, overlap_by_chance, n_intruders).
            That takes two full decompositions of every adapted matrix, minutes on a CPU for a 4096 x 4096 one.
        device: where to compute, such as "cpu" or "cuda"; by default where each layer is.
        progress: show a tqdm bar.

    Raises:
        InputError: if the model has no such adapter, an update holds NaN or infinite values (with the module's
            name), or a method can neither be merged nor has factors.

    Example:
        >>> from peft import LoraConfig
        >>> import gelora_viz as gv
        >>> model = gv.add_adapter(gv.load_model("minilm").model, LoraConfig(target_modules=["query"]))
        >>> measure_spectra(model)
        UpdateSpectrum(LORA: 6 updates, mean entropy rank 0.00)
    """
    adapted = find_adapted(peft_model, adapter_name, asked_by="measure_spectra")
    place = None if device is None else resolve_device(device)
    layers = {each.module: each for each in adapted}
    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, np.ndarray] = {}
    with tqdm(total=len(adapted), desc="measuring updates", unit="matrix", disable=not progress) as bar:
        for batch in in_batches(read_update(each, adapter_name, place) for each in adapted):
            for update, values in zip(batch, decompose_values(batch).cpu().numpy(), strict=True):
                if not np.isfinite(values).all():
                    raise InputError(f"the update of {update.module} overflows; lower the learning rate")
                found[update.module] = values
                rows[update.module] = _row(update.module, update.rank, values)
                if against_weights:
                    weight = read_weight(layers[update.module], update.parts[0].device)
                    rows[update.module] |= compare_with_weight(update, weight, numerical_rank(values))
                bar.update()
    frame = pd.DataFrame([rows[module] for module in layers])
    frame.insert(len(SPECTRUM_COLUMNS) - 1, "energy_share", _energy_shares(frame["norm"]))
    base = str(peft_model.peft_config[adapter_name].base_model_name_or_path)
    return UpdateSpectrum(
        frame,
        {module: found[module] for module in layers},
        method_name(peft_model, adapter_name),
        {"adapter": adapter_name, "model": base},
    )


def _row(module: str, rank: float, values: np.ndarray) -> dict[str, Any]:
    entropy = entropy_rank(values)
    return {
        "module": module,
        "rank": rank,
        "entropy_rank": entropy,
        "stable_rank": stable_rank(values),
        "participation_ratio": participation_ratio(values),
        "numerical_rank": numerical_rank(values),
        "utilisation": entropy / rank if rank != 0 else float("nan"),
        "norm": float(np.linalg.norm(values)),
    }


def _energy_shares(norms: pd.Series) -> np.ndarray:
    """Each update's share of the sum of squared norms; 0 if all updates are zero."""
    energies = np.square(norms.to_numpy(dtype=np.float64) / max(norms.max(), np.finfo(np.float64).tiny))
    return np.asarray(energies / max(energies.sum(), np.finfo(np.float64).tiny))
