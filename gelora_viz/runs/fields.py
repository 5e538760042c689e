"""The fields of a run's specification that are right or wrong by themselves: numbers, words, names and flags.

This file loads neither torch nor PEFT, so that the command line can refuse an option at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gelora_viz._checks import check_choice, check_flag, check_number, check_seed, check_text, check_whole, describe
from gelora_viz._names import check_file_name
from gelora_viz.errors import InputError

CLASSIFICATION, CAUSAL_LM = "classification", "causal-lm"
FROZEN, FULL = "frozen", "full"
_PRECISIONS = ("float32", "bfloat16", "float16")
_SCHEDULES = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
"""Those of transformers' SchedulerType that need nothing but the number of steps."""
_HEAD_POOLINGS = ("mean", "last", "cls")
_WHOLE = (
    "steps", "batch_size", "evaluations", "gradient_accumulation", "threads", "max_texts", "max_length",
    "spectra_every",
)  # fmt: skip
_OPTIONAL = (
    "text_column", "label_column", "max_texts", "max_length", "threads", "precision", "spectra_every", "plus_ratio",
)  # fmt: skip
"""Fields that may be None."""
_Check = Callable[[Any], object]


def _check_pooling(pooling: object) -> None:
    if not isinstance(pooling, str) or pooling not in _HEAD_POOLINGS:
        raise InputError(f"unknown pooling {describe(pooling)} for the head; choose mean, last or cls")


_share = partial(check_number, above=0, below=1)
_CHECKS: dict[str, _Check] = {
    "name": lambda name: check_file_name(name, "run name"),
    # A text of one token has no words, only the mark of its beginning.
    **{name: partial(check_whole, name=name, at_least=2 if name == "max_length" else 1) for name in _WHOLE},
    "model": partial(check_text, name="model", example="minilm"),
    "data": partial(check_text, name="data", example="icd10cm"),
    "text_column": partial(check_text, name="text_column", example="text"),
    "label_column": partial(check_text, name="label_column", example="label"),
    "pooling": _check_pooling,
    "learning_rate": partial(_share, name="learning_rate"),
    "head_learning_rate": partial(_share, name="head_learning_rate"),
    "warmup": partial(check_number, name="warmup", at_least=0, below=1),
    "plus_ratio": partial(check_number, name="plus_ratio", at_least=1),
    "seed": check_seed,
    "data_seed": partial(check_seed, name="data_seed"),
    "trust_remote_code": partial(check_flag, name="trust_remote_code"),
    "gradient_checkpointing": partial(check_flag, name="gradient_checkpointing"),
    "task": partial(check_choice, name="task", choices=(CLASSIFICATION, CAUSAL_LM)),
    "schedule": partial(check_choice, name="schedule", choices=_SCHEDULES),
    "precision": partial(check_choice, name="precision", choices=_PRECISIONS),
}
"""Field of `RunSpec` -> what raises `InputError` for a wrong value; `adapter` alone is not among them."""


def check_fields(values: Mapping[str, Any]) -> None:
    """Raise `InputError` for the first of these fields of `RunSpec` whose value no run could have; others pass."""
    for name, value in values.items():
        if name in _CHECKS and not (value is None and name in _OPTIONAL):
            _CHECKS[name](value)
    size, parts = values.get("batch_size", 0), values.get("gradient_accumulation", 1)
    if size % parts:
        raise InputError(
            f"batch_size {size} cannot be split into {parts} equal micro-batches; it "
            "counts the texts of an optimizer step, so gradient_accumulation must divide it"
        )
