"""What a specification must fulfil before a run is worth starting: each check names the value and the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from peft import AdaLoraConfig, LoraConfig, PeftConfig

from gelora_viz._checks import check_number, check_seed, check_whole
from gelora_viz.errors import InputError
from gelora_viz.ranks import RankPlan

if TYPE_CHECKING:
    from gelora_viz.runs.spec import RunSpec

CLASSIFICATION, CAUSAL_LM = "classification", "causal-lm"
TASKS = {CLASSIFICATION: "FEATURE_EXTRACTION", CAUSAL_LM: "CAUSAL_LM"}
"""Task -> the one task_type that a PEFT configuration may have for it, besides None."""
FROZEN, FULL = "frozen", "full"
PRECISIONS = ("float32", "bfloat16", "float16")
SCHEDULES = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
"""Those of transformers' SchedulerType that need nothing but the number of steps."""
_WHOLE = (
    "steps", "batch_size", "evaluations", "gradient_accumulation", "threads", "max_texts", "max_length",
    "spectra_every",
)  # fmt: skip
_OPTIONAL = ("threads", "max_texts", "max_length", "spectra_every")


def check_spec(spec: RunSpec) -> None:
    """Raise `InputError` for what no run could do."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", str(spec.name)):
        raise InputError(
            f"run name {spec.name!r} must be letters, digits, dots, dashes and underscores (100 at most)"
        )
    for option, value, known in (
        ("task", spec.task, tuple(TASKS)),
        ("schedule", spec.schedule, SCHEDULES),
        ("precision", spec.precision, (None, *PRECISIONS)),
    ):
        if value not in known:
            raise InputError(f"{option} is {value!r}; choose {' or '.join(str(each) for each in known)}")
    if spec.pooling not in ("mean", "last", "cls"):
        raise InputError(f"unknown pooling {spec.pooling!r} for the head; choose mean, last or cls")
    check_seed(spec.seed)
    check_seed(spec.data_seed)
    _check_numbers(spec)
    _check_adapter(spec)


def _check_numbers(spec: RunSpec) -> None:
    for name in _WHOLE:
        if getattr(spec, name) is not None or name not in _OPTIONAL:
            check_whole(getattr(spec, name), name)
    for name in ("learning_rate", "head_learning_rate"):
        check_number(getattr(spec, name), name, above=0, below=1)
    check_number(spec.warmup, "warmup", at_least=0, below=1)
    if spec.batch_size % spec.gradient_accumulation:
        raise InputError(
            f"batch_size {spec.batch_size} cannot be read in {spec.gradient_accumulation} equal pieces; it counts "
            "the texts of an optimiser step, so gradient_accumulation must divide it"
        )


def _check_adapter(spec: RunSpec) -> None:
    adapter = spec.adapter
    if not isinstance(adapter, RankPlan | PeftConfig) and adapter not in (FROZEN, FULL):
        raise InputError(f'adapter is {adapter!r}; give a RankPlan, a PEFT configuration, "full" or "frozen"')
    if isinstance(adapter, PeftConfig):
        _check_config(adapter, spec)
    if isinstance(adapter, str) and spec.spectra_every is not None:
        raise InputError(
            f"spectra_every is {spec.spectra_every}, but adapter {adapter!r} has no updates to measure; leave it out"
        )
    if spec.plus_ratio is not None:
        check_number(spec.plus_ratio, "plus_ratio", at_least=1)
        if not isinstance(adapter, RankPlan) and not (isinstance(adapter, LoraConfig) and _is_lora(adapter)):
            raise InputError(
                f"plus_ratio is {spec.plus_ratio}, but {spec.method} has no factors A and B of LoRA; leave it out, "
                "or give a plan or a LoraConfig"
            )


def _check_config(config: PeftConfig, spec: RunSpec) -> None:
    task_type = None if config.task_type is None else str(config.task_type).rpartition(".")[2]
    if task_type not in (None, TASKS[spec.task]):
        raise InputError(
            f"the PEFT configuration has task_type {task_type!r}, which wraps another model than task {spec.task!r} "
            "trains; leave task_type out"
        )
    if config.is_prompt_learning:
        raise InputError(f"{spec.method} learns a prompt and changes no weight matrix; give a method that does")
    if isinstance(config, AdaLoraConfig):
        _check_adalora(config, spec.steps)


def _check_adalora(config: AdaLoraConfig, steps: int) -> None:
    total = steps if config.total_step is None else config.total_step
    if total > steps:
        raise InputError(
            f"AdaLoRA's total_step is {total}, but the run has {steps} steps and would never reach its target_r; set "
            f"total_step={steps}"
        )
    if config.init_r <= config.target_r:
        raise InputError(
            f"AdaLoRA's init_r is {config.init_r} and its target_r {config.target_r}; it gives ranks up, so init_r "
            "must be larger"
        )
    if total - config.tfinal - config.tinit < 2:
        raise InputError(
            f"AdaLoRA has total_step {total}, tinit {config.tinit} and tfinal {config.tfinal}, which leaves no steps "
            "to give ranks up in; lower tinit and tfinal"
        )


def _is_lora(config: LoraConfig) -> bool:
    """Whether it is LoRA itself or a variant with its factors, and not AdaLoRA, whose class derives from it."""
    return str(config.peft_type).rpartition(".")[2] == "LORA"
