"""From a block's output (n_texts, n_tokens, n_features) to points: one per text, or one per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from gelora_viz._checks import describe
from gelora_viz.errors import InputError

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "last", "cls"]
PoolingFunction = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""From hidden states (n_texts, n_tokens, n_features) and the mask (n_texts, n_tokens) to (n_texts, n_features)."""


_NAMES = (*get_args(Pooling), "tokens")


def check_pooling(pooling: object, name: str | None = None) -> None:
    """Raise `InputError` unless `pooling` is "mean", "last", "cls", "tokens" or a callable, which may have a name."""
    if not callable(pooling) and not (isinstance(pooling, str) and pooling in _NAMES):
        raise InputError(
            f"unknown pooling {describe(pooling)}; choose mean, last, cls, tokens, or give a function of (hidden, "
            "mask)"
        )
    if name is None:
        return
    if not callable(pooling):
        raise InputError(
            f"pooling_name {describe(name)} was given with pooling {pooling!r}, which has a name; leave it out"
        )
    if not isinstance(name, str) or not name or name in _NAMES:
        raise InputError(f"pooling_name is {describe(name)}; give a word of your own, other than {', '.join(_NAMES)}")


def name_of_pooling(pooling: object, name: str | None) -> str:
    """What a pooling is called in results: by its own name, or a function by the user's, or else as Python has it."""
    if isinstance(pooling, str):
        return pooling
    return name if name is not None else str(getattr(pooling, "__name__", type(pooling).__name__))


def pool_texts(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling | PoolingFunction = "mean") -> torch.Tensor:
    """One point per text.

    Args:
        hidden: (n_texts, n_tokens, n_features), any floating type.
        mask: (n_texts, n_tokens), 1 where a token is attended.
        pooling: "mean" over the attended tokens, special ones included, as sentence encoders do; "last" attended
            token, where a decoder has read the whole text; "cls", the first attended token; or a function of (hidden,
            mask).

    Returns:
        (n_texts, n_features), no view of `hidden`; "mean" is summed in float32.

    Example:
        >>> import torch
        >>> pool_texts(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[2.]])
    """
    import torch  # here, so that the command line can check names without it

    if callable(pooling):
        pooled = pooling(hidden, mask)
        if pooled.ndim != 2 or len(pooled) != len(hidden):
            raise InputError(
                f"the pooling function returned shape {tuple(pooled.shape)}; it must return (n_texts, n_features)"
            )
        return pooled.clone()  # a view would keep all hidden states, and follow what later modules write into them
    rows = torch.arange(len(hidden), device=hidden.device)
    match pooling:
        case "mean":
            weights = mask.to(torch.float32).unsqueeze(-1)
            return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        case "cls":
            return hidden[rows, mask.argmax(dim=1)]
        case "last":
            positions = torch.arange(mask.shape[1], device=mask.device)
            return hidden[rows, (mask * positions).argmax(dim=1)]
        case _:
            raise InputError(
                f"unknown pooling {pooling!r}; choose mean, last or cls, or give a function of (hidden, mask)"
            )
