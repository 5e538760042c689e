"""Convert a trained adapter of any method to a LoRA adapter of the rank that it actually used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from peft import LoraConfig, PeftModel
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from tqdm.auto import tqdm
from transformers.pytorch_utils import Conv1D

from gelora_viz._checks import check_flag, check_number, check_whole, describe, resolve_device
from gelora_viz.errors import InputError
from gelora_viz.ranks import lora_config
from gelora_viz.spectra.compressed import COMPRESSION_COLUMNS, Compression
from gelora_viz.spectra.decomposition import decompose, norm_of_product
from gelora_viz.spectra.measures import entropy_rank
from gelora_viz.spectra.outputs import ModelInputs, Product, choose_batches, compare_outputs
from gelora_viz.spectra.updates import Adapted, Update, find_adapted, method_name, read_update

_DEFAULT_ENERGY = 0.99
_PREFIX = "base_model.model."
_ROUNDING = float(np.finfo(np.float32).eps)
"""Singular values up to this share of the largest are float32 rounding, and never kept."""
_NO_LORA = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initializations of LoRA that change the base model's weights too."""


def compress(
    peft_model: PeftModel,
    *,
    energy: float | None = None,
    rank: int | Literal["effective"] | None = None,
    adapter_name: str = "default",
    batches: Sequence[ModelInputs] | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Compression:
    """Convert a trained adapter of any method to a LoRA adapter of the rank that it actually used.

    Every update dW is decomposed in float64, and the best approximation of the chosen rank (Eckart and Young 1936)
    becomes the two factors of a LoRA with alpha / r = 1, in the adapter's own type. A matrix whose update is zero is
    not adapted. What that costs is measured: per matrix, and at the model's output.

    PEFT's own `convert_to_lora` takes what `get_delta_weight` gives, so it refuses OFT, HRA and AdaLoRA among others,
    and converts only the LoRA inside DoRA. It forms and decomposes the whole update even where factors are stored,
    keeps one rank for all or a share of the energy, and does not report the loss.

    Args:
        peft_model: with a trained, unmerged, active adapter; it is left exactly as it was.
        energy: per matrix the smallest rank whose singular values hold this share of the sum of their squares; 1
            keeps all that float32 can tell from zero. If neither energy nor rank is given, 0.99, which leaves
            an error of at most 10 % of an update's norm.
        rank: "effective": per matrix the entropy rank, rounded up; or one number for all matrices, at most the rank
            of the update.
        adapter_name: which adapter.
        batches: dictionaries of tensors that the model reads, to compare outputs on. Without them transformers' own
            `model.dummy_inputs` are read, a few tokens: enough to reveal a mistake, too few to report.
        device: where to compute; by default where each layer is.
        progress: show a tqdm bar.

    Returns:
        A `Compression`: `.frame` and `.output_change` say what was lost, `.save(folder)` writes an adapter that
        `PeftModel.from_pretrained(base_model, folder)` loads. Modules that the adapter saves whole go with it.

    Raises:
        InputError: for an energy outside (0, 1], a rank below 1, or both; no such adapter, one that is merged, not
            active, not trained (every update is zero), or holds NaN or infinite values (with the module's name); one
            that changes more than matrices (biases, tokens, layers, the base model at its start), or a convolution.

    Example:
        >>> from peft import LoraConfig
        >>> import gelora_viz as gv
        >>> config = LoraConfig(target_modules=["query"], r=8, init_lora_weights=False)
        >>> compression = compress(gv.add_adapter(gv.load_model("minilm").model, config), energy=0.9)
        >>> compression.n_parameters_before, bool(compression.frame["compressed_rank"].between(5, 7).all())
        (36864, True)
    """
    target = _check_target(energy, rank)
    check_flag(progress, "progress")
    place = None if device is None else resolve_device(device)
    adapted = find_adapted(peft_model, adapter_name, asked_by="compress")
    _check_compressible(peft_model, adapted, adapter_name)
    chosen, source = choose_batches(peft_model, batches)
    method = method_name(peft_model, adapter_name)
    rows: list[dict[str, Any]] = []
    products: dict[str, Product] = {}
    for each in tqdm(adapted, desc="compressing updates", unit="matrix", disable=not progress):
        update = read_update(each, adapter_name, place)
        if update.moves_bias:
            raise InputError(
                f"{method} changes the bias of {each.module} as well as its weight, which LoRA cannot; keep the "
                "adapter as it is"
            )
        row, product = _compress_update(update, target, _parameters(each, adapter_name)[0].dtype)
        rows.append(row)
        if product is not None:
            products[each.module] = product
    if not products:
        raise InputError("every update of the adapter is zero, so every rank would be 0; train it first")
    frame = pd.DataFrame(rows, columns=COMPRESSION_COLUMNS)
    changes = compare_outputs(peft_model, adapted, products, chosen)
    parameters = {id(tensor): tensor.numel() for each in adapted for tensor in _parameters(each, adapter_name)}
    return Compression(
        frame=frame,
        config=_config(peft_model, adapter_name, adapted, frame),
        weights=_weights(peft_model, adapter_name, adapted, products),
        n_parameters_before=sum(parameters.values()),
        output_change=changes.output_change,
        adapter_effect=changes.adapter_effect,
        settings={
            "method": method,
            "adapter": adapter_name,
            "energy": target.energy,
            "rank": target.rank,
            "outputs_on": source,
            "n_batches": len(chosen),
        },
    )


class _Target(NamedTuple):
    """What decides the rank of each matrix; one of the two is None."""

    energy: float | None
    rank: int | str | None

    def rank_for(self, values: np.ndarray) -> int:
        """The rank to keep of an update with these singular values, descending; 0 where it is zero."""
        useful = values[values > _ROUNDING * values.max(initial=0.0)]
        if self.rank == "effective":
            wanted = math.ceil(entropy_rank(values) - 1e-6)  # two equal values have rank 2, whatever rounding says
        elif isinstance(self.rank, int):
            wanted = self.rank
        elif self.energy == 1 or len(useful) == 0:
            wanted = len(useful)
        else:
            kept = np.cumsum(np.square(useful / useful[0]))
            wanted = int(np.searchsorted(kept, self.energy * kept[-1])) + 1
        return min(wanted, len(useful))


def _check_target(energy: float | None, rank: int | str | None) -> _Target:
    if energy is not None and rank is not None:
        raise InputError(
            f"energy {describe(energy)} and rank {describe(rank)} both decide the ranks; give one of them"
        )
    if rank is None:
        share = _DEFAULT_ENERGY if energy is None else energy
        return _Target(check_number(share, "energy", above=0, at_most=1), None)
    return _Target(
        None,
        rank if isinstance(rank, str) and rank == "effective" else check_whole(rank, "rank", or_else="effective"),
    )


def _check_compressible(peft_model: PeftModel, adapted: Sequence[Adapted], adapter_name: str) -> None:
    """Raise `InputError` for an adapter that LoRA cannot represent, or whose outputs cannot be compared now."""
    config = peft_model.peft_config[adapter_name]
    for name in ("bias", "lora_bias", "trainable_token_indices", "layer_replication", "kasa_config"):
        value = getattr(config, name, None)
        if value not in (None, False, "none"):
            raise InputError(
                f"adapter {adapter_name!r} has {name}={value!r}, so it changes more than its matrices, and a LoRA of "
                "them alone would not be the same; keep the adapter as it is"
            )
    start = getattr(config, "init_lora_weights", None)
    if isinstance(start, str) and start.startswith(_CHANGE_THE_BASE):
        raise InputError(
            f"init_lora_weights={start!r} changed the base model's weights when the adapter was made, so its updates "
            "do not fit the base model as others load it; convert it first, with PEFT's "
            "path_initial_model_for_weight_conversion"
        )
    for each in adapted:
        base = each.layer.get_base_layer()
        if isinstance(base, _NO_LORA):
            raise InputError(
                f"{each.module} is a {type(base).__name__}; only linear layers and embeddings are compressed"
            )
        if each.layer.merged_adapters:
            raise InputError("the adapter is merged into the model's weights; call unmerge_adapter() first")
    if list(peft_model.active_adapters) != [adapter_name]:
        raise InputError(
            f"active is {', '.join(peft_model.active_adapters)}, not {adapter_name!r} alone, so its outputs cannot "
            f"be compared; call set_adapter({adapter_name!r}) first"
        )


def _compress_update(update: Update, target: _Target, dtype: torch.dtype) -> tuple[dict[str, Any], Product | None]:
    """The row of one matrix, and its factors (A (r, in), B (out, r)) on the CPU; None if the update is zero."""
    full = decompose(update)
    values = full.values.cpu().numpy()
    rank = target.rank_for(values)
    row: dict[str, Any] = {"module": update.module, "rank": update.rank, "compressed_rank": rank}
    if rank == 0:
        return row | {"n_parameters": 0, "energy_kept": float("nan"), "relative_error": float("nan")}, None
    # Half of each singular value goes into either factor, so that both have entries of like size for low precision.
    root = full.values[:rank].sqrt()
    a = (root[:, None] * full.right[:rank]).to(dtype)
    b = (full.left[:, :rank] * root).to(dtype)
    squares = np.square(values / values[0])
    row |= {
        "n_parameters": a.numel() + b.numel(),
        "energy_kept": float(squares[:rank].sum() / squares.sum()),
        "relative_error": _error(update, a.double(), b.double()) / float(np.linalg.norm(values)),
    }
    return row, (a.cpu().contiguous(), b.cpu().contiguous())


def _error(update: Update, a: torch.Tensor, b: torch.Tensor) -> float:
    """||dW - B A||, including the rounding to the stored type."""
    if len(update.parts) == 1:
        return float((update.parts[0] - b @ a).norm())
    left, right = update.parts
    return norm_of_product(torch.cat([left, -b], dim=1), torch.cat([right, a]))


def _parameters(adapted: Adapted, adapter_name: str) -> list[nn.Parameter]:
    """The parameters that the adapter adds to one layer."""
    found: list[nn.Parameter] = []
    for name in adapted.layer.adapter_layer_names:
        holder = getattr(adapted.layer, name, {})
        if adapter_name in holder:
            own = holder[adapter_name]
            found += own.parameters() if isinstance(own, nn.Module) else [own]
    return found


def _config(peft_model: PeftModel, adapter_name: str, adapted: Sequence[Adapted], frame: pd.DataFrame) -> LoraConfig:
    original: Any = peft_model.peft_config[adapter_name]
    base = peft_model.get_base_model()
    return lora_config(
        dict(zip(frame["module"], map(int, frame["compressed_rank"]), strict=True)),
        alpha_over_rank=1.0,
        fan_in_fan_out=any(isinstance(each.layer.get_base_layer(), Conv1D) for each in adapted),
        modules_to_save=getattr(original, "modules_to_save", None),
        base_model_name_or_path=original.base_model_name_or_path,
        revision=original.revision,
        task_type=original.task_type,
        # What AutoPeftModel loads the base model with; PEFT writes it for adapters without a task.
        auto_mapping=None
        if original.task_type
        else {"base_model_class": type(base).__name__, "parent_library": type(base).__module__},
        inference_mode=True,
    )


def _weights(
    peft_model: PeftModel, adapter_name: str, adapted: Sequence[Adapted], products: dict[str, Product]
) -> dict[str, torch.Tensor]:
    """The tensors under PEFT's file names, including those of modules that are saved whole."""
    weights = {}
    for each in adapted:
        if each.module in products:
            embeds = isinstance(each.layer.get_base_layer(), nn.Embedding)
            for factor, tensor in zip("AB", products[each.module], strict=True):
                name = f"lora_embedding_{factor}" if embeds else f"lora_{factor}.weight"
                weights[f"{_PREFIX}{each.module}.{name}"] = tensor
    for module, wrapper in peft_model.get_base_model().named_modules():
        if isinstance(wrapper, ModulesToSaveWrapper) and adapter_name in wrapper.modules_to_save:
            for name, tensor in wrapper.modules_to_save[adapter_name].state_dict().items():
                weights[f"{_PREFIX}{module}.{name}"] = tensor.detach().cpu().clone().contiguous()
    return weights
