"""EVA: LoRA whose A starts as the directions of most variance in what each matrix reads."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_eva_state_dict, initialize_lora_eva_weights
from peft.tuners.lora import LoraLayer

from gelora_viz.errors import InputError

_MOST_BATCHES = 1000
"""PEFT reads batches until its directions have settled, which takes tens of them; after these, they will not."""

Batch = Mapping[str, torch.Tensor]


def start_from_eva(model: PeftModel, batches: Sequence[Batch]) -> None:
    """Set the A of every LoRA layer to EVA's directions, and with rho > 1 its rank to EVA's.

    With rho = 1 ranks stay as the configuration has them. (PEFT alone would then still move ranks between matrices
    that read the same hidden states.)

    Args:
        model: with one adapter, a LoraConfig with init_lora_weights="eva".
        batches: model inputs without labels; as many as needed are read, from the first on, over and over.

    Raises:
        InputError: if no batch has as many tokens as EVA needs directions, or its directions do not settle.

    References:
        Paischer et al. 2024, One Initialization to Rule them All, https://arxiv.org/abs/2410.07170.
    """
    config: Any = model.peft_config["default"]
    ranks = {name: int(layer.r["default"]) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    keeps_ranks = config.eva_config.rho == 1
    searched = copy.copy(config)
    if keeps_ranks:
        searched.r, searched.rank_pattern = max(ranks.values()), {}
    _check_tokens(batches, round(config.eva_config.rho * max(ranks.values())))
    try:
        with redirect_stdout(io.StringIO()):  # PEFT prints a line for each batch that is too small for a matrix
            directions = get_eva_state_dict(
                model,
                _Cycle(batches),
                searched,
                prepare_model_inputs_fn=_attended,
                prepare_layer_inputs_fn=_attended_states,
                show_progress_bar=False,
            )
            if keeps_ranks:
                directions = {name: rows[: ranks[name]] for name, rows in directions.items()}
            initialize_lora_eva_weights(model, eva_state_dict=directions)
    except InputError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"PEFT's EVA cannot read these texts ({reason}); check the model and the texts") from error


class _Cycle:
    """The batches over and over, but not for ever."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for number in range(_MOST_BATCHES):
            yield self._batches[number % len(self._batches)]
        raise InputError(
            f"EVA's directions have not settled after {_MOST_BATCHES} batches; give more texts, a larger batch_size "
            "or lower ranks"
        )


def _attended(inputs: Batch, _config: LoraConfig | None = None) -> torch.Tensor:
    """Which tokens count, (n_texts, n_tokens)."""
    return inputs["attention_mask"].bool()


def _attended_states(layer_input: Any, mask: torch.Tensor, _layer_name: str) -> torch.Tensor:  # noqa: ANN401 - PEFT's
    """What a matrix reads at the tokens that count, (n_points, in_features).

    None of it where the shape is not that of the texts: DeBERTa's projections also read relative positions.
    """
    states = layer_input if isinstance(layer_input, torch.Tensor) else layer_input[0]
    return states[mask] if states.shape[:2] == mask.shape else states.new_empty((0, states.shape[-1]))


def _check_tokens(batches: Sequence[Batch], n_directions: int) -> None:
    seen = (batches[number] for number in range(min(len(batches), _MOST_BATCHES)))
    if not any(int(batch["attention_mask"].sum()) >= n_directions for batch in seen):
        raise InputError(
            f"no batch has the {n_directions} tokens that EVA needs for as many directions; raise batch_size, or "
            "lower the ranks"
        )
