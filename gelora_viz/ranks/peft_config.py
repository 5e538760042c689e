"""Ranks of named matrices as a PEFT LoRA configuration whose patterns cannot be mistaken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gelora_viz._checks import check_number, check_whole
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    from peft import LoraConfig

_DECIDED = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern")


def lora_config(
    ranks: Mapping[str, int],
    *,
    alpha_over_rank: float,
    expression: bool = False,
    **overrides: Any,  # noqa: ANN401
) -> LoraConfig:
    """A `peft.LoraConfig` that gives each named matrix its own rank, at one scale alpha / r.

    `rank_pattern` and `alpha_pattern` hold one escaped full module name per matrix, so that no key matches another
    module, whatever their order (PEFT loses the order when it saves), and layer 1 is never taken for layer 11. `r` is
    the largest rank: servers that know no patterns reserve room by it.

    Args:
        ranks: full module name -> rank; a matrix of rank 0 is not adapted.
        alpha_over_rank: the scale of every update, alpha / r.
        expression: name the matrices by a regular expression for their full names, which no ending can match.
        overrides: any argument of `peft.LoraConfig` that does not decide ranks, such as lora_dropout or use_dora.

    Raises:
        InputError: if an override would change the ranks or their scale, or every rank is 0.
    """
    from peft import LoraConfig

    fixed = sorted(overrides.keys() & set(_DECIDED))
    if fixed:
        raise InputError(f"{', '.join(fixed)} cannot be overridden, the ranks decide them; use alpha_over_rank")
    if overrides.get("use_rslora"):
        raise InputError(
            "use_rslora=True scales by alpha / sqrt(r), so that updates of unequal ranks get unequal scales; leave "
            "it out, and set the one scale of all with alpha_over_rank"
        )
    adapted = _adapted(ranks)
    check_number(alpha_over_rank, "alpha_over_rank", above=0)
    largest = max(adapted.values())
    keys = {module: f"^{re.escape(module)}" if expression else re.escape(module) for module in adapted}
    return LoraConfig(
        r=largest,
        lora_alpha=alpha_over_rank * largest,  # type: ignore[arg-type] # a float serves PEFT as well
        target_modules="|".join(map(re.escape, adapted)) if expression else list(adapted),
        rank_pattern={keys[module]: rank for module, rank in adapted.items()},
        alpha_pattern={keys[module]: alpha_over_rank * rank for module, rank in adapted.items()},
        **overrides,
    )


def lora_config_code(ranks: Mapping[str, int], *, alpha_over_rank: float, comment: str, conv1d: bool = False) -> str:
    """Python text that makes what `lora_config` returns, with PEFT alone and each module named once.

    Raises:
        InputError: if every rank is 0.
    """
    adapted = _adapted(ranks)
    check_number(alpha_over_rank, "alpha_over_rank", above=0)
    largest = max(adapted.values())
    transposed = "    fan_in_fan_out=True,  # Conv1D stores its weight transposed\n" if conv1d else ""
    listed = "".join(f"    {json.dumps(module)}: {rank},\n" for module, rank in adapted.items())
    return (
        "import re\n\nfrom peft import LoraConfig\n\n"
        f"# {' '.join(comment.split())}\n"
        f"ranks = {{\n{listed}}}\n"
        "config = LoraConfig(\n"
        f"    r={largest},\n"
        f"    lora_alpha={alpha_over_rank * largest},\n"
        "    target_modules=list(ranks),\n"
        "    rank_pattern={re.escape(module): rank for module, rank in ranks.items()},\n"
        f"    alpha_pattern={{re.escape(module): {alpha_over_rank} * rank for module, rank in ranks.items()}},\n"
        f"{transposed})\n"
    )


def _adapted(ranks: Mapping[str, int]) -> dict[str, int]:
    """The matrices that get an adapter; raises `InputError` where none does."""
    checked = {module: check_whole(rank, f"rank of {module}", at_least=0) for module, rank in ranks.items()}
    adapted = {module: rank for module, rank in checked.items() if rank > 0}
    if not adapted:
        raise InputError("every matrix has rank 0, so there is nothing to adapt; raise the budget")
    return adapted
