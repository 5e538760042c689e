"""Weights for matrices from what they read: PEFT's EVA, run on batches, without its adapter."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora.config import EvaConfig
from peft.tuners.lora.eva import HashHook, SVDHook, get_eva_state_dict
from torch import nn

from gelora_viz.activations import evaluating, hold, input_device
from gelora_viz.errors import InputError, first_line
from gelora_viz.ranks.batches import ModelInputs, same_random_state, takes_labels
from gelora_viz.ranks.matrices import Matrix

_EVA_RHO = 2.0
"""EVA's own default: no matrix gets more than this many times the mean rank."""
_MOST_PASSES = 100
"""EVA's directions settle within a few passes over the batches, if ever."""


def eva_ranks(
    model: nn.Module,
    matrices: Sequence[Matrix],
    batches: Sequence[ModelInputs],
    *,
    mean_rank: int,
    progress: bool = True,
) -> dict[str, int]:
    """The rank that PEFT's EVA gives each matrix: the number of its inputs' directions that explain most variance.

    The directions of all matrices compete by the share of variance that each explains. Padding does not count, nor do
    positions whose label is -100 where labels are given per token. The model is left as it was, and no adapter is
    added. To find matrices that read the same, PEFT compares what they read of the first batch number by number: with
    a large model, let that batch be small.

    Args:
        model: the model to be adapted.
        matrices: the matrices that compete.
        batches: model inputs; labels are left out where the model takes none.
        mean_rank: EVA's budget is this times the number of matrices, a sum of ranks and not of parameters; no matrix
            gets more than `_EVA_RHO` times it.
        progress: show PEFT's bar.

    Returns:
        Module -> rank; may be 0.

    Raises:
        InputError: if no batch has as many tokens as EVA needs directions, or its directions do not settle.

    References:
        Paischer et al. 2024, One Initialization to Rule them All, https://arxiv.org/abs/2410.07170.
    """
    narrowest = min(matrix.in_features for matrix in matrices)
    mean_rank = min(mean_rank, narrowest)
    rho = min(_EVA_RHO, narrowest / mean_rank)
    config = LoraConfig(
        r=mean_rank,
        target_modules="|".join(re.escape(matrix.module) for matrix in matrices),
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=rho),
    )
    with hold(model):  # so that the hooks removed are no other thread's
        try:
            directions = find_directions(
                model, batches, config, n_directions=round(rho * mean_rank), progress=progress
            )
        finally:
            _remove_eva_hooks(model)
    return {matrix.module: len(directions[matrix.module]) for matrix in matrices}


def find_directions(
    model: nn.Module, batches: Sequence[ModelInputs], config: LoraConfig, *, n_directions: int, progress: bool
) -> dict[str, torch.Tensor]:
    """Directions of most variance in what each matrix reads, by PEFT's EVA over the batches, as often as it takes.

    Args:
        model: the model to be adapted, with or without its adapter.
        batches: model inputs.
        config: a LoRA configuration with init_lora_weights="eva".
        n_directions: number of directions that the matrix with the most needs; the largest batch must have as many
            tokens.
        progress: show PEFT's bar.

    Returns:
        Module -> (n_directions, in_features).

    Raises:
        InputError: if no batch has enough tokens, the directions do not settle, or PEFT cannot read the batches.
    """
    inputs = [_accepted(model, batch) for batch in batches]
    _check_tokens(inputs, n_directions)
    try:
        # PEFT prints a line for each batch that is too small for a matrix.
        with evaluating(model), same_random_state(model), redirect_stdout(io.StringIO()):
            found: dict[str, torch.Tensor] = get_eva_state_dict(
                model,
                _Passes(inputs),
                config,
                prepare_model_inputs_fn=_attended,
                prepare_layer_inputs_fn=_attended_states,
                show_progress_bar=progress,
            )
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise InputError(
            f"PEFT's EVA cannot read these batches ({first_line(error)}); check the batches and the model"
        ) from error
    return found


class _Passes:
    """The batches over and over, as PEFT reads them until its directions have settled, but not forever."""

    def __init__(self, batches: Sequence[ModelInputs]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[ModelInputs]:
        for _ in range(_MOST_PASSES):
            yield from self._batches
        raise InputError(
            f"EVA's directions have not settled after {_MOST_PASSES} passes over {len(self)} batches; give more or "
            "larger batches, or a smaller budget"
        )


def _accepted(model: nn.Module, batch: ModelInputs) -> dict[str, torch.Tensor]:
    """The batch where the model reads it, without labels where its forward pass takes none."""
    device, with_labels = input_device(model), takes_labels(model)
    return {name: tensor.to(device) for name, tensor in batch.items() if with_labels or name != "labels"}


def _attended(inputs: ModelInputs, _config: LoraConfig | None = None) -> list[torch.Tensor]:
    """Which tokens count, (n_texts, n_tokens) each: the text's, and those of an encoder-decoder's decoder.

    PEFT's own function knows one mask only, which does not fit what a decoder reads.
    """
    masks = []
    for ids, mask in (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask")):
        if mask in inputs:
            masks.append(inputs[mask].bool())
        elif ids in inputs:
            masks.append(torch.ones_like(inputs[ids], dtype=torch.bool))
    if masks and "labels" in inputs and inputs["labels"].shape == masks[-1].shape:
        masks[-1] = masks[-1] & (inputs["labels"] != EvaConfig.label_mask_value)
    return masks


def _attended_states(layer_input: Any, masks: Sequence[torch.Tensor], layer_name: str) -> torch.Tensor:  # noqa: ANN401 - PEFT's
    """What a matrix reads at the tokens that count, (n_points, in_features).

    None of it where the shape is not that of the texts: DeBERTa's projections also read relative positions. All of it
    where there are no texts (images), or tokens come without their places (experts).
    """
    states = layer_input if isinstance(layer_input, torch.Tensor) else layer_input[0]
    if states.ndim == 2 or not masks:
        return states.reshape(-1, states.shape[-1])
    of_decoder_first = reversed(masks) if "decoder" in layer_name.split(".") else masks
    fitting = [mask for mask in of_decoder_first if mask.shape == states.shape[:2]]
    return states[fitting[0]] if fitting else states.new_empty((0, states.shape[-1]))


def _check_tokens(batches: Sequence[ModelInputs], n_directions: int) -> None:
    most = max(
        (int(mask.sum()) for batch in batches for mask in _attended(batch)),
        default=n_directions,  # of images: unknown before they are run
    )
    if most < n_directions:
        raise InputError(
            f"the largest batch has {most} tokens, and EVA needs {n_directions}, one for each direction; give larger "
            "batches, or lower the ranks"
        )


def _remove_eva_hooks(model: nn.Module) -> None:
    """PEFT leaves its hooks on the model where it ends with an error."""
    for module in model.modules():
        hooks = module._forward_hooks  # noqa: SLF001 - torch has no public way to find a hook again
        for number in [number for number, hook in hooks.items() if isinstance(hook, HashHook | SVDHook)]:
            del hooks[number]
