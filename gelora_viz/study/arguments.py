"""The arguments of a study's steps that are right or wrong by themselves, checked before a step does anything.

Python and the command line check the same way. Neither torch nor PEFT is loaded for it, so that the command line
answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gelora_viz._checks import check_flag, check_names, check_seed, check_text, check_whole, describe
from gelora_viz._names import check_file_name, did_you_mean
from gelora_viz.activations import check_pooling
from gelora_viz.dimension import check_k, check_one_rule, choose_estimators
from gelora_viz.errors import InputError, StudyError
from gelora_viz.ranks import check_rank_limits, check_rounding, find_strategy
from gelora_viz.runs import FROZEN, FULL
from gelora_viz.study.listing import files_in

POOLINGS = ("mean", "tokens")
"""Poolings profiled by default. Which one GeLoRA used could not be read, and they disagree, so both are shown."""


def check_source(
    *,
    model: object,
    data: object,
    text_column: object = None,
    label_column: object = None,
    max_texts: object = None,
    seed: object = 0,
    trust_remote_code: object = False,
) -> None:
    """Raise `InputError` unless these can name a model and texts; None stands for what is not given."""
    if model is not None:
        check_text(model, "model", "minilm")
    if isinstance(data, str):
        check_text(data, "data", "icd10cm")
    for name, column in (("text_column", text_column), ("label_column", label_column)):
        if column is not None:
            check_text(column, name, "text")
    if max_texts is not None:
        check_whole(max_texts, "max_texts")
    if seed is not None:
        check_seed(seed)
    check_flag(trust_remote_code, "trust_remote_code")


def check_profile(
    *,
    poolings: object,
    estimators: Sequence[str] | str | None,
    k: object,
    correct: object,
    plateau: object,
    max_points: object,
    max_length: object,
    seed: object,
    progress: object = True,
) -> list[str]:
    """Raise `InputError` unless dimensions can be estimated in this way; returns the poolings."""
    if callable(poolings) or (isinstance(poolings, Iterable) and any(map(callable, poolings))):
        raise InputError(
            f"poolings is {describe(poolings)}, and a function has no name to save it under; use capture and "
            "estimate_dimension directly"
        )
    names = check_names(poolings, "poolings", "mean")
    for name in names:
        check_pooling(name)
    choose_estimators(estimators)
    check_k(k)
    check_one_rule(correct=correct, plateau=plateau)
    if max_points is not None:
        check_whole(max_points, "max_points")
    if max_length is not None:
        check_whole(max_length, "max_length", at_least=2)
    check_seed(seed)
    check_flag(progress, "progress")
    return names


def check_allocation(
    *,
    name: object,
    strategy: str,
    pooling: object,
    estimator: str,
    budget: int | None,
    budget_rank: int | None,
    target_modules: object,
    rounding: str | None,
    min_rank: object,
    max_rank: object,
    n_texts: object,
    seed: object,
    replace: object = False,
    progress: object = True,
) -> None:
    """Raise `InputError` unless ranks can be allocated in this way; whether the budget is enough, the model says."""
    check_plan_name(name)
    chosen = find_strategy(strategy)
    check_file_name(pooling, "pooling")
    check_text(estimator, "estimator", "twonn")
    choose_estimators([estimator])
    for option, number in (("budget", budget), ("budget_rank", budget_rank)):
        if number is not None:
            check_whole(number, option)
    if budget is not None and budget_rank is not None:
        raise InputError(f"budget {budget} and budget_rank {budget_rank} both name a budget; give one of them")
    given = budget_rank if budget is None else budget
    chosen.check_budget(strategy, given)
    check_rounding(rounding, given)
    if target_modules is not None:
        check_names(target_modules, "target_modules", "query")
    check_rank_limits(min_rank, max_rank)
    check_whole(n_texts, "n_texts")
    check_seed(seed)
    check_flag(replace, "replace")
    check_flag(progress, "progress")


def check_plan_name(name: object, taken: Sequence[str] = ()) -> str:
    """The name of a plan; raises `InputError` for one that no plan, nor its run, can have."""
    checked = check_file_name(name, "plan name", taken)
    if checked in (FROZEN, FULL):
        what = "the probe" if checked == FROZEN else "a run that trains all weights"
        raise InputError(f"a plan cannot be named {checked!r}, which names {what}; choose another name")
    return checked


def find_plan(study: Path, name: object) -> Path:
    """The file of a study's plan; raises `StudyError`, with the names there are, if it has no such plan."""
    file = study / "plans" / f"{check_file_name(name, 'plan name')}.json"
    if not file.exists():
        names = ", ".join(known for known, _ in files_in(study / "plans")) or "none"
        raise StudyError(f"{study} has no plan {name!r} (made: {names}); run the step allocate first")
    return file


def check_methods(study: Path, names: object) -> list[str]:
    """The names of what is to be trained; raises unless each is a plan of the study, "frozen" or "full"."""
    listed = check_names(names, "methods", "uniform")
    for name in listed:
        if name not in (FROZEN, FULL):
            find_plan(study, name)
    return listed


def check_baseline(study: Path, name: str) -> None:
    """Raise `InputError` unless the study has a finished run of this name, to compare others with."""
    names = sorted(file.parent.name for file in (study / "runs").glob("*/result.json"))
    if name not in names:
        known = did_you_mean(name, names) if names else "no run has finished yet"
        raise InputError(f"no run {describe(name)} to compare with; {known}")
